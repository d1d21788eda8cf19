//! A request for a trend: records in buckets of time and groups, and what is made of each.

use std::fmt;

use tidegate_codec::Stream;
use tidegate_codec::columns::ColumnType;

use crate::aggregate::{self, Aggregate, Function};
use crate::condition::{Comparison, Condition};
use crate::error::{Problem, QueryError, shortened};
use crate::field::{Field, Root, nearest};
use crate::reader::Reader;
use crate::records::{Filters, check_parameters, read_limit};
use crate::select::{self, Selected};

/// Most rows of a trend.
pub const TREND_ROWS_MAX: u32 = 10_000;
/// Most fields that records are grouped by.
pub const GROUP_FIELDS_MAX: usize = 8;
/// Most conditions on aggregates.
pub const HAVING_MAX: usize = 20;
/// Longest name of a time zone, in bytes.
const TIMEZONE_BYTES_MAX: usize = 64;
/// Largest number before a bucket's unit.
const BUCKET_COUNT_MAX: u32 = 1_000_000;

/// What a request for a trend asks.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendPlan {
    pub condition: Condition,
    /// None: plain groups.
    pub bucket: Option<Bucket>,
    /// A time of each record, which buckets, and the first and the last value, go by.
    pub time: Field,
    /// As PostgreSQL knows it; whether there is such a one only PostgreSQL can say.
    pub timezone: String,
    pub by: Vec<Selected>,
    pub aggregates: Vec<Aggregate>,
    pub having: Vec<Having>,
    pub order: Vec<TrendOrder>,
    pub limit: Option<u32>,
    pub fill: Fill,
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    pub count: u32,
    pub unit: BucketUnit,
}

/// What a bucket's number counts. Those from a day on go by the calendar of the time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketUnit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

/// What stands for a bucket without records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fill {
    /// It is not in the reply.
    #[default]
    None,
    Null,
    Zero,
    /// What the bucket before has.
    Previous,
}

/// A condition on a column of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Having {
    /// The aggregate, by its place in the plan.
    pub aggregate: usize,
    pub comparison: Comparison,
    /// A number, as it was written.
    pub value: String,
}

/// A column of the result, and in which direction it orders the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrendOrder {
    pub column: ResultColumn,
    pub is_descending: bool,
    pub nulls_first: bool,
}

/// A column of the result, by its place in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultColumn {
    Bucket,
    Group(usize),
    Aggregate(usize),
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit.suffix())
    }
}

impl BucketUnit {
    const ALL: [BucketUnit; 6] = [
        BucketUnit::Second,
        BucketUnit::Minute,
        BucketUnit::Hour,
        BucketUnit::Day,
        BucketUnit::Week,
        BucketUnit::Month,
    ];

    fn suffix(self) -> &'static str {
        match self {
            BucketUnit::Second => "s",
            BucketUnit::Minute => "m",
            BucketUnit::Hour => "h",
            BucketUnit::Day => "d",
            BucketUnit::Week => "w",
            BucketUnit::Month => "mo",
        }
    }
}

impl TrendPlan {
    /// The parameters that have a meaning of their own.
    pub const PARAMETERS: [&'static str; 14] = [
        "bucket", "time", "timezone", "agg", "by", "having", "order", "limit", "fill", "search",
        "and", "or", "not.and", "not.or",
    ];
    /// Those of them that may be given once.
    const ONLY_ONCE: [&'static str; 10] =
        ["bucket", "time", "timezone", "agg", "by", "having", "order", "limit", "fill", "search"];
    /// What the time of a bucket is called in the reply.
    pub const BUCKET: &'static str = "bucket";

    /// Reads the parameters of a request, percent-decoded, in the order in which they came.
    ///
    /// # Errors
    /// What cannot be asked, with the parameter that asks for it.
    pub fn read(stream: &Stream, parameters: &[(String, String)]) -> Result<TrendPlan, QueryError> {
        check_parameters(parameters, &TrendPlan::ONLY_ONCE)?;
        let given = |name: &str| parameters.iter().find(|(other, _)| other == name);
        let mut filters = Filters::new(stream);
        for (name, value) in parameters {
            if !TrendPlan::ONLY_ONCE[..9].contains(&&**name) {
                filters.take(name, value, &TrendPlan::PARAMETERS)?;
            }
        }
        let text = |name: &str| given(name).map(|(_, value)| &**value);
        let of = |name: &'static str| move |problem: Problem| problem.of(name);
        let bucket = text("bucket").map(read_bucket).transpose().map_err(of("bucket"))?;
        let time = read_time(stream, text("time").unwrap_or("received_at")).map_err(of("time"))?;
        let timezone = read_timezone(text("timezone").unwrap_or("UTC")).map_err(of("timezone"))?;
        let aggregates = aggregate::read(stream, text("agg").unwrap_or("count"));
        let aggregates = aggregates.map_err(of("agg"))?;
        let by =
            text("by").map(|by| read_groups(stream, by, "by")).transpose().map_err(of("by"))?;
        let fill = text("fill").map(read_fill).transpose().map_err(of("fill"))?.unwrap_or_default();
        if fill != Fill::None && bucket.is_none() {
            let problem = Problem::new("invalid_fill", "only buckets are filled; say `bucket`");
            return Err(problem.of("fill"));
        }
        let limit = text("limit").map(|limit| read_limit(limit, TREND_ROWS_MAX));
        let mut plan = TrendPlan {
            condition: filters.finish(),
            bucket,
            time,
            timezone,
            by: by.unwrap_or_default(),
            aggregates,
            having: Vec::new(),
            order: Vec::new(),
            limit: limit.transpose().map_err(of("limit"))?,
            fill,
        };
        plan.check_names().map_err(of("agg"))?;
        if let Some(having) = text("having") {
            plan.having = plan.read_having(having).map_err(of("having"))?;
        }
        if let Some(order) = text("order") {
            plan.order = plan.read_order(order).map_err(of("order"))?;
        }
        Ok(plan)
    }

    /// What the columns of the result are called, in their order.
    pub fn columns(&self) -> Vec<(&str, ResultColumn)> {
        let bucket = self.bucket.map(|_| (TrendPlan::BUCKET, ResultColumn::Bucket));
        let by = self.by.iter().enumerate();
        let by = by.map(|(place, group)| (&*group.name, ResultColumn::Group(place)));
        let aggregates = self.aggregates.iter().enumerate();
        let aggregates =
            aggregates.map(|(place, made)| (&*made.name, ResultColumn::Aggregate(place)));
        bucket.into_iter().chain(by).chain(aggregates).collect()
    }

    fn check_names(&self) -> Result<(), Problem> {
        let columns = self.columns();
        for (index, (name, _)) in columns.iter().enumerate() {
            if columns[..index].iter().any(|(before, _)| before == name) {
                let message = format!(
                    "two columns are called \"{0}\"; name one of them as in `other:{0}`",
                    shortened(name)
                );
                return Err(Problem::new("name_taken", message));
            }
        }
        Ok(())
    }

    fn column(&self, name: &str) -> Result<ResultColumn, Problem> {
        let columns = self.columns();
        let found = columns.iter().find(|(other, _)| *other == name);
        found.map(|(_, column)| *column).ok_or_else(|| {
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            let hint = match nearest(name, &names) {
                Some(near) => format!("is it \"{near}\"?"),
                None => format!("it has {}", names.join(", ")),
            };
            let message = format!("the result has no column \"{}\"; {hint}", shortened(name));
            Problem::new("unknown_column", message)
        })
    }

    /// `having=count.gt.10,avg_dep_delay.lt.5`: all of them.
    fn read_having(&self, text: &str) -> Result<Vec<Having>, Problem> {
        let mut having = Vec::new();
        for part in text.split(',') {
            let (name, rest) = part.split_once('.').unwrap_or((part, ""));
            let (word, value) = rest.split_once('.').unwrap_or((rest, ""));
            let comparison = match word {
                "eq" => Comparison::Equal,
                "neq" => Comparison::NotEqual,
                "gt" => Comparison::Greater,
                "gte" => Comparison::GreaterOrEqual,
                "lt" => Comparison::Less,
                "lte" => Comparison::LessOrEqual,
                other => {
                    let message = format!(
                        "`{}` compares an aggregate with a number, as `count.gt.10` does, by eq, neq, gt, gte, lt or lte, not \
                         `{}`",
                        shortened(part),
                        shortened(other)
                    );
                    return Err(Problem::new("unknown_operator", message));
                }
            };
            let ResultColumn::Aggregate(aggregate) = self.column(name)? else {
                let message = format!("{} is no aggregate; filter by it", shortened(name));
                return Err(Problem::new("invalid_having", message));
            };
            if !value.parse::<f64>().is_ok_and(f64::is_finite) {
                let message = format!("`{}` is no number", shortened(value));
                return Err(Problem::new("invalid_value", message));
            }
            having.push(Having { aggregate, comparison, value: value.to_owned() });
        }
        if having.len() > HAVING_MAX {
            let message = format!("at most {HAVING_MAX} conditions");
            return Err(Problem::new("too_many_filters", message));
        }
        for Having { aggregate, .. } in &having {
            self.check_is_number(*aggregate)?;
        }
        Ok(having)
    }

    fn check_is_number(&self, aggregate: usize) -> Result<(), Problem> {
        let Aggregate { name, function, .. } = &self.aggregates[aggregate];
        let may_be_none = matches!(
            function,
            Function::Minimum | Function::Maximum | Function::First | Function::Last
        );
        if may_be_none {
            let message = format!(
                "`having` is about count, avg, sum, stddev, distinct and quantiles, not about {}",
                shortened(name)
            );
            return Err(Problem::new("invalid_having", message));
        }
        Ok(())
    }

    /// `order=count.desc,carrier`
    fn read_order(&self, text: &str) -> Result<Vec<TrendOrder>, Problem> {
        let columns = self.columns();
        let mut order: Vec<TrendOrder> = Vec::new();
        for part in text.split(',') {
            let mut words = part.split('.');
            let column = self.column(words.next().unwrap_or_default())?;
            let (mut is_descending, mut nulls_first) = (false, None);
            for word in words {
                match word {
                    "asc" => is_descending = false,
                    "desc" => is_descending = true,
                    "nullsfirst" => nulls_first = Some(true),
                    "nullslast" => nulls_first = Some(false),
                    other => {
                        let message = format!(
                            "behind a column come `.asc` or `.desc`, then `.nullsfirst` or `.nullslast`, not `.{}`",
                            shortened(other)
                        );
                        return Err(Problem::new("invalid_order", message));
                    }
                }
            }
            let nulls_first = nulls_first.unwrap_or(is_descending);
            order.push(TrendOrder { column, is_descending, nulls_first });
            if order.len() > columns.len() {
                return Err(Problem::new("invalid_order", "a column orders the rows once"));
            }
        }
        Ok(order)
    }
}

/// `by=carrier,origin`
pub(crate) fn read_groups(
    stream: &Stream,
    text: &str,
    parameter: &str,
) -> Result<Vec<Selected>, Problem> {
    let groups = select::read(stream, text)?.ok_or_else(|| {
        Problem::new("invalid_group", format!("`{parameter}` names columns; `*` is none"))
    })?;
    if groups.len() > GROUP_FIELDS_MAX {
        let message = format!("at most {GROUP_FIELDS_MAX} fields");
        return Err(Problem::new("too_many_fields", message));
    }
    Ok(groups)
}

fn read_bucket(text: &str) -> Result<Bucket, Problem> {
    let digits = text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let (count, suffix) = text.split_at(digits);
    let unit = BucketUnit::ALL.into_iter().find(|unit| unit.suffix() == suffix);
    let count = count.parse().ok().filter(|count| (1..=BUCKET_COUNT_MAX).contains(count));
    match (count, unit) {
        (Some(count), Some(unit)) => Ok(Bucket { count, unit }),
        _ => {
            let message = format!(
                "it is a number and s, m, h, d, w or mo, such as 30s, 5m, 1h, 1d, 1w, 1mo, not `{}`",
                shortened(text)
            );
            Err(Problem::new("invalid_bucket", message))
        }
    }
}

fn read_time(stream: &Stream, text: &str) -> Result<Field, Problem> {
    let mut reader = Reader::new(text);
    let field = Field::read(&mut reader, stream, |rest| rest.starts_with(','))?;
    if !reader.is_at_end() {
        return Err(Problem::new("invalid_syntax", "it is one field"));
    }
    match field.kind(stream) {
        ColumnType::TimestampTz | ColumnType::Date => Ok(field),
        kind => {
            let text = shortened(&field.text);
            let times = stream
                .columns()
                .iter()
                .filter(|column| matches!(column.kind, ColumnType::TimestampTz | ColumnType::Date));
            let times: Vec<&str> =
                times.map(|column| &*column.name).chain(["received_at"]).collect();
            let message = format!(
                "{text} is {}, and no time; times are {}, and `{text}::timestamptz` where it is the text of one",
                kind.as_str(),
                times.join(", ")
            );
            Err(Problem::new("wrong_type", message))
        }
    }
}

fn read_timezone(text: &str) -> Result<String, Problem> {
    let fits = |character: char| character.is_ascii_alphanumeric() || "_+-/:".contains(character);
    if text.is_empty() || text.len() > TIMEZONE_BYTES_MAX || !text.chars().all(fits) {
        let message = format!("`{}` is no time zone such as Europe/Berlin", shortened(text));
        return Err(Problem::new("unknown_timezone", message));
    }
    Ok(text.to_owned())
}

fn read_fill(text: &str) -> Result<Fill, Problem> {
    match text {
        "none" => Ok(Fill::None),
        "null" => Ok(Fill::Null),
        "zero" => Ok(Fill::Zero),
        "previous" => Ok(Fill::Previous),
        other => {
            let message = format!("it is none, null, zero or previous, not `{}`", shortened(other));
            Err(Problem::new("invalid_fill", message))
        }
    }
}

impl TrendPlan {
    /// Whether times are taken from when records were received.
    pub fn is_by_arrival(&self) -> bool {
        self.time.root == Root::ReceivedAt
    }
}
