//! What is taken and what is refused, by examples; and that nothing that is sent breaks the reading.

use proptest::prelude::*;
use tidegate_codec::columns::{Column, ColumnType};
use tidegate_codec::{PayloadType, Shape, Stream, UnknownKeys};
use tidegate_record::StreamId;
use time::OffsetDateTime;

use crate::{
    Check, Comparison, Condition, FacetsPlan, Fill, Function, PAGE_RECORDS_MAX, QueryError,
    RecordsPlan, ResultColumn, Root, Step, TESTS_MAX, Taken, Test, TrendPlan,
};

fn stream(shape: Shape, retention_days: Option<u16>) -> Stream {
    Stream {
        id: StreamId(7),
        name: "s".parse().unwrap(),
        shape,
        key: None,
        retention_days,
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}

fn flights() -> Stream {
    use ColumnType::{Boolean, Date, DoublePrecision, Integer, Jsonb, Text, TimestampTz};
    let columns = [
        ("carrier", Text),
        ("dep_delay", Integer),
        ("air_time", DoublePrecision),
        ("flown", Boolean),
        ("time_hour", TimestampTz),
        ("day", Date),
        ("details", Jsonb),
        ("limit", Integer),
        ("a,b", Text),
    ];
    let columns = columns.map(|(name, kind)| Column::new(name, kind)).to_vec();
    stream(Shape::typed(columns, UnknownKeys::Extra), None)
}

fn documents() -> Stream {
    stream(Shape::Document { payload: PayloadType::Jsonb }, Some(7))
}

fn pairs(query: &[(&str, &str)]) -> Vec<(String, String)> {
    query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn records(stream: &Stream, query: &[(&str, &str)]) -> Result<RecordsPlan, QueryError> {
    RecordsPlan::read(stream, &pairs(query), PAGE_RECORDS_MAX)
}

fn condition(query: &[(&str, &str)]) -> Condition {
    records(&flights(), query).unwrap().condition
}

fn test_of(condition: Condition) -> Test {
    match condition {
        Condition::Test(test) => *test,
        other => panic!("{other:?}"),
    }
}

fn refused(stream: &Stream, name: &str, value: &str) -> QueryError {
    records(stream, &[(name, value)]).unwrap_err()
}

#[test]
fn filters_are_tests_of_columns() {
    for (value, comparison) in [
        ("eq.5", Comparison::Equal),
        ("neq.5", Comparison::NotEqual),
        ("gt.5", Comparison::Greater),
        ("gte.5", Comparison::GreaterOrEqual),
        ("lt.5", Comparison::Less),
        ("lte.5", Comparison::LessOrEqual),
        ("isdistinct.5", Comparison::IsDistinct),
    ] {
        let test = test_of(condition(&[("dep_delay", value)]));
        assert_eq!(test.field.root, Root::Column(1));
        assert_eq!(test.check, Check::Compare(comparison, "5".to_owned()));
    }
    let negated = condition(&[("dep_delay", "not.eq.5")]);
    assert!(matches!(negated, Condition::Not(test) if matches!(*test, Condition::Test(_))));
    let both = condition(&[("dep_delay", "gt.5"), ("dep_delay", "lt.9")]);
    assert!(matches!(both, Condition::All(tests) if tests.len() == 2));
    assert_eq!(condition(&[]), Condition::TRUE);
    // At the top a value is everything behind the operator.
    let test = test_of(condition(&[("carrier", r#"eq.a,"b).c"#)]));
    assert_eq!(test.check, Check::Compare(Comparison::Equal, r#"a,"b).c"#.to_owned()));
}

#[test]
fn trees_hold_filters_and_trees() {
    let value = r#"(dep_delay.gt.5,not.and(carrier.eq."a,b)",details.cs.{"x":[1,{"y":")"}]}),carrier.in.(UA,"x,y"))"#;
    let Condition::Any(parts) = condition(&[("or", value)]) else { panic!("or") };
    assert_eq!(parts.len(), 3);
    let Condition::Not(inner) = &parts[1] else { panic!("not") };
    let Condition::All(inner) = &**inner else { panic!("and") };
    assert_eq!(
        test_of(inner[0].clone()).check,
        Check::Compare(Comparison::Equal, "a,b)".to_owned())
    );
    let document = r#"{"x":[1,{"y":")"}]}"#.to_owned();
    assert_eq!(test_of(inner[1].clone()).check, Check::Compare(Comparison::Contains, document));
    let list = ["UA", "x,y"].map(str::to_owned).to_vec();
    assert_eq!(test_of(parts[2].clone()).check, Check::In(list));
    let negated = condition(&[("not.or", "(dep_delay.gt.5)")]);
    assert!(matches!(negated, Condition::Not(_)));
    let named = test_of(condition(&[(r#""a,b""#, "is.null")]));
    assert_eq!(named.field.root, Root::Column(8));
}

#[test]
fn names_that_have_a_meaning_are_columns_in_quotes() {
    let plan = records(&flights(), &[(r#""limit""#, "eq.5"), ("limit", "7")]).unwrap();
    assert_eq!(test_of(plan.condition).field.root, Root::Column(7));
    assert_eq!(plan.limit, Some(7));
}

#[test]
fn places_in_documents_are_paths() {
    let stream = documents();
    let of = |name: &str| test_of(records(&stream, &[(name, "eq.1")]).unwrap().condition).field;
    let member = |name: &str| Step::Member(name.to_owned());
    let bare = of("carrier");
    assert_eq!((bare.root, &*bare.path), (Root::Payload, &[member("carrier")][..]));
    assert_eq!((bare.taken, bare.kind(&stream)), (Taken::Text, ColumnType::Text));
    let deep = of(r#"a->-1->"b->c"->>d"#);
    let path = [member("a"), Step::Element(-1), member("b->c"), member("d")];
    assert_eq!((&*deep.path, deep.taken), (&path[..], Taken::Text));
    assert_eq!(of("a->b").kind(&stream), ColumnType::Jsonb);
    assert_eq!(of("n::numeric").kind(&stream), ColumnType::Numeric);
    assert_eq!(of("payload->>id").path, [member("id")]);
    assert_eq!(of("payload").path, []);
    let extra = test_of(condition(&[("extra->>x", "eq.1")])).field;
    assert_eq!((extra.root, extra.path), (Root::Extra, vec![member("x")]));
}

#[test]
fn what_makes_no_sense_is_told_with_what_helps() {
    let (flights, documents) = (flights(), documents());
    let long = "x".repeat(100_000);
    for (stream, name, value, code, help) in [
        (&flights, "dep_dely", "gt.5", "unknown_column", "is it \"dep_delay\"?"),
        (&flights, "nothing", "gt.5", "unknown_column", "extra->>nothing"),
        (&flights, "dep_delay", "5", "unknown_operator", "`eq.5`"),
        (&flights, "dep_delay", "eq(any).{5}", "unknown_operator", "parentheses"),
        (&flights, "limt", "5", "unknown_parameter", "is it `limit`?"),
        (&documents, "ordr", "a", "unknown_parameter", "is it `order`?"),
        (&flights, "dep_delay", "eq.five", "invalid_value", "dep_delay: expected integer"),
        (&flights, "dep_delay", "eq.99999999999", "invalid_value", "out of range"),
        (&flights, "dep_delay", "eq.NaN", "invalid_value", "expected integer"),
        (&flights, "time_hour", "gt.tomorrow", "invalid_value", "expected timestamptz"),
        (&flights, "dep_delay", "like.5*", "wrong_operator", "`dep_delay::text`"),
        (&flights, "dep_delay", "is.true", "wrong_operator", "`dep_delay::boolean`"),
        (&flights, "carrier", "cs.{}", "wrong_operator", "`carrier::jsonb`"),
        (&flights, "details", "cs.{", "invalid_value", "details"),
        (&flights, "dep_delay", "is.nothing", "invalid_value", "not_null"),
        (&flights, "dep_delay", "in.(1,x)", "invalid_value", "expected integer"),
        (&flights, "dep_delay", "in.(1,2", "invalid_syntax", "`)` is expected"),
        (&flights, "dep_delay", "in.(1)2", "invalid_syntax", "too much"),
        (&flights, "carrier", "fts(en';).a", "invalid_language", "english"),
        (&flights, "carrier->>a", "eq.1", "invalid_path", "no document"),
        (&flights, "details->", "eq.1", "invalid_path", "a step is missing"),
        (&flights, "dep_delay::money", "eq.1", "unknown_type", "numeric"),
        (&flights, "or", "dep_delay.eq.1", "invalid_syntax", "`(` is expected"),
        (&flights, "or", "(dep_delay.eq.1", "invalid_syntax", "`)` is expected"),
        (&flights, "or", "(dep_delay.eq.\"1)", "invalid_syntax", "closing quote"),
        (&flights, "carrier", &*format!("eq.{long}"), "value_too_long", "bytes"),
        (&flights, "search", " ", "invalid_value", "words"),
        (&flights, "limit", "-1", "invalid_limit", "from 1 to 10000"),
        (&flights, "limit", "99999999999999999999", "invalid_limit", "from 1 to 10000"),
        (&flights, "order", "dep_delay.down", "invalid_order", "`.desc`"),
        (&flights, "order", "dep_delay,", "invalid_syntax", "a name is missing"),
        (&flights, "select", "carrier,carrier", "name_taken", "`other:carrier`"),
        (&flights, "select", "", "invalid_syntax", "a name is missing"),
        (&flights, "count", "all", "invalid_count", "estimated"),
        (&flights, "after", "nonsense", "invalid_cursor", "begin without"),
        (&flights, "carrier", "eq.a\0", "invalid_value", "NUL"),
        (&documents, "n", "gt.5", "ambiguous_type", "`n::numeric`"),
    ] {
        let error = refused(stream, name, value);
        assert_eq!((error.code, &*error.parameter), (code, name), "{value:.80}: {error}");
        assert!(error.message.contains(help), "{name}={value:.80}: {error}");
        assert!(error.message.len() < 1_000, "{error}");
    }
    let twice = records(&flights, &[("limit", "1"), ("limit", "2")]).unwrap_err();
    assert_eq!(twice.code, "given_twice");
    let many: Vec<(&str, &str)> = vec![("dep_delay", "gt.1"); TESTS_MAX + 1];
    assert_eq!(records(&flights, &many).unwrap_err().code, "too_many_filters");
    let deep = format!("{}dep_delay.eq.1{}", "(and".repeat(11) + "(", ")".repeat(12));
    assert_eq!(refused(&flights, "and", &deep).code, "too_deep");
}

#[test]
fn an_order_ends_with_the_id() {
    let names = |stream: &Stream, query: &[(&str, &str)]| -> Vec<String> {
        let order = records(stream, query).unwrap().order;
        let name = |term: &crate::OrderTerm| {
            let direction = if term.is_descending { "-" } else { "+" };
            let nulls = if term.nulls_first { "<" } else { ">" };
            format!("{}{direction}{nulls}", term.field.text)
        };
        order.iter().map(name).collect()
    };
    let flights = flights();
    assert_eq!(names(&flights, &[]), ["id-<"]);
    assert_eq!(names(&documents(), &[]), ["received_at-<", "id-<"]);
    let asked = [("order", "dep_delay.desc.nullslast,carrier")];
    assert_eq!(names(&flights, &asked), ["dep_delay->", "carrier+>", "id+>"]);
    assert_eq!(names(&flights, &[("order", "carrier,id.desc,dep_delay")]), ["carrier+>", "id-<"]);
    assert_eq!(names(&flights, &[("order", "carrier.nullsfirst")]), ["carrier+<", "id+>"]);
}

#[test]
fn what_is_selected_has_names() {
    let names = |stream: &Stream, text: &str| -> Vec<String> {
        let select = records(stream, &[("select", text)]).unwrap().select;
        select.unwrap().into_iter().map(|selected| selected.name).collect()
    };
    let text = r#"carrier,late:dep_delay,dep_delay::text,details->a->>b,details->0,"x y":"a,b""#;
    assert_eq!(names(&flights(), text), ["carrier", "late", "dep_delay", "b", "details", "x y"]);
    assert_eq!(names(&documents(), "n,m:n::numeric,payload"), ["n", "m", "payload"]);
    assert_eq!(records(&flights(), &[("select", "*")]).unwrap().select, None);
}

#[test]
fn a_cursor_belongs_to_its_question() {
    let stream = flights();
    let query = [("order", "dep_delay"), ("carrier", "eq.UA")];
    let plan = records(&stream, &query).unwrap();
    let id = "019347a0-0000-7000-8000-000000000000".to_owned();
    let values = vec![None, Some(id.clone())];
    let next = plan.next(values.clone());
    let follow = |stream: &Stream, query: &[(&str, &str)], cursor: &str| {
        let query: Vec<(&str, &str)> = query.iter().copied().chain([("after", cursor)]).collect();
        records(stream, &query)
    };
    assert_eq!(follow(&stream, &query, &next).unwrap().after, Some(values));
    // What is shown, and how much of it, may change on the way.
    let other_page = [query[1], query[0], ("limit", "3"), ("select", "carrier")];
    assert!(follow(&stream, &other_page, &next).is_ok());
    for other in [[query[0], ("carrier", "eq.AA")], [("order", "dep_delay.desc"), query[1]]] {
        assert_eq!(follow(&stream, &other, &next).unwrap_err().code, "other_cursor");
    }
    let other = Stream { id: StreamId(8), ..stream.clone() };
    assert_eq!(follow(&other, &query, &next).unwrap_err().code, "other_cursor");
    for forged in [
        vec![Some("x".to_owned()), Some(id.clone())],
        vec![None, None],
        vec![None, Some("' or true --".to_owned())],
        vec![None],
        vec![None, Some(id), None],
    ] {
        let error = follow(&stream, &query, &plan.next(forged.clone())).unwrap_err();
        assert_eq!(error.code, "invalid_cursor", "{forged:?}");
    }
}

fn trend(query: &[(&str, &str)]) -> Result<TrendPlan, QueryError> {
    TrendPlan::read(&flights(), &pairs(query))
}

#[test]
fn a_trend_has_buckets_groups_and_aggregates() {
    let plan = trend(&[
        ("bucket", "15m"),
        ("time", "time_hour"),
        ("timezone", "America/New_York"),
        ("agg", "count,avg(dep_delay),worst:max(dep_delay),p99.9(air_time),distinct(carrier)"),
        ("by", "carrier,d:day"),
        ("dep_delay", "gt.5"),
        ("having", "count.gt.10"),
        ("order", "count.desc,bucket"),
        ("fill", "previous"),
    ])
    .unwrap();
    let names: Vec<&str> = plan.columns().iter().map(|(name, _)| *name).collect();
    let expected = [
        "bucket",
        "carrier",
        "d",
        "count",
        "avg_dep_delay",
        "worst",
        "p99.9_air_time",
        "distinct_carrier",
    ];
    assert_eq!(names, expected);
    assert_eq!(plan.bucket.unwrap().to_string(), "15m");
    assert_eq!(plan.aggregates[3].function, Function::Quantile(99.9));
    assert_eq!((plan.having[0].aggregate, plan.fill), (0, Fill::Previous));
    assert_eq!(plan.order[1].column, ResultColumn::Bucket);
    let plain = trend(&[]).unwrap();
    assert_eq!((plain.columns().len(), plain.bucket), (1, None));
    assert!(plain.is_by_arrival());
    let of_documents = pairs(&[("agg", "avg(n),distinct(n),first(n)")]);
    let plan = TrendPlan::read(&documents(), &of_documents).unwrap();
    let kinds = plan.aggregates.iter().map(|made| made.field.as_ref().unwrap().kind(&documents()));
    let kinds: Vec<ColumnType> = kinds.collect();
    assert_eq!(kinds, [ColumnType::Numeric, ColumnType::Text, ColumnType::Jsonb]);
}

#[test]
fn a_trend_that_makes_no_sense_is_told() {
    for (name, value, code) in [
        ("bucket", "0s", "invalid_bucket"),
        ("bucket", "1ms", "invalid_bucket"),
        ("bucket", "-1h", "invalid_bucket"),
        ("bucket", "1 h", "invalid_bucket"),
        ("bucket", "99999999999999h", "invalid_bucket"),
        ("time", "carrier", "wrong_type"),
        ("time", "nothing", "unknown_column"),
        ("timezone", "Mars/Phobos'; drop", "unknown_timezone"),
        ("agg", "median(dep_delay)", "unknown_aggregate"),
        ("agg", "p101(dep_delay)", "unknown_aggregate"),
        ("agg", "avg", "invalid_aggregate"),
        ("agg", "avg(carrier)", "wrong_aggregate"),
        ("agg", "max(details)", "wrong_aggregate"),
        ("agg", "avg(dep_delay", "invalid_syntax"),
        ("agg", "count,count", "name_taken"),
        ("by", "*", "invalid_group"),
        ("having", "count.like.5", "unknown_operator"),
        ("having", "count.gt.x", "invalid_value"),
        ("having", "nothing.gt.5", "unknown_column"),
        ("order", "nothing", "unknown_column"),
        ("fill", "zero", "invalid_fill"),
        ("limit", "10001", "invalid_limit"),
        ("bucets", "1h", "unknown_parameter"),
    ] {
        let error = trend(&[(name, value)]).unwrap_err();
        assert_eq!((error.code, &*error.parameter), (code, name), "{value}: {error}");
    }
    let clash = trend(&[("by", "count:carrier")]).unwrap_err();
    assert_eq!(clash.code, "name_taken");
    let missing = FacetsPlan::read(&flights(), &[]).unwrap_err();
    assert_eq!(missing.code, "missing_parameter");
    let facets = FacetsPlan::read(&flights(), &pairs(&[("columns", "carrier,flown")])).unwrap();
    assert_eq!((facets.columns.len(), facets.limit), (2, 20));
}

fn parameter() -> impl Strategy<Value = (String, String)> {
    let names = prop_oneof![
        "[a-z_.>:\"-]{0,12}",
        Just("or".to_owned()),
        Just("order".to_owned()),
        Just("select".to_owned()),
        Just("agg".to_owned()),
        Just("having".to_owned()),
        Just("details->a".to_owned()),
        ".{0,8}",
    ];
    let values = prop_oneof![
        "[a-z0-9_.,()>:\"{}\\[\\]\\\\-]{0,40}",
        "(eq|in|not\\.gt|fts|cs|is)\\.[^x]{0,20}",
        "\\((dep_delay\\.eq\\.1,?|and\\(|not\\.or\\(|carrier\\.in\\.\\(|\"|\\)){0,8}",
        ".{0,30}",
    ];
    (names, values)
}

proptest! {
    #[test]
    fn nothing_that_is_sent_breaks_the_reading(parameters in proptest::collection::vec(parameter(), 0..5)) {
        for stream in [flights(), documents()] {
            for error in [
                RecordsPlan::read(&stream, &parameters, PAGE_RECORDS_MAX).err(),
                TrendPlan::read(&stream, &parameters).err(),
                FacetsPlan::read(&stream, &parameters).err(),
            ].into_iter().flatten() {
                prop_assert!(!error.message.is_empty() && error.message.len() < 2_000);
            }
        }
    }

    #[test]
    fn a_value_in_quotes_is_that_value(value in "[^\0]{1,30}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let tree = format!("(carrier.eq.\"{quoted}\",carrier.in.(\"{quoted}\"))");
        let Condition::All(parts) = condition(&[("and", &tree)]) else { panic!("and") };
        prop_assert_eq!(&test_of(parts[0].clone()).check, &Check::Compare(Comparison::Equal, value.clone()));
        prop_assert_eq!(&test_of(parts[1].clone()).check, &Check::In(vec![value]));
    }
}
