//! `wait=`: a reader sees what it was told is there.

use serde_json::json;

use super::ask;
use crate::support::Gateway;

#[tokio::test]
async fn what_was_accepted_is_seen_by_who_waits_for_it() {
    let gateway = Gateway::start().await;
    for n in 0..20 {
        let reply = gateway.records("events").json(&json!({"n": n})).send().await.expect(202);
        let position = reply["position"].as_str().unwrap();
        let parameters = [("wait", position), ("count", "exact"), ("limit", "1")];
        let seen = ask(&gateway, "events", &parameters).await;
        assert_eq!((&seen["count"], &seen["records"][0]["data"]["n"]), (&json!(n + 1), &json!(n)));
    }
    let path = "/v1/streams/events/records?wait=";
    gateway.get(&format!("{path}ffffffffffffffff")).await.problem(400, "invalid_position");
    gateway.get(&format!("{path}yesterday")).await.problem(400, "invalid_position");
}
