//! Pages: together they are the whole, once each, in order, whatever is alike, missing or new.

use serde_json::{Value, json};

use super::{FLIGHTS, ask, numbers, sample};
use crate::support::Client;

/// All pages of a question, of so many records each.
async fn walk(client: &Client, stream: &str, parameters: &[(&str, &str)], limit: &str) -> Vec<i64> {
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut asked = parameters.to_vec();
        asked.push(("limit", limit));
        if let Some(after) = &after {
            asked.push(("after", after));
        }
        let page = ask(client, stream, &asked).await;
        seen.extend(numbers(&page));
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return seen;
        }
        assert_eq!(page["records"].as_array().unwrap().len().to_string(), limit);
    }
}

#[tokio::test]
async fn pages_are_the_whole_in_its_order() {
    let gateway = sample().await;
    for (order, sql) in [
        ("n", "n"),
        ("dep_delay", "dep_delay, id"),
        ("dep_delay.desc", "dep_delay desc, id desc"),
        ("dep_delay.desc.nullslast", "dep_delay desc nulls last, id desc"),
        ("dep_delay.nullsfirst", "dep_delay nulls first, id"),
        ("carrier.desc,dep_delay", "carrier desc, dep_delay, id"),
        (
            "flown.nullsfirst,carrier.desc.nullslast,air_time",
            "flown nulls first, carrier desc nulls last, air_time, id",
        ),
        ("day.desc,id", "day desc, id"),
        ("fare,id.desc", "fare, id desc"),
        (
            "details->gate->letter,extra->>tail.desc",
            "details->'gate'->'letter', extra->>'tail' desc, id desc",
        ),
    ] {
        let expected: Vec<i64> =
            gateway.column(format!("select n::bigint from streams.flights order by {sql}")).await;
        for limit in ["7", "100", "600", "10000"] {
            let seen = walk(&gateway, "flights", &[("order", order)], limit).await;
            assert_eq!(seen, expected, "{order} by {limit}");
        }
        let filtered: Vec<i64> = gateway
            .column(format!("select n::bigint from streams.flights where n > 300 order by {sql}"))
            .await;
        let parameters = [("order", order), ("n", "gt.300")];
        assert_eq!(walk(&gateway, "flights", &parameters, "50").await, filtered, "{order}");
    }
    let newest: Vec<i64> = (0..FLIGHTS).rev().collect();
    for stream in ["flights", "daily", "docs", "texts"] {
        assert_eq!(walk(&gateway, stream, &[], "77").await, newest, "{stream}");
    }
    let members = walk(&gateway, "docs", &[("order", "dep_delay.nullsfirst,n")], "9").await;
    let sql = "select (payload->>'n')::bigint from streams.docs
               order by payload->'dep_delay' nulls first, payload->'n', id";
    let expected: Vec<i64> = gateway.column(sql).await;
    assert_eq!(members, expected);
}

#[tokio::test]
async fn records_that_arrive_meanwhile_move_nothing() {
    let gateway = sample().await;
    let first = ask(&gateway, "flights", &[("limit", "250")]).await;
    let more: Vec<Value> = (0..200).map(|n| json!({"n": 10_000 + n})).collect();
    gateway.commit("flights", &json!(more)).await;
    let after = first["next"].as_str().unwrap();
    let second = ask(&gateway, "flights", &[("limit", "10000"), ("after", after)]).await;
    let seen: Vec<i64> = numbers(&first).into_iter().chain(numbers(&second)).collect();
    assert_eq!(seen, (0..FLIGHTS).rev().collect::<Vec<i64>>());
    assert_eq!(second["next"], Value::Null);
}

#[tokio::test]
async fn the_link_leads_to_the_next_page() {
    let gateway = sample().await;
    let path = super::question(
        "docs",
        &[("n::int", "gte.590"), ("limit", "4"), ("select", "n,c:carrier")],
    );
    let mut seen = Vec::new();
    let mut next = Some(path);
    while let Some(path) = next {
        let reply = gateway.get(&path).await;
        next = reply.headers.get("link").map(|link| {
            let link = link.to_str().unwrap();
            let (address, relation) = link.split_once('>').unwrap();
            assert_eq!(relation, "; rel=\"next\"");
            address.trim_start_matches('<').to_owned()
        });
        seen.extend(numbers(&reply.expect(200)));
    }
    assert_eq!(seen, (590..FLIGHTS).rev().collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_page_ends_at_its_bytes_and_the_next_goes_on() {
    let gateway = crate::support::Gateway::start().await;
    for n in 0..30 {
        let text = "x".repeat(if n == 17 { 6_000_000 } else { 400_000 });
        gateway.commit("large", &json!({"n": n, "text": text})).await;
    }
    let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/v1/streams/large/records?limit=1000{after}");
        let page = gateway.get(&path).await.expect(200);
        seen.extend(numbers(&page));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, (0..30).rev().collect::<Vec<i64>>());
    assert!(pages >= 4, "{pages}");
}

#[tokio::test]
async fn one_record_is_found_by_its_id() {
    let gateway = sample().await;
    for stream in ["flights", "docs", "daily"] {
        let record = ask(&gateway, stream, &[("limit", "1")]).await["records"][0].clone();
        let path = format!("/v1/streams/{stream}/records/{}", record["id"].as_str().unwrap());
        assert_eq!(gateway.get(&path).await.expect(200), record);
        let some = gateway.get(&format!("{path}?select=carrier")).await.expect(200);
        assert_eq!(some["data"], json!({"carrier": record["data"]["carrier"]}));
        gateway.get(&format!("{path}?limit=1")).await.problem(400, "unknown_parameter");
    }
    let nothing = "/v1/streams/docs/records/00000000-0000-7000-8000-000000000000";
    gateway.get(nothing).await.problem(404, "no_such_record");
    gateway.get("/v1/streams/docs/records/nothing").await.problem(404, "not_found");
}
