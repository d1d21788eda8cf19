//! The oracle itself: it must see what is missing, doubled or wrong, else the tests that trust it prove nothing.

use crate::support::{Gateway, Oracle, Verdict};

/// A gateway whose tables are as they should be, and the book. Of rows in every stream the ids were told, which chance
/// decides: so it is tried until they were.
async fn told() -> (Gateway, Oracle) {
    const TRIES: usize = 30;
    for _ in 0..TRIES {
        let gateway = Gateway::start().await;
        let mut oracle = Oracle::prepare(&gateway).await;
        let load = oracle.load(&gateway);
        load.acknowledges(2_000).await;
        load.finish(&mut oracle).await;
        gateway.wait_all_committed().await;
        oracle.verify(&gateway).await;
        let mut all_noticed = true;
        for stream in Oracle::streams() {
            all_noticed &= !after(&gateway, &oracle, &other_ids(stream)).await.wrong.is_empty();
        }
        if all_noticed {
            return (gateway, oracle);
        }
    }
    panic!("in {TRIES} tries the oracle never saw in every stream that ids are others");
}

/// Gives every row another id.
fn other_ids(stream: &str) -> String {
    format!(
        "update streams.{stream} set id = gen_random_uuid() where id in (select id from streams.{stream})"
    )
}

/// The verdict after the tables were meddled with; everything is put back.
async fn after(gateway: &Gateway, oracle: &Oracle, sql: &str) -> Verdict {
    let keep = |table: &str| format!("create table kept_{table} as table streams.{table};");
    let put_back = |table: &str| {
        format!(
            "delete from streams.{table}; insert into streams.{table} table kept_{table}; drop table kept_{table};"
        )
    };
    let every = |step: &dyn Fn(&str) -> String| Oracle::streams().map(step).concat();
    gateway.execute(&every(&keep)).await;
    gateway.execute("create table kept_quarantine as table tidegate.quarantine").await;
    gateway.execute(sql).await;
    let verdict = oracle.verdict(gateway).await;
    gateway.execute(&every(&put_back)).await;
    gateway
        .execute(
            "delete from tidegate.quarantine; insert into tidegate.quarantine table kept_quarantine;
             drop table kept_quarantine",
        )
        .await;
    verdict
}

#[tokio::test]
async fn the_oracle_sees_what_is_lost_doubled_or_wrong() {
    let (gateway, mut oracle) = told().await;
    let counts =
        |verdict: &Verdict| [verdict.lost.len(), verdict.doubled.len(), verdict.wrong.len()];
    for stream in Oracle::streams() {
        let one = format!("ctid = (select max(ctid) from streams.{stream})");
        let verdict =
            after(&gateway, &oracle, &format!("delete from streams.{stream} where {one}")).await;
        assert_eq!(counts(&verdict), [1, 0, 0], "{stream}: {verdict}");
        let verdict = after(&gateway, &oracle, &other_ids(stream)).await;
        assert_eq!(counts(&verdict)[..2], [0, 0], "{stream}: {verdict}");
        assert!(!verdict.wrong.is_empty(), "{stream}: ids were told, and are others now");
    }
    for (sql, expected) in [
        (
            "insert into streams.documents select gen_random_uuid(), received_at, payload
             from streams.documents limit 3",
            [0, 3, 0],
        ),
        (
            "update streams.documents set payload = payload || '{\"note\": \"other\"}'
             where ctid = (select max(ctid) from streams.documents)",
            [0, 0, 1],
        ),
        ("update streams.typed set amount = amount + 0.0001 where ctid = (select max(ctid) from streams.typed)", [0, 0, 1]),
        ("update streams.retained set at = at + interval '1 microsecond' where ctid = (select max(ctid) from streams.retained)", [0, 0, 1]),
        ("update streams.replaced set extra = null where ctid = (select max(ctid) from streams.replaced)", [0, 0, 1]),
        (
            "insert into streams.typed (id, received_at, key, version) values (gen_random_uuid(), now(), -1, -7)",
            // The first season has no earlier one.
            [0, 1, 0],
        ),
        ("delete from tidegate.quarantine where id = (select min(id::text)::uuid from tidegate.quarantine)", [1, 0, 0]),
        (
            "insert into tidegate.quarantine select gen_random_uuid(), received_at, stream_id, source, user_name, record,
             line, column_name, code, message, raw, truncated from tidegate.quarantine limit 2",
            [0, 2, 0],
        ),
        ("update tidegate.quarantine set raw = raw || 'x' where id = (select min(id::text)::uuid from tidegate.quarantine)", [1, 0, 1]),
    ] {
        let verdict = after(&gateway, &oracle, sql).await;
        let [lost, doubled, wrong] = counts(&verdict);
        assert_eq!([lost, doubled], expected[..2], "{sql}: {verdict}");
        // The copy of a row whose id was told is wrong as well.
        assert!(wrong >= expected[2], "{sql}: {verdict}");
    }
    oracle.verify(&gateway).await;

    // What was verified and removed must never come again.
    gateway.execute("create table kept as table streams.documents limit 5").await;
    oracle.new_season(&gateway).await;
    gateway.execute("insert into streams.documents table kept").await;
    let verdict = oracle.verdict(&gateway).await;
    assert_eq!(counts(&verdict), [0, 5, 0], "{verdict}");
}
