//! What a filter, an order or a selection is about: a column of the stream, or a place in a document.

use tidegate_codec::columns::{Column, ColumnType};
use tidegate_codec::{Shape, Stream};

use crate::error::{Problem, shortened};
use crate::reader::Reader;

/// Most steps into a document.
pub const PATH_STEPS_MAX: usize = 32;
/// Most edits that make another name of one that is not there, for it to be proposed.
const NEAREST_EDITS_MAX: usize = 2;
/// A name has this many characters for each edit.
const CHARACTERS_FOR_EDIT: usize = 3;

/// A value of each record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub root: Root,
    /// The way into the document that the root is.
    pub path: Vec<Step>,
    /// How the place at the end of the path is taken.
    pub taken: Taken,
    pub cast: Option<ColumnType>,
    /// As it was written, for messages and as the name of what is selected.
    pub text: String,
}

/// A column of the stream's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Root {
    Id,
    ReceivedAt,
    /// A declared column, by its index.
    Column(usize),
    /// What typed records have beside their columns.
    Extra,
    /// The document.
    Payload,
}

/// One step into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Member(String),
    /// From the end where it is negative.
    Element(i32),
}

/// How a place in a document is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A document's member, named without arrows: filters take its text, everything else its value.
    Bare,
    /// `->`, or no path: as it is.
    Value,
    /// `->>`: as text.
    Text,
}

impl Field {
    /// A plain column.
    pub fn of(root: Root, text: &str) -> Field {
        Field { root, path: Vec::new(), taken: Taken::Value, cast: None, text: text.to_owned() }
    }

    /// The type of its values. A place in a document that is no text is `jsonb`.
    pub fn kind(&self, stream: &Stream) -> ColumnType {
        if let Some(cast) = self.cast {
            return cast;
        }
        match (self.taken, self.root) {
            (Taken::Text, _) => ColumnType::Text,
            (_, _) if !self.path.is_empty() => ColumnType::Jsonb,
            (_, Root::Id) => ColumnType::Uuid,
            (_, Root::ReceivedAt) => ColumnType::TimestampTz,
            (_, Root::Column(index)) => stream.columns()[index].kind,
            (_, Root::Extra | Root::Payload) => ColumnType::Jsonb,
        }
    }

    /// The field as a filter takes it: a bare member's text.
    pub(crate) fn filtered(mut self) -> Field {
        if self.taken == Taken::Bare && self.cast.is_none() {
            self.taken = Taken::Text;
        }
        self
    }

    /// Reads a field off; it ends where `ends` is true of what follows, unless that is in quotes.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        stream: &Stream,
        ends: impl Fn(&str) -> bool + Copy,
    ) -> Result<Field, Problem> {
        let before = reader.rest;
        let name = read_name(reader, ends)?;
        let mut steps = Vec::new();
        let mut as_text = false;
        while !as_text && reader.eat("->") {
            as_text = reader.eat(">");
            steps.push(read_step(reader, ends)?);
            if steps.len() > PATH_STEPS_MAX {
                let message = format!("a path has at most {PATH_STEPS_MAX} steps");
                return Err(Problem::new("invalid_path", message));
            }
        }
        let cast = if reader.eat("::") { Some(read_type(reader, ends)?) } else { None };
        let text = before[..before.len() - reader.rest.len()].to_owned();
        let taken = if as_text { Taken::Text } else { Taken::Value };
        let field = resolve(stream, &name, steps, taken)?;
        if !field.path.is_empty() && field.kind_of_root(stream) != ColumnType::Jsonb {
            let message = format!("\"{}\" is no document, so nothing is in it", shortened(&name));
            return Err(Problem::new("invalid_path", message));
        }
        Ok(Field { cast, text, ..field })
    }

    fn kind_of_root(&self, stream: &Stream) -> ColumnType {
        Field::of(self.root, "").kind(stream)
    }
}

/// Finds what is called so: the table's own columns, the declared ones, and in a document any member.
fn resolve(
    stream: &Stream,
    name: &str,
    mut path: Vec<Step>,
    taken: Taken,
) -> Result<Field, Problem> {
    let root = match (name, &stream.shape) {
        ("id", _) => Root::Id,
        ("received_at", _) => Root::ReceivedAt,
        ("payload", Shape::Document { .. }) => Root::Payload,
        (_, Shape::Document { .. }) => {
            let taken = if path.is_empty() { Taken::Bare } else { taken };
            path.insert(0, Step::Member(name.to_owned()));
            return Ok(Field { root: Root::Payload, path, taken, cast: None, text: String::new() });
        }
        ("extra", Shape::Typed { .. }) => Root::Extra,
        (_, Shape::Typed { columns, .. }) => {
            let index = columns.iter().position(|column| column.name == name);
            Root::Column(index.ok_or_else(|| unknown(columns, name))?)
        }
    };
    Ok(Field { root, path, taken, cast: None, text: String::new() })
}

fn unknown(columns: &[Column], name: &str) -> Problem {
    let own = ["id", "received_at", "extra"].into_iter();
    let names: Vec<&str> = columns.iter().map(|column| &*column.name).chain(own).collect();
    let member = columns.iter().find(|column| column.member() == name);
    let hint = match (member, nearest(name, &names)) {
        (Some(column), _) => format!("the column of that key is \"{}\"", column.name),
        (None, Some(near)) => format!("is it \"{near}\"?"),
        (None, None) => {
            format!("a member beside the columns is `extra->>{}`", shortened(name))
        }
    };
    let message = format!("the stream has no column \"{}\"; {hint}", shortened(name));
    Problem::new("unknown_column", message)
}

/// The name that is meant, where one is near enough.
pub(crate) fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let near = names.iter().map(|other| (edits(name, other), *other));
    let near = near.filter(|(edits, other)| {
        *edits <= NEAREST_EDITS_MAX && edits * CHARACTERS_FOR_EDIT <= other.chars().count()
    });
    near.min_by_key(|(edits, _)| *edits).map(|(_, other)| other)
}

/// How many characters have to be put in, taken out or changed; more than [`NEAREST_EDITS_MAX`] are not told apart.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if from.len().abs_diff(to.len()) > NEAREST_EDITS_MAX {
        return NEAREST_EDITS_MAX + 1;
    }
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, character) in from.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let changed = above[column] + usize::from(!character.eq_ignore_ascii_case(other));
            line.push(changed.min(above[column + 1] + 1).min(line[column] + 1));
        }
        above = line;
    }
    above[to.len()]
}

fn ends_name(rest: &str) -> bool {
    rest.starts_with("->") || rest.starts_with("::")
}

fn read_name(reader: &mut Reader<'_>, ends: impl Fn(&str) -> bool) -> Result<String, Problem> {
    if let Some(name) = reader.quoted()? {
        return Ok(name);
    }
    let name = reader.take_until(|rest| ends_name(rest) || ends(rest));
    if name.is_empty() {
        return Err(Problem::new("invalid_syntax", "a name is missing"));
    }
    Ok(name.to_owned())
}

fn read_step(reader: &mut Reader<'_>, ends: impl Fn(&str) -> bool) -> Result<Step, Problem> {
    if let Some(member) = reader.quoted()? {
        return Ok(Step::Member(member));
    }
    let step = reader.take_until(|rest| ends_name(rest) || ends(rest));
    if step.is_empty() {
        return Err(Problem::new("invalid_path", "a step is missing behind an arrow"));
    }
    Ok(step.parse().map_or_else(|_| Step::Member(step.to_owned()), Step::Element))
}

fn read_type(reader: &mut Reader<'_>, ends: impl Fn(&str) -> bool) -> Result<ColumnType, Problem> {
    let word = reader.take_until(|rest| ends_name(rest) || ends(rest));
    let known = match word {
        "bool" => Some(ColumnType::Boolean),
        "int2" => Some(ColumnType::SmallInt),
        "int" | "int4" => Some(ColumnType::Integer),
        "int8" => Some(ColumnType::BigInt),
        "float4" => Some(ColumnType::Real),
        "float8" | "double" => Some(ColumnType::DoublePrecision),
        "decimal" => Some(ColumnType::Numeric),
        other => ColumnType::ALL.into_iter().find(|kind| kind.as_str() == other),
    };
    known.ok_or_else(|| {
        let names: Vec<&str> = ColumnType::ALL.iter().map(|kind| kind.as_str()).collect();
        let message = format!(
            "there is no type \"{}\" here; there are {}",
            shortened(word),
            names.join(", ")
        );
        Problem::new("unknown_type", message)
    })
}
