//! Runs of polling jobs as PostgreSQL keeps them: a run that another followed changes nothing any more, a batch that is
//! under way keeps others off, and what is kept and repaired has its limits.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tidegate::db::batch::{BatchConnection, BatchTimeouts};
use tidegate::db::polling_jobs::{self, NewJob};
use tidegate::db::polling_runs::{self, ClaimedRow, FinishedRun, LeftOut, RUNS_KEPT, RenewedRun};
use tidegate::db::{Database, Pool};
use tidegate_record::RunId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::TestDatabase;

const TIMEOUTS: BatchTimeouts =
    BatchTimeouts { statement: Duration::from_secs(30), lock: Duration::from_secs(30) };
const LEASE: Duration = Duration::from_secs(60);

/// The gateway's own tables, with no gateway that uses them.
async fn prepared() -> (Database, TestDatabase) {
    let database = TestDatabase::create().await;
    let gateways = Database::new(database.url()).unwrap();
    gateways.migrate().await.unwrap();
    (gateways, database)
}

/// A job that is due.
async fn insert_job(pool: &Pool) -> Uuid {
    let job = Uuid::new_v4();
    let new = NewJob {
        id: job,
        owner_id: None,
        user_id: None,
        short_key: None,
        name: "of two gateways",
        stream: "polled",
        definition: &json!({}),
        sealed: None,
        schedule: &json!({}),
        paused: false,
        due_at: None,
    };
    polling_jobs::insert(pool, &new).await.unwrap().expect("it is the first");
    job
}

/// The time, by the one clock that counts here.
async fn now(pool: &Pool) -> OffsetDateTime {
    polling_jobs::now(pool).await.unwrap().date_time()
}

async fn claim(pool: &Pool, journal: Uuid) -> Vec<ClaimedRow> {
    polling_runs::claim(pool, journal, "node", LEASE, 10, &LeftOut::default()).await.unwrap()
}

/// All leases end, as time ends them.
async fn end_leases(pool: &Pool) {
    sqlx::query("update tidegate.polling_jobs set lease_until = now(), wake_at = now()")
        .execute(pool)
        .await
        .unwrap();
}

async fn finish(pool: &Pool, run: RunId, resume: &str) -> bool {
    finish_at(pool, run, resume, now(pool).await).await
}

/// Ends a run that began by a clock by which it ended at `now`.
async fn finish_at(pool: &Pool, run: RunId, resume: &str, now: OffsetDateTime) -> bool {
    let finished = FinishedRun {
        run,
        status: "success",
        items: 7,
        duplicates: 0,
        error: None,
        unfinished: None,
        gets_on: true,
        due_at: now + LEASE,
        ended_at: now,
        failures: 0,
        resume: Some(resume),
    };
    polling_runs::finish(pool, &finished).await.unwrap().is_some()
}

/// All that a run may still bring about, but for records: those are checked in the transaction that writes them.
#[tokio::test]
async fn a_run_that_was_followed_neither_ends_nor_changes_the_one_that_followed_it() {
    let (database, _kept) = prepared().await;
    let pool = database.pool();
    let job = insert_job(pool).await;
    let (ours, theirs) = (Uuid::new_v4(), Uuid::new_v4());
    let first = claim(pool, ours).await[0].run();
    assert_eq!(claim(pool, theirs).await.len(), 0, "the lease holds");
    end_leases(pool).await;
    let second = claim(pool, theirs).await[0].run();
    assert_eq!((second.job, second.fence), (job, first.fence + 1));
    let whole = async || {
        let job = "select job::text || array(select run::text from tidegate.polling_runs run order by fence)::text
            from tidegate.polling_jobs job";
        sqlx::query_scalar::<_, String>(job).fetch_one(pool).await.unwrap()
    };
    let before = whole().await;
    // The same number with another id is another run: a database that was set back gives numbers a second time.
    let of_another_time = RunId { run: Uuid::new_v4(), ..second };
    for late in [first, of_another_time, RunId { run: second.run, job: Uuid::new_v4(), ..second }] {
        assert!(!finish(pool, late, "late").await);
        assert!(!polling_runs::begin_anew(pool, late, 9).await.unwrap());
        assert!(!polling_runs::begin_pruning(pool, late, 0).await.unwrap());
        assert_eq!(polling_runs::renew(pool, &[late], LEASE * 9).await.unwrap(), []);
        assert_eq!(polling_runs::give_up_leases(pool, ours).await.unwrap(), 0);
        assert_eq!(whole().await, before, "{late:?}");
    }
    let kept = RenewedRun { run_id: second.run, owner_disabled: false };
    assert_eq!(polling_runs::renew(pool, &[first, second], LEASE).await.unwrap(), [kept]);
    assert!(polling_runs::begin_pruning(pool, second, 0).await.unwrap());
    assert!(polling_runs::begin_anew(pool, second, 9).await.unwrap());
    assert!(finish(pool, second, "on time").await);
    assert!(!finish(pool, second, "twice").await, "it has ended");
    let statuses = "select status || coalesce(error, '') from tidegate.polling_runs order by fence";
    let statuses: Vec<String> = sqlx::query_scalar(statuses).fetch_all(pool).await.unwrap();
    assert_eq!(statuses, ["lostthe gateway that ran it ended, or lost the lease on it", "success"]);
    let resume: String = sqlx::query_scalar("select resume from tidegate.polling_jobs")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(resume, "on time");
}

/// A gateway that claims the job now would not know the items that the batch is about to note.
#[tokio::test]
async fn a_batch_that_has_looked_at_its_run_keeps_others_off_until_it_ends() {
    let (database, _kept) = prepared().await;
    let pool = database.pool();
    insert_job(pool).await;
    let (journal, others) = (Uuid::new_v4(), Uuid::new_v4());
    let run = claim(pool, journal).await[0].run();
    end_leases(pool).await;
    let mut batch = BatchConnection::open(&database, TIMEOUTS).await.unwrap();
    let epoch = batch.fence(journal, "node").await.unwrap().session.epoch;
    batch.begin(journal, epoch).await.unwrap();
    let runs = BTreeSet::from([run]);
    assert_eq!(batch.latest_runs(&runs).await.unwrap(), runs);
    assert_eq!(claim(pool, others).await.len(), 0, "the batch has the job");
    batch.rollback().await.unwrap();
    assert_eq!(claim(pool, others).await.len(), 1);
    batch.begin(journal, epoch).await.unwrap();
    assert_eq!(batch.latest_runs(&runs).await.unwrap(), BTreeSet::new(), "it was followed");
}

#[tokio::test]
async fn of_a_job_s_runs_the_latest_are_kept_as_many_as_are_promised() {
    let (database, _kept) = prepared().await;
    let pool = database.pool();
    let job = insert_job(pool).await;
    let earlier = "insert into tidegate.polling_runs (job_id, fence, id, node, due_at, started_at)
        select $1, n, gen_random_uuid(), 'node', now(), now() from generate_series(1, $2) n";
    sqlx::query(earlier).bind(job).bind(RUNS_KEPT + 9).execute(pool).await.unwrap();
    sqlx::query("update tidegate.polling_jobs set fence = $1")
        .bind(RUNS_KEPT + 9)
        .execute(pool)
        .await
        .unwrap();
    let run = claim(pool, Uuid::new_v4()).await[0].run();
    assert!(finish(pool, run, "{}").await);
    let kept = "select array[count(*), min(fence), max(fence)] from tidegate.polling_runs";
    let kept: Vec<i64> = sqlx::query_scalar(kept).fetch_one(pool).await.unwrap();
    assert_eq!(kept, [RUNS_KEPT, run.fence - RUNS_KEPT + 1, run.fence]);
    assert_eq!(RUNS_KEPT, 200, "docs/api.md says so");
}

/// The clock is the database's own; a job that knows a time later than now was computed before it was set back.
#[tokio::test]
async fn a_clock_that_was_set_back_a_little_is_left_alone() {
    let (database, _kept) = prepared().await;
    let pool = database.pool();
    // Statements take their time, so the limit of ten seconds is met by a second at most.
    for (ahead, is_repaired) in [(8, false), (15, true)] {
        let run = claim_anew(pool).await;
        let by_its_clock = now(pool).await + Duration::from_secs(ahead);
        assert!(finish_at(pool, run, "{}", by_its_clock).await);
        let due = "select due_at <= now() from tidegate.polling_jobs";
        let due: bool = sqlx::query_scalar(due).fetch_one(pool).await.unwrap();
        assert_eq!(due, is_repaired, "a run that ended {ahead} s ahead of the clock");
    }
    for (scheduled, leased, is_repaired) in
        [(8, 590, false), (15, 0, true), (0, 0, false), (0, 610, true)]
    {
        claim_anew(pool).await;
        let set =
            "update tidegate.polling_jobs set scheduled_at = now() + $1 * interval '1 second',
            lease_until = now() + $2 * interval '1 second', due_at = now() + interval '1 day'";
        sqlx::query(set).bind(scheduled).bind(leased).execute(pool).await.unwrap();
        let repaired = polling_runs::repair_due_times(pool).await.unwrap();
        assert_eq!(repaired, u64::from(is_repaired), "{scheduled} s and {leased} s ahead");
    }
}

/// The run of the one job that there is.
async fn claim_anew(pool: &Pool) -> RunId {
    sqlx::query("delete from tidegate.polling_jobs").execute(pool).await.unwrap();
    insert_job(pool).await;
    claim(pool, Uuid::new_v4()).await[0].run()
}
