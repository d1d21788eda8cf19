//! Questions that make no sense: each is a clear refusal, and harms no other.

use super::{ask, question, sample};

#[tokio::test]
async fn a_question_that_postgresql_cannot_answer_is_told_why() {
    let gateway = sample().await;
    for (parameters, status, code) in [
        (vec![("carrier", "match.((")], 400, "invalid_filter"),
        (vec![("carrier", "fts(klingon).a")], 400, "invalid_filter"),
        (vec![("carrier", "fts.a & & b")], 400, "invalid_filter"),
        (vec![("carrier::integer", "gt.5")], 400, "unreadable_value"),
        (vec![("nothing", "eq.5")], 400, "unknown_column"),
        (vec![("format", "xml")], 400, "unknown_format"),
        (vec![("limit", "0")], 400, "invalid_limit"),
        (vec![("carrier", "eq.\u{0}")], 400, "invalid_value"),
    ] {
        let reply = gateway.get(&question("flights", &parameters)).await;
        reply.problem(status, code);
    }
    let injected = "eq.'; drop table streams.flights; --";
    assert_eq!(
        ask(&gateway, "flights", &[("carrier", injected)]).await["records"],
        serde_json::json!([])
    );
    for name in ["\"n\"; drop table streams.flights; --", "n\"::int", "n;select"] {
        let reply = gateway.get(&question("flights", &[(name, "eq.1")])).await;
        assert_eq!(reply.status, 400, "{name}: {}", reply.body);
    }
    // Patterns that would take for ever are given up.
    gateway.commit("patterns", &serde_json::json!({"text": "a".repeat(50_000)})).await;
    let slow = question("patterns", &[("text", "match.(a*)*(a*)*(a*)*\\1b")]);
    let reply = gateway.get(&slow).await;
    assert!([200, 503].contains(&reply.status), "{}", reply.body);
    assert_eq!(ask(&gateway, "flights", &[("count", "exact")]).await["count"], super::FLIGHTS);
}
