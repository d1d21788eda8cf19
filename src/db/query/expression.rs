//! Fields and conditions of a question as SQL.
//!
//! Invariant: of what a sender wrote, only quoted identifiers of declared columns and quoted literals become SQL. A literal is
//! cast to its field's type, which was checked to read it.

use tidegate_codec::columns::ColumnType;
use tidegate_codec::{PayloadType, Shape, Stream};
use tidegate_query::{
    Check, Comparison, Condition, Field, FullText, FullTextForm, Is, OrderTerm, Root, Step, Taken,
    Test,
};

use crate::db::sql::{literal, quoted};

/// What a text must look like to be read as a number. A larger exponent is none that a `numeric` may have.
const NUMBER: &str = r"^\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?\s*$";
const INTEGER: &str = r"^\s*[-+]?\d{1,30}\s*$";
/// What a text must look like to be read as a truth value.
const BOOLEAN: &str = r"^\s*(t|true|f|false|yes|y|no|n|on|off|1|0)\s*$";
/// What a text must look like to be read as a time.
const TIME: &str = r"^\s*\d{4}-\d\d?-\d\d?([T ].*)?$";
/// What a text must look like to be read as a UUID.
const UUID: &str = r"^\s*[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\s*$";

/// The column of the stream's table, unchanged.
pub(super) fn column(root: Root, stream: &Stream) -> String {
    match root {
        Root::Id => "id".to_owned(),
        Root::ReceivedAt => "received_at".to_owned(),
        Root::Column(index) => quoted(&stream.columns()[index].name),
        Root::Extra => "extra".to_owned(),
        Root::Payload => "payload".to_owned(),
    }
}

/// The field's value, of the type that [`Field::kind`] says, whatever type the table's column has.
pub(super) fn value(field: &Field, stream: &Stream) -> String {
    let root = column(field.root, stream);
    if field.path.is_empty() {
        let declared = Field::of(field.root, "").kind(stream).as_str();
        let value = format!("{root}::{declared}");
        return match field.cast {
            Some(cast) => format!("({value})::{}", cast.as_str()),
            None => value,
        };
    }
    match field.cast {
        Some(cast) => cast_from_document(field, cast, stream),
        None if field.taken == Taken::Text => place(field, Arrow::Text, stream),
        None => as_jsonb(place(field, Arrow::Value, stream), field, stream),
    }
}

#[derive(Clone, Copy)]
enum Arrow {
    Value,
    Text,
}

/// A place in a document, as PostgreSQL's arrows take it.
fn place(field: &Field, arrow: Arrow, stream: &Stream) -> String {
    let mut place = column(field.root, stream);
    for (index, step) in field.path.iter().enumerate() {
        let arrow = match arrow {
            Arrow::Text if index + 1 == field.path.len() => "->>",
            _ => "->",
        };
        let step = match step {
            Step::Member(member) => literal(member),
            Step::Element(element) => format!("({element})"),
        };
        place = format!("({place} {arrow} {step})");
    }
    place
}

/// A document that is kept as text is `json` all the way down.
fn as_jsonb(place: String, field: &Field, stream: &Stream) -> String {
    let is_text = matches!(stream.shape, Shape::Document { payload: PayloadType::Json })
        && field.root == Root::Payload;
    if is_text { format!("{place}::jsonb") } else { place }
}

/// A place in a document as another type: NULL where it is nothing that this type reads, because one record of many that is
/// different must not make a question fail.
fn cast_from_document(field: &Field, cast: ColumnType, stream: &Stream) -> String {
    use ColumnType as Type;
    let text = place(field, Arrow::Text, stream);
    let (form, range) = match cast {
        Type::Jsonb => return as_jsonb(place(field, Arrow::Value, stream), field, stream),
        Type::Text => return text,
        Type::Boolean => (BOOLEAN, None),
        Type::TimestampTz | Type::Date => (TIME, None),
        Type::Uuid => (UUID, None),
        Type::SmallInt => (INTEGER, Some(("-32768", "32767"))),
        Type::Integer => (INTEGER, Some(("-2147483648", "2147483647"))),
        Type::BigInt => (INTEGER, Some(("-9223372036854775808", "9223372036854775807"))),
        Type::Real => (NUMBER, Some(("-3.4e38", "3.4e38"))),
        Type::DoublePrecision => (NUMBER, Some(("-1.79e308", "1.79e308"))),
        Type::Numeric => (NUMBER, None),
    };
    let (form, kind) = (literal(form), cast.as_str());
    let made = match range {
        Some((least, most)) => {
            format!("case when {text}::numeric between {least} and {most} then {text}::{kind} end")
        }
        None => format!("{text}::{kind}"),
    };
    format!("(case when {text} ~* {form} then {made} end)")
}

/// A value as the field's type.
fn typed(value: &str, field: &Field, stream: &Stream) -> String {
    format!("{}::{}", literal(value), field.kind(stream).as_str())
}

/// The condition; it has parentheses where it needs them.
pub(super) fn condition(condition: &Condition, stream: &Stream) -> String {
    let all = |parts: &[Condition], word: &str, empty: &str| {
        if parts.is_empty() {
            return empty.to_owned();
        }
        let parts: Vec<String> = parts.iter().map(|part| self::condition(part, stream)).collect();
        format!("({})", parts.join(word))
    };
    match condition {
        Condition::All(parts) => all(parts, " and ", "true"),
        Condition::Any(parts) => all(parts, " or ", "false"),
        Condition::Not(inner) => format!("(not {})", self::condition(inner, stream)),
        Condition::Test(inner) => test(inner, stream),
        Condition::Search(words) => search(words, stream),
    }
}

fn test(test: &Test, stream: &Stream) -> String {
    let Test { field, check } = test;
    let left = value(field, stream);
    match check {
        Check::Compare(comparison, right) => compare(&left, *comparison, right, field, stream),
        Check::In(values) if values.is_empty() => "false".to_owned(),
        Check::In(values) => {
            let values: Vec<String> =
                values.iter().map(|value| typed(value, field, stream)).collect();
            format!("({left} in ({}))", values.join(", "))
        }
        Check::Is(word) => {
            let word = match word {
                Is::Null => "null",
                Is::NotNull => "not null",
                Is::True => "true",
                Is::False => "false",
                Is::Unknown => "unknown",
            };
            format!("({left} is {word})")
        }
        Check::FullText(search) => full_text(&left, search, field.kind(stream)),
    }
}

fn compare(
    left: &str,
    comparison: Comparison,
    right: &str,
    field: &Field,
    stream: &Stream,
) -> String {
    let operator = comparison_operator(comparison);
    let right = match comparison {
        Comparison::Like | Comparison::ILike => right.replace('*', "%"),
        _ => right.to_owned(),
    };
    format!("({left} {operator} {})", typed(&right, field, stream))
}

pub(super) fn comparison_operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Like => "like",
        Comparison::ILike => "ilike",
        Comparison::Match => "~",
        Comparison::IMatch => "~*",
        Comparison::IsDistinct => "is distinct from",
        Comparison::Contains => "@>",
        Comparison::ContainedIn => "<@",
    }
}

fn full_text(left: &str, search: &FullText, kind: ColumnType) -> String {
    let function = match search.form {
        FullTextForm::Query => "to_tsquery",
        FullTextForm::Plain => "plainto_tsquery",
        FullTextForm::Phrase => "phraseto_tsquery",
        FullTextForm::Web => "websearch_to_tsquery",
    };
    let language = search.language.as_deref().unwrap_or("simple");
    let language = format!("{}::regconfig", literal(language));
    let words = literal(&search.words);
    let document = match kind {
        ColumnType::Jsonb => format!("to_tsvector({language}, {left})"),
        _ => format!("to_tsvector({language}, {left}::text)"),
    };
    format!("({document} @@ {function}({language}, {words}))")
}

/// All words, each somewhere in a record's texts: of a typed stream in its columns of text, of a document in its strings.
fn search(words: &str, stream: &Stream) -> String {
    let words = literal(words);
    let texts = match &stream.shape {
        Shape::Document { .. } => {
            "jsonb_to_tsvector('simple', payload::jsonb, '[\"string\"]')".to_owned()
        }
        Shape::Typed { columns, .. } => {
            let texts = columns.iter().filter(|column| column.kind == ColumnType::Text);
            let texts: Vec<String> =
                texts.map(|column| format!("{}::text", quoted(&column.name))).collect();
            let extra = "jsonb_to_tsvector('simple', coalesce(extra, '{}'), '[\"string\"]')";
            // PostgreSQL's functions take no more than a hundred arguments.
            let texts = if texts.is_empty() {
                "''".to_owned()
            } else {
                format!("array_to_string(array[{}], ' ')", texts.join(", "))
            };
            format!("(to_tsvector('simple', {texts}) || {extra})")
        }
    };
    format!("({texts} @@ websearch_to_tsquery('simple', {words}))")
}

/// What records are ordered by.
pub(super) fn order(order: &[OrderTerm], stream: &Stream) -> String {
    let term = |term: &OrderTerm| {
        let direction = if term.is_descending { "desc" } else { "asc" };
        let nulls = match (term.is_nullable(), term.nulls_first) {
            // An index is used only where the order is exactly its own.
            (false, _) => "",
            (true, true) => " nulls first",
            (true, false) => " nulls last",
        };
        format!("{} {direction}{nulls}", value(&term.field, stream))
    };
    order.iter().map(term).collect::<Vec<_>>().join(", ")
}

/// What comes behind these values of the order.
///
/// A chain: behind in the first field, or equal in it and behind in the rest. So it holds with any mixture of directions and
/// with NULLs. What the first field must be is said once more by itself, so that an index over it finds the beginning.
pub(super) fn behind(order: &[OrderTerm], values: &[Option<String>], stream: &Stream) -> String {
    let mut chain = "false".to_owned();
    for (term, value) in order.iter().zip(values).rev() {
        let left = self::value(&term.field, stream);
        let right = value.as_ref().map(|value| typed(value, &term.field, stream));
        let is_behind = match (&right, term.nulls_first) {
            (None, true) => format!("{left} is not null"),
            (None, false) => "false".to_owned(),
            (Some(right), nulls_first) => {
                let operator = if term.is_descending { "<" } else { ">" };
                let nulls = if term.is_nullable() && !nulls_first {
                    format!(" or {left} is null")
                } else {
                    String::new()
                };
                format!("({left} {operator} {right}{nulls})")
            }
        };
        let is_equal = match &right {
            None => format!("{left} is null"),
            Some(right) => format!("{left} = {right}"),
        };
        chain = if chain == "false" {
            is_behind
        } else {
            format!("({is_behind} or ({is_equal} and {chain}))")
        };
    }
    match (order.first(), values.first()) {
        (Some(term), Some(Some(first)))
            if order.len() > 1 && (term.nulls_first || !term.is_nullable()) =>
        {
            let operator = if term.is_descending { "<=" } else { ">=" };
            let (left, right) = (value(&term.field, stream), typed(first, &term.field, stream));
            format!("({left} {operator} {right} and {chain})")
        }
        _ => chain,
    }
}
