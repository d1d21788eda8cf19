//! A limit is what docs/limits.md says, to the byte: what has exactly so much is taken, and one more is refused.
//!
//! The fast path has its own limit, and `fast_path::both_ways_answer_alike` meets it.

use serde_json::{Value, json};

use crate::support::{Compression, Gateway, compressed};

const WIRE: usize = 2_000;
const DECOMPRESSED: usize = 3_000;
const ENTRY: usize = 1_000;

/// One short record, and blank lines.
fn lines(bytes: usize) -> String {
    format!("{{\"n\":1}}{}", "\n".repeat(bytes - 7))
}

#[tokio::test]
async fn a_body_may_have_as_many_bytes_as_is_said_and_no_more() {
    let [wire, decompressed, entry] = [
        format!("--body-bytes-max={WIRE}"),
        format!("--body-decompressed-bytes-max={DECOMPRESSED}"),
        format!("--entry-bytes-max={ENTRY}"),
    ];
    let gateway = Gateway::with(&[&wire, &decompressed, &entry]).await;
    gateway.create_stream(&json!({"name": "exact"})).await;
    let request = || gateway.records("exact");

    request().ndjson(lines(WIRE)).send().await.expect(202);
    request().ndjson(lines(WIRE + 1)).send().await.problem(413, "body_too_large");
    // By the router's way, as the name of the stream is written with percent signs.
    let other = || gateway.records("%65xact");
    other().ndjson(lines(WIRE)).send().await.expect(202);
    other().ndjson(lines(WIRE + 1)).send().await.problem(413, "body_too_large");

    for compression in Compression::ALL {
        let send = async |bytes| {
            let body = compressed(compression, lines(bytes).as_bytes()).await;
            request().ndjson(body).encoding(compression.name()).send().await
        };
        send(DECOMPRESSED).await.expect(202);
        send(DECOMPRESSED + 1).await.problem(413, "body_too_large");
    }

    let reject = |bytes| request().ndjson(lines(bytes)).query("on_error", "reject");
    reject(ENTRY).send().await.expect(202);
    reject(ENTRY + 1).send().await.problem(413, "too_large_to_reject");
    let keyed = |bytes: usize| request().ndjson(lines(bytes)).key(&bytes.to_string());
    keyed(ENTRY).send().await.expect(202);
    keyed(ENTRY + 1).send().await.problem(413, "too_large_for_key");
    gateway.wait_all_committed().await;
    let taken = 2 + i64::try_from(Compression::ALL.len()).unwrap() + 2;
    assert_eq!(gateway.rows("exact").await, taken);
}

#[tokio::test]
async fn a_record_may_have_as_many_bytes_as_is_said_in_every_format() {
    let entry = format!("--entry-bytes-max={ENTRY}");
    let gateway = Gateway::with(&[&entry]).await;
    gateway.create_stream(&json!({"name": "exact"})).await;
    let record = |bytes: usize| format!("{{\"t\":\"{}\"}}", "x".repeat(bytes - 8));
    assert_eq!(record(ENTRY).len(), ENTRY);
    let counts = |reply: &Value| (reply["accepted"].clone(), reply["quarantined"].clone());
    for (extra, expected) in [(0, (2, 0)), (1, (1, 1))] {
        let (long, short) = (record(ENTRY + extra), record(10));
        let row = "x".repeat(ENTRY + extra);
        for (format, body) in [
            ("application/json", format!("[{long},{short}]")),
            ("application/json", format!("[{short} , {long}]")),
            ("application/x-ndjson", format!("{long}\n{short}")),
            ("application/x-ndjson", format!("{short}\n{long}")),
            ("application/x-ndjson", format!("{long}\r\n{short}\r\n")),
            ("text/csv", format!("t\n{row}\nx\n")),
            ("text/csv", format!("t\nx\n{row}")),
            ("text/csv", format!("t\r\n{row}\r\nx\r\n")),
        ] {
            let reply =
                gateway.records("exact").body(format, body.clone()).send().await.expect(202);
            let expected = (json!(expected.0), json!(expected.1));
            assert_eq!(counts(&reply), expected, "{format} {extra} {body:.20}");
            if extra > 0 {
                assert_eq!(reply["errors"][0]["code"], "too_large", "{format} {reply}");
            }
        }
    }
}
