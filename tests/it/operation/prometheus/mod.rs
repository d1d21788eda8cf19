//! A real Prometheus against the real gateway: the target is up, and what the dashboard and the alerts ask has answers.

mod dashboard;
mod server;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::dashboard::{Dashboard, file};
use self::server::{Prometheus, promtool};
use crate::operation::metrics::known;
use crate::support::people::{Token, add_user};
use crate::support::watcher::Watcher;
use crate::support::{Client, Gateway, eventually};

/// What Prometheus says itself, beside the gateway's own metrics.
const UP: &str = "up";

/// Sends what every metric counts something of, for as long as the tasks live: good, doubled, invalid, repeated and
/// refused records, to documents and to a keyed stream. A polling job asks the gateway itself how it is.
async fn flow(gateway: &Gateway) -> JoinSet<()> {
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "keyed", "columns": columns, "key": ["n"]})).await;
    gateway.create_stream(&json!({"name": "plain"})).await;
    let changing = json!({"name": "changing", "key": ["/n"], "on_duplicate": "replace"});
    gateway.create_stream(&changing).await;
    add_user(gateway, "ada", "member").await;
    let health = format!("http://{}/healthz", gateway.address());
    let job = json!({"userId": "7", "apiEndpoint": health, "pollingInterval": 1_000});
    gateway.post("/polling-jobs", &job).await.expect(201);
    let rate = json!({"records_per_second": 1});
    let token = Token::of(gateway, "ada", &["ingest"], rate).await;
    let limited = gateway.with_token(&token.text);
    let mut tasks = JoinSet::new();
    tasks.spawn(keyed_records((**gateway).clone()));
    tasks.spawn(plain_records((**gateway).clone()));
    tasks.spawn(async move {
        loop {
            // 202 now and then, else 429.
            limited.records("plain").json(&json!([{}, {}, {}])).send().await;
        }
    });
    tasks
}

/// New keys go straight into the table, keys that are taken through staging; some records are invalid, and some changes in vain.
async fn keyed_records(client: Client) {
    for round in 0.. {
        let records = json!([{"n": round}, {"n": round + 1}, {"n": "none"}]);
        client.records("keyed").json(&records).query("ack", "commit").send().await.expect(201);
        let taken = json!([{"n": 0}]);
        client.records("keyed").json(&taken).query("ack", "commit").send().await.expect(201);
        client.delete("/v1/streams/changing/by-key/1").await.problem(404, "no_such_record");
    }
}

/// Everything is sent twice with the same key; a monitor that takes samples misses most of it.
async fn plain_records(client: Client) {
    for round in 0.. {
        let key = format!("round {round}");
        for _ in 0..2 {
            let lines = "{\"n\":1}\n".repeat(20);
            client.records("plain").ndjson(lines).key(&key).send().await.expect(202);
        }
    }
}

/// Ends the writers' connections, which they count as an error and recover from.
async fn disturb(gateway: &Gateway) {
    let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and application_name = 'tidegate'";
    assert!(gateway.scalar::<i64>(sql).await > 0);
}

/// The names of the gateway's metrics in an expression, without the endings that histograms add.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = expression.split(|letter| !is_part(letter));
    let names = words.filter(|word| word.starts_with("tidegate_") || *word == UP);
    names
        .map(|name| name.trim_end_matches("_bucket").trim_end_matches("_count").to_owned())
        .collect()
}

#[tokio::test]
async fn the_target_is_up_and_every_expression_has_an_answer_while_records_flow() {
    let mut gateway =
        Gateway::with(&["--monitor-sample-rate=1", "--allow-networks=127.0.0.0/8"]).await;
    let mut flow = flow(&gateway).await;
    let _monitor = Watcher::local(&gateway, "mode=sample").await;
    let prometheus = Prometheus::of(gateway.address()).await;
    eventually("the target is up", async || {
        let data = prometheus.get("targets", &[]).await;
        let target = &data["activeTargets"][0];
        (target["health"] == "up" && target["labels"]["job"] == "tidegate").then_some(())
    })
    .await;

    let dashboard = Dashboard::read();
    for expression in dashboard.annotations() {
        // A start is shown for as long as there was no gateway a minute ago.
        shows(&prometheus, "a start", &expression).await;
    }
    disturb(&gateway).await;
    for (title, expression) in dashboard.expressions() {
        shows(&prometheus, &title, &expression).await;
    }
    for (label, metric) in dashboard.variables() {
        let values =
            prometheus.get(&format!("label/{label}/values"), &[("match[]", &metric)]).await;
        assert!(!values.as_array().unwrap().is_empty(), "{label} of {metric}");
    }
    every_alert_is_evaluated(&prometheus).await;

    assert!(flow.try_join_next().is_none(), "everything that was sent was answered as it must be");
    flow.shutdown().await;
    gateway.kill9().await;
    eventually("Prometheus misses the gateway", async || {
        let rules = prometheus.rules().await;
        let down = rules.iter().find(|rule| rule["name"] == "TidegateDown").expect("the alert");
        (down["state"] != "inactive").then_some(())
    })
    .await;
}

async fn shows(prometheus: &Prometheus, title: &str, expression: &str) {
    eventually(&format!("{title} shows something: {expression}"), async || {
        (!prometheus.numbers(expression).await.is_empty()).then_some(())
    })
    .await;
}

/// Without an error, over metrics that are there.
async fn every_alert_is_evaluated(prometheus: &Prometheus) {
    let rules = eventually("all rules were evaluated", async || {
        let rules = prometheus.rules().await;
        let evaluated = |rule: &Value| rule["health"] != "unknown";
        (!rules.is_empty() && rules.iter().all(evaluated)).then_some(rules)
    })
    .await;
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        let expression = rule["query"].as_str().unwrap();
        let metrics = metrics_in(expression);
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            let series = format!("{{__name__=~\"{metric}(_count)?\"}}");
            assert!(!prometheus.numbers(&series).await.is_empty(), "{metric} of {expression}");
        }
    }
}

#[tokio::test]
async fn promtool_takes_the_configuration_and_the_rules() {
    promtool(&["check", "config", "prometheus.yml"]).await.printed();
}

#[tokio::test]
async fn every_alert_fires_when_it_should_and_not_before() {
    let read = |name: &str| std::fs::read_to_string(server::directory().join(name)).unwrap();
    let (rules, cases) = (read("alerts.yml"), read("alerts_test.yml"));
    let cases = cases.split_whitespace().collect::<Vec<&str>>().join(" ");
    let names: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        for expected in ["[]", "[{ labels: '{}', value: 1 }]"] {
            let firing = format!("sum(ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}})");
            let case = format!("expr: {firing} exp_samples: {expected}");
            assert!(cases.contains(&case), "alerts_test.yml has no {case}");
        }
    }
    promtool(&["test", "rules", "alerts_test.yml"]).await.printed();
}

#[test]
fn every_metric_has_a_panel() {
    let dashboard = Dashboard::read();
    let expressions = dashboard.expressions().into_iter().map(|(_, expression)| expression);
    let all = expressions.chain(dashboard.annotations());
    let shown: BTreeSet<String> = all.flat_map(|expression| metrics_in(&expression)).collect();
    let known: BTreeSet<String> = known().into_iter().map(str::to_owned).collect();
    assert_eq!(shown, known, "what the dashboard shows, what the code names");
}

#[test]
fn panels_have_their_own_place_and_number() {
    let dashboard = Dashboard::read();
    let mut numbers = BTreeSet::new();
    let mut places = BTreeSet::new();
    for panel in dashboard.panels() {
        assert!(
            numbers.insert(panel["id"].as_u64().unwrap()),
            "{} has a number twice",
            panel["title"]
        );
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{} is too wide", panel["title"]);
        for (x, y) in (at("x")..at("x") + at("w"))
            .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(places.insert((x, y)), "{} lies over another", panel["title"]);
        }
    }
}

#[test]
fn grafana_and_compose_find_what_they_name() {
    let sources = file("provisioning/datasources/prometheus.yml");
    for uid in Dashboard::read().sources() {
        assert!(sources.contains(&format!("uid: {uid}")) || uid == "-- Grafana --", "{uid}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compose = std::fs::read_to_string(root.join("docker-compose.yml")).unwrap();
    let mounts = compose.lines().filter_map(|line| line.trim().strip_prefix("- ./"));
    let mounts: Vec<&str> = mounts.filter_map(|mount| mount.split(':').next()).collect();
    assert!(mounts.len() >= 3, "{mounts:?}");
    for mount in mounts {
        assert!(root.join(mount).exists(), "{mount}");
    }
    // The provider looks where the dashboard is mounted, and the data source where Prometheus listens.
    let provider = file("provisioning/dashboards/tidegate.yml");
    let path = provider.lines().find_map(|line| line.trim().strip_prefix("path: ")).unwrap();
    assert!(compose.contains(&format!("tidegate.json:{path}/tidegate.json:ro")), "{path}");
    assert!(sources.contains("url: http://prometheus:9090"), "{sources}");
}
