//! What of each record is shown.

use tidegate_codec::Stream;

use crate::error::{Problem, shortened};
use crate::field::{Field, Step};
use crate::reader::Reader;

/// Most fields of a selection.
pub const SELECT_FIELDS_MAX: usize = 500;
/// Longest name of a field in a reply, in bytes.
pub const ALIAS_BYTES_MAX: usize = 200;

/// A field and what it is called in the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    pub name: String,
    pub field: Field,
}

/// `select=carrier,delay:dep_delay,doc->a->>b,n::numeric`; `*` alone is everything.
pub(crate) fn read(stream: &Stream, text: &str) -> Result<Option<Vec<Selected>>, Problem> {
    if text == "*" {
        return Ok(None);
    }
    let mut reader = Reader::new(text);
    let mut selected: Vec<Selected> = Vec::new();
    while selected.is_empty() || reader.eat(",") {
        let next = read_selected(stream, &mut reader)?;
        if selected.iter().any(|other| other.name == next.name) {
            let message = format!(
                "two fields are called \"{}\"; name one of them as in `other:{}`",
                shortened(&next.name),
                shortened(&next.field.text)
            );
            return Err(Problem::new("name_taken", message));
        }
        selected.push(next);
        if selected.len() > SELECT_FIELDS_MAX {
            let message = format!("a selection has at most {SELECT_FIELDS_MAX} fields");
            return Err(Problem::new("too_many_fields", message));
        }
    }
    if !reader.is_at_end() {
        let message = format!("`{}` is too much behind a field", shortened(reader.rest));
        return Err(Problem::new("invalid_syntax", message));
    }
    Ok(Some(selected))
}

pub(crate) fn read_selected(stream: &Stream, reader: &mut Reader<'_>) -> Result<Selected, Problem> {
    let alias = read_alias(reader)?;
    let field = Field::read(reader, stream, |rest| rest.starts_with([',', ':']))?;
    let name = alias.unwrap_or_else(|| name_of(&field));
    Ok(Selected { name, field })
}

/// A name with one colon behind it; two are a type's.
pub(crate) fn read_alias(reader: &mut Reader<'_>) -> Result<Option<String>, Problem> {
    let mut ahead = *reader;
    let name = match ahead.quoted()? {
        Some(name) => name,
        None => ahead.take_until(|rest| rest.starts_with([',', ':', '-', '('])).to_owned(),
    };
    if ahead.rest.starts_with("::") || !ahead.eat(":") {
        return Ok(None);
    }
    if name.is_empty() || name.len() > ALIAS_BYTES_MAX {
        let message = format!("a name is 1 to {ALIAS_BYTES_MAX} bytes long");
        return Err(Problem::new("invalid_name", message));
    }
    *reader = ahead;
    Ok(Some(name))
}

/// What a field is called that was given no name: as in `PostgREST`, the last step of its path, else its column.
fn name_of(field: &Field) -> String {
    let last = field.path.iter().rev().find_map(|step| match step {
        Step::Member(member) => Some(member.clone()),
        Step::Element(_) => None,
    });
    last.unwrap_or_else(|| {
        let name = field.text.split("->").next().unwrap_or(&field.text);
        name.split("::").next().unwrap_or(name).trim_matches('"').to_owned()
    })
}
