//! Trends and facets, beside the same questions in SQL.

use serde_json::{Value, json};

use super::sample;
use crate::support::{Client, Gateway};

async fn trend(client: &Client, stream: &str, parameters: &[(&str, &str)]) -> Value {
    client.get(&path(stream, "trends", parameters)).await.expect(200)["rows"].take()
}

fn path(stream: &str, what: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    format!("/v1/streams/{stream}/{what}?{}", query.finish())
}

/// The rows of a query as JSON.
async fn rows(gateway: &Gateway, sql: &str) -> Value {
    let rows: Value =
        gateway.scalar(format!("select coalesce(json_agg(to_json(q)), '[]') from ({sql}) q")).await;
    rows
}

/// Numbers are compared as numbers and times as moments, however they are written.
fn normalized(rows: &Value) -> Vec<Vec<(String, String)>> {
    let value = |value: &Value| match value {
        Value::Number(number) => format!("{:.6}", number.as_f64().unwrap()),
        Value::String(text) => text.replace(".000000Z", "").replace("+00:00", "").replace('Z', ""),
        other => other.to_string(),
    };
    let row = |row: &Value| {
        let mut members: Vec<(String, String)> =
            row.as_object().unwrap().iter().map(|(name, v)| (name.clone(), value(v))).collect();
        members.sort();
        members
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn trends_are_what_sql_makes() {
    let gateway = sample().await;
    for (parameters, sql) in [
        (vec![], "select count(*) from streams.flights".to_owned()),
        (
            vec![("agg", "count,sum(dep_delay),avg(air_time),min(fare),max(carrier),stddev(dep_delay),distinct(carrier),p50(dep_delay),p95(air_time),count(flown)"), ("by", "carrier,flown"), ("dep_delay", "gt.0")],
            "select carrier, flown, count(*), sum(dep_delay) as sum_dep_delay, avg(air_time) as avg_air_time, min(fare) as min_fare, max(carrier) as max_carrier, stddev(dep_delay) as stddev_dep_delay, count(distinct carrier) as distinct_carrier, percentile_cont(0.5) within group (order by dep_delay) as p50_dep_delay, percentile_cont(0.95) within group (order by air_time) as p95_air_time, count(flown) as count_flown from streams.flights where dep_delay > 0 group by 1, 2 order by 1, 2".to_owned(),
        ),
        (
            vec![("bucket", "1d"), ("time", "time_hour"), ("timezone", "America/New_York")],
            "select date_trunc('day', time_hour, 'America/New_York') as bucket, count(*) from streams.flights group by 1 order by 1".to_owned(),
        ),
        (
            vec![("bucket", "6h"), ("time", "time_hour"), ("by", "carrier"), ("having", "count.gt.2"), ("order", "count.desc,bucket"), ("limit", "5")],
            "select date_bin('6 hours', time_hour, timestamptz '2000-01-03 00:00Z') as bucket, carrier, count(*) from streams.flights group by 1, 2 having count(*) > 2 order by 3 desc, 1, 2 limit 5".to_owned(),
        ),
        (
            vec![("bucket", "1w"), ("time", "day"), ("agg", "n:count,worst:max(dep_delay)")],
            "select date_trunc('week', day::timestamptz) as bucket, count(*) as n, max(dep_delay) as worst from streams.flights group by 1 order by 1".to_owned(),
        ),
        (
            vec![("bucket", "1mo"), ("time", "time_hour"), ("timezone", "Asia/Tokyo")],
            "select date_trunc('month', time_hour, 'Asia/Tokyo') as bucket, count(*) from streams.flights group by 1 order by 1".to_owned(),
        ),
        (
            vec![("bucket", "3mo"), ("time", "time_hour")],
            "select date_trunc('quarter', time_hour) as bucket, count(*) from streams.flights group by 1 order by 1".to_owned(),
        ),
        (
            vec![("time", "time_hour"), ("agg", "first(n),last(n),last(carrier),first(details->gate->letter)"), ("by", "flown"), ("n", "lt.24")],
            "select flown, (array_agg(n order by time_hour, n::text))[1] as first_n, (array_agg(n order by time_hour desc, n::text desc))[1] as last_n, (array_agg(carrier order by time_hour desc, n::text desc) filter (where carrier is not null))[1] as last_carrier, (array_agg(details->'gate'->'letter' order by time_hour))[1] as first_details_gate_letter from streams.flights where n < 24 group by 1 order by 1".to_owned(),
        ),
    ] {
        let expected = rows(&gateway, &sql).await;
        let found = trend(&gateway, "flights", &parameters).await;
        assert_eq!(normalized(&found), normalized(&expected), "{parameters:?}");
    }
    let members = trend(
        &gateway,
        "docs",
        &[("agg", "avg(dep_delay),max(n::int),distinct(carrier)"), ("by", "flown")],
    )
    .await;
    let sql = "select payload->'flown' as flown, avg((payload->>'dep_delay')::numeric) as avg_dep_delay, max((payload->>'n')::int) as max_n_int, count(distinct payload->>'carrier') as distinct_carrier from streams.docs group by 1 order by 1";
    assert_eq!(normalized(&members), normalized(&rows(&gateway, sql).await));
}

#[tokio::test]
async fn buckets_without_records_are_filled_as_asked() {
    let gateway = Gateway::start().await;
    let columns = json!([
        {"name": "at", "type": "timestamptz"}, {"name": "who", "type": "text"}, {"name": "n", "type": "integer"}
    ]);
    gateway.create_stream(&json!({"name": "s", "columns": columns})).await;
    let records = json!([
        {"at": "2024-03-30T12:00:00Z", "who": "a", "n": 1},
        {"at": "2024-04-02T12:00:00Z", "who": "a", "n": 4},
        {"at": "2024-04-01T12:00:00Z", "who": "b", "n": null},
    ]);
    gateway.commit("s", &records).await;
    let asked = |fill: &'static str| {
        [
            ("bucket", "1d"),
            ("time", "at"),
            ("timezone", "Europe/Berlin"),
            ("agg", "count,max(n)"),
            ("by", "who"),
            ("fill", fill),
        ]
    };
    // In this time zone a day in between has 23 hours.
    let days = ["29T23", "30T23", "31T22", "01T22"].map(|day| {
        let month = if day.starts_with("01") { "04" } else { "03" };
        format!("2024-{month}-{day}:00:00.000000Z")
    });
    for (fill, counts, most) in [
        (
            "null",
            [json!(1), json!(null), json!(null), json!(1)],
            [json!(1), json!(null), json!(null), json!(4)],
        ),
        (
            "zero",
            [json!(1), json!(0), json!(0), json!(1)],
            [json!(1), json!(null), json!(null), json!(4)],
        ),
        (
            "previous",
            [json!(1), json!(1), json!(1), json!(1)],
            [json!(1), json!(1), json!(1), json!(4)],
        ),
    ] {
        let rows = trend(&gateway, "s", &asked(fill)).await;
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), 8, "{fill}: {rows:?}");
        let of_a: Vec<&Value> = rows.iter().filter(|row| row["who"] == "a").collect();
        for (index, row) in of_a.iter().enumerate() {
            let expected = json!({"bucket": days[index], "who": "a", "count": counts[index], "max_n": most[index]});
            assert_eq!(**row, expected, "{fill}");
        }
    }
    assert_eq!(trend(&gateway, "s", &asked("none")).await.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_trend_that_is_too_much_or_makes_no_sense_is_refused() {
    let gateway = sample().await;
    gateway.commit("flights", &json!({"n": 1, "time_hour": "2023-01-01T00:00:00Z"})).await;
    gateway.commit("flights", &json!({"n": 1, "time_hour": "infinity"})).await;
    for (parameters, code) in [
        (vec![("bucket", "1s"), ("time", "time_hour"), ("fill", "zero")], "too_many_rows"),
        (
            vec![("bucket", "1h"), ("time", "time_hour"), ("timezone", "Mars/Phobos")],
            "unknown_timezone",
        ),
        (vec![("bucket", "1ms")], "invalid_bucket"),
        (vec![("agg", "avg(carrier)")], "wrong_aggregate"),
        (vec![("by", "nothing")], "unknown_column"),
    ] {
        gateway.get(&path("flights", "trends", &parameters)).await.problem(400, code);
    }
    let whole = [("bucket", "1d"), ("time", "time_hour"), ("fill", "zero"), ("limit", "10000")];
    let days = trend(&gateway, "flights", &whole).await;
    assert_eq!(days.as_array().unwrap().len(), 3_653, "ten years and the first day");
}

#[tokio::test]
async fn facets_are_the_most_frequent_values() {
    let gateway = sample().await;
    let asked =
        [("columns", "carrier,flown,gate:details->gate->>letter"), ("limit", "3"), ("n", "lt.100")];
    for stream in ["flights", "docs", "texts"] {
        let asked =
            if stream == "flights" { asked } else { [asked[0], asked[1], ("n::int", "lt.100")] };
        let facets =
            gateway.get(&path(stream, "facets", &asked)).await.expect(200)["facets"].take();
        let gates = json!([{"value": "A", "count": 34}, {"value": "B", "count": 33}, {"value": "C", "count": 33}]);
        assert_eq!(facets["gate"], gates, "{stream}");
        assert_eq!(facets["carrier"].as_array().unwrap().len(), 3, "{stream}");
        let flown: i64 = facets["flown"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["count"].as_i64().unwrap())
            .sum();
        assert_eq!(flown, 100, "{stream}");
    }
    gateway.get("/v1/streams/flights/facets").await.problem(400, "missing_parameter");
}

#[tokio::test]
async fn trends_come_in_every_format() {
    let gateway = sample().await;
    let asked = |format: &'static str| {
        path(
            "flights",
            "trends",
            &[("agg", "count"), ("by", "flown"), ("order", "count"), ("format", format)],
        )
    };
    let text = async |path: String| {
        let request = gateway.request(reqwest::Method::GET, &path).send().await.unwrap();
        request.error_for_status().unwrap().text().await.unwrap()
    };
    assert_eq!(text(asked("csv")).await, "flown,count\n,120\nfalse,240\ntrue,240\n");
    let lines = "{\"flown\":null,\"count\":120}\n{\"flown\":false,\"count\":240}\n{\"flown\":true,\"count\":240}\n";
    assert_eq!(text(asked("ndjson")).await, lines);
}
