//! PostgreSQL goes away and comes back while polling jobs run: they go on by themselves, every item comes exactly once,
//! what was missed is left out, and no job is to blame.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::durability::outages::wait_reachable;
use crate::polling::exactness::{ids, items, wait_accepted};
use crate::polling::jobs::{finished, make, run, runs};
use crate::support::{ALLOW_LOOPBACK, Gateway, ItemsApi, OwnCluster, Stall, eventually};

const OFTEN_MS: u64 = 1_000;
/// Jobs that run every [`OFTEN_MS`].
const OFTEN: [&str; 3] = ["/often0", "/often1", "/often2"];
/// What a run says that could not ask.
const NOT_ASKED: &str = "the database could not be asked";

/// Jobs at every place where an outage can meet them.
struct Scene {
    gateway: Gateway,
    api: ItemsApi,
    jobs: BTreeMap<&'static str, String>,
}

impl Scene {
    async fn start(cluster: &OwnCluster, flags: &[&str]) -> Scene {
        let flags = [&ALLOW_LOOPBACK[..], &["--batch-interval-ms=20"], flags].concat();
        let gateway = Gateway::on(cluster.url(), &flags).await;
        let (api, mut jobs) = (ItemsApi::start().await, BTreeMap::new());
        for path in OFTEN {
            api.serve(path, items(0..10));
            let often = json!({"interval_ms": OFTEN_MS, "key": ["/id"]});
            jobs.insert(path, make(&gateway, &api, path, often).await);
        }
        // These run once a year, unless something brings them back.
        for path in ["/asking", "/writing", "/failing"] {
            api.serve(path, items(0..10));
            jobs.insert(path, make(&gateway, &api, path, json!({"key": ["/id"]})).await);
        }
        Scene { gateway, api, jobs }
    }

    fn path(&self, path: &str) -> String {
        format!("/v1/polling-jobs/{}", self.jobs[path])
    }

    async fn order(&self, path: &str) {
        self.gateway.post(&format!("{}/run", self.path(path)), &json!({})).await.expect(202);
    }

    /// One run is in the middle of its question, one as well of a job that failed twice and will not be tried again, and
    /// one waits for its commit.
    async fn be_in_the_middle(&self) -> Stall {
        self.api.fail("/failing", 500, "oh no");
        for _ in 0..2 {
            run(&self.gateway, &self.jobs["/failing"]).await;
        }
        for path in self.jobs.keys() {
            self.api.serve(path, items(0..20));
        }
        for path in ["/asking", "/failing"] {
            let before = self.api.asked(path);
            self.api.hold(path, true);
            self.order(path).await;
            eventually("it asks", async || (self.api.asked(path) > before).then_some(())).await;
        }
        let rest = json!({"paused": true});
        self.gateway.patch(&self.path("/failing"), &rest).await.expect(200);
        let stall = Stall::of_writers(self.gateway.pool()).await;
        self.order("/writing").await;
        wait_accepted(&self.gateway, "writing", 20).await;
        stall
    }

    /// While PostgreSQL is away the APIs answer, and have more; returns when the runs have met the outage, and several were
    /// missed.
    async fn be_without_postgresql(&self) {
        let begun = Instant::now();
        eventually("the scheduler has noticed", async || {
            self.gateway.log().contains("polling jobs wait for PostgreSQL").then_some(())
        })
        .await;
        for path in self.jobs.keys() {
            self.api.serve(path, items(0..30));
            self.api.hold(path, false);
        }
        eventually("the runs have met the outage", async || {
            let log = self.gateway.log();
            let met = |path: &str| {
                let of_job = |line: &&str| line.contains(&self.jobs[path]);
                log.lines().filter(of_job).any(|line| line.contains("could not ask the database"))
            };
            let missed = begun.elapsed() > 5 * Duration::from_millis(OFTEN_MS);
            (missed && met("/asking") && met("/failing")).then_some(())
        })
        .await;
    }

    /// Every job has brought everything once, by itself.
    async fn verify(&self) {
        let failing = finished(&self.gateway, &self.jobs["/failing"], 3).await;
        assert_eq!((&failing["status"], &failing["error"]), (&json!("failed"), &json!(NOT_ASKED)));
        let job = self.gateway.get(&self.path("/failing")).await.expect(200);
        assert_eq!(job["failures"], 2, "that PostgreSQL was away is no failure of the job");
        self.gateway.patch(&self.path("/failing"), &json!({"paused": false})).await.expect(200);
        // What it asked before the outage it does not ask again.
        finished(&self.gateway, &self.jobs["/writing"], 1).await;
        assert_eq!(run(&self.gateway, &self.jobs["/writing"]).await["status"], "success");
        for (path, id) in &self.jobs {
            eventually(&format!("{path} has brought what there is"), async || {
                let latest = runs(&self.gateway, id).await.remove(0);
                let whole = latest["status"] == "success" && latest["items"] == 30;
                whole.then_some(())
            })
            .await;
        }
        self.gateway.wait_all_committed().await;
        for path in self.jobs.keys() {
            assert_eq!(ids(&self.gateway, &path[1..]).await, (0..30).collect::<Vec<i64>>());
        }
        let counted = "select sum(new + changed)::bigint from tidegate.polling_runs";
        assert_eq!(self.gateway.scalar::<i64>(counted).await, 30 * 6);
        let failures = "select count(*) from tidegate.polling_jobs where failures > 0";
        assert_eq!(self.gateway.scalar::<i64>(failures).await, 0);
        let blamed = "select error from tidegate.polling_runs
            where status = 'failed' and error not like '%500%'";
        let errors: Vec<String> = self.gateway.column(blamed).await;
        assert!(errors.iter().all(|error| error == NOT_ASKED), "{errors:?}");
        self.verify_no_burst().await;
    }

    /// A run is due after the one before it began, and an interval later: so what was missed is left out. A run that came to
    /// nothing is run again at once.
    async fn verify_no_burst(&self) {
        let early = format!(
            "select count(*) from (
                 select run.due_at, lag(run.due_at) over by_run as due_before,
                     lag(run.started_at) over by_run as begun_before, lag(run.status) over by_run as status_before
                 from tidegate.polling_runs run join tidegate.polling_jobs job on job.id = run.job_id
                 where job.stream like 'often%' window by_run as (partition by run.job_id order by run.fence)) run
             where status_before not in ('lost', 'interrupted')
                 and (due_at < due_before + interval '{} milliseconds' or due_at <= begun_before)",
            OFTEN_MS * 94 / 100
        );
        assert_eq!(self.gateway.scalar::<i64>(early).await, 0);
    }
}

#[tokio::test]
async fn an_outage_that_leases_outlive_ends_no_run_and_blames_no_job() {
    let mut cluster = OwnCluster::start().await;
    let scene = Scene::start(&cluster, &["--polling-lease-seconds=300"]).await;
    let stall = scene.be_in_the_middle().await;
    let number = runs(&scene.gateway, &scene.jobs["/writing"]).await.len();
    cluster.stop().await;
    drop(stall);
    scene.be_without_postgresql().await;
    cluster.start_again().await;
    let written = finished(&scene.gateway, &scene.jobs["/writing"], 1).await;
    assert_eq!((&written["status"], &written["new"]), (&json!("success"), &json!(10)), "{written}");
    let numbers = runs(&scene.gateway, &scene.jobs["/writing"]).await.len();
    assert_eq!(numbers, number, "the run that waited for PostgreSQL is the one that ended");
    scene.verify().await;
}

#[tokio::test]
async fn an_outage_longer_than_the_leases_brings_every_item_once_all_the_same() {
    let mut cluster = OwnCluster::start().await;
    let scene = Scene::start(&cluster, &["--polling-lease-seconds=3"]).await;
    let stall = scene.be_in_the_middle().await;
    cluster.kill();
    drop(stall);
    scene.be_without_postgresql().await;
    cluster.start_again().await;
    scene.verify().await;
}

#[tokio::test]
async fn a_gateway_that_starts_without_postgresql_runs_its_jobs_when_it_is_there() {
    let mut cluster = OwnCluster::start().await;
    let mut scene = Scene::start(&cluster, &[]).await;
    assert_eq!(scene.gateway.terminate().await, 0);
    cluster.stop().await;
    scene.gateway.restart().await;
    for path in OFTEN {
        scene.api.serve(path, items(0..20));
    }
    wait_reachable(&scene.gateway, false).await;
    cluster.start_again().await;
    for path in OFTEN {
        eventually("it goes on", async || {
            let runs = runs(&scene.gateway, &scene.jobs[path]).await;
            let went_well = |run: &&Value| run["status"] == "success" && run["items"] == 20;
            (runs.iter().filter(went_well).count() >= 3).then_some(())
        })
        .await;
        assert_eq!(ids(&scene.gateway, &path[1..]).await, (0..20).collect::<Vec<i64>>());
    }
    scene.verify_no_burst().await;
}

#[tokio::test]
async fn a_run_waits_for_its_commit_longer_than_its_lease_and_is_not_followed() {
    let flags = [&ALLOW_LOOPBACK[..], &["--polling-lease-seconds=3"]].concat();
    let (gateway, api) = (Gateway::with(&flags).await, ItemsApi::start().await);
    api.serve("/x", json!([]));
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"]})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    api.serve("/x", items(0..10));
    gateway.post(&format!("/v1/polling-jobs/{id}/run"), &json!({})).await.expect(202);
    let kept = "select count(*) from tidegate.polling_jobs job join tidegate.polling_runs run on run.id = job.run_id
        where finished_at is null and clock_timestamp() > started_at + interval '4 seconds' and lease_until > now()";
    eventually("its lease was renewed, and it waits", async || {
        (gateway.scalar::<i64>(kept).await == 1).then_some(())
    })
    .await;
    stall.release().await;
    let ended = finished(&gateway, &id, 1).await;
    assert_eq!((&ended["status"], &ended["new"]), (&json!("success"), &json!(10)), "{ended}");
    assert_eq!((&ended["number"], api.asked("/x")), (&json!(2), 2), "no other run followed it");
    assert_eq!(ids(&gateway, "x").await, (0..10).collect::<Vec<i64>>());
}

/// Before: a run that looked its items up heard nothing else until PostgreSQL answered.
#[tokio::test]
async fn a_shutdown_ends_a_run_that_waits_for_its_memory() {
    let (mut gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    api.serve("/x", items(0..10));
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"]})).await;
    let mut holder = gateway.pool().begin().await.unwrap();
    let lock = "lock table tidegate.polled_items in access exclusive mode";
    sqlx::query(lock).execute(&mut *holder).await.unwrap();
    gateway.post(&format!("/v1/polling-jobs/{id}/run"), &json!({})).await.expect(202);
    let waits = "select exists (select from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like '%from tidegate.polled_items%')";
    eventually("it looks its items up", async || gateway.scalar::<bool>(waits).await.then_some(()))
        .await;
    assert_eq!(gateway.terminate().await, 0);
    let status = "select status from tidegate.polling_runs order by fence desc limit 1";
    assert_eq!(gateway.scalar::<String>(status).await, "interrupted");
    holder.rollback().await.unwrap();
}
