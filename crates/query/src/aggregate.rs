//! What is made of many records: counts, means, quantiles, first and last values.

use tidegate_codec::Stream;
use tidegate_codec::columns::ColumnType;

use crate::error::{Problem, shortened};
use crate::field::{Field, Taken};
use crate::reader::Reader;
use crate::select::{ALIAS_BYTES_MAX, read_alias};

/// Most aggregates of a request.
pub const AGGREGATES_MAX: usize = 50;

/// One aggregate and what it is called in the reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    pub name: String,
    pub function: Function,
    /// None: the records themselves are counted.
    pub field: Option<Field>,
}

/// How values become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    Count,
    Average,
    Sum,
    Minimum,
    Maximum,
    StandardDeviation,
    /// The value below which so many percent of all lie; between two values where it is none of them.
    Quantile(f64),
    /// How many different values there are.
    Distinct,
    /// The value of the earliest record that has one.
    First,
    Last,
}

const WORDS: [(&str, Function); 9] = [
    ("count", Function::Count),
    ("avg", Function::Average),
    ("sum", Function::Sum),
    ("min", Function::Minimum),
    ("max", Function::Maximum),
    ("stddev", Function::StandardDeviation),
    ("distinct", Function::Distinct),
    ("first", Function::First),
    ("last", Function::Last),
];

impl Function {
    fn of(word: &str) -> Result<Function, Problem> {
        let percent = word.strip_prefix('p').and_then(|digits| digits.parse::<f64>().ok());
        if let Some(percent) = percent.filter(|percent| (0.0..=100.0).contains(percent)) {
            return Ok(Function::Quantile(percent));
        }
        let found = WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, function)| *function).ok_or_else(|| {
            let names: Vec<&str> = WORDS.iter().map(|(name, _)| *name).collect();
            let message = format!(
                "there is no aggregate `{}`; there are {}, and p0 to p100",
                shortened(word),
                names.join(", ")
            );
            Problem::new("unknown_aggregate", message)
        })
    }

    fn needs_numbers(self) -> bool {
        matches!(
            self,
            Function::Average | Function::Sum | Function::StandardDeviation | Function::Quantile(_)
        )
    }
}

/// `agg=count,avg(dep_delay),worst:max(dep_delay),p95(dep_delay)`
pub(crate) fn read(stream: &Stream, text: &str) -> Result<Vec<Aggregate>, Problem> {
    let mut reader = Reader::new(text);
    let mut aggregates: Vec<Aggregate> = Vec::new();
    while aggregates.is_empty() || reader.eat(",") {
        let next = read_aggregate(stream, &mut reader)?;
        if aggregates.iter().any(|other| other.name == next.name) {
            let message = format!("two aggregates are called \"{}\"", shortened(&next.name));
            return Err(Problem::new("name_taken", message));
        }
        aggregates.push(next);
        if aggregates.len() > AGGREGATES_MAX {
            let message = format!("a request has at most {AGGREGATES_MAX} aggregates");
            return Err(Problem::new("too_many_aggregates", message));
        }
    }
    if !reader.is_at_end() {
        let message = format!("`{}` is too much behind an aggregate", shortened(reader.rest));
        return Err(Problem::new("invalid_syntax", message));
    }
    Ok(aggregates)
}

fn read_aggregate(stream: &Stream, reader: &mut Reader<'_>) -> Result<Aggregate, Problem> {
    let alias = read_alias(reader)?;
    let word = reader.take_until(|rest| rest.starts_with(['(', ',', ')']));
    let function = Function::of(word)?;
    if !reader.eat("(") {
        if function != Function::Count {
            let message = format!("`{}` is of a field: `{0}(field)`", shortened(word));
            return Err(Problem::new("invalid_aggregate", message));
        }
        return Ok(Aggregate {
            name: alias.unwrap_or_else(|| word.to_owned()),
            function,
            field: None,
        });
    }
    let field = Field::read(reader, stream, |rest| rest.starts_with([')', ',']))?;
    reader.expect(")")?;
    let field = of_function(function, field, stream)?;
    let name = alias.unwrap_or_else(|| default_name(word, &field));
    Ok(Aggregate { name, function, field: Some(field) })
}

/// `avg_dep_delay`
fn default_name(word: &str, field: &Field) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || character == '_';
    let mut name = word.to_owned();
    for part in field.text.split(|character| !is_plain(character)) {
        if !part.is_empty() && name.len() + part.len() < ALIAS_BYTES_MAX {
            name.push('_');
            name.push_str(part);
        }
    }
    name
}

/// The field as the function takes it, if it can.
fn of_function(function: Function, field: Field, stream: &Stream) -> Result<Field, Problem> {
    let is_open = field.taken == Taken::Bare && field.cast.is_none();
    if is_open && function.needs_numbers() {
        return Ok(Field { cast: Some(ColumnType::Numeric), ..field });
    }
    if is_open && function == Function::Distinct {
        return Ok(field.filtered());
    }
    let kind = field.kind(stream);
    let text = shortened(&field.text);
    if function.needs_numbers() && !is_number(kind) {
        let message = format!(
            "{text} is {}, and this is of numbers; `{text}::numeric` is one",
            kind.as_str()
        );
        return Err(Problem::new("wrong_aggregate", message));
    }
    let has_order = !matches!(kind, ColumnType::Jsonb | ColumnType::Boolean | ColumnType::Uuid);
    if matches!(function, Function::Minimum | Function::Maximum) && !has_order {
        let message = format!(
            "{text} is {}, which has no least value; `{text}::numeric` or `{text}::text` has",
            kind.as_str()
        );
        return Err(Problem::new("wrong_aggregate", message));
    }
    Ok(field)
}

fn is_number(kind: ColumnType) -> bool {
    use ColumnType::{BigInt, DoublePrecision, Integer, Numeric, Real, SmallInt};
    matches!(kind, SmallInt | Integer | BigInt | Real | DoublePrecision | Numeric)
}
