//! A request for records, read from its parameters.

use tidegate_codec::encode::check_value;
use tidegate_codec::{KeyField, Stream};
use uuid::Uuid;

use crate::condition::{Check, Comparison, Condition, ConditionReader, Test};
use crate::cursor::{self, OrderValues};
use crate::error::{Problem, QueryError, shortened};
use crate::field::{Field, Root, Step, Taken, nearest};
use crate::order::{self, OrderTerm};
use crate::select::{self, Selected};

/// Records of a page, unless the caller says.
pub const PAGE_RECORDS_DEFAULT: u32 = 1_000;
/// Most records of a page.
pub const PAGE_RECORDS_MAX: u32 = 10_000;
/// Longest text that is searched for, in bytes.
pub const SEARCH_BYTES_MAX: usize = 1_000;
/// Most parameters of a request.
const PARAMETERS_MAX: usize = 200;

/// What a request for records asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordsPlan {
    pub condition: Condition,
    /// None: whole records.
    pub select: Option<Vec<Selected>>,
    /// Total: its last field is the id.
    pub order: Vec<OrderTerm>,
    /// Whether an order was asked for; without one, records that are not in pages come as the table has them.
    pub is_ordered: bool,
    pub limit: Option<u32>,
    /// Only what comes behind these values of the order.
    pub after: Option<OrderValues>,
    pub count: Option<Count>,
    question: String,
}

/// How the records that there are in all are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Exact,
    /// As PostgreSQL's planner guesses.
    Planned,
    /// Exact where the guess is small.
    Estimated,
}

/// What filters and words have in common: of records, of trends and of facets.
pub(crate) struct Filters<'a> {
    reader: ConditionReader<'a>,
    conditions: Vec<Condition>,
}

impl<'a> Filters<'a> {
    pub fn new(stream: &'a Stream) -> Filters<'a> {
        Filters { reader: ConditionReader::new(stream), conditions: Vec::new() }
    }

    /// Takes a parameter that is none of the request's own: a filter, a tree of them, or `search`.
    pub fn take(&mut self, name: &str, value: &str, own: &[&str]) -> Result<(), QueryError> {
        let condition = match name {
            "and" | "or" | "not.and" | "not.or" => self.reader.tree(name, value),
            "search" => search(value),
            _ => self
                .reader
                .filter(name, value)
                .map_err(|problem| explained(problem, name, value, own)),
        };
        self.conditions.push(condition.map_err(|problem| problem.of(name))?);
        Ok(())
    }

    pub fn finish(mut self) -> Condition {
        match self.conditions.len() {
            1 => self.conditions.remove(0),
            _ => Condition::All(self.conditions),
        }
    }
}

/// A parameter that is neither a column nor a filter is often one of ours, misspelt.
fn explained(problem: Problem, name: &str, value: &str, own: &[&str]) -> Problem {
    if !matches!(problem.code, "unknown_column" | "unknown_operator") {
        return problem;
    }
    match nearest(name, own) {
        Some(near) if problem.code == "unknown_operator" || !value.contains('.') => Problem::new(
            "unknown_parameter",
            format!("there is no such parameter; is it `{near}`?"),
        ),
        _ => problem,
    }
}

fn search(words: &str) -> Result<Condition, Problem> {
    if words.trim().is_empty() {
        return Err(Problem::new("invalid_value", "words to search for are missing"));
    }
    if words.len() > SEARCH_BYTES_MAX {
        let message = format!("at most {SEARCH_BYTES_MAX} bytes are searched for");
        return Err(Problem::new("value_too_long", message));
    }
    Ok(Condition::Search(words.to_owned()))
}

/// Each parameter once, no characters that PostgreSQL cannot keep, and not too many of them.
pub(crate) fn check_parameters(
    parameters: &[(String, String)],
    only_once: &[&str],
) -> Result<(), QueryError> {
    if parameters.len() > PARAMETERS_MAX {
        let message = format!("a request has at most {PARAMETERS_MAX} parameters");
        return Err(QueryError::new("…", "too_many_parameters", message));
    }
    for (index, (name, value)) in parameters.iter().enumerate() {
        if name.contains('\0') || value.contains('\0') {
            let message = "PostgreSQL keeps no NUL character (%00); leave it out";
            return Err(QueryError::new(&name.replace('\0', "␀"), "invalid_value", message));
        }
        let is_again = parameters[..index].iter().any(|(before, _)| before == name);
        if is_again && only_once.contains(&&**name) {
            return Err(QueryError::new(name, "given_twice", "it is given twice"));
        }
    }
    Ok(())
}

/// A number from 1 to `max`.
pub(crate) fn read_limit(text: &str, max: u32) -> Result<u32, Problem> {
    let number = text.parse::<u32>().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| {
        Problem::new("invalid_limit", format!("it is from 1 to {max}, not `{}`", shortened(text)))
    })
}

impl RecordsPlan {
    /// The parameters that have a meaning of their own. A column of such a name is a filter in quotes: `"order"=eq.5`.
    pub const PARAMETERS: [&'static str; 10] =
        ["select", "order", "limit", "after", "count", "search", "and", "or", "not.and", "not.or"];

    /// Reads the parameters of a request, percent-decoded, in the order in which they came. `limit_max`: for a reply that
    /// is held as a whole [`PAGE_RECORDS_MAX`], else any number.
    ///
    /// # Errors
    /// What cannot be asked, with the parameter that asks for it.
    pub fn read(
        stream: &Stream,
        parameters: &[(String, String)],
        limit_max: u32,
    ) -> Result<RecordsPlan, QueryError> {
        check_parameters(parameters, &["select", "order", "limit", "after", "count", "search"])?;
        let mut filters = Filters::new(stream);
        let (mut select, mut order, mut limit, mut after, mut count) =
            (None, None, None, None, None);
        let mut asked = Vec::new();
        for (name, value) in parameters {
            let of = |problem: Problem| problem.of(name);
            match &**name {
                "select" => select = select::read(stream, value).map_err(of)?,
                "order" => order = Some(order::read(stream, value).map_err(of)?),
                "limit" => limit = Some(read_limit(value, limit_max).map_err(of)?),
                "after" => after = Some(value),
                "count" => count = Some(read_count(value).map_err(of)?),
                _ => filters.take(name, value, &RecordsPlan::PARAMETERS)?,
            }
            if !matches!(&**name, "select" | "limit" | "after" | "count") {
                asked.push((name.clone(), value.clone()));
            }
        }
        asked.sort();
        let question = cursor::question(stream, &asked);
        let is_ordered = order.is_some();
        let order = order.unwrap_or_else(|| order::newest_first(stream));
        let after = after.map(|text| cursor::read(text, &question, &order, stream));
        let after = after.transpose().map_err(|problem| problem.of("after"))?;
        let condition = filters.finish();
        Ok(RecordsPlan { condition, select, order, is_ordered, limit, after, count, question })
    }

    /// One record, by its id; of the parameters only `select` has a meaning.
    ///
    /// # Errors
    /// What cannot be asked, with the parameter that asks for it.
    pub fn of_id(
        stream: &Stream,
        id: Uuid,
        parameters: &[(String, String)],
    ) -> Result<RecordsPlan, QueryError> {
        if let Some((name, _)) = parameters.iter().find(|(name, _)| name != "select") {
            let message = "of one record only `select` and `wait` can be asked";
            return Err(QueryError::new(name, "unknown_parameter", message));
        }
        let plan = RecordsPlan::read(stream, parameters, 1)?;
        let check = Check::Compare(Comparison::Equal, id.to_string());
        let test = Test { field: Field::of(Root::Id, "id"), check };
        Ok(RecordsPlan { condition: Condition::Test(Box::new(test)), ..plan })
    }

    /// The record of a key, whose parts are texts, in the order of the stream's key; of the parameters only `select` has a
    /// meaning.
    ///
    /// # Errors
    /// What cannot be asked, with the parameter that asks for it; a key that the stream cannot have is `key`'s.
    pub fn of_key(
        stream: &Stream,
        parts: &[String],
        parameters: &[(String, String)],
    ) -> Result<RecordsPlan, QueryError> {
        let fields = stream.key.as_ref().map_or(&[][..], |key| &key.fields);
        if fields.len() != parts.len() {
            let message = format!(
                "the stream's key has {} part(s), and the address {}; parts are separated by commas, and a comma within one is \
                 written %2C",
                fields.len(),
                parts.len()
            );
            return Err(QueryError::new("key", "invalid_key", message));
        }
        let plan = RecordsPlan::of_id(stream, Uuid::nil(), parameters)?;
        let mut tests = Vec::with_capacity(parts.len());
        for (field, part) in fields.iter().zip(parts) {
            let field = match field {
                KeyField::Column(index) => Field::of(Root::Column(*index), "key"),
                KeyField::Pointer(segments) => Field {
                    path: segments.iter().cloned().map(Step::Member).collect(),
                    taken: Taken::Text,
                    ..Field::of(Root::Payload, "key")
                },
            };
            check_value(field.kind(stream), part)
                .map_err(|error| QueryError::new("key", "invalid_key", error.message))?;
            let check = Check::Compare(Comparison::Equal, part.clone());
            tests.push(Condition::Test(Box::new(Test { field, check })));
        }
        Ok(RecordsPlan { condition: Condition::All(tests), ..plan })
    }

    /// The cursor behind a record with these values of the order.
    pub fn next(&self, values: OrderValues) -> String {
        cursor::write(&self.question, values)
    }
}

fn read_count(text: &str) -> Result<Count, Problem> {
    match text {
        "exact" => Ok(Count::Exact),
        "planned" => Ok(Count::Planned),
        "estimated" => Ok(Count::Estimated),
        other => {
            let message = format!("it is exact, planned or estimated, not `{}`", shortened(other));
            Err(Problem::new("invalid_count", message))
        }
    }
}
