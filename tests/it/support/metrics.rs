//! A reading of `/metrics`.

use std::collections::BTreeMap;

use reqwest::Method;

use super::client::Client;

/// Samples by their name with its labels, in the order in which they are written.
#[derive(Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub async fn read(client: &Client) -> Metrics {
        let response =
            client.request(Method::GET, "/metrics").send().await.expect("the gateway answers");
        let text = response.error_for_status().expect("200").text().await.expect("text");
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let read = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        Metrics(samples.map(read).collect())
    }

    /// The one sample of a metric without labels.
    pub fn of(&self, metric: &str) -> f64 {
        *self.0.get(metric).unwrap_or_else(|| panic!("there is no {metric}"))
    }

    /// The sum of all samples of a metric.
    pub fn total(&self, metric: &str) -> f64 {
        let wanted = |name: &str| {
            name.strip_prefix(metric)
                .is_some_and(|labels| labels.is_empty() || labels.starts_with('{'))
        };
        self.0.iter().filter(|(name, _)| wanted(name)).map(|(_, value)| value).sum()
    }

    /// The sum of all samples of a metric that have this label.
    pub fn sum(&self, metric: &str, label: &str, value: &str) -> f64 {
        let label = format!("{label}=\"{value}\"");
        let wanted = |name: &str| {
            name.strip_prefix(metric)
                .is_some_and(|labels| labels.starts_with('{') && labels.contains(&label))
        };
        self.0.iter().filter(|(name, _)| wanted(name)).map(|(_, value)| value).sum()
    }
}
