//! A real Prometheus with the project's own configuration, of which only the target and the pace are changed.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Child;

use crate::support::command::{Output, program, run, working_directory};
use crate::support::eventually;

/// What Prometheus logs with the address that it listens on.
const ADDRESS_PREFIX: &str = "msg=\"Listening on\" address=";
/// What the configuration says, and what the tests say instead, so that rates need no minute.
const REPLACED: [(&str, &str); 2] = [
    ("scrape_interval: 5s", "scrape_interval: 1s"),
    ("evaluation_interval: 15s", "evaluation_interval: 1s"),
];
/// The target that docker-compose.yml gives the gateway.
const TARGET: &str = "gateway:8000";

/// Where the configuration and the rules are.
pub fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/prometheus"))
}

/// Runs promtool in the directory of the configuration.
pub async fn promtool(arguments: &[&str]) -> Output {
    run(program("promtool", directory()).args(arguments)).await
}

/// Scrapes one gateway; ends with the test.
#[derive(Debug)]
pub struct Prometheus {
    _process: Child,
    http: reqwest::Client,
    base: String,
    _directory: TempDir,
}

impl Prometheus {
    pub async fn of(gateway_address: &str) -> Prometheus {
        let own = working_directory();
        let read = |name: &str| std::fs::read_to_string(directory().join(name)).expect("a file");
        let mut configuration = read("prometheus.yml");
        for (from, to) in REPLACED.into_iter().chain([(TARGET, gateway_address)]) {
            assert!(configuration.contains(from), "{from} in {configuration}");
            configuration = configuration.replace(from, to);
        }
        std::fs::write(own.path().join("prometheus.yml"), configuration).expect("it is written");
        std::fs::write(own.path().join("alerts.yml"), read("alerts.yml")).expect("it is written");
        let log = own.path().join("prometheus.log");
        let process = program("prometheus", own.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("Prometheus is installed: scripts/install-test-needs.sh");
        let address = eventually("Prometheus listens", async || {
            let text = std::fs::read_to_string(&log).expect("the log");
            let line = text.lines().find_map(|line| line.split_once(ADDRESS_PREFIX));
            line.map(|(_, address)| address.trim().to_owned())
        });
        let base = format!("http://{}", address.await);
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        eventually("Prometheus is ready", async || {
            let reply = http.get(format!("{base}/-/ready")).send().await.ok()?;
            reply.status().is_success().then_some(())
        })
        .await;
        Prometheus { _process: process, http, base, _directory: own }
    }

    /// What one of its endpoints answers; fails if it is an error, which names what is wrong with an expression.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/{path}", self.base), query);
        let reply = self.http.get(url.expect("a URL")).send().await.expect("it answers");
        let reply: Value = reply.json().await.expect("JSON");
        assert_eq!(reply["status"], "success", "{path} {query:?}: {reply}");
        reply["data"].clone()
    }

    /// The numbers that an expression gives now; none that is not finite.
    pub async fn numbers(&self, expression: &str) -> Vec<f64> {
        let data = self.get("query", &[("query", expression)]).await;
        let samples = data["result"].as_array().expect("a vector").iter();
        let numbers = samples.map(|sample| {
            let text = sample["value"][1].as_str().expect("Prometheus writes numbers as text");
            text.parse::<f64>().expect("a number")
        });
        numbers.filter(|number| number.is_finite()).collect()
    }

    /// All rules as Prometheus has evaluated them.
    pub async fn rules(&self) -> Vec<Value> {
        let data = self.get("rules", &[]).await;
        data["groups"]
            .as_array()
            .expect("groups of rules")
            .iter()
            .flat_map(|group| group["rules"].as_array().expect("rules").clone())
            .collect()
    }
}
