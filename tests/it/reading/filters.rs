//! Filters, beside the same conditions in SQL.

use super::{FLIGHTS, ask, numbers, sample};
use crate::support::Gateway;

/// What the filters find, sorted, and what the condition finds.
async fn compare(gateway: &Gateway, stream: &str, filters: &[(&str, &str)], condition: &str) {
    let mut parameters = filters.to_vec();
    parameters.extend([("limit", "10000"), ("count", "exact")]);
    let reply = ask(gateway, stream, &parameters).await;
    let mut found = numbers(&reply);
    found.sort_unstable();
    let n = if ["docs", "texts"].contains(&stream) { "(payload->>'n')::int" } else { "n" };
    let sql = format!("select {n}::bigint from streams.{stream} where {condition} order by 1");
    let expected: Vec<i64> = gateway.column(sql).await;
    assert_eq!(found, expected, "{stream}: {filters:?} is {condition}");
    assert_eq!(reply["count"], found.len(), "{stream}: {filters:?}");
    let is_some = !found.is_empty() && found.len() < usize::try_from(FLIGHTS).unwrap();
    assert!(is_some || filters.is_empty(), "{filters:?} finds some and not all: {}", found.len());
}

/// Filters, and the condition in SQL that finds the same.
const OF_COLUMNS: &[(&[(&str, &str)], &str)] = &[
    (&[], "true"),
    (&[("dep_delay", "eq.5")], "dep_delay = 5"),
    (&[("dep_delay", "neq.5")], "dep_delay <> 5"),
    (&[("dep_delay", "gt.5")], "dep_delay > 5"),
    (&[("dep_delay", "gte.5")], "dep_delay >= 5"),
    (&[("dep_delay", "lt.-5")], "dep_delay < -5"),
    (&[("dep_delay", "lte.-5")], "dep_delay <= -5"),
    (&[("dep_delay", "not.lte.-5")], "not dep_delay <= -5"),
    (&[("dep_delay", "isdistinct.5")], "dep_delay is distinct from 5"),
    (&[("dep_delay", "in.(1,2,3)")], "dep_delay in (1, 2, 3)"),
    (&[("dep_delay", "not.in.(1,2,3)")], "dep_delay not in (1, 2, 3)"),
    (&[("dep_delay", "is.null")], "dep_delay is null"),
    (&[("dep_delay", "is.not_null")], "dep_delay is not null"),
    (&[("dep_delay", "not.is.null")], "dep_delay is not null"),
    (&[("dep_delay", "gt.5"), ("dep_delay", "lt.9")], "dep_delay > 5 and dep_delay < 9"),
    (&[("carrier", "eq.UA")], "carrier = 'UA'"),
    (&[("carrier", "eq.a,b")], "carrier = 'a,b'"),
    (&[("carrier", "eq.quote\"d")], "carrier = 'quote\"d'"),
    (&[("carrier", "eq.O'Hare")], "carrier = 'O''Hare'"),
    (&[("carrier", "eq.back\\slash")], "carrier = E'back\\\\slash'"),
    (&[("carrier", "in.(UA,\"a,b\",O'Hare)")], "carrier in ('UA', 'a,b', 'O''Hare')"),
    (&[("carrier", "like.*A")], "carrier like '%A'"),
    (&[("carrier", "like.50\\%")], "carrier like '50\\%'"),
    (&[("carrier", "ilike.o'h*")], "carrier ilike 'o''h%'"),
    (&[("carrier", "match.^[AU]A$")], "carrier ~ '^[AU]A$'"),
    (&[("carrier", "imatch.^ua$")], "carrier ~* '^ua$'"),
    (&[("carrier", "gt.B")], "carrier > 'B'"),
    (&[("air_time", "gt.20.5")], "air_time > 20.5"),
    (&[("fare", "eq.3.03")], "fare = 3.03"),
    (&[("flown", "is.true")], "flown is true"),
    (&[("flown", "is.false")], "flown is false"),
    (&[("flown", "is.unknown")], "flown is unknown"),
    (&[("flown", "eq.yes")], "flown"),
    (&[("time_hour", "gte.2013-01-20T00:00:00Z")], "time_hour >= '2013-01-20'"),
    (&[("time_hour", "lt.2013-01-02T03:00:00+03:00")], "time_hour < '2013-01-02'"),
    (&[("day", "eq.2013-01-03")], "day = '2013-01-03'"),
    (&[("dep_delay::text", "like.1*")], "dep_delay::text like '1%'"),
    (
        &[("details", "cs.{\"gate\":{\"letter\":\"A\"}}")],
        "details @> '{\"gate\":{\"letter\":\"A\"}}'",
    ),
    (&[("details->gate->>letter", "eq.B")], "details->'gate'->>'letter' = 'B'"),
    (&[("details->gate->stops->0", "eq.2")], "details->'gate'->'stops'->0 = '2'"),
    (
        &[("details->gate->stops->-1->x::integer", "gt.2")],
        "(details->'gate'->'stops'->-1->>'x')::int > 2",
    ),
    (
        &[("details->gate->letter", "in.(\"\\\"A\\\"\",\"\\\"B\\\"\")")],
        "details->'gate'->>'letter' in ('A', 'B')",
    ),
    (&[("extra->>tail", "eq.N30")], "extra->>'tail' = 'N30'"),
    (&[("extra->>tail", "is.null")], "extra->>'tail' is null"),
    (&[("extra", "cs.{\"tail\":\"N9\"}")], "extra @> '{\"tail\":\"N9\"}'"),
    (&[("search", "UA")], "carrier = 'UA'"),
    (&[("search", "N33")], "extra->>'tail' = 'N33'"),
    (&[("carrier", "fts.UA|AA")], "carrier in ('UA', 'AA')"),
    (&[("carrier", "wfts(english).ua or b6")], "carrier in ('UA', 'B6')"),
    (&[("or", "(dep_delay.gt.25,carrier.eq.UA)")], "dep_delay > 25 or carrier = 'UA'"),
    (
        &[("and", "(dep_delay.gt.5,or(carrier.eq.UA,carrier.is.null))")],
        "dep_delay > 5 and (carrier = 'UA' or carrier is null)",
    ),
    (&[("not.or", "(dep_delay.gt.5,carrier.eq.UA)")], "not (dep_delay > 5 or carrier = 'UA')"),
    (
        &[
            ("or", "(not.and(dep_delay.gt.5,flown.is.true),carrier.not.in.(UA,\"a,b\"))"),
            ("n", "lt.99"),
        ],
        "(not (dep_delay > 5 and flown is true) or carrier not in ('UA', 'a,b')) and n < 99",
    ),
];

#[tokio::test]
async fn filters_of_columns_find_what_sql_finds() {
    let gateway = sample().await;
    for stream in ["flights", "daily"] {
        for (filters, condition) in OF_COLUMNS {
            compare(&gateway, stream, filters, condition).await;
        }
    }
}

#[tokio::test]
async fn filters_of_documents_find_what_sql_finds() {
    let gateway = sample().await;
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[("carrier", "eq.UA")], "payload->>'carrier' = 'UA'"),
        (&[("payload->>carrier", "eq.UA")], "payload->>'carrier' = 'UA'"),
        (&[("carrier", "is.null")], "payload->>'carrier' is null"),
        (&[("dep_delay::numeric", "gt.5")], "(payload->>'dep_delay')::numeric > 5"),
        (&[("dep_delay::integer", "in.(1,2)")], "(payload->>'dep_delay')::int in (1, 2)"),
        (&[("carrier::numeric", "not.is.null"), ("n::int", "eq.3")], "false"),
        (&[("details->gate->>letter", "eq.C")], "payload->'details'->'gate'->>'letter' = 'C'"),
        (
            &[("time_hour::timestamptz", "lt.2013-01-05T00:00:00Z")],
            "(payload->>'time_hour')::timestamptz < '2013-01-05'",
        ),
        (&[("flown::boolean", "is.true")], "(payload->>'flown')::boolean"),
        (&[("fare::double precision", "lt.2.5")], "(payload->>'fare')::float8 < 2.5"),
        (&[("payload", "cs.{\"n\":7}")], "payload::jsonb @> '{\"n\":7}'"),
        (&[("details->words", "fts.quick & fox"), ("n::int", "lt.9")], "(payload->>'n')::int < 9"),
        (&[("search", "UA")], "payload->>'carrier' = 'UA'"),
        (&[("tail", "match.^N\\d$")], "payload->>'tail' ~ '^N\\d$'"),
    ];
    for stream in ["docs", "texts"] {
        for (filters, condition) in rows {
            if *condition == "false" {
                assert_eq!(numbers(&ask(&gateway, stream, filters).await), [] as [i64; 0]);
                continue;
            }
            compare(&gateway, stream, filters, condition).await;
        }
    }
}

#[tokio::test]
async fn a_record_whose_member_is_something_else_makes_no_question_fail() {
    let gateway = Gateway::start().await;
    let odd = [
        "5",
        "\"6\"",
        "\"six\"",
        "null",
        "{}",
        "[7]",
        "true",
        "1e400",
        "\"1e99999\"",
        "99999999999999999999",
    ];
    let body: String = odd.iter().map(|value| format!("{{\"n\":{value}}}\n")).collect();
    gateway.create_stream(&serde_json::json!({"name": "texts", "payload": "json"})).await;
    for stream in ["docs", "texts"] {
        gateway
            .records(stream)
            .ndjson(body.clone())
            .query("ack", "commit")
            .send()
            .await
            .expect(201);
        for kind in [
            "smallint",
            "int",
            "int8",
            "real",
            "float8",
            "numeric",
            "bool",
            "date",
            "timestamptz",
            "uuid",
            "jsonb",
            "text",
        ] {
            let filter = format!("n::{kind}");
            // The values themselves are shown to no parser that cannot hold them.
            let parameters = [(&*filter, "is.not_null"), ("select", "id"), ("limit", "100")];
            let reply = ask(&gateway, stream, &parameters).await;
            let found = reply["records"].as_array().unwrap().len();
            let expected = match kind {
                "smallint" | "int" | "int8" => 2,
                "real" | "float8" => 3,
                "numeric" => 4,
                "bool" => 1,
                "date" | "timestamptz" | "uuid" => 0,
                "jsonb" => 10,
                _ => 9,
            };
            assert_eq!(found, expected, "{stream}: {kind}");
        }
    }
}
