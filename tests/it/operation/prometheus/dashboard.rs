//! Grafana's dashboard as a file: its panels, and the expressions in them as Grafana would ask them.

use std::path::Path;

use serde_json::Value;

/// What Grafana puts in the place of its variables when all gateways and streams are chosen.
const VARIABLES: [(&str, &str); 3] =
    [("$instance", ".*"), ("$stream", ".*"), ("$__rate_interval", "15s")];

/// A file of `dashboards/grafana`.
pub fn file(name: &str) -> String {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/grafana"));
    std::fs::read_to_string(directory.join(name)).expect("the file is there")
}

/// The dashboard.
#[derive(Debug)]
pub struct Dashboard(Value);

impl Dashboard {
    pub fn read() -> Dashboard {
        Dashboard(serde_json::from_str(&file("tidegate.json")).expect("JSON"))
    }

    pub fn panels(&self) -> impl Iterator<Item = &Value> {
        self.0["panels"].as_array().expect("panels").iter()
    }

    /// Every expression with its panel's title, ready to be asked.
    pub fn expressions(&self) -> Vec<(String, String)> {
        let of_panel = |panel: &Value| {
            let title = text(&panel["title"]);
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            targets.iter().map(move |target| (title.clone(), filled(&target["expr"]))).collect()
        };
        self.panels().flat_map(|panel| -> Vec<_> { of_panel(panel) }).collect()
    }

    /// The expressions of the annotations that come from Prometheus.
    pub fn annotations(&self) -> Vec<String> {
        let list = self.0["annotations"]["list"].as_array().expect("annotations").iter();
        list.filter(|annotation| annotation["builtIn"] != 1)
            .map(|annotation| filled(&annotation["expr"]))
            .collect()
    }

    /// The variables as the label and the metric that their values come from.
    pub fn variables(&self) -> Vec<(String, String)> {
        let list = self.0["templating"]["list"].as_array().expect("variables").iter();
        let query = |variable: &Value| {
            let query = text(&variable["query"]["query"]);
            let inside = query.strip_prefix("label_values(").and_then(|it| it.strip_suffix(')'));
            let (metric, label) = inside.and_then(|it| it.split_once(", ")).expect("label_values");
            (label.to_owned(), metric.to_owned())
        };
        list.map(query).collect()
    }

    /// The data sources that anything in it asks.
    pub fn sources(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect_sources(&self.0, &mut found);
        found
    }
}

fn collect_sources(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(uid) = members.get("datasource").map(|source| text(&source["uid"])) {
                found.push(uid);
            }
            members.values().for_each(|member| collect_sources(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_sources(item, found)),
        _ => {}
    }
}

fn filled(expression: &Value) -> String {
    VARIABLES.iter().fold(text(expression), |text, (name, value)| text.replace(name, value))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
