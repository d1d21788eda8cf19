//! Documents that are cheap to send and dear to store: PostgreSQL's `jsonb` takes its time over each key and value, whatever
//! the bytes, and sorts the keys of an object in n² steps if the sender wants it so.
//!
//! Before, on two cores with default settings, while another stream sent records with `ack=commit` (p50 0.05 s):
//! - six documents `{"a":[{},{},… 5,000,000 …]}` of 88 kB each as gzip: one commit took 20.7 s;
//! - six bodies of ten documents of half a million `{}` each (15 kB as gzip at its best): 7.9 s;
//! - six bodies of 40 objects of 20,000 keys, in the order that PostgreSQL's quicksort likes least: over 30 s, and no
//!   commit at all in that time. One object of 100,000 such keys (1.2 MB) takes PostgreSQL 5.1 s, of 200,000 20 s, and so on:
//!   of a document of 16 MiB a quarter of an hour, had the statement's time allowed it.
//!
//! After: the first are invalid. The dearest record that is not takes PostgreSQL a quarter of a second (`{}`, or an object of
//! 22,000 keys) to 0.4 (keys in any order), and at most half of the writers take such records: others' commits overtake
//! them, however many there are. Of all three attacks p99 was 0.08 s or (of the first) 0.7 s, and the longest commit (3 to 5
//! s, of a gateway without optimisation) was one that came while the six bodies themselves were being read.
//!
//! That counted entries of 250,000 keys and values and more. 200 requests of 773 bytes each, of 249,000, went past it: 10.9 s.
//! So what counts is how many an entry has beyond what its bytes make likely, and what a batch has of it.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{Compression, Gateway, Metrics, compressed, eventually};

/// Its keys and values, of 520 kB, are enough to make it costly, and not too many.
const COSTLY_ELEMENTS: usize = 260_000;

/// A document with so many elements, and with these members.
fn costly(elements: usize, members: &str) -> String {
    format!("{{{members},\"a\":[{}]}}", vec!["1"; elements].join(","))
}

/// While it is held, no row comes into the stream's table.
struct Barrier(PgConnection);

impl Barrier {
    const FLAGS: [&str; 2] = ["--lock-timeout-ms=60000", "--batch-interval-ms=20"];

    async fn before(gateway: &Gateway, stream: &str) -> Barrier {
        gateway
            .execute(&format!(
                "create function wait_for_barrier() returns trigger language plpgsql as $$
                 begin perform pg_advisory_xact_lock_shared(7); return new; end $$;
                 create trigger barrier before insert on streams.{stream}
                 for each row execute function wait_for_barrier()"
            ))
            .await;
        let mut connection = PgConnection::connect(gateway.database_url()).await.unwrap();
        sqlx::query("select pg_advisory_lock(7)").execute(&mut connection).await.unwrap();
        Barrier(connection)
    }

    async fn lift(self) {
        self.0.close().await.unwrap();
    }
}

async fn send(gateway: &Gateway, stream: &str, body: impl Into<reqwest::Body>) -> Value {
    gateway.records(stream).body("application/json", body).send().await.expect(202)
}

#[tokio::test]
async fn a_document_of_too_many_keys_and_values_is_kept_aside_whichever_way_it_comes() {
    let gateway = Gateway::start().await;
    // As it was filed.
    let filed =
        format!("[{{\"n\":1}},{{\"a\":[{}]}},{{\"n\":2}}]", vec!["{}"; 5_000_000].join(","));
    let body = compressed(Compression::Gzip, filed.as_bytes()).await;
    let records = gateway.records("documents").body("application/json", body).encoding("gzip");
    let reply = records.query("ack", "commit").send().await.expect(201);
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(2), &json!(1)));
    let message = reply["errors"][0]["message"].as_str().unwrap();
    assert_eq!(reply["errors"][0]["code"], "too_many_members");
    for words in ["5000003 keys and values", "at most 500000", "TIDEGATE_DOCUMENT_MEMBERS_MAX"] {
        assert!(message.contains(words), "{message}");
    }
    gateway.wait_all_committed().await;
    let kept: i32 = gateway.scalar("select length(raw) from tidegate.quarantine").await;
    assert_eq!(usize::try_from(kept).unwrap(), filed.len() - "[{\"n\":1},,{\"n\":2}]".len());

    // An object that PostgreSQL may have to sort in n² steps; spread over many, the same keys are no harm.
    let members = |keys: std::ops::Range<usize>| {
        let members: Vec<String> = keys.map(|key| format!("\"{key:06}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    let parts: Vec<String> =
        (0..30).map(|part| members(part * 1_000..part * 1_000 + 1_000)).collect();
    let body = format!("[{{\"a\":{}}},{{\"a\":[{}]}}]", members(0..30_000), parts.join(","));
    let reply = send(&gateway, "documents", body).await;
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(1), &json!(1)));

    let columns = json!([{"name": "doc", "type": "jsonb"}, {"name": "text", "type": "text"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    let many = format!("[{}]", vec!["1"; 500_001].join(","));
    let unknown: Vec<String> = (0..250_001).map(|key| format!("\"k{key}\":1")).collect();
    let body = format!(
        "[{{\"doc\":{many}}},{{\"other\":{many}}},{{{}}},{{\"text\":\"{many}\",\"doc\":[1]}}]",
        unknown.join(",")
    );
    let reply = send(&gateway, "typed", body).await;
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(1), &json!(3)));
    let rows = format!("doc,text\n\"{many}\",a\n[1],b\n");
    let reply = gateway.records("typed").csv(rows).send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(1), &json!(1)));

    // Of a request that makes its stream and has a key it is told once as well.
    let body = format!("[{{\"doc\":{many}}},{{}}]");
    let reply =
        gateway.records("fresh").body("application/json", body).key("k").send().await.expect(202);
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(1), &json!(1)));

    // As text it is cheap.
    gateway.create_stream(&json!({"name": "text", "payload": "json"})).await;
    let reply = send(&gateway, "text", format!("{{\"doc\":{many}}}")).await;
    assert_eq!(reply["accepted"], 1);
    gateway.wait_all_committed().await;
    let codes: Vec<String> = gateway.column("select distinct code from tidegate.quarantine").await;
    assert_eq!(codes, ["too_many_members"]);
    let hits = Metrics::read(&gateway).await;
    let hits = hits.sum("tidegate_limit_hits_total", "limit", "document_members");
    assert_eq!(hits.to_string(), "7");
}

#[tokio::test]
async fn what_postgresql_takes_long_over_holds_up_no_other_stream() {
    let flags = [&Barrier::FLAGS[..], &["--writers=2"]].concat();
    let mut gateway = Gateway::with(&flags).await;
    gateway.create_stream(&json!({"name": "dear"})).await;
    gateway.create_stream(&json!({"name": "small"})).await;
    // PostgreSQL takes as long over them as it likes.
    let barrier = Barrier::before(&gateway, "dear").await;
    let dear = 8;
    for n in 0..dear {
        send(&gateway, "dear", costly(COSTLY_ELEMENTS, &format!("\"n\":{n}"))).await;
    }
    eventually("they wait aside, but for one that is being written", async || {
        let waiting = Metrics::read(&gateway).await.of("tidegate_costly_batches_waiting");
        (waiting >= f64::from(dear - 1)).then_some(())
    })
    .await;
    for n in 0..20 {
        gateway.commit("small", &json!({"n": n})).await;
        send(&gateway, "dear", costly(COSTLY_ELEMENTS, &format!("\"n\":{}", dear + n))).await;
    }
    assert_eq!(gateway.rows("dear").await, 0, "all of them were overtaken");

    // What waits aside outlives the process like everything else, and comes once.
    gateway.kill9().await;
    // PostgreSQL does not notice while a trigger waits.
    gateway
        .execute("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted")
        .await;
    gateway.restart().await;
    gateway.commit("small", &json!({"n": 20})).await;
    barrier.lift().await;
    gateway.wait_all_committed().await;
    let numbers: Vec<i32> =
        gateway.column("select (payload->>'n')::int from streams.dear order by 1").await;
    assert_eq!(numbers, (0..dear + 20).collect::<Vec<i32>>());
    assert_eq!(gateway.rows("small").await, 21);
    let waiting = Metrics::read(&gateway).await.of("tidegate_costly_batches_waiting");
    assert_eq!(waiting.to_string(), "0");
}

/// Neither one below what an entry may have, nor many small ones; and there is an end to what waits of them.
#[tokio::test]
async fn dense_documents_below_any_count_hold_up_no_other_stream() {
    let flags = [&Barrier::FLAGS[..], &["--writers=2", "--intake-wait-ms=200"]].concat();
    let gateway = Gateway::with(&flags).await;
    gateway.create_stream(&json!({"name": "dense"})).await;
    gateway.create_stream(&json!({"name": "small"})).await;
    let barrier = Barrier::before(&gateway, "dense").await;
    let elements = [vec![249_000; 12], vec![9_000; 60]].concat();
    for (n, elements) in elements.iter().enumerate() {
        send(&gateway, "dense", costly(*elements, &format!("\"n\":{n}"))).await;
    }
    gateway.commit("small", &json!({"n": 0})).await;
    assert_eq!(gateway.rows("dense").await, 0, "all of them were overtaken");
    // Two of the large ones make a batch, and 55 of the small ones.
    let waiting = Metrics::read(&gateway).await.of("tidegate_costly_batches_waiting");
    assert!(waiting <= 15.0, "{waiting} batches");

    // Others in between keep them from filling batches.
    let mut sent = elements.len();
    let refusal = loop {
        let document = costly(9_000, &format!("\"n\":{sent}"));
        let reply = gateway.records("dense").body("application/json", document).send().await;
        gateway.commit("small", &json!({"n": sent})).await;
        if reply.status != 202 {
            break reply;
        }
        sent += 1;
        assert!(sent < elements.len() + 70, "there is no end to them");
    };
    refusal.problem(503, "costly_documents");
    // What is not dense is taken all the same.
    send(&gateway, "dense", costly(1_000, &format!("\"n\":{sent}"))).await;
    barrier.lift().await;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("dense").await, i64::try_from(sent + 1).unwrap());
}

#[tokio::test]
async fn a_writer_alone_takes_turns() {
    let gateway = Gateway::with(&["--writers=1"]).await;
    gateway.create_stream(&json!({"name": "dear"})).await;
    gateway
        .execute(
            "create function slow() returns trigger language plpgsql as $$
             begin perform pg_sleep(0.3); return new; end $$;
             create trigger slow before insert on streams.dear for each row execute function slow()",
        )
        .await;
    for n in 0..12 {
        send(&gateway, "dear", costly(COSTLY_ELEMENTS, &format!("\"n\":{n}"))).await;
    }
    let before = gateway.rows("dear").await;
    gateway.commit("small", &json!({"n": 0})).await;
    // The one under way, and one more if the small one came just behind another.
    let overtaken_by = gateway.rows("dear").await - before;
    assert!(overtaken_by <= 2, "{overtaken_by} came first");
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("dear").await, 12);
}

#[tokio::test]
async fn a_keyed_stream_keeps_its_order_beside_costly_records_of_its_own() {
    for writers in ["--writers=1", "--writers=4"] {
        let flags = [&Barrier::FLAGS[..], &[writers]].concat();
        let mut gateway = Gateway::with(&flags).await;
        let definition = json!({"name": "keyed", "key": ["/k"], "on_duplicate": "replace"});
        gateway.create_stream(&definition).await;
        gateway.commit("keyed", &json!({"k": 0, "n": 0})).await;
        let barrier = Barrier::before(&gateway, "keyed").await;
        for n in 1..=12 {
            let members = format!("\"k\":{},\"n\":{n}", n % 2);
            let elements = if n % 3 == 0 { COSTLY_ELEMENTS } else { 1 };
            send(&gateway, "keyed", costly(elements, &members)).await;
        }
        if writers == "--writers=4" {
            // Behind a record of the keyed stream that may not overtake, and before ones that may not either.
            gateway.commit("small", &json!({"n": 0})).await;
            gateway.restart().await;
            gateway.commit("small", &json!({"n": 1})).await;
        }
        barrier.lift().await;
        gateway.wait_all_committed().await;
        let last: Vec<String> = gateway
            .column(
                "select (payload->>'k') || ' ' || (payload->>'n') from streams.keyed order by 1",
            )
            .await;
        assert_eq!(last, ["0 12", "1 11"], "{writers}");
        assert!(!gateway.log().contains("parked until it can"), "{}", gateway.log());
    }
}

/// Sent as one array, costly records become several batches, none of them long.
#[tokio::test]
async fn costly_records_of_one_body_are_cut_into_small_batches() {
    let gateway = Gateway::start().await;
    let records: Vec<String> = (0..8).map(|n| costly(130_000, &format!("\"n\":{n}"))).collect();
    let body = format!("[{}]", records.join(","));
    let reply = gateway.records("dear").body("application/json", body).query("ack", "commit");
    assert_eq!(reply.send().await.expect(201)["committed"], 8);
    let batches = Metrics::read(&gateway).await.total("tidegate_batch_rows_count");
    assert!(batches >= 2.0, "{batches} batches");
    tokio::time::timeout(Duration::from_secs(45), gateway.wait_all_committed()).await.unwrap();
}
