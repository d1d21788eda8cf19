//! PostgreSQL's own words reach the user who can do something about it, its hint with them.

use serde_json::{Value, json};

use crate::support::{Gateway, eventually};

const HINT: &str = "Hint: it opens at six";

/// A trigger that refuses with this SQLSTATE: some codes are a row's fault, some the table's.
fn closed(stream: &str, sqlstate: &str) -> String {
    format!(
        "create function {stream}_closed() returns trigger language plpgsql as $$
         begin
             raise exception 'closed' using errcode = '{sqlstate}', detail = 'It is night.', hint = 'it opens at six';
         end $$;
         create trigger closed before insert on streams.{stream} for each row execute function {stream}_closed()"
    )
}

#[tokio::test]
async fn a_hint_is_in_the_quarantine_and_in_the_status() {
    let gateway = Gateway::with(&["--batch-interval-ms=20"]).await;
    for (stream, sqlstate) in [("rows", "P0001"), ("stuck", "55000")] {
        gateway.create_stream(&json!({"name": stream})).await;
        gateway.execute(&closed(stream, sqlstate)).await;
        gateway.records(stream).json(&json!({"n": 1})).send().await.expect(202);
    }
    let kept = eventually("the row is kept aside", async || {
        let kept = gateway.get("/v1/quarantine?stream=rows").await.expect(200);
        kept["records"].as_array()?.first().cloned()
    })
    .await;
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    assert_eq!(words(&kept["message"]), format!("closed: It is night. {HINT}"), "{kept}");
    let reason = eventually("the stream is parked", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        status["parked"]["stuck"]["reason"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(reason, format!("closed: It is night. {HINT}"));
    assert!(gateway.log().contains(HINT), "{}", gateway.log());
}
