//! Changes line by line, in the body of one request.

use serde_json::{Value, json};

use super::{CHANGES, documents, flights};
use crate::support::Gateway;

fn lines(changes: &[Value]) -> String {
    changes.iter().map(|change| format!("{change}\n")).collect()
}

#[tokio::test]
async fn a_body_of_changes_is_done_in_its_order_and_says_what_was_not_there() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&flights()).await;
    let key = json!({"carrier": "UA", "flight": 1});
    let record = json!({"carrier": "UA", "flight": 1, "delay": 1.0});
    let changes = [
        json!({"op": "patch", "key": key, "data": {"delay": 9}}),
        json!({"op": "put", "key": key, "data": record}),
        json!({"op": "patch", "key": key, "data": {"delay": 2}}),
        json!({"op": "put", "key": key, "if_none_match": "*", "data": record}),
        json!({"op": "delete", "key": key, "if_match": "0123456789abcdef0123456789abcdef"}),
        json!({"op": "delete", "key": key}),
        json!({"op": "delete", "key": key}),
        json!({"op": "put", "key": key, "data": record}),
        json!({"op": "put", "key": {"carrier": "AA", "flight": 1}, "data": {"carrier": "AA", "flight": 1}}),
    ];
    let reply = gateway.records("flights").body(CHANGES, lines(&changes)).send().await.expect(200);
    let counts =
        json!([reply["applied"], reply["missing"], reply["conflicts"], reply["quarantined"]]);
    assert_eq!(counts, json!([5, 2, 2, 0]), "{reply}");
    let delays =
        gateway.column::<Option<f64>>("select delay from streams.flights order by carrier").await;
    assert_eq!(delays, [None, Some(1.0)]);
}

#[tokio::test]
async fn bad_lines_are_kept_aside_and_harm_none_of_their_neighbours() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&documents("jsonb")).await;
    let key = json!({"k": {"id": 1}});
    let good = json!({"op": "put", "key": key, "data": {"k": {"id": 1}, "n": 1}});
    let bad = [
        json!({"op": "drop", "key": key}),
        json!({"key": key}),
        json!({"op": "put", "data": {"k": {"id": 1}}}),
        json!({"op": "put", "key": key, "id": "00000000-0000-7000-8000-000000000000", "data": {"k": {"id": 1}}}),
        json!({"op": "put", "key": key}),
        json!({"op": "put", "key": {"k": {}}, "data": {"k": {"id": 1}}}),
        json!({"op": "put", "key": key, "data": {"k": {"id": 2}}}),
        json!({"op": "put", "key": key, "data": [1]}),
        json!({"op": "put", "key": [1], "data": {"k": {"id": 1}}}),
        json!({"op": "delete", "key": key, "data": {}}),
        json!({"op": "delete", "key": key, "if_match": "x"}),
        json!({"op": "delete", "key": key, "if_none_match": "*"}),
        json!({"op": "delete", "id": "x"}),
        json!({"op": "patch", "key": key, "data": {"k": null}}),
        json!({"op": "patch", "key": key, "data": {"n": 2}, "more": 1}),
        json!([1]),
    ];
    let mut all = vec![good.clone()];
    all.extend(bad.iter().cloned());
    all.push(json!({"op": "patch", "key": key, "data": {"m": 2}}));
    let reply = gateway.records("docs").body(CHANGES, lines(&all)).send().await.expect(200);
    assert_eq!(
        (&reply["applied"], &reply["quarantined"]),
        (&json!(2), &json!(bad.len())),
        "{reply}"
    );
    for error in reply["errors"].as_array().unwrap() {
        assert!(error["message"].as_str().unwrap().len() > 10, "{error}");
    }
    assert_eq!(gateway.payloads("docs").await, [json!({"k": {"id": 1}, "n": 1, "m": 2})]);
    let rejected = gateway.records("docs").body(CHANGES, lines(&all)).query("on_error", "reject");
    rejected.send().await.problem(422, "rejected");
}

#[tokio::test]
async fn the_same_request_again_is_answered_and_not_done_again() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&documents("jsonb")).await;
    let key = json!({"k": {"id": 1}});
    let make = json!({"op": "put", "key": key, "if_none_match": "*", "data": {"k": {"id": 1}}});
    let send = || {
        gateway.records("docs").body(CHANGES, lines(std::slice::from_ref(&make))).key("one").send()
    };
    assert_eq!(send().await.expect(200)["applied"], 1);
    let again = send().await;
    assert!(again.is_replayed());
    assert_eq!(again.expect(200)["applied"], 1);
    let other = gateway
        .records("docs")
        .body(CHANGES, lines(std::slice::from_ref(&make)))
        .send()
        .await
        .expect(200);
    assert_eq!((&other["applied"], &other["conflicts"]), (&json!(0), &json!(1)));
}
