//! Every route against every kind of caller.
//!
//! The routes come from the router's own list, so one that was forgotten has no row in [`table`] and fails. Before
//! there was this table, what each kind of caller is answered was tried by hand, route by route, as it came to mind.

mod callers;
mod requests;
mod table;
mod unread;

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::json;
use tidegate::api::router::routes;

use self::callers::Callers;
use self::requests::{Things, UPGRADE, reply, status};
use self::table::Row;
use crate::support::Gateway;
use crate::support::people::Outsider;

/// Jobs are made and never run.
const FLAGS: [&str; 1] = ["--polling-runs-max=0"];

/// The methods of each path, as the router has them.
fn methods() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut methods: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for route in routes() {
        let of_path = methods.entry(route.path).or_default();
        assert!(of_path.insert(route.method.to_string()), "{} {}", route.method, route.path);
    }
    methods
}

#[test]
fn every_route_has_its_row_and_every_row_its_route() {
    let routed: BTreeSet<_> =
        routes().iter().map(|route| (route.path, route.method.to_string())).collect();
    let (_, rows) = table::read();
    let written: BTreeSet<_> = rows.iter().map(|row| (row.path, row.method.to_string())).collect();
    let without_row: Vec<_> = routed.difference(&written).collect();
    let without_route: Vec<_> = written.difference(&routed).collect();
    assert!(without_row.is_empty(), "say in the table who is answered what: {without_row:?}");
    assert!(without_route.is_empty(), "the router has no such route: {without_route:?}");
}

#[tokio::test]
async fn every_kind_of_caller_is_answered_as_the_table_says() {
    let gateway = Gateway::with(&FLAGS).await;
    let mut things = Things::prepare(&gateway).await;
    let callers = Callers::prepare(&gateway).await;
    let (kinds, mut rows) = table::read();
    // It ends the sessions that the others come with.
    rows.sort_by_key(|row| row.method == Method::DELETE && row.path == "/v1/sessions");
    let mut otherwise = Vec::new();
    for row in &rows {
        let mut found = Vec::new();
        for kind in &kinds {
            let who = callers.credential(&gateway, kind).await;
            let wanted = things.wanted(&gateway, &callers, row).await;
            let mut request = callers.request(&who, &row.method, &wanted.path);
            for (name, value) in wanted.headers {
                request = request.header(*name, *value);
            }
            if let Some(body) = &wanted.body {
                request = request.json(body);
            }
            found.push(status(request).await);
        }
        if found != row.statuses {
            otherwise.push(format!("said:  {}", row.with(&row.statuses)));
            otherwise.push(format!("found: {}", row.with(&found)));
        }
    }
    assert!(otherwise.is_empty(), "for {kinds:?}\n{}", otherwise.join("\n"));
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_are_taken_and_head_is_as_get() {
    let gateway = Gateway::with(&FLAGS).await;
    let mut things = Things::prepare(&gateway).await;
    let callers = Callers::prepare(&gateway).await;
    let outsider = Outsider::of(&gateway);
    let (_, rows) = table::read();
    for (path, mut taken) in methods() {
        let row = rows.iter().find(|row| row.path == path).expect("each route has a row");
        let wanted = things.wanted(&gateway, &callers, row).await;
        for method in ["PUT", "OPTIONS", "TRACE", "BREW"] {
            if taken.contains(method) {
                continue;
            }
            let method: Method = method.parse().expect("a word");
            let refused = reply(outsider.request(method, &wanted.path)).await;
            let allow = refused.headers.get("allow").expect("it says what is taken").to_str();
            let allowed: BTreeSet<String> =
                allow.expect("text").split(',').map(|method| method.trim().to_owned()).collect();
            refused.problem(405, "method_not_allowed");
            if taken.contains("GET") {
                taken.insert("HEAD".to_owned());
            }
            assert_eq!(allowed, taken, "{path}");
        }
    }
    for row in rows.iter().filter(|row| row.method == Method::GET) {
        let wanted = things.wanted(&gateway, &callers, row).await;
        let ask = async |method| {
            let answer = gateway.request(method, &wanted.path).send().await.expect("an answer");
            (answer.status(), answer.headers().get("content-type").cloned())
        };
        assert_eq!(ask(Method::HEAD).await, ask(Method::GET).await, "{}", row.path);
    }
    // Only a GET becomes a WebSocket.
    let mut request = gateway.request(Method::HEAD, "/v1/monitor?streams=open");
    for (name, value) in UPGRADE {
        request = request.header(name, value);
    }
    assert_eq!(status(request).await, 400);
    gateway.records("open").json(&json!({"n": 1})).send().await.expect(202);
}

/// Rows whose requests have a body, each once. What a caller needs to make a token or to change a user is in the body
/// itself.
fn with_body() -> Vec<Row> {
    let (_, rows) = table::read();
    let takes_body = |row: &Row| row.method == Method::POST || row.method == Method::PATCH;
    let says_itself = |row: &Row| ["/v1/tokens", "/v1/users/{id}"].contains(&row.path);
    let is_wanted = |row: &Row| takes_body(row) && row.of != Some("another's") && !says_itself(row);
    rows.into_iter().filter(is_wanted).collect()
}
