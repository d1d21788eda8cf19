//! The book itself: it must see what is missing, doubled or wrong, else the torture of jobs proves nothing.

use super::{Job, Polled};
use crate::support::{ALLOW_LOOPBACK, Gateway, Seed, Verdict, eventually};

/// Rows that every stream has before they are meddled with.
const ROWS: i64 = 30;

/// A gateway whose jobs' tables are as they should be, and the book.
async fn settled() -> (Gateway, Polled) {
    let gateway = Gateway::with(&ALLOW_LOOPBACK).await;
    let seed = Seed::draw();
    let mut polled = Polled::start(&gateway, seed).await;
    let wakes = polled.wake(&[&gateway], seed, 0);
    eventually("every stream and the quarantine have rows", async || {
        let mut enough =
            gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await > 0;
        for stream in Polled::streams() {
            let table: Option<String> =
                gateway.scalar(format!("select to_regclass('streams.{stream}')::text")).await;
            enough = enough && table.is_some() && gateway.rows(stream).await >= ROWS;
        }
        enough.then_some(())
    })
    .await;
    wakes.finish().await;
    polled.settle(&gateway).await;
    gateway.wait_all_committed().await;
    let verdict = polled.verdict(&gateway).await;
    assert!(verdict.is_clean(), "seed {seed}: {verdict}");
    (gateway, polled)
}

/// The verdict after a table was meddled with, which is put back.
async fn after(gateway: &Gateway, polled: &mut Polled, table: &str, sql: &str) -> Verdict {
    gateway.execute(&format!("create table kept as table {table}")).await;
    gateway.execute(sql).await;
    let verdict = polled.verdict(gateway).await;
    let put_back = format!("delete from {table}; insert into {table} table kept; drop table kept");
    gateway.execute(&put_back).await;
    verdict
}

#[tokio::test]
async fn the_book_sees_what_is_lost_doubled_or_wrong() {
    let (gateway, mut polled) = settled().await;
    for job in Job::ALL {
        let (stream, is_typed) = (job.stream(), job == Job::Typed);
        let table = format!("streams.{stream}");
        let key = if is_typed { "key" } else { "(payload->>'key')::bigint" };
        let one = |condition: &str| {
            format!("ctid = (select max(ctid) from {table} where {key} {condition})")
        };
        let set =
            if is_typed { "note = note || 'x'" } else { "payload = payload || '{\"note\": 5}'" };
        let columns = if is_typed { "key, version, note, amount" } else { "payload" };
        let meddlings = [
            // An item: the latest, or of an answer that was taken; and it was counted.
            (format!("delete from {table} where {}", one("> 0")), [1, 0, 1]),
            (format!("delete from {table} where {}", one("< 0")), [0, 0, 1]),
            (format!("update {table} set {set} where {}", one("> 0")), [0, 0, 1]),
        ];
        let copy = format!(
            "insert into {table} (id, received_at, {columns})
             select gen_random_uuid(), received_at, {columns} from {table} where {}",
            one("> 0")
        );
        // The table itself does not take a key twice where it replaces.
        let copy = (job != Job::Replaced).then_some((copy, [0, 1, 0]));
        for (sql, expected) in meddlings.into_iter().chain(copy) {
            let verdict = after(&gateway, &mut polled, &table, &sql).await;
            let found = [&verdict.lost, &verdict.doubled, &verdict.wrong].map(Vec::len);
            // A version may be of several answers.
            assert_eq!(found.map(|cases| cases.min(1)), expected, "{sql}: {verdict}");
        }
    }
    for (job, sql) in [
        (
            Job::Replaced,
            "update streams.polled_replaced set payload = jsonb_set(payload, '{version}', '0')",
        ),
        (
            Job::Tagged,
            "insert into streams.polled_tagged values (gen_random_uuid(), now(), '{\"key\": 1000000}')",
        ),
    ] {
        let verdict = after(&gateway, &mut polled, &format!("streams.{}", job.stream()), sql).await;
        assert!(!verdict.wrong.is_empty(), "{sql}: {verdict}");
    }
    let twice = "insert into tidegate.quarantine select gen_random_uuid(), received_at, stream_id, source, user_name,
        record, line, column_name, code, message, raw, truncated from tidegate.quarantine limit 1";
    let verdict = after(&gateway, &mut polled, "tidegate.quarantine", twice).await;
    assert_eq!(verdict.doubled.len(), 1, "{verdict}");
    let verdict = polled.verdict(&gateway).await;
    assert!(verdict.is_clean(), "{verdict}");

    // What was verified and removed must never come again.
    gateway.execute("create table kept as table streams.polled_appended limit 5").await;
    polled.new_season(&gateway).await;
    gateway.execute("insert into streams.polled_appended table kept").await;
    let verdict = polled.verdict(&gateway).await;
    assert!(verdict.doubled.len() >= 5, "{verdict}");
}
