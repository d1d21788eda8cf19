//! When polling jobs run, by a clock of the database that stands until the test turns it: on time, once, and not before;
//! over jumps of the clock, changes of the zone, failures, and what `Retry-After` asks for.

use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};
use tidegate_record::clock::Clock;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::polling::jobs::{finished, make, runs};
use crate::support::{
    ALLOW_LOOPBACK, Answer, Gateway, ItemsApi, PausedClock, TestDatabase, eventually,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// An interval becomes up to this part shorter or longer.
const SPREAD: f64 = 0.05;

/// A gateway on a database whose clock the test turns.
struct Scene {
    gateway: Gateway,
    api: ItemsApi,
    clock: PausedClock,
    _database: TestDatabase,
}

impl Scene {
    async fn at(start: &str) -> Scene {
        let database = TestDatabase::create().await;
        let clock = PausedClock::install(&database, moment(start)).await;
        let gateway = Gateway::on(database.url(), &ALLOW_LOOPBACK).await;
        let api = ItemsApi::start().await;
        api.serve("/bell", json!([]));
        api.serve("/x", json!([{"id": 1}]));
        Scene { gateway, api, clock, _database: database }
    }

    /// A job that asks `/x`, after its first run.
    async fn job(&self, rest: Value) -> String {
        make(&self.gateway, &self.api, "/x", rest).await
    }

    /// Returns when the scheduler has looked once more, and what it found due has run. A job that was made just now is due
    /// now, and one look finds all that is due.
    async fn look(&self) {
        make(&self.gateway, &self.api, "/bell", json!({})).await;
        let under_way = "select count(*) from tidegate.polling_runs where finished_at is null";
        eventually("all runs are over", async || {
            (self.gateway.scalar::<i64>(under_way).await == 0).then_some(())
        })
        .await;
    }

    /// Turns the clock, and returns when what is due then has run.
    async fn turn_to(&self, at: OffsetDateTime) {
        self.clock.turn_to(at).await;
        self.look().await;
    }

    async fn due(&self, id: &str) -> OffsetDateTime {
        let job = self.gateway.get(&format!("/v1/polling-jobs/{id}")).await.expect(200);
        moment(job["next_run_at"].as_str().unwrap())
    }

    /// Turns the clock to just before the job is due, then to when it is: when it was due. It has run once then.
    async fn run_when_due(&self, id: &str) -> OffsetDateTime {
        let (due, before) = (self.due(id).await, runs(&self.gateway, id).await.len());
        self.turn_to(due - Duration::from_millis(1)).await;
        assert_eq!(runs(&self.gateway, id).await.len(), before, "it is not due yet");
        self.turn_to(due).await;
        let after = runs(&self.gateway, id).await;
        assert_eq!(after.len(), before + 1, "it is due");
        assert_eq!(moment(after[0]["due_at"].as_str().unwrap()), due);
        due
    }
}

fn moment(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

/// Is the wait so long, give or take the spread, and what the run itself took?
#[track_caller]
fn assert_spread(wait: time::Duration, interval: Duration, slack: Duration) {
    let least = interval.mul_f64(1.0 - SPREAD);
    let most = interval.mul_f64(1.0 + SPREAD) + slack;
    assert!(wait >= least && wait <= most, "{wait} is not {interval:?}");
}

#[tokio::test]
async fn nothing_runs_while_the_clock_stands() {
    let scene = Scene::at("2026-06-01T12:00:00Z").await;
    let id = scene.job(json!({"interval_ms": 1_000})).await;
    for _ in 0..5 {
        scene.look().await;
    }
    assert_eq!((scene.api.asked("/x"), runs(&scene.gateway, &id).await.len()), (1, 1));
    assert_eq!(scene.api.asked("/bell"), 5, "the scheduler was awake");
    scene.run_when_due(&id).await;
}

#[tokio::test]
async fn a_job_runs_once_in_each_period_give_or_take_the_spread() {
    const PERIODS: usize = 8;
    let scene = Scene::at("2026-06-01T12:00:00Z").await;
    let id = scene.job(json!({"interval_ms": 60_000})).await;
    let mut times = vec![moment("2026-06-01T12:00:00Z")];
    for _ in 0..PERIODS {
        times.push(scene.run_when_due(&id).await);
    }
    let waits: Vec<time::Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for wait in &waits {
        assert_spread(*wait, MINUTE, Duration::ZERO);
    }
    assert!(waits.iter().any(|wait| *wait != waits[0]), "they differ: {waits:?}");
    assert_eq!(scene.api.asked("/x"), 1 + PERIODS as u64);
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_makes_one_run_and_one_that_goes_back_delays_none() {
    let scene = Scene::at("2026-06-01T12:00:00Z").await;
    let start = moment("2026-06-01T12:00:00Z");
    let id = scene.job(json!({"interval_ms": 60_000})).await;
    let begun = Instant::now();
    scene.turn_to(start + DAY).await;
    scene.look().await;
    assert_eq!(runs(&scene.gateway, &id).await.len(), 2, "one run, not one for each minute");
    assert_spread(scene.due(&id).await - (start + DAY), MINUTE, begun.elapsed());

    scene.clock.turn_to(start).await;
    let repaired = finished(&scene.gateway, &id, 2).await;
    assert_eq!(moment(repaired["started_at"].as_str().unwrap()), start);
    assert_spread(scene.due(&id).await - start, MINUTE, begun.elapsed());
    scene.look().await;
    scene.run_when_due(&id).await;
    assert!(scene.gateway.log().contains("the database's clock was set back"));
}

/// The lease on a run that is under way ends in the past of a clock that jumps, and in the far future of one that goes back.
/// The gateway knows better: the run is its own.
#[tokio::test]
async fn a_run_under_way_while_the_clock_jumps_writes_its_items_once() {
    let scene = Scene::at("2026-06-01T12:00:00Z").await;
    let start = moment("2026-06-01T12:00:00Z");
    let id = scene.job(json!({"interval_ms": 60_000, "key": ["/id"]})).await;
    for (round, to) in [(1, start + DAY), (2, start)] {
        let begun = Instant::now();
        scene.api.serve("/x", (0..=round).map(|id| json!({"id": id})).collect());
        scene.api.hold("/x", true);
        let asked = scene.api.asked("/x");
        scene.gateway.post(&format!("/v1/polling-jobs/{id}/run"), &json!({})).await.expect(202);
        eventually("it asks", async || (scene.api.asked("/x") > asked).then_some(())).await;
        scene.clock.turn_to(to).await;
        // The first look may be the one that notices, the second finds what is due then.
        for _ in 0..2 {
            make(&scene.gateway, &scene.api, "/bell", json!({})).await;
        }
        assert_eq!(scene.api.asked("/x"), asked + 1, "no other run follows");
        scene.api.hold("/x", false);
        let ended = finished(&scene.gateway, &id, 2 * round - 1).await;
        assert_eq!((&ended["status"], &ended["new"]), (&json!("success"), &json!(1)), "{ended}");
        // Once at once, because it is overdue or the clock is another; and then as ever.
        for _ in 0..2 {
            scene.look().await;
        }
        assert_eq!(runs(&scene.gateway, &id).await.len(), 1 + 2 * usize::try_from(round).unwrap());
        assert_spread(scene.due(&id).await - to, MINUTE, begun.elapsed());
    }
    assert_eq!(scene.gateway.rows("x").await, 3);
    assert!(scene.gateway.log().contains("the database's clock was set back"));
}

#[tokio::test]
async fn cron_goes_by_its_zone_when_the_clocks_there_are_changed() {
    for (start, cron, expected) in [
        // There is no 2:30 on that day.
        (
            "2026-03-28T01:00:00Z",
            "30 2 * * *",
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        // There are two; the first counts.
        (
            "2026-10-24T00:00:00Z",
            "30 2 * * *",
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        // Noon stays noon.
        (
            "2026-10-24T00:00:00Z",
            "0 12 * * *",
            ["2026-10-24T10:00:00Z", "2026-10-25T11:00:00Z", "2026-10-26T11:00:00Z"],
        ),
    ] {
        let scene = Scene::at(start).await;
        let body = json!({"url": scene.api.url("/x"), "cron": cron, "zone": "Europe/Berlin"});
        let job = scene.gateway.post("/v1/polling-jobs", &body).await.expect(201);
        let id = job["id"].as_str().unwrap();
        for due in expected {
            assert_eq!(scene.run_when_due(id).await, moment(due), "{cron}");
        }
    }
}

#[tokio::test]
async fn a_schedule_that_is_changed_counts_from_the_databases_now() {
    let scene = Scene::at("2030-06-01T12:00:00Z").await;
    let start = moment("2030-06-01T12:00:00Z");
    let id = scene.job(json!({})).await;
    let path = format!("/v1/polling-jobs/{id}");
    scene.gateway.patch(&path, &json!({"interval_ms": 60_000})).await.expect(200);
    assert_spread(scene.due(&id).await - start, MINUTE, Duration::ZERO);
    scene.gateway.patch(&path, &json!({"cron": "0 13 * * *"})).await.expect(200);
    assert_eq!(scene.due(&id).await, moment("2030-06-01T13:00:00Z"));
    scene.run_when_due(&id).await;
}

#[tokio::test]
async fn failures_leave_an_api_alone_for_longer_up_to_a_cap() {
    const FIRST: Duration = Duration::from_secs(2);
    const CAP: Duration = Duration::from_secs(15 * 60);
    const FAILURES: u32 = 12;
    let scene = Scene::at("2026-06-01T12:00:00Z").await;
    let id = scene.job(json!({"interval_ms": 1_000})).await;
    scene.api.serve("/rare", json!([]));
    let rare = make(&scene.gateway, &scene.api, "/rare", json!({"interval_ms": 3_600_000})).await;
    scene.api.fail("/x", 500, "oh no");
    for failures in 1..=FAILURES {
        let begun = Instant::now();
        let now = scene.run_when_due(&id).await;
        let path = format!("/v1/polling-jobs/{id}");
        let job = scene.gateway.get(&path).await.expect(200);
        assert_eq!(job["failures"], failures, "{job}");
        let wait = scene.due(&id).await - now;
        let expected = FIRST.saturating_mul(1 << (failures - 1)).min(CAP);
        let (least, most) = (expected.mul_f64(0.75), expected.mul_f64(1.25) + begun.elapsed());
        assert!(wait >= least && wait <= most, "{failures}: {wait}, not {expected:?}");
    }
    scene.api.serve("/x", json!([{"id": 2}]));
    let (begun, now) = (Instant::now(), scene.run_when_due(&id).await);
    assert_spread(scene.due(&id).await - now, Duration::from_secs(1), begun.elapsed());

    // What is longer than the wait stays as it is.
    scene.api.fail("/rare", 500, "oh no");
    let now = scene.run_when_due(&rare).await;
    assert_spread(scene.due(&rare).await - now, MINUTE * 60, Duration::ZERO);
}

#[tokio::test]
async fn retry_after_moves_the_next_run() {
    let scene = Scene::at("2026-06-01T12:00:00Z").await;
    let id = scene.job(json!({"interval_ms": 1_000})).await;
    // Dates are read by the gateway's clock, as the API's is the same.
    let now = Duration::from_micros(Clock::System.now().0.cast_unsigned());
    let in_ten_minutes = httpdate::fmt_http_date(UNIX_EPOCH + now + MINUTE * 10);
    let first_failure = Duration::from_millis(1_500)..Duration::from_millis(2_500);
    for (status, retry_after, wait) in [
        (429, "120", MINUTE * 2..MINUTE * 2),
        (503, "120", MINUTE * 2..MINUTE * 2),
        (429, &in_ten_minutes, MINUTE * 9..MINUTE * 10),
        (429, "99999999999999999999", DAY..DAY),
        (429, "Tue, 31 Dec 2999 23:59:59 GMT", DAY..DAY),
        // It asks for less than a failure costs anyway, or for nothing that can be understood.
        (429, "0", first_failure.clone()),
        (429, "Sat, 01 Jan 2000 00:00:00 GMT", first_failure.clone()),
        (429, "-5", first_failure.clone()),
        (429, "tomorrow", first_failure.clone()),
    ] {
        scene.api.fail_with("/x", Answer::text(status, "").header("retry-after", retry_after));
        let begun = Instant::now();
        let now = scene.run_when_due(&id).await;
        let found = scene.due(&id).await - now;
        assert!(
            found >= wait.start && found <= wait.end + begun.elapsed(),
            "{status} {retry_after}: {found}"
        );
        scene.api.serve("/x", json!([]));
        scene.run_when_due(&id).await;
    }
}

#[tokio::test]
async fn retry_after_shortens_no_interval() {
    let scene = Scene::at("2026-06-01T12:00:00Z").await;
    let id = scene.job(json!({"interval_ms": 3_600_000})).await;
    scene.api.fail_with("/x", Answer::text(429, "").header("retry-after", "5"));
    let now = scene.run_when_due(&id).await;
    assert_spread(scene.due(&id).await - now, MINUTE * 60, Duration::ZERO);
    scene.api.fail_with("/x", Answer::text(429, "").header("retry-after", "36000"));
    let (begun, now) = (Instant::now(), scene.run_when_due(&id).await);
    let wait = scene.due(&id).await - now;
    assert!(wait >= MINUTE * 600 && wait <= MINUTE * 600 + begun.elapsed(), "{wait}");
}
