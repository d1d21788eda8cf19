//! Trends and facets as SQL.

use std::fmt::Write as _;

use tidegate_codec::Stream;
use tidegate_codec::columns::ColumnType;
use tidegate_codec::rows::{RowColumn, RowPlace, RowType};
use tidegate_query::{
    Aggregate, Bucket, BucketUnit, Condition, FacetsPlan, Fill, Function, ResultColumn, TrendOrder,
    TrendPlan,
};

use super::expression::{comparison_operator, condition, value};
use super::statement::{Statement, shown};
use super::table::ReadTable;
use crate::db::sql::{literal, table};

/// A Monday, from whose midnight buckets are counted.
const ORIGIN: &str = "timestamp '2000-01-03'";
/// Seconds from the first moment that PostgreSQL has to 1970, so that no time is negative.
const SECONDS_BEFORE_1970: &str = "210866889600";
/// Digits of such a time in microseconds.
const TIME_DIGITS: usize = 20;

impl Statement {
    /// The rows of a trend; at most `limit`.
    pub(super) fn trend(
        plan: &TrendPlan,
        stream: &Stream,
        read: &ReadTable,
        limit: u64,
    ) -> Statement {
        let groups: Vec<(String, RowType)> =
            plan.by.iter().map(|group| shown(&group.field, stream, read)).collect();
        let made: Vec<(String, ColumnType)> =
            plan.aggregates.iter().map(|one| aggregate(one, plan, stream)).collect();
        let names = Names { groups: groups.len(), aggregates: made.len() };
        let mut sql = format!("with grouped as ({})", grouped(plan, stream, &groups, &made));
        let rows = match plan.bucket {
            Some(bucket) if plan.fill != Fill::None => {
                sql.push_str(&filled(plan, bucket, names, limit));
                "filled"
            }
            _ => "grouped",
        };
        write!(sql, " select {} from {rows}", names.all(plan.bucket.is_some()).join(", "))
            .expect("writing to a String");
        write!(sql, " order by {} limit {limit}", order(plan, names)).expect("writing to a String");
        let bucket = RowType::Declared(ColumnType::TimestampTz);
        let kinds = plan.bucket.map(|_| bucket).into_iter();
        let kinds = kinds.chain(groups.into_iter().map(|(_, kind)| kind));
        let kinds = kinds.chain(made.into_iter().map(|(_, kind)| RowType::Declared(kind)));
        let column = |((name, _), kind): ((&str, ResultColumn), RowType)| RowColumn {
            name: name.to_owned(),
            kind,
            place: RowPlace::Row,
        };
        Statement { sql, columns: plan.columns().into_iter().zip(kinds).map(column).collect() }
    }

    /// The most frequent values of one of the plan's columns.
    pub(super) fn facet(
        plan: &FacetsPlan,
        column: usize,
        stream: &Stream,
        read: &ReadTable,
    ) -> Statement {
        let (expression, kind) = shown(&plan.columns[column].field, stream, read);
        // PostgreSQL's `json` is not compared.
        let (expression, kind) = match kind {
            RowType::Json => {
                (format!("({expression})::jsonb"), RowType::Declared(ColumnType::Jsonb))
            }
            kind @ RowType::Declared(_) => (expression, kind),
        };
        let sql = format!(
            "select {expression} as value, count(*) as count from {}{} group by 1 order by 2 desc, 1 limit {}",
            table(stream),
            filter(&plan.condition, stream),
            plan.limit
        );
        let count = RowType::Declared(ColumnType::BigInt);
        let columns = [("value", kind), ("count", count)];
        let column = |(name, kind): (&str, RowType)| RowColumn {
            name: name.to_owned(),
            kind,
            place: RowPlace::Row,
        };
        Statement { sql, columns: columns.map(column).into() }
    }
}

/// What the columns of a result are called in SQL: `b`, `g0`, `g1`, `a0`, …
#[derive(Clone, Copy)]
struct Names {
    groups: usize,
    aggregates: usize,
}

impl Names {
    fn groups(self) -> Vec<String> {
        (0..self.groups).map(|index| format!("g{index}")).collect()
    }

    fn aggregates(self) -> Vec<String> {
        (0..self.aggregates).map(|index| format!("a{index}")).collect()
    }

    fn all(self, has_bucket: bool) -> Vec<String> {
        let bucket = has_bucket.then(|| "b".to_owned()).into_iter();
        bucket.chain(self.groups()).chain(self.aggregates()).collect()
    }
}

fn filter(conditions: &Condition, stream: &Stream) -> String {
    if *conditions == Condition::TRUE {
        return String::new();
    }
    format!(" where {}", condition(conditions, stream))
}

/// One row for each bucket and group that has records.
fn grouped(
    plan: &TrendPlan,
    stream: &Stream,
    groups: &[(String, RowType)],
    made: &[(String, ColumnType)],
) -> String {
    let time = time(plan, stream);
    let mut selected = Vec::new();
    if let Some(bucket) = plan.bucket {
        selected.push(format!("{} as b", bucket_of(bucket, &time, &plan.timezone)));
    }
    for (index, (expression, kind)) in groups.iter().enumerate() {
        let expression = match kind {
            RowType::Json => format!("({expression})::jsonb"),
            RowType::Declared(_) => expression.clone(),
        };
        selected.push(format!("{expression} as g{index}"));
    }
    let keys: Vec<String> = (1..=selected.len()).map(|place| place.to_string()).collect();
    for (index, (expression, _)) in made.iter().enumerate() {
        selected.push(format!("{expression} as a{index}"));
    }
    let mut sql = format!("select {} from {}", selected.join(", "), table(stream));
    sql.push_str(&filter(&plan.condition, stream));
    if plan.bucket.is_some() {
        let word = if plan.condition == Condition::TRUE { "where" } else { "and" };
        write!(sql, " {word} isfinite({time})").expect("writing to a String");
    }
    if !keys.is_empty() {
        write!(sql, " group by {}", keys.join(", ")).expect("writing to a String");
    }
    let having = plan.having.iter().map(|having| {
        let operator = comparison_operator(having.comparison);
        let (expression, _) = &made[having.aggregate];
        format!("{expression} {operator} {}::numeric", literal(&having.value))
    });
    let having: Vec<String> = having.collect();
    if !having.is_empty() {
        write!(sql, " having {}", having.join(" and ")).expect("writing to a String");
    }
    sql
}

/// The time that buckets go by: of a date its midnight in the time zone.
fn time(plan: &TrendPlan, stream: &Stream) -> String {
    let time = value(&plan.time, stream);
    match plan.time.kind(stream) {
        ColumnType::Date => {
            format!("(({time})::timestamp at time zone {})", literal(&plan.timezone))
        }
        _ => format!("({time})"),
    }
}

/// When the bucket begins that a time is in.
fn bucket_of(bucket: Bucket, time: &str, timezone: &str) -> String {
    let zone = literal(timezone);
    let Bucket { count, unit } = bucket;
    match unit {
        BucketUnit::Second | BucketUnit::Minute | BucketUnit::Hour => {
            format!("date_bin({}, {time}, {ORIGIN} at time zone {zone})", interval(bucket))
        }
        BucketUnit::Day | BucketUnit::Week => format!(
            "(date_bin({}, {time} at time zone {zone}, {ORIGIN}) at time zone {zone})",
            interval(bucket)
        ),
        BucketUnit::Month => {
            let local = format!("({time} at time zone {zone})");
            let month =
                format!("(extract(year from {local}) * 12 + extract(month from {local}) - 1)");
            let first = format!("(floor({month} / {count}) * {count})::integer");
            format!(
                "((make_timestamp({first} / 12, {first} % 12 + 1, 1, 0, 0, 0)) at time zone {zone})"
            )
        }
    }
}

fn interval(bucket: Bucket) -> String {
    let (count, unit) = match bucket.unit {
        BucketUnit::Second => (bucket.count, "seconds"),
        BucketUnit::Minute => (bucket.count, "minutes"),
        BucketUnit::Hour => (bucket.count, "hours"),
        BucketUnit::Day => (bucket.count, "days"),
        BucketUnit::Week => (bucket.count * 7, "days"),
        BucketUnit::Month => (bucket.count, "months"),
    };
    format!("interval '{count} {unit}'")
}

/// Every bucket from the first to the last, for each group; at most so many rows that a reply with them is refused.
fn filled(plan: &TrendPlan, bucket: Bucket, names: Names, limit: u64) -> String {
    let zone = literal(&plan.timezone);
    let step = interval(bucket);
    let is_by_calendar =
        matches!(bucket.unit, BucketUnit::Day | BucketUnit::Week | BucketUnit::Month);
    let series = if is_by_calendar {
        format!(
            "generate_series(lo at time zone {zone}, hi at time zone {zone}, {step}) at time zone {zone}"
        )
    } else {
        format!("generate_series(lo, hi, {step})")
    };
    let groups = names.groups();
    let group_list =
        if groups.is_empty() { "true as everything".to_owned() } else { groups.join(", ") };
    let is_same =
        groups.iter().map(|group| format!("grouped.{group} is not distinct from sets.{group}"));
    let is_same: Vec<String> =
        std::iter::once("grouped.b = buckets.b".to_owned()).chain(is_same).collect();
    let of_sets: Vec<String> = groups.iter().map(|group| format!("sets.{group}")).collect();
    let mut joined = vec!["buckets.b".to_owned()];
    joined.extend(of_sets);
    joined.extend(names.aggregates().iter().map(|name| format!("grouped.{name}")));
    let mut sql = format!(
        ", buckets as (select {series} as b from (select min(b) as lo, max(b) as hi from grouped) bounds limit {limit}),
         sets as (select distinct {group_list} from grouped),
         joined as (
           select {}, grouped.b is not null as is_there from buckets cross join sets
           left join grouped on {} limit {limit})",
        joined.join(", "),
        is_same.join(" and "),
    );
    let partition = |more: Option<&str>| {
        let keys: Vec<&str> = groups.iter().map(String::as_str).chain(more).collect();
        if keys.is_empty() { String::new() } else { format!("partition by {} ", keys.join(", ")) }
    };
    let mut kept = vec!["b".to_owned()];
    kept.extend(groups.iter().cloned());
    match plan.fill {
        Fill::None | Fill::Null => sql.push_str(", filled as (select * from joined)"),
        Fill::Zero => {
            let zero = names.aggregates().into_iter().zip(&plan.aggregates).map(|(name, made)| {
                if is_number(made) { format!("coalesce({name}, 0) as {name}") } else { name }
            });
            kept.extend(zero);
            write!(sql, ", filled as (select {} from joined)", kept.join(", "))
                .expect("writing to a String");
        }
        Fill::Previous => {
            let runs = partition(None);
            let of_run = partition(Some("run"));
            kept.extend(
                names
                    .aggregates()
                    .iter()
                    .map(|name| format!("first_value({name}) over ({of_run}order by b) as {name}")),
            );
            write!(
                sql,
                ", runs as (select *, count(*) filter (where is_there) over ({runs}order by b) as run from joined),
                 filled as (select {} from runs)",
                kept.join(", ")
            )
            .expect("writing to a String");
        }
    }
    sql
}

/// Whether nothing can be told as 0.
fn is_number(made: &Aggregate) -> bool {
    !matches!(
        made.function,
        Function::Minimum | Function::Maximum | Function::First | Function::Last
    )
}

/// An aggregate and its type.
fn aggregate(made: &Aggregate, plan: &TrendPlan, stream: &Stream) -> (String, ColumnType) {
    use ColumnType::{BigInt, DoublePrecision, Numeric, Real};
    let Some(field) = &made.field else { return ("count(*)".to_owned(), BigInt) };
    let of = value(field, stream);
    let kind = field.kind(stream);
    let is_float = matches!(kind, Real | DoublePrecision);
    let number = if is_float { DoublePrecision } else { Numeric };
    let (expression, kind) = match made.function {
        Function::Count => (format!("count({of})"), BigInt),
        Function::Distinct => (format!("count(distinct {of})"), BigInt),
        Function::Average => (format!("avg({of})"), number),
        Function::StandardDeviation => (format!("stddev({of})"), number),
        Function::Sum => (format!("sum({of})"), if is_float { kind } else { Numeric }),
        Function::Minimum => (format!("min({of})"), kind),
        Function::Maximum => (format!("max({of})"), kind),
        Function::Quantile(percent) => (
            format!(
                "percentile_cont({percent} / 100.0::double precision) within group (order by ({of})::double precision)"
            ),
            DoublePrecision,
        ),
        Function::First => (extreme("min", &of, plan, stream), kind),
        Function::Last => (extreme("max", &of, plan, stream), kind),
    };
    (format!("({expression})::{}", kind.as_str()), kind)
}

/// The value at the first or the last time: the least or the greatest pair of both as texts, so that no more than one pair
/// is ever held.
fn extreme(function: &str, of: &str, plan: &TrendPlan, stream: &Stream) -> String {
    let time = time(plan, stream);
    let micros = format!(
        "lpad(((extract(epoch from {time}) + {SECONDS_BEFORE_1970}) * 1000000)::numeric({TIME_DIGITS}, 0)::text, {TIME_DIGITS}, '0')"
    );
    format!(
        "({function}(array[{micros} collate \"C\", ({of})::text]) filter (where {of} is not null and isfinite({time})))[2]"
    )
}

/// As asked; without that, and between equals, by time and groups.
fn order(plan: &TrendPlan, names: Names) -> String {
    let name = |column: ResultColumn| match column {
        ResultColumn::Bucket => "b".to_owned(),
        ResultColumn::Group(index) => format!("g{index}"),
        ResultColumn::Aggregate(index) => format!("a{index}"),
    };
    let asked = plan.order.iter().map(|TrendOrder { column, is_descending, nulls_first }| {
        let direction = if *is_descending { "desc" } else { "asc" };
        let nulls = if *nulls_first { "first" } else { "last" };
        format!("{} {direction} nulls {nulls}", name(*column))
    });
    let keys = plan.bucket.map(|_| "b".to_owned()).into_iter().chain(names.groups());
    let terms: Vec<String> = asked.chain(keys).collect();
    if terms.is_empty() { "1".to_owned() } else { terms.join(", ") }
}
