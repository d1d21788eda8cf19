//! What the gateway tells of itself: every metric moves with what it counts, names and labels are sound, and health is
//! told truthfully.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::polling::jobs;
use crate::support::command::{program, run_with_input};
use crate::support::watcher::Watcher;
use crate::support::{ALLOW_LOOPBACK, Gateway, ItemsApi, OwnCluster, Stall, eventually};

/// Where all names are.
const SOURCE: &str = include_str!("../../../src/telemetry/metrics/mod.rs");
/// Metrics of what should not happen: they appear with the first time that it does.
const OF_TROUBLE: [&str; 2] = ["tidegate_intake_refused_total", "tidegate_writer_errors_total"];

/// A reading of `/metrics`, with the text itself.
#[derive(Debug)]
struct Page {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Page {
    async fn read(gateway: &Gateway) -> Page {
        // No authentication: a scraper needs none.
        let response = reqwest::get(format!("http://{}/metrics", gateway.address())).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let text = response.error_for_status().unwrap().text().await.unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        let samples = lines.map(sample).collect();
        Page { text, samples }
    }

    /// The one sample of this name, with the labels in the order in which they are written.
    #[track_caller]
    fn of(&self, name: &str) -> f64 {
        *self.samples.get(name).unwrap_or_else(|| panic!("{name} in {:#?}", self.samples.keys()))
    }

    /// The one sample of this name, a whole number.
    #[track_caller]
    fn count(&self, name: &str) -> u64 {
        whole(self.of(name))
    }

    /// The sum of all samples of this name whose labels are among these, a whole number.
    #[track_caller]
    fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let wanted = |(key, _): &(&String, &f64)| {
            key.strip_prefix(name).is_some_and(|rest| {
                (rest.is_empty() || rest.starts_with('{'))
                    && labels.iter().all(|label| rest.contains(label))
            })
        };
        whole(self.samples.iter().filter(wanted).map(|(_, value)| value).sum())
    }

    /// Names of the metrics that have a type, that is: at least one sample.
    fn families(&self) -> BTreeSet<&str> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect()
    }
}

#[track_caller]
fn whole(value: f64) -> u64 {
    assert!(value >= 0.0 && value.fract() == 0.0, "{value} is no count");
    // The sum of nothing is -0.
    format!("{}", value.abs()).parse().unwrap()
}

/// Names in the code.
pub fn known() -> BTreeSet<&'static str> {
    SOURCE
        .split('"')
        .filter(|text| text.starts_with("tidegate_") && !text.contains(char::is_whitespace))
        .collect()
}

/// Sends what every metric but those of trouble counts something of, and waits until it is committed.
async fn traffic(gateway: &Gateway) {
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "keyed", "columns": columns, "key": ["n"]})).await;
    gateway.create_stream(&json!({"name": "plain"})).await;
    for _ in 0..3 {
        gateway.commit("keyed", &json!([{"n": 1}, {"n": 2}])).await;
    }
    gateway
        .records("keyed")
        .json(&json!([{"n": 3}, {"n": "x"}, {"n": "y"}]))
        .send()
        .await
        .expect(202);
    for n in 0..4 {
        gateway.records("plain").json(&json!({"n": n})).send().await.expect(202);
    }
    gateway.records("plain").body("application/json", "[1]").send().await.expect(202);
    gateway.wait_all_committed().await;
}

#[tokio::test]
async fn records_are_counted_by_stream_and_source() {
    let gateway = Gateway::start().await;
    let before = Page::read(&gateway).await;
    assert_eq!(before.sum("tidegate_records_accepted_total", &[]), 0);
    traffic(&gateway).await;
    let page = Page::read(&gateway).await;
    for (stream, accepted, committed, duplicates, quarantined) in
        [("keyed", 7, 3, 4, 2), ("plain", 4, 4, 0, 1)]
    {
        let of = |metric: &str| {
            page.count(&format!("tidegate_records_{metric}_total{{stream=\"{stream}\"}}"))
        };
        assert_eq!((of("committed"), of("duplicate")), (committed, duplicates), "{stream}");
        let by_source = |metric: &str| {
            let labels = [format!("stream=\"{stream}\""), "source=\"http\"".to_owned()];
            page.sum(&format!("tidegate_{metric}_total"), &[&labels[0], &labels[1]])
        };
        assert_eq!(by_source("records_accepted"), accepted, "{stream}");
        assert_eq!(by_source("records_quarantined"), quarantined, "{stream}");
        let bytes = gateway.total(stream, "bytes").await;
        assert!(bytes > 0);
        assert_eq!(by_source("bytes_accepted"), bytes, "{stream}");
    }
    let answered = |status: &str| {
        let labels = [
            "method=\"POST\"",
            "route=\"/v1/streams/{stream}/records\"",
            &format!("status=\"{status}\""),
        ];
        page.sum("tidegate_http_request_duration_seconds_count", &labels)
    };
    assert_eq!((answered("201"), answered("202")), (3, 6));
}

#[tokio::test]
async fn the_journal_the_writers_and_the_limits_are_told() {
    let gateway = Gateway::with(&[
        "--journal-bytes-max=100000000",
        "--intake-bytes-max=5000000",
        "--entry-bytes-max=1000000",
        "--intake-entries-max=77",
    ])
    .await;
    let _watcher = Watcher::local(&gateway, "").await;
    traffic(&gateway).await;
    let page = Page::read(&gateway).await;
    // Nine requests, of which one made an entry of records and another of what was invalid.
    assert_eq!(page.count("tidegate_journal_group_entries_sum"), 10);
    let groups = page.count("tidegate_journal_group_entries_count");
    assert!((1..=10).contains(&groups), "{groups}");
    assert_eq!(page.count("tidegate_journal_fsync_duration_seconds_count"), groups);
    assert!(page.of("tidegate_journal_fsync_duration_seconds_sum") > 0.0);
    assert_eq!(page.count("tidegate_batch_rows_sum"), 7 + 2 + 4 + 1);
    let batches = page.count("tidegate_batch_rows_count");
    assert!((4..=10).contains(&batches), "{batches}");
    assert_eq!(page.count("tidegate_batch_duration_seconds_count"), batches);
    assert!(page.count("tidegate_copy_duration_seconds_count") >= batches);
    assert_eq!(page.count("tidegate_writer_sessions_total"), 1);

    for idle in ["journal_backlog_bytes", "commit_lag_seconds", "intake_entries", "intake_bytes"] {
        assert_eq!(page.count(&format!("tidegate_{idle}")), 0, "{idle}");
    }
    assert!(page.count("tidegate_journal_bytes") > 0);
    assert_eq!(page.count("tidegate_journal_bytes_limit"), 100_000_000);
    assert_eq!(page.count("tidegate_intake_entries_limit"), 77);
    assert_eq!(page.count("tidegate_intake_bytes_limit"), 5_000_000);
    assert!(page.count("tidegate_connections") >= 2, "the monitor and this request");
    assert_eq!(page.count("tidegate_ready"), 1);
    let build = format!("tidegate_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(page.count(&build), 1);
}

#[tokio::test]
async fn what_monitors_get_and_miss_is_counted() {
    let gateway = Gateway::with(&["--monitor-sample-rate=1"]).await;
    let mut full = Watcher::local(&gateway, "").await;
    traffic(&gateway).await;
    full.until("all records", |it| {
        it.records("keyed").len() == 7 && it.records("plain").len() == 4
    })
    .await;
    let page = Page::read(&gateway).await;
    assert_eq!(page.count("tidegate_monitors"), 1);
    let frames = u64::try_from(full.of_type("records").count()).unwrap();
    assert_eq!(page.count("tidegate_monitor_frames_total"), frames);
    assert_eq!(page.count("tidegate_monitor_deliveries_total"), 11);
    assert_eq!(page.count("tidegate_monitor_gaps_total"), 0);
    assert_eq!(page.count("tidegate_monitor_gap_records_total"), 0);

    let mut sample = Watcher::local(&gateway, "mode=sample").await;
    gateway.records("plain").ndjson("{\"n\":1}\n".repeat(500)).send().await.expect(202);
    sample
        .until("all is told", |it| it.records("plain").len() as u64 + it.missed("plain") == 500)
        .await;
    full.until("all is seen", |it| it.records("plain").len() == 504).await;
    let page = Page::read(&gateway).await;
    assert_eq!(page.count("tidegate_monitors"), 2);
    let (gaps, missed) = (sample.of_type("gap").count(), sample.missed("plain"));
    assert_eq!(page.count("tidegate_monitor_gaps_total"), u64::try_from(gaps).unwrap());
    assert_eq!(page.count("tidegate_monitor_gap_records_total"), missed);
    assert_eq!(page.count("tidegate_monitor_deliveries_total"), 511 + 500 - missed);

    drop((full, sample));
    eventually("no monitor watches", async || {
        let page = Page::read(&gateway).await;
        let connections = page.count("tidegate_connections");
        (page.count("tidegate_monitors") == 0 && connections < 4).then_some(())
    })
    .await;
}

#[tokio::test]
async fn promtool_finds_nothing_and_every_name_is_there() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    traffic(&gateway).await;
    jobs::make(&gateway, &api, "/polled", json!({})).await;
    eventually("the run is counted", async || {
        let page = Page::read(&gateway).await;
        page.text.contains("tidegate_polling_items_total").then_some(())
    })
    .await;
    gateway.get("/nowhere").await.expect(404);
    let changing = json!({"name": "changing", "key": ["/n"], "on_duplicate": "replace"});
    gateway.create_stream(&changing).await;
    gateway.delete("/v1/streams/changing/by-key/1").await.problem(404, "no_such_record");
    let page = Page::read(&gateway).await;
    let directory = tempfile::tempdir().unwrap();
    let mut promtool = program("promtool", directory.path());
    let output = run_with_input(promtool.args(["check", "metrics"]), &page.text).await;
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));

    let families = page.families();
    let mut expected = known();
    assert!(expected.len() > 25, "{expected:?}");
    for name in OF_TROUBLE {
        assert!(expected.remove(name), "{name} is a metric");
    }
    assert_eq!(families, expected, "what the code names, what is there");
    for name in families {
        assert!(page.text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}

#[tokio::test]
async fn labels_stay_few_whatever_is_asked() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "known"})).await;
    for n in 0..30 {
        gateway.get(&format!("/secret{n}/path?{n}")).await.expect(404);
        gateway.get(&format!("/v1/streams/unknown{n}")).await.expect(404);
        gateway.records(&format!("Unknown{n}")).json(&json!({})).send().await.expect(422);
        gateway.get(&format!("/v1/monitor/events?streams=unknown{n}")).await.expect(404);
        let method = Method::from_bytes(format!("BREW{n}").as_bytes()).unwrap();
        gateway.request(method, "/v1/streams").send().await.unwrap();
    }
    gateway.commit("known", &json!({"n": 1})).await;
    let page = Page::read(&gateway).await;
    for word in ["secret", "nknown", "BREW"] {
        assert!(!page.text.contains(word), "{word} became a label");
    }
    let requests = "tidegate_http_request_duration_seconds_count";
    assert_eq!(page.sum(requests, &["route=\"other\"", "status=\"404\""]), 30);
    assert_eq!(page.sum(requests, &["method=\"other\"", "status=\"405\""]), 30);
    assert_eq!(page.sum(requests, &["route=\"/v1/streams/{stream}\"", "status=\"404\""]), 30);
    assert_eq!(page.sum(requests, &["route=\"/v1/monitor/events\"", "status=\"404\""]), 30);
}

#[tokio::test]
async fn a_stream_that_is_gone_takes_its_labels_along() {
    let gateway = Gateway::start().await;
    let accepted = "tidegate_records_accepted_total{stream=\"brief\",source=\"http\"}";
    gateway.create_stream(&json!({"name": "brief"})).await;
    gateway.commit("brief", &json!([{}, {}, {}, {}, {}])).await;
    assert_eq!(Page::read(&gateway).await.count(accepted), 5);
    gateway.delete("/v1/streams/brief").await.expect(204);
    let page = Page::read(&gateway).await;
    assert_eq!(
        page.sum("tidegate_records_accepted_total", &["stream=\"brief\""]),
        0,
        "labels stay as few as streams"
    );
}

#[tokio::test]
async fn a_stream_that_is_made_again_is_counted_again() {
    let gateway = Gateway::start().await;
    for records in [json!([{}, {}, {}, {}, {}]), json!([{}, {}])] {
        gateway.create_stream(&json!({"name": "again"})).await;
        let before = Page::read(&gateway).await.sum("tidegate_records_accepted_total", &[]);
        gateway.commit("again", &records).await;
        let after = Page::read(&gateway).await.sum("tidegate_records_accepted_total", &[]);
        let sent = u64::try_from(records.as_array().unwrap().len()).unwrap();
        // It goes on, or begins anew as after a restart; both are what Prometheus understands.
        assert!(
            after == before + sent || after == sent,
            "{before}, then {sent} more, then {after}"
        );
        gateway.delete("/v1/streams/again").await.expect(204);
    }
}

#[tokio::test]
async fn refused_records_are_counted_by_their_reason() {
    let gateway =
        Gateway::with(&["--journal-bytes-max=2097152", "--journal-segment-bytes=1048576"]).await;
    gateway.create_stream(&json!({"name": "full"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let record = json!({"text": "x".repeat(100_000)});
    let mut refused = 0;
    while refused < 3 {
        let reply = gateway.records("full").json(&record).send().await;
        if reply.status != 202 {
            reply.problem(503, "journal_full");
            refused += 1;
        }
    }
    let page = Page::read(&gateway).await;
    assert_eq!(page.count("tidegate_intake_refused_total{reason=\"journal_full\"}"), 3);
    assert!(page.of("tidegate_journal_backlog_bytes") > 500_000.0);
    assert!(page.of("tidegate_commit_lag_seconds") > 0.0);
    assert!(page.of("tidegate_journal_bytes") <= 2_097_152.0);
    stall.release().await;
    gateway.wait_all_committed().await;
    assert_eq!(Page::read(&gateway).await.count("tidegate_journal_backlog_bytes"), 0);
}

#[tokio::test]
async fn health_and_readiness_tell_the_truth_about_postgresql() {
    let mut cluster = OwnCluster::start().await;
    let gateway = Gateway::on(cluster.url(), &[]).await;
    gateway.create_stream(&json!({"name": "steady"})).await;
    assert_eq!(gateway.get("/healthz").await.expect(200), json!({"status": "ok"}));
    assert_eq!(gateway.get("/readyz").await.expect(200), json!({"ready": true}));

    cluster.stop().await;
    gateway.records("steady").json(&json!({"n": 1})).send().await.expect(202);
    let unready = eventually("it notices", async || {
        let reply = gateway.get("/readyz").await;
        (reply.status != 200).then(|| reply.expect(503))
    })
    .await;
    assert_eq!(unready["ready"], false);
    let reasons = unready["missing"].as_array().unwrap();
    assert!(
        matches!(reasons.as_slice(), [Value::String(reason)] if reason.contains("PostgreSQL")),
        "{unready}"
    );
    assert!(
        !unready.to_string().contains('/') || !unready.to_string().contains(".s.PGSQL"),
        "no place of the database"
    );
    assert_eq!(
        gateway.get("/healthz").await.expect(200),
        json!({"status": "ok"}),
        "alive and not ready"
    );
    let page = Page::read(&gateway).await;
    assert_eq!(page.count("tidegate_ready"), 0);
    assert!(page.sum("tidegate_writer_errors_total", &["class="]) >= 1);
    assert!(
        page.of("tidegate_journal_backlog_bytes") > 0.0
            && page.of("tidegate_commit_lag_seconds") > 0.0
    );
    let status = gateway.get("/v1/status").await.expect(200);
    assert_eq!(
        (&status["ready"], &status["database"]["reachable"]),
        (&json!(false), &json!(false))
    );
    assert!(
        status["database"]["last_error"].as_str().is_some_and(|reason| !reason.is_empty()),
        "{status}"
    );
    assert!(status["commit_lag_seconds"].as_f64().unwrap() > 0.0);

    cluster.start_again().await;
    eventually("it is ready again", async || {
        (gateway.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    gateway.wait_all_committed().await;
    let page = Page::read(&gateway).await;
    assert_eq!(
        (page.count("tidegate_ready"), page.count("tidegate_writer_sessions_total")),
        (1, 2)
    );
    assert_eq!(
        (page.count("tidegate_journal_backlog_bytes"), page.count("tidegate_commit_lag_seconds")),
        (0, 0)
    );
    let status = gateway.get("/v1/status").await.expect(200);
    assert_eq!((&status["ready"], &status["database"]["reachable"]), (&json!(true), &json!(true)));
}
