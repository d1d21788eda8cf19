//! Every item of a polling job makes exactly one record, whatever crashes, and whichever gateway runs the job: kills between the
//! journal and the commit, gateways that take over from each other, tables that cannot be written, a database that was
//! set back, jobs that change or go while they run.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};
use tidegate::db::Database;
use tidegate::db::Pool;
use tidegate::db::batch::{BatchConnection, BatchTimeouts};
use tidegate::db::polling_runs::{self, ClaimedRow, LeftOut};
use tidegate_record::RunId;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::polling::jobs::{finished, make, run, runs};
use crate::support::{
    ALLOW_LOOPBACK, ChaosProxy, Gateway, ItemsApi, Metrics, Stall, TestDatabase, WAIT_MAX,
    eventually,
};

/// A short lease, so that a job is taken over soon.
const SHORT_LEASE: [&str; 4] =
    [ALLOW_LOOPBACK[0], ALLOW_LOOPBACK[1], "--polling-lease-seconds=3", "--lock-timeout-ms=300"];

const LEASE: Duration = Duration::from_secs(60);

pub fn items(range: std::ops::Range<i64>) -> Value {
    range.map(|id| json!({"id": id})).collect()
}

/// The ids of a stream's records, in order; each once.
pub async fn ids(gateway: &Gateway, stream: &str) -> Vec<i64> {
    let sql = format!("select (payload->>'id')::bigint from streams.\"{stream}\" order by 1");
    gateway.column(sql).await
}

/// Keeps batches with polled items from being committed, while everything can be read.
async fn stop_commits(gateway: &Gateway) -> Transaction<'static, Postgres> {
    let mut transaction = gateway.pool().begin().await.unwrap();
    sqlx::query("lock table tidegate.polled_items in share mode")
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction
}

/// Waits until so many records of jobs are durable in the gateway's journal.
pub async fn wait_accepted(gateway: &Gateway, stream: &str, records: u64) {
    eventually("the items are in the journal", async || {
        (gateway.total(stream, "accepted").await >= records).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_killed_gateway_left_in_its_journal_is_committed_when_it_is_back() {
    let (mut gateway, api) = (Gateway::with(&SHORT_LEASE).await, ItemsApi::start().await);
    api.serve("/x", json!([]));
    let id = make(&gateway, &api, "/x", json!({})).await;
    api.serve("/x", items(0..50));
    let stopped = stop_commits(&gateway).await;
    gateway.post(&format!("/v1/polling-jobs/{id}/run"), &json!({})).await.expect(202);
    wait_accepted(&gateway, "x", 50).await;
    gateway.kill9().await;
    stopped.rollback().await.unwrap();
    assert_eq!(gateway.rows("x").await, 0);
    // The API has forgotten them: the journal has not.
    api.serve("/x", items(40..60));
    gateway.restart().await;
    let after = finished(&gateway, &id, 2).await;
    assert_eq!((&after["new"], &after["duplicates"]), (&json!(10), &json!(10)), "{after}");
    assert_eq!(ids(&gateway, "x").await, (0..60).collect::<Vec<i64>>());
    let before = runs(&gateway, &id).await.remove(1);
    assert_eq!((&before["status"], &before["new"]), (&json!("lost"), &json!(50)), "{before}");
}

#[tokio::test]
async fn a_gateway_that_comes_back_after_another_took_over_writes_nothing() {
    let database = TestDatabase::create().await;
    let api = ItemsApi::start().await;
    let mut first = Gateway::on(database.url(), &SHORT_LEASE).await;
    // Typed and keyed as well: their parts are written in other ways.
    first.create_stream(&json!({"name": "keyed", "key": ["/id"], "on_duplicate": "replace"})).await;
    for stream in ["plain", "keyed"] {
        api.serve(&format!("/{stream}"), json!([]));
    }
    let plain = make(&first, &api, "/plain", json!({})).await;
    let keyed = make(&first, &api, "/keyed", json!({"key": ["/id"], "on_change": "replace"})).await;
    for stream in ["plain", "keyed"] {
        api.serve(&format!("/{stream}"), items(0..30));
    }
    let stopped = stop_commits(&first).await;
    for id in [&plain, &keyed] {
        first.post(&format!("/v1/polling-jobs/{id}/run"), &json!({})).await.expect(202);
    }
    for stream in ["plain", "keyed"] {
        wait_accepted(&first, stream, 30).await;
    }
    // What is not polled waits in the same journal, and is committed.
    first.records("plain").json(&json!({"id": 1_000})).send().await.expect(202);
    first.kill9().await;
    stopped.rollback().await.unwrap();

    let second = Gateway::on(database.url(), &SHORT_LEASE).await;
    for id in [&plain, &keyed] {
        let taken_over = finished(&second, id, 2).await;
        assert_eq!((&taken_over["status"], &taken_over["new"]), (&json!("success"), &json!(30)));
    }
    first.restart().await;
    first.wait_all_committed().await;
    assert_eq!(ids(&first, "plain").await, (0..30).chain([1_000]).collect::<Vec<i64>>());
    assert_eq!(ids(&first, "keyed").await, (0..30).collect::<Vec<i64>>());
    assert!(first.log().contains("superseded"), "{}", first.log());
    for id in [&plain, &keyed] {
        assert_eq!(run(&first, id).await["duplicates"], 30);
    }
}

/// Ids are given out over time; jobs run every second on two gateways, of which one is killed over and over.
#[tokio::test]
async fn gateways_that_share_jobs_bring_every_item_once_while_one_is_killed() {
    const JOBS: usize = 6;
    const KILLS: i64 = 3;
    let database = TestDatabase::create().await;
    let api = ItemsApi::start().await;
    let flags = [&SHORT_LEASE[..], &["--batch-interval-ms=20"]].concat();
    let steady = Gateway::on(database.url(), &flags).await;
    let mut killed = Gateway::on(database.url(), &flags).await;
    for job in 0..JOBS {
        let path = format!("/x{job}");
        api.serve(&path, items(0..20));
        let body = json!({"url": api.url(&path), "interval_ms": 1_000});
        steady.post("/v1/polling-jobs", &body).await.expect(201);
    }
    for kill in 1..=KILLS {
        for job in 0..JOBS {
            api.serve(&format!("/x{job}"), items(0..20 + 20 * kill));
        }
        // Some runs are in the middle of a question, others on their way to the commit.
        api.hold("/x0", kill % 2 == 0);
        let ran = "select count(*) from tidegate.polling_runs where finished_at is null and node is not null";
        eventually("a run is under way", async || {
            (steady.scalar::<i64>(ran).await > 0).then_some(())
        })
        .await;
        killed.restart().await;
        api.hold("/x0", false);
    }
    let all = 20 + 20 * KILLS;
    for job in 0..JOBS {
        let stream = format!("x{job}");
        eventually("all items are there", async || {
            let count = format!("select count(distinct payload->>'id') from streams.{stream}");
            (steady.scalar::<i64>(count).await == all).then_some(())
        })
        .await;
    }
    for gateway in [&steady, &killed] {
        gateway.wait_all_committed().await;
    }
    for job in 0..JOBS {
        assert_eq!(ids(&steady, &format!("x{job}")).await, (0..all).collect::<Vec<i64>>());
    }
    let counted = "select sum(new + changed)::bigint from tidegate.polling_runs";
    let jobs = i64::try_from(JOBS).unwrap();
    assert_eq!(steady.scalar::<i64>(counted).await, all * jobs);
    let overlapping = "select count(*) from tidegate.polling_runs one join tidegate.polling_runs other
        on one.job_id = other.job_id and one.fence < other.fence and one.finished_at > other.started_at";
    assert_eq!(steady.scalar::<i64>(overlapping).await, 0, "no two runs of a job at once");
}

/// As after an outage of PostgreSQL that was longer than the lease. What the run has in the journal the API shows no more.
#[tokio::test]
async fn a_gateway_does_not_follow_its_own_runs_when_their_leases_have_ended() {
    let flags = [&ALLOW_LOOPBACK[..], &["--polling-lease-seconds=300"]].concat();
    let (gateway, api) = (Gateway::with(&flags).await, ItemsApi::start().await);
    for path in ["/x", "/idle"] {
        api.serve(path, json!([]));
    }
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"]})).await;
    let idle = make(&gateway, &api, "/idle", json!({})).await;
    let mut stopped = gateway.pool().begin().await.unwrap();
    let lock = "lock table tidegate.journals in access exclusive mode";
    sqlx::query(lock).execute(&mut *stopped).await.unwrap();
    api.serve("/x", items(0..5));
    gateway.post(&format!("/v1/polling-jobs/{id}/run"), &json!({})).await.expect(202);
    wait_accepted(&gateway, "x", 5).await;
    api.serve("/x", json!([]));
    let lapse = "update tidegate.polling_jobs set due_at = now(), wake_at = now(),
        lease_until = case when lease_until is null then null else now() end";
    gateway.execute(lapse).await;
    finished(&gateway, &idle, 1).await;
    stopped.rollback().await.unwrap();
    let ended = finished(&gateway, &id, 1).await;
    assert_eq!((&ended["number"], &ended["new"]), (&json!(2), &json!(5)), "{ended}");
    assert_eq!(ids(&gateway, "x").await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_table_that_cannot_be_written_parks_the_items_and_the_job_goes_on() {
    let (gateway, api) = (Gateway::with(&SHORT_LEASE).await, ItemsApi::start().await);
    api.serve("/x", json!([]));
    let id = make(&gateway, &api, "/x", json!({})).await;
    let lock = Stall::of_all_of_table(gateway.pool(), "x").await;
    api.serve("/x", items(0..10));
    assert_eq!(run(&gateway, &id).await["new"], 10);
    api.serve("/x", items(0..12));
    let second = run(&gateway, &id).await;
    assert_eq!((&second["new"], &second["duplicates"]), (&json!(2), &json!(10)), "{second}");
    lock.release().await;
    gateway.wait_nothing_parked().await;
    assert_eq!(ids(&gateway, "x").await, (0..12).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_job_that_is_changed_or_deleted_while_it_runs_writes_nothing_more_of_it() {
    let (gateway, api) = (Gateway::with(&SHORT_LEASE).await, ItemsApi::start().await);
    for (path, range) in [("/x", 0..5), ("/y", 5..8)] {
        api.serve(path, items(range));
    }
    let id = make(&gateway, &api, "/x", json!({"paused": true, "stream": "s"})).await;
    let path = format!("/v1/polling-jobs/{id}");
    api.hold("/x", true);
    gateway.patch(&path, &json!({"paused": false})).await.expect(200);
    eventually("it asks", async || (api.asked("/x") == 1).then_some(())).await;
    gateway.patch(&path, &json!({"url": api.url("/y")})).await.expect(200);
    let changed = finished(&gateway, &id, 1).await;
    assert_eq!((&changed["status"], &changed["new"]), (&json!("success"), &json!(3)), "{changed}");
    assert_eq!(runs(&gateway, &id).await[1]["status"], "superseded");
    api.hold("/x", false);

    api.hold("/y", true);
    gateway.post(&format!("{path}/run"), &json!({})).await.expect(202);
    eventually("it asks again", async || (api.asked("/y") == 2).then_some(())).await;
    api.serve("/y", items(8..9));
    assert_eq!(gateway.delete(&path).await.status, 204);
    api.hold("/y", false);
    // A run that begins now comes after it.
    make(&gateway, &api, "/y", json!({"stream": "other"})).await;
    eventually("no run is under way", async || {
        (!gateway.log().contains("panic") && gateway.total("s", "accepted").await >= 3)
            .then_some(())
    })
    .await;
    gateway.wait_all_committed().await;
    assert_eq!(ids(&gateway, "s").await, [5, 6, 7]);
    let left = "select (select count(*) from tidegate.polling_runs where job_id not in (select id from tidegate.polling_jobs))
        + (select count(*) from tidegate.polled_items where job_id not in (select id from tidegate.polling_jobs))";
    assert_eq!(gateway.scalar::<i64>(left).await, 0);
}

#[tokio::test]
async fn after_a_downtime_there_is_one_run_at_once() {
    let (mut gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", items(0..1));
    let id = make(&gateway, &api, "/x", json!({"interval_ms": 600_000})).await;
    assert_eq!(gateway.terminate().await, 0);
    gateway
        .execute("update tidegate.polling_jobs set due_at = now() - interval '1 day', wake_at = now() - interval '1 day'")
        .await;
    gateway.restart().await;
    finished(&gateway, &id, 1).await;
    let due = "select due_at > now() + interval '9 minutes' from tidegate.polling_jobs";
    assert!(gateway.scalar::<bool>(due).await, "the next is an interval away");
    assert_eq!(
        (api.asked("/x"), runs(&gateway, &id).await.len()),
        (2, 2),
        "no burst of missed ones"
    );
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_stop_a_job() {
    let (mut gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", items(0..1));
    let id = make(&gateway, &api, "/x", json!({})).await;
    assert_eq!(gateway.terminate().await, 0);
    let ahead = "update tidegate.polling_jobs set due_at = now() + interval '2 years',
        wake_at = now() + interval '2 years', scheduled_at = now() + interval '1 year'";
    gateway.execute(ahead).await;
    gateway.restart().await;
    finished(&gateway, &id, 1).await;
}

#[tokio::test]
async fn a_shutdown_ends_a_run_and_the_next_start_runs_the_job_at_once() {
    let (mut gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", items(0..3));
    let id = make(&gateway, &api, "/x", json!({"paused": true})).await;
    api.hold("/x", true);
    gateway.patch(&format!("/v1/polling-jobs/{id}"), &json!({"paused": false})).await.expect(200);
    eventually("it asks", async || (api.asked("/x") == 1).then_some(())).await;
    assert_eq!(gateway.terminate().await, 0);
    let status = "select status from tidegate.polling_runs";
    assert_eq!(gateway.scalar::<String>(status).await, "interrupted");
    api.hold("/x", false);
    gateway.restart().await;
    assert_eq!(finished(&gateway, &id, 1).await["new"], 3);
}

/// What a failover to a replica that missed commits does: rows, memory, runs and ranges are those of before.
#[tokio::test]
async fn a_database_that_was_set_back_asks_again_and_doubles_nothing() {
    const TABLES: [&str; 5] = [
        "tidegate.polling_jobs",
        "tidegate.polling_runs",
        "tidegate.polled_items",
        "tidegate.committed_ranges",
        "streams.x",
    ];
    let (mut gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", items(0..5));
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"]})).await;
    gateway.commit("x", &json!({"id": 100})).await;
    for (number, table) in TABLES.iter().enumerate() {
        gateway.execute(&format!("create table public.before_{number} as table {table}")).await;
    }
    api.serve("/x", items(0..9));
    assert_eq!(run(&gateway, &id).await["new"], 4);
    gateway.commit("x", &json!({"id": 101})).await;
    gateway.kill9().await;
    for (number, table) in TABLES.iter().enumerate() {
        let sql = format!(
            "delete from {table}; insert into {table} select * from public.before_{number}"
        );
        gateway.execute(&sql).await;
    }
    assert_eq!(gateway.rows("x").await, 6);
    gateway.restart().await;
    gateway.wait_all_committed().await;
    // The job's numbers are given a second time, its runs' ids are not.
    assert_eq!(run(&gateway, &id).await["new"], 4);
    let expected: BTreeSet<i64> = (0..9).chain([100, 101]).collect();
    assert_eq!(ids(&gateway, "x").await, expected.into_iter().collect::<Vec<i64>>());
}

/// The server has committed the rows, what was seen, and the counts; the gateway does not know.
#[tokio::test]
async fn commits_in_doubt_bring_no_item_twice_and_none_is_forgotten() {
    const CUTS: i64 = 5;
    let database = TestDatabase::create().await;
    let proxy = ChaosProxy::before(database.url()).await;
    let url = proxy.url(database.url());
    let gateway = Gateway::through(url, database.url(), &SHORT_LEASE).await;
    let api = ItemsApi::start().await;
    api.serve("/x", json!([]));
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"]})).await;
    for cut in 1..=CUTS {
        let versions =
            (0..cut * 10).map(|n| json!({"id": n, "version": if n < 5 { cut } else { 0 }}));
        api.serve("/x", versions.collect());
        let (happened, ended) =
            tokio::join!(proxy.cut_before_reply_to_commit(), run(&gateway, &id));
        assert!(happened, "the server committed, the gateway does not know");
        assert_eq!(ended["status"], "success", "{ended}");
        let expected = if cut == 1 { (10, 0) } else { (10, 5) };
        assert_eq!(
            (ended["new"].as_i64(), ended["changed"].as_i64()),
            (Some(expected.0), Some(expected.1)),
            "{ended}"
        );
    }
    gateway.wait_all_committed().await;
    let rows = CUTS * 10 + (CUTS - 1) * 5;
    assert_eq!(gateway.rows("x").await, rows);
    let distinct = "select count(distinct payload) from streams.x";
    assert_eq!(gateway.scalar::<i64>(distinct).await, rows);
    let sessions = Metrics::read(&gateway).await.total("tidegate_writer_sessions_total");
    assert!(sessions > 1.0, "each cut ended a session");
}

/// A line for batches in the gateway's name, with what a batch begins with.
pub async fn batch_line(gateway: &Gateway) -> (BatchConnection, Uuid, i64) {
    let (journal, epoch) = eventually("the gateway writes to PostgreSQL", async || {
        let row = sqlx::query_as("select id, epoch from tidegate.journals");
        row.fetch_optional(gateway.pool()).await.unwrap()
    })
    .await;
    let database = Database::new(gateway.database_url()).unwrap();
    let timeouts = BatchTimeouts { statement: WAIT_MAX, lock: Duration::from_millis(200) };
    (BatchConnection::open(&database, timeouts).await.unwrap(), journal, epoch)
}

/// Two jobs that are claimed, and their runs.
async fn claimed_runs(gateway: &Gateway) -> Vec<RunId> {
    for job in 1..=2 {
        let url = format!("http://127.0.0.1:9/{job}");
        let body = json!({"url": url, "stream": "x", "interval_ms": 60_000});
        gateway.post("/v1/polling-jobs", &body).await.expect(201);
    }
    let claimed = polling_runs::claim(
        &gateway.pool().clone().into(),
        Uuid::nil(),
        "test",
        LEASE,
        10,
        &LeftOut::default(),
    )
    .await;
    let mut runs: Vec<RunId> = claimed.unwrap().iter().map(ClaimedRow::run).collect();
    runs.sort_unstable();
    runs
}

/// Batches of a keyed stream wait in memory for the one before, where PostgreSQL sees no deadlock: so they must not wait
/// for each other's lock on the job as well.
#[tokio::test]
async fn batches_side_by_side_may_be_of_one_run() {
    let gateway = Gateway::with(&["--polling-runs-max=0"]).await;
    let runs: BTreeSet<RunId> = claimed_runs(&gateway).await.into_iter().collect();
    let mut batches = Vec::new();
    for _ in 0..2 {
        let (mut batch, journal, epoch) = batch_line(&gateway).await;
        batch.begin(journal, epoch).await.unwrap();
        assert_eq!(batch.latest_runs(&runs).await.unwrap(), runs);
        batches.push(batch);
    }
    for batch in batches {
        batch.close().await;
    }
    // A gateway that takes the jobs over ends the runs.
    gateway.execute("update tidegate.polling_jobs set wake_at = now()").await;
    let claimed = polling_runs::claim(
        &gateway.pool().clone().into(),
        Uuid::nil(),
        "other",
        LEASE,
        10,
        &LeftOut::default(),
    )
    .await;
    assert_eq!(claimed.unwrap().len(), 2);
    let (mut late, journal, epoch) = batch_line(&gateway).await;
    late.begin(journal, epoch).await.unwrap();
    assert_eq!(late.latest_runs(&runs).await.unwrap(), BTreeSet::new());
}

/// Batches lock the jobs of their runs one after the other, by id. A renewal of leases that locks jobs in another order
/// waits for a batch that waits for it: PostgreSQL ends one of the two a second later.
#[tokio::test]
async fn leases_are_renewed_in_the_order_in_which_batches_lock_jobs() {
    let gateway = Gateway::with(&["--polling-runs-max=0"]).await;
    let runs = claimed_runs(&gateway).await;
    let pool = gateway.pool().clone();
    // So that the first by id is the last in the table.
    gateway
        .execute(&format!(
            "update tidegate.polling_jobs set name = 'x' where id = '{}'",
            runs[0].job
        ))
        .await;
    let mut batch = pool.begin().await.unwrap();
    let share = "select id from tidegate.polling_jobs where id = $1 for share nowait";
    sqlx::query(share).bind(runs[0].job).execute(&mut *batch).await.unwrap();
    let backwards: Vec<RunId> = runs.iter().rev().copied().collect();
    let mut renewing = JoinSet::new();
    let renewed = Pool::from(pool.clone());
    renewing.spawn(async move { polling_runs::renew(&renewed, &backwards, LEASE).await.unwrap() });
    let waits = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the renewal waits", async || {
        (gateway.scalar::<i64>(waits).await == 1).then_some(())
    })
    .await;
    sqlx::query(share).bind(runs[1].job).execute(&mut *batch).await.expect("it is still free");
    batch.commit().await.unwrap();
    assert_eq!(renewing.join_next().await.unwrap().unwrap().len(), 2);
}
