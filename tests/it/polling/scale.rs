//! Many polling jobs of which few are due: what is due is found by an index. PostgreSQL's own statistics say how often
//! a whole table was read.

use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::polling::jobs::make;
use crate::support::{ALLOW_LOOPBACK, Gateway, ItemsApi, Metrics, connect, eventually};

const JOBS: i64 = 100_000;
const DUE: usize = 20;
/// A start takes back what its predecessor had, and looks for due times in the future of a clock that was set back.
const WHOLE_READS_OF_JOBS_MAX: i64 = 2;
/// The tables that a claim, a renewal and an end of a run look for rows in; how often a start may read all of each.
const TABLES: [(&str, i64); 2] = [("polling_jobs", WHOLE_READS_OF_JOBS_MAX), ("polling_runs", 0)];

/// How each of the tables was read since the database was made.
#[derive(Debug, sqlx::FromRow)]
struct Reads {
    /// How often as a whole.
    seq_scan: i64,
    /// How often by an index.
    idx_scan: i64,
    /// How many rows were found by an index.
    idx_tup_fetch: i64,
}

async fn reads(url: &str) -> Vec<Reads> {
    // What a connection did is counted for sure when it is closed.
    let pool = connect(url).await;
    let gone = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'tidegate'";
    eventually("the gateway's connections are closed", async || {
        let left: i64 = sqlx::query_scalar(gone).fetch_one(&pool).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    let mut reads = Vec::new();
    for (table, _) in TABLES {
        let sql = format!(
            "select seq_scan, idx_scan, idx_tup_fetch from pg_stat_user_tables
             where schemaname = 'tidegate' and relname = '{table}'"
        );
        reads.push(sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap());
    }
    reads
}

/// A hundred thousand jobs like the one that is there, due in a year, with a run each.
async fn fill(gateway: &Gateway) {
    let sql = format!(
        "insert into tidegate.polling_jobs
             (id, owner_id, name, stream, stream_id, definition, schedule, due_at, wake_at)
         select gen_random_uuid(), (select min(id) from tidegate.users), name, stream, stream_id, definition, schedule,
             now() + interval '1 year', now() + interval '1 year'
         from tidegate.polling_jobs, generate_series(1, {JOBS});
         insert into tidegate.polling_runs (job_id, fence, id, node, due_at, started_at, finished_at, status)
         select id, fence, gen_random_uuid(), 'test', now(), now(), now(), 'success'
         from tidegate.polling_jobs where fence = 0;
         analyze;
         select pg_stat_force_next_flush()"
    );
    gateway.execute(&sql).await;
}

async fn runs_that_went_well(gateway: &Gateway) -> f64 {
    Metrics::read(gateway).await.sum("tidegate_polling_runs_total", "outcome", "success")
}

/// Makes some jobs due at once and waits until all of them have run, for so long that leases are renewed.
async fn run_some(gateway: &Gateway, api: &ItemsApi, jobs: &[Uuid]) {
    let (ended, asked) = (runs_that_went_well(gateway).await, api.asked("/x"));
    api.hold("/x", true);
    sqlx::query(
        "update tidegate.polling_jobs set due_at = now(), wake_at = now() where id = any($1)",
    )
    .bind(jobs)
    .execute(gateway.pool())
    .await
    .unwrap();
    let all = jobs.len() as u64;
    eventually("they ask", async || (api.asked("/x") >= asked + all).then_some(())).await;
    let lease =
        format!("select lease_until::text from tidegate.polling_jobs where id = '{}'", jobs[0]);
    let before: String = gateway.scalar(lease.clone()).await;
    eventually("leases are renewed", async || {
        (gateway.scalar::<String>(lease.clone()).await != before).then_some(())
    })
    .await;
    api.hold("/x", false);
    let all = u32::try_from(jobs.len()).unwrap();
    eventually("all of them have run", async || {
        (runs_that_went_well(gateway).await >= ended + f64::from(all)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_due_is_found_by_an_index_among_very_many_jobs() {
    let flags = ["--polling-lease-seconds=3", "--polling-host-requests-max=64"];
    let flags = [&ALLOW_LOOPBACK[..], &flags].concat();
    let (mut gateway, api) = (Gateway::with(&flags).await, ItemsApi::start().await);
    let url = gateway.database_url().to_owned();
    api.serve("/x", json!([{"id": 1}]));
    make(&gateway, &api, "/x", json!({})).await;
    fill(&gateway).await;
    // By the index of the primary key, as everything is that this test itself asks for from here on.
    let due = format!("select id from tidegate.polling_jobs order by id limit {DUE}");
    let due: Vec<Uuid> = gateway.column(due).await;
    assert_eq!(gateway.terminate().await, 0);
    let first = reads(&url).await;

    gateway.restart().await;
    make(&gateway, &api, "/x", json!({"stream": "x"})).await;
    assert_eq!(gateway.terminate().await, 0);
    let second = reads(&url).await;

    gateway.restart().await;
    make(&gateway, &api, "/x", json!({"stream": "x"})).await;
    run_some(&gateway, &api, &due).await;
    assert_eq!(gateway.terminate().await, 0);
    let third = reads(&url).await;

    for (number, (table, at_start_max)) in TABLES.into_iter().enumerate() {
        let (first, second, third) = (&first[number], &second[number], &third[number]);
        let at_start = second.seq_scan - first.seq_scan;
        let at_work = third.seq_scan - second.seq_scan;
        assert!(at_start <= at_start_max, "{table}: {at_start} whole reads by a start alone");
        assert_eq!(at_work, at_start, "{table}: whole reads, beside those of a start");
        assert!(third.idx_scan > second.idx_scan, "{table}: it is read by its indexes");
        let rows = third.idx_tup_fetch - second.idx_tup_fetch;
        assert!(rows < JOBS / 10, "{table}: {rows} rows were looked at for {DUE} runs");
    }
}
