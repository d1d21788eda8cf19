//! Who is superseded changes nothing any more: a connection of a session that another has followed, and a run of a polling
//! job that another has followed.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use tidegate::db::Database;
use tidegate::db::batch::{BatchConnection, BatchError, BatchTimeouts};
use tidegate::db::polling_jobs::{self, NewJob};
use tidegate::db::polling_runs::{self, ClaimedRow, FinishedRun};
use tidegate::record::RunId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::TestDatabase;

const TIMEOUTS: BatchTimeouts =
    BatchTimeouts { statement: Duration::from_secs(30), lock: Duration::from_secs(30) };
const LEASE: Duration = Duration::from_secs(60);

/// The gateway's own tables, and nobody who uses them.
async fn prepared() -> (Database, TestDatabase) {
    let database = TestDatabase::create().await;
    let gateways = Database::new(database.url()).unwrap();
    gateways.migrate().await.unwrap();
    (gateways, database)
}

#[tokio::test]
async fn a_session_that_was_followed_begins_no_transaction() {
    let (database, _kept) = prepared().await;
    let journal = Uuid::new_v4();
    let mut first = BatchConnection::open(&database, TIMEOUTS).await.unwrap();
    let before = first.fence(journal, "first").await.unwrap().session;
    let mut second = BatchConnection::open(&database, TIMEOUTS).await.unwrap();
    let after = second.fence(journal, "second").await.unwrap().session;
    assert_eq!(after.epoch, before.epoch + 1);
    let late = first.begin(journal, before.epoch).await;
    assert!(matches!(late, Err(BatchError::Fenced)), "{late:?}");
    let late = first.check(journal, before).await;
    assert!(matches!(late, Err(BatchError::Fenced)), "{late:?}");
    second.check(journal, after).await.unwrap();
    second.begin(journal, after.epoch).await.unwrap();
    // A journal that PostgreSQL has forgotten has no epoch at all.
    let mut third = BatchConnection::open(&database, TIMEOUTS).await.unwrap();
    let forgotten = third.begin(Uuid::new_v4(), after.epoch).await;
    assert!(matches!(forgotten, Err(BatchError::Fenced)), "{forgotten:?}");
}

/// A job that is due.
async fn insert_job(pool: &PgPool) -> Uuid {
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

async fn claim(pool: &PgPool, journal: Uuid) -> Vec<ClaimedRow> {
    polling_runs::claim(pool, journal, "node", LEASE, 10, &[]).await.unwrap()
}

async fn finish(pool: &PgPool, run: RunId, resume: &str) -> bool {
    let now = OffsetDateTime::now_utc();
    let finished = FinishedRun {
        run,
        status: "success",
        items: 7,
        duplicates: 0,
        refused: 0,
        error: None,
        due_at: now + LEASE,
        ended_at: now,
        failures: 0,
        resume: Some(resume),
    };
    polling_runs::finish(pool, &finished).await.unwrap()
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
    sqlx::query("update tidegate.polling_jobs set lease_until = now(), wake_at = now()")
        .execute(pool)
        .await
        .unwrap();
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
        assert_eq!(
            polling_runs::renew(pool, &[late], LEASE * 9).await.unwrap(),
            Vec::<Uuid>::new()
        );
        assert_eq!(polling_runs::give_up_leases(pool, ours).await.unwrap(), 0);
        assert_eq!(whole().await, before, "{late:?}");
    }
    assert_eq!(polling_runs::renew(pool, &[first, second], LEASE).await.unwrap(), [second.run]);
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
