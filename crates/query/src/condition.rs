//! Which records are asked for: tests of fields, and how they hang together.

use tidegate_codec::Stream;
use tidegate_codec::columns::ColumnType;
use tidegate_codec::encode::check_value;

use crate::error::{Problem, shortened};
use crate::field::{Field, Taken};
use crate::reader::Reader;

/// Most tests of a request.
pub const TESTS_MAX: usize = 100;
/// How deep `and` and `or` may be inside each other.
pub const DEPTH_MAX: usize = 10;
/// Most values of `in`.
pub const IN_VALUES_MAX: usize = 1_000;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 10;

/// What has to be true of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Test(Box<Test>),
    /// Words that are somewhere in its texts.
    Search(String),
}

/// One question about one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    pub field: Field,
    pub check: Check,
}

/// What is asked of a value. Every value was checked: PostgreSQL reads it as the field's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    Compare(Comparison, String),
    In(Vec<String>),
    Is(Is),
    FullText(FullText),
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// With `*` or `%` for any text and `_` for any character.
    Like,
    ILike,
    /// A regular expression.
    Match,
    IMatch,
    /// Also of NULL.
    IsDistinct,
    /// A document has all that is in the value.
    Contains,
    ContainedIn,
}

/// What a value may be where it is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Is {
    Null,
    NotNull,
    True,
    False,
    Unknown,
}

/// A search of a field's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullText {
    pub form: FullTextForm,
    /// PostgreSQL's text search configuration, such as `english`.
    pub language: Option<String>,
    pub words: String,
}

/// How the words of a search are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FullTextForm {
    /// PostgreSQL's own language of queries.
    Query,
    Plain,
    Phrase,
    Web,
}

/// What an operator's word says.
#[derive(Debug, Clone, Copy)]
enum Operator {
    Compare(Comparison),
    In,
    Is,
    FullText(FullTextForm),
}

const OPERATORS: [(&str, Operator); 19] = [
    ("eq", Operator::Compare(Comparison::Equal)),
    ("neq", Operator::Compare(Comparison::NotEqual)),
    ("gt", Operator::Compare(Comparison::Greater)),
    ("gte", Operator::Compare(Comparison::GreaterOrEqual)),
    ("lt", Operator::Compare(Comparison::Less)),
    ("lte", Operator::Compare(Comparison::LessOrEqual)),
    ("like", Operator::Compare(Comparison::Like)),
    ("ilike", Operator::Compare(Comparison::ILike)),
    ("match", Operator::Compare(Comparison::Match)),
    ("imatch", Operator::Compare(Comparison::IMatch)),
    ("in", Operator::In),
    ("is", Operator::Is),
    ("isdistinct", Operator::Compare(Comparison::IsDistinct)),
    ("cs", Operator::Compare(Comparison::Contains)),
    ("cd", Operator::Compare(Comparison::ContainedIn)),
    ("fts", Operator::FullText(FullTextForm::Query)),
    ("plfts", Operator::FullText(FullTextForm::Plain)),
    ("phfts", Operator::FullText(FullTextForm::Phrase)),
    ("wfts", Operator::FullText(FullTextForm::Web)),
];

impl Condition {
    /// True of every record.
    pub const TRUE: Condition = Condition::All(Vec::new());
}

/// Reads the conditions of one request, and counts them.
#[derive(Debug)]
pub(crate) struct ConditionReader<'a> {
    stream: &'a Stream,
    tests: usize,
}

impl<'a> ConditionReader<'a> {
    pub fn new(stream: &'a Stream) -> ConditionReader<'a> {
        ConditionReader { stream, tests: 0 }
    }

    /// A filter whose field is the parameter's name: `dep_delay=gt.60`, `dep_delay=not.gt.60`.
    pub fn filter(&mut self, name: &str, value: &str) -> Result<Condition, Problem> {
        let mut reader = Reader::new(name);
        let field = Field::read(&mut reader, self.stream, |_| false)?;
        if !reader.is_at_end() {
            let message = format!("`{}` is too much behind the field", shortened(reader.rest));
            return Err(Problem::new("invalid_syntax", message));
        }
        let mut reader = Reader::new(value);
        self.test(field, &mut reader, false)
    }

    /// `and=(…)`, `or=(…)`, `not.and=(…)`, `not.or=(…)`: what is in the parentheses.
    pub fn tree(&mut self, word: &str, value: &str) -> Result<Condition, Problem> {
        let mut reader = Reader::new(value);
        let condition = self.junction(word, &mut reader, 1)?;
        if !reader.is_at_end() {
            let message =
                format!("`{}` is too much behind the parentheses", shortened(reader.rest));
            return Err(Problem::new("invalid_syntax", message));
        }
        Ok(condition)
    }

    fn junction(
        &mut self,
        word: &str,
        reader: &mut Reader<'_>,
        depth: usize,
    ) -> Result<Condition, Problem> {
        if depth > DEPTH_MAX {
            let message = format!("`and` and `or` are at most {DEPTH_MAX} deep");
            return Err(Problem::new("too_deep", message));
        }
        reader.expect("(")?;
        let mut parts = Vec::new();
        while parts.is_empty() || reader.eat(",") {
            parts.push(self.part(reader, depth)?);
        }
        reader.expect(")")?;
        let (is_negated, word) = negation(word);
        let joined = if word == "or" { Condition::Any(parts) } else { Condition::All(parts) };
        Ok(if is_negated { Condition::Not(Box::new(joined)) } else { joined })
    }

    fn part(&mut self, reader: &mut Reader<'_>, depth: usize) -> Result<Condition, Problem> {
        for word in ["and", "or", "not.and", "not.or"] {
            let mut ahead = *reader;
            if ahead.eat(word) && ahead.rest.starts_with('(') {
                *reader = ahead;
                return self.junction(word, reader, depth + 1);
            }
        }
        let field =
            Field::read(reader, self.stream, |rest| rest.starts_with(['.', ',', '(', ')']))?;
        reader.expect(".")?;
        self.test(field, reader, true)
    }

    /// An operator and its value. `is_inside`: the value ends with a comma or a parenthesis, unless it is in quotes.
    fn test(
        &mut self,
        field: Field,
        reader: &mut Reader<'_>,
        is_inside: bool,
    ) -> Result<Condition, Problem> {
        self.tests += 1;
        if self.tests > TESTS_MAX {
            let message = format!("a request has at most {TESTS_MAX} filters");
            return Err(Problem::new("too_many_filters", message));
        }
        let is_negated = reader.eat("not.");
        let (operator, language) = read_operator(reader)?;
        let field = field.filtered();
        let kind = field.kind(self.stream);
        let check = match operator {
            Operator::In => Check::In(read_list(&field, kind, reader)?),
            _ => {
                let value =
                    if is_inside { inner_value(reader)? } else { reader.take_rest().to_owned() };
                check_length(&value)?;
                checked(&field, kind, operator, language, value)?
            }
        };
        if !is_inside && !reader.is_at_end() {
            let message = format!("`{}` is too much behind the value", shortened(reader.rest));
            return Err(Problem::new("invalid_syntax", message));
        }
        let test = Condition::Test(Box::new(Test { field, check }));
        Ok(if is_negated { Condition::Not(Box::new(test)) } else { test })
    }
}

/// Splits `not.` off a word.
fn negation(word: &str) -> (bool, &str) {
    word.strip_prefix("not.").map_or((false, word), |word| (true, word))
}

/// The operator, and the language where one is named as in `fts(english)`.
fn read_operator(reader: &mut Reader<'_>) -> Result<(Operator, Option<String>), Problem> {
    let before = reader.rest;
    let word = reader.take_until(|rest| rest.starts_with(['.', '(', ',', ')']));
    let found = OPERATORS.iter().find(|(known, _)| *known == word);
    let operator = found.map(|(_, operator)| *operator).ok_or_else(|| {
        let names: Vec<&str> = OPERATORS.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "`{}` does not begin with an operator and a dot, as `eq.5` does; operators are {}, each with `not.` before it \
             for its opposite",
            shortened(before),
            names.join(", ")
        );
        Problem::new("unknown_operator", message)
    })?;
    let mut language = None;
    if matches!(operator, Operator::FullText(_)) && reader.eat("(") {
        let name = reader.take_until(|rest| rest.starts_with(')'));
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            let message =
                format!("`{}` is no text search configuration such as `english`", shortened(name));
            return Err(Problem::new("invalid_language", message));
        }
        language = Some(name.to_owned());
        reader.expect(")")?;
    }
    if reader.rest.starts_with('(') {
        let message = format!("`{word}` takes nothing in parentheses");
        return Err(Problem::new("unknown_operator", message));
    }
    reader.expect(".")?;
    Ok((operator, language))
}

/// A value inside of parentheses: in quotes, a JSON array or object, or everything up to a comma or a parenthesis.
fn inner_value(reader: &mut Reader<'_>) -> Result<String, Problem> {
    if let Some(value) = reader.quoted()? {
        return Ok(value);
    }
    if reader.rest.starts_with(['{', '[']) {
        return balanced(reader);
    }
    Ok(reader.take_until(|rest| rest.starts_with([',', ')'])).to_owned())
}

/// A JSON array or object, as far as its brackets go.
fn balanced(reader: &mut Reader<'_>) -> Result<String, Problem> {
    let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    for (place, byte) in reader.rest.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'{' | b'[' if !is_quoted => depth += 1,
            b'}' | b']' if !is_quoted => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    let (value, rest) = reader.rest.split_at(place + 1);
                    reader.rest = rest;
                    return Ok(value.to_owned());
                }
            }
            _ => {}
        }
    }
    let message = format!("`{}` lacks a closing bracket", shortened(reader.rest));
    Err(Problem::new("invalid_syntax", message))
}

/// `(a,"b,c",d)`
fn read_list(
    field: &Field,
    kind: ColumnType,
    reader: &mut Reader<'_>,
) -> Result<Vec<String>, Problem> {
    reader.expect("(")?;
    let mut values = Vec::new();
    while !reader.rest.starts_with(')') && (values.is_empty() || reader.eat(",")) {
        let value = inner_value(reader)?;
        check_length(&value)?;
        values.push(typed(field, kind, value)?);
        if values.len() > IN_VALUES_MAX {
            let message = format!("`in` takes at most {IN_VALUES_MAX} values");
            return Err(Problem::new("too_many_values", message));
        }
    }
    reader.expect(")")?;
    Ok(values)
}

fn check_length(value: &str) -> Result<(), Problem> {
    if value.len() > VALUE_BYTES_MAX {
        let message =
            format!("a value has at most {VALUE_BYTES_MAX} bytes, this one has {}", value.len());
        return Err(Problem::new("value_too_long", message));
    }
    Ok(())
}

/// The check of a field of this kind, if the operator is for it and the value is one of it.
fn checked(
    field: &Field,
    kind: ColumnType,
    operator: Operator,
    language: Option<String>,
    value: String,
) -> Result<Check, Problem> {
    let comparison = match operator {
        Operator::Compare(comparison) => comparison,
        Operator::FullText(form) => {
            if !matches!(kind, ColumnType::Text | ColumnType::Jsonb) {
                return Err(not_for(field, kind, "a search of words", "::text"));
            }
            return Ok(Check::FullText(FullText { form, language, words: value }));
        }
        Operator::Is => return is(field, kind, &value),
        Operator::In => unreachable!("its values are a list"),
    };
    match comparison {
        Comparison::Like | Comparison::ILike | Comparison::Match | Comparison::IMatch => {
            if kind != ColumnType::Text {
                return Err(not_for(field, kind, "a pattern", "::text"));
            }
        }
        Comparison::Contains | Comparison::ContainedIn => {
            if kind != ColumnType::Jsonb {
                return Err(not_for(field, kind, "`cs` and `cd`", "::jsonb"));
            }
        }
        Comparison::Greater
        | Comparison::GreaterOrEqual
        | Comparison::Less
        | Comparison::LessOrEqual => check_is_no_number(field, &value)?,
        Comparison::Equal | Comparison::NotEqual | Comparison::IsDistinct => {}
    }
    Ok(Check::Compare(comparison, typed(field, kind, value)?))
}

/// As texts, `9` is more than `10`: a place in a document is compared with a number only by its own type.
fn check_is_no_number(field: &Field, value: &str) -> Result<(), Problem> {
    let is_number = value.trim().parse::<f64>().is_ok_and(f64::is_finite);
    if field.path.is_empty() || field.taken != Taken::Text || field.cast.is_some() || !is_number {
        return Ok(());
    }
    let text = shortened(&field.text);
    let message = format!(
        "{text} is a text here, and as texts 9 is more than 10; say `{text}::numeric` for numbers, `{text}::text` for texts"
    );
    Err(Problem::new("ambiguous_type", message))
}

fn is(field: &Field, kind: ColumnType, value: &str) -> Result<Check, Problem> {
    let word = match value {
        "null" => Is::Null,
        "not_null" => Is::NotNull,
        "true" => Is::True,
        "false" => Is::False,
        "unknown" => Is::Unknown,
        other => {
            let message = format!(
                "`is` takes null, not_null, true, false or unknown, not `{}`",
                shortened(other)
            );
            return Err(Problem::new("invalid_value", message));
        }
    };
    if matches!(word, Is::True | Is::False | Is::Unknown) && kind != ColumnType::Boolean {
        return Err(not_for(field, kind, "true, false and unknown", "::boolean"));
    }
    Ok(Check::Is(word))
}

fn not_for(field: &Field, kind: ColumnType, what: &str, cast: &str) -> Problem {
    let text = shortened(&field.text);
    let message =
        format!("{what} cannot be asked of {text}, which is {}; `{text}{cast}` can", kind.as_str());
    Problem::new("wrong_operator", message)
}

/// The value, if PostgreSQL reads it as this type.
pub(crate) fn typed(field: &Field, kind: ColumnType, value: String) -> Result<String, Problem> {
    match check_value(kind, &value) {
        Ok(()) => Ok(value),
        Err(error) => {
            let message = format!("{}: {}", shortened(&field.text), error.message);
            Err(Problem::new("invalid_value", message))
        }
    }
}
