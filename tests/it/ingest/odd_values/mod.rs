//! Odd values in everything that a caller can choose: each parameter of a query, part of a path, header, and string or number
//! of a JSON body. Whatever they are, the answer is no failure of the gateway's, and what is good goes on.
//!
//! Before, `GET /v1/quarantine?code=%00` was a 500, because PostgreSQL keeps no NUL, and a time beyond the year 9999 in UTC
//! (`9999-12-31T23:59:59-23:59`) had the handler panic.

mod records;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tidegate::api::router::{Route, routes};
use uuid::Uuid;

use crate::support::people::{PASSWORD, add_user};
use crate::support::{Client, Gateway};

/// In the place of a number that is another in each request, so that names stay free.
const FRESH: &str = "{fresh}";
/// In the place of a part of a path that is to be odd.
const ODD: &str = "{odd}";

/// Texts that are nothing of what is asked for, or only look like it.
const TEXTS: [&str; 20] = [
    "\0",
    "a\0b",
    "",
    " ",
    "\n",
    "\u{7f}",
    "\u{202e}",
    "\u{fffd}",
    "\u{10ffff}",
    "'\"\\;--",
    "%00",
    "\\u0000",
    "-1",
    "9223372036854775808",
    "340282366920938463463374607431768211456",
    "NaN",
    "0000-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "00000000-0000-0000-0000-000000000000",
    "../../etc",
];
/// Those of them that are kept or handed on where a body has them; any other is refused as early as these or is a good text.
const BODY_TEXTS: [&str; 7] =
    ["\0", "a\0b", "", "'\"\\;--", "\\u0000", "NaN", "9999-12-31T23:59:59-23:59"];
/// Takes lines of JSON alone.
const MANY_STREAMS: &str = "/v1/records";
/// Bytes of an address that are no text.
const BYTES: [&str; 3] = ["%FF", "%C0%80", "%ED%A0%80"];

/// Values that stand in the place of a member of a JSON body.
fn values() -> Vec<Value> {
    let others = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0.5),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!([]),
        json!({}),
        json!(["\0"]),
        json!({"\0": "\0"}),
    ];
    BODY_TEXTS.iter().map(|text| json!(text)).chain(others).collect()
}

/// A request in which one thing at a time becomes odd.
struct Sample {
    method: Method,
    /// As the router has it, for the test that none is left out.
    route: &'static str,
    /// With [`ODD`] where a part of it is to be odd.
    path: String,
    /// Parameters with values that are good.
    query: &'static [(&'static str, &'static str)],
    body: Option<Value>,
    /// A stream that is made before each request.
    stream: Option<Value>,
    /// Only what lies below this place of the body becomes odd.
    below: &'static str,
}

fn sample(method: Method, route: &'static str) -> Sample {
    let path = route.to_owned();
    Sample { method, route, path, query: &[], body: None, stream: None, below: "" }
}

impl Sample {
    fn at(self, path: impl Into<String>) -> Sample {
        Sample { path: path.into(), ..self }
    }

    fn query(self, query: &'static [(&'static str, &'static str)]) -> Sample {
        Sample { query, ..self }
    }

    fn body(self, body: Value) -> Sample {
        Sample { body: Some(body), ..self }
    }

    fn of_new_stream(self, stream: Value, below: &'static str) -> Sample {
        Sample { stream: Some(stream), below, ..self }
    }
}

/// What is there for the samples to be about.
struct Ground {
    job: String,
    kept: String,
    user: i64,
}

async fn prepare(gateway: &Gateway) -> Ground {
    gateway.create_stream(&json!({"name": "docs"})).await;
    let columns = json!([{"name": "a", "type": "text"}, {"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    let changing = json!({"name": "changing", "key": ["/a"], "on_duplicate": "replace"});
    gateway.create_stream(&changing).await;
    gateway.records("typed").json(&json!({"n": "x"})).send().await;
    gateway.wait_all_committed().await;
    let kept = gateway.scalar::<Uuid>("select id from tidegate.quarantine").await.to_string();
    let job = json!({"url": "http://api.test/x", "interval_ms": 60_000, "paused": true, "stream": "docs"});
    let job = gateway.post("/v1/polling-jobs", &job).await.expect(201);
    let user = add_user(gateway, "ada", "member").await;
    Ground { job: job["id"].as_str().unwrap().to_owned(), kept, user }
}

fn streams(samples: &mut Vec<Sample>) {
    let column = json!({"name": "a", "type": "text", "default": "x", "from": "A"});
    let at = json!({"name": "at", "type": "timestamptz", "epoch": "ms"});
    let typed = json!({
        "name": "s{fresh}", "columns": [column, at], "unknown": "extra", "key": ["a"],
        "on_duplicate": "ignore",
    });
    let document =
        json!({"name": "s{fresh}", "payload": "json", "key": ["/a/b"], "retention_days": null});
    let kept = json!({"name": "s{fresh}", "payload": "jsonb", "retention_days": 3});
    let growing = json!({"name": "s{fresh}", "columns": [{"name": "a", "type": "text"}]});
    let new = json!({"name": "b", "type": "text", "default": "x", "from": "B"});
    let grown = json!({"columns": [{"name": "a", "type": "text"}, new], "unknown": "extra"});
    let record = json!({"a": "x", "n": 1, "more": {"deep": ["x"]}});
    let csv: &[(&str, &str)] = &[
        ("ack", "journal"),
        ("on_error", "quarantine"),
        ("return", "ids"),
        ("null", "NA"),
        ("delimiter", ";"),
        ("quote", "'"),
        ("header", "present"),
    ];
    let headless: &[(&str, &str)] = &[("header", "absent"), ("columns", "a,n")];
    let one = "/v1/streams/{stream}";
    let records = "/v1/streams/{stream}/records";
    samples.extend([
        sample(Method::GET, "/v1/streams").query(&[("sizes", "true")]),
        sample(Method::POST, "/v1/streams").body(typed),
        sample(Method::POST, "/v1/streams").body(document),
        sample(Method::POST, "/v1/streams").body(kept),
        sample(Method::POST, "/v1/streams/infer").query(csv).body(json!([record])),
        sample(Method::POST, "/v1/streams/infer").query(headless).body(json!([record])),
        sample(Method::GET, one).at("/v1/streams/{odd}"),
        sample(Method::DELETE, one).at("/v1/streams/{odd}"),
        sample(Method::PATCH, one).at("/v1/streams/{odd}").body(json!({"unknown": "drop"})),
        sample(Method::PATCH, one)
            .at("/v1/streams/s{fresh}")
            .body(grown)
            .of_new_stream(growing, "/columns/1"),
        sample(Method::POST, records).at("/v1/streams/{odd}/records").body(record.clone()),
        sample(Method::POST, records)
            .at("/v1/streams/docs/records")
            .query(csv)
            .body(record.clone()),
        sample(Method::POST, records).at("/v1/streams/typed/records").body(record.clone()),
        sample(Method::POST, MANY_STREAMS)
            .query(&[("ack", "commit"), ("on_error", "quarantine")])
            .body(json!({"stream": "docs", "record": record})),
        sample(Method::POST, MANY_STREAMS).body(json!({"stream": "docs", "records": [record]})),
    ]);
}

fn quarantine(samples: &mut Vec<Sample>, ground: &Ground) {
    let filter: &[(&str, &str)] = &[
        ("stream", "typed"),
        ("code", "invalid_type"),
        ("from", "2000-01-01T00:00:00Z"),
        ("until", "2001-01-01T00:00:00Z"),
    ];
    let paged: &[(&str, &str)] =
        &[("code", "x"), ("after", "00000000-0000-0000-0000-000000000001"), ("limit", "1")];
    let replay = "/v1/quarantine/{id}/replay";
    samples.extend([
        sample(Method::GET, "/v1/quarantine").query(filter),
        sample(Method::GET, "/v1/quarantine").query(paged),
        sample(Method::DELETE, "/v1/quarantine").query(filter),
        sample(Method::GET, "/v1/quarantine/summary").query(filter),
        sample(Method::GET, "/v1/quarantine/{id}").at("/v1/quarantine/{odd}"),
        sample(Method::DELETE, "/v1/quarantine/{id}").at("/v1/quarantine/{odd}"),
        sample(Method::POST, replay).at("/v1/quarantine/{odd}/replay").body(json!({"n": 1})),
        sample(Method::POST, replay)
            .at(format!("/v1/quarantine/{}/replay", ground.kept))
            .query(&[("ack", "journal")])
            .body(json!({"n": "no number", "a": "x"})),
    ]);
}

fn jobs(samples: &mut Vec<Sample>, ground: &Ground) {
    let question = json!({
        "url": "http://127.0.0.1:1/x", "method": "POST", "body": "x", "headers": {"x-a": "x"}, "accept_statuses": [201],
        "secret_headers": {"x-b": "x"}, "items": "/a", "key": ["/id"], "on_change": "append",
        "pagination": {"by": "page", "parameter": "p", "first": 1}, "pages_max": 2,
        "since": {"parameter": "s", "field": "/at", "format": "rfc3339", "overlap": 1},
        "conditional": true, "timeout_ms": 1_000, "response_bytes_max": 1_000,
    });
    let with = |more: Value| {
        let mut job = question.clone();
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        job
    };
    let interval = json!({"name": "x", "stream": "docs", "paused": true, "interval_ms": 60_000, "owner": "ada"});
    let cron =
        json!({"stream": "docs", "paused": true, "cron": "0 0 1 1 *", "zone": "Europe/Berlin"});
    let short = json!({
        "userId": "u{fresh}", "apiEndpoint": "http://a:b@127.0.0.1:1/{fresh}", "pollingInterval": 31_536_000_000_u64,
        "stream": "docs",
    });
    let short_change = json!({"apiEndpoint": "http://127.0.0.1:1/{fresh}", "pollingInterval": 60_000, "stream": "docs"});
    let one = |rest: &str| format!("/v1/polling-jobs/{}{rest}", ground.job);
    let odd = |rest: &str| format!("/v1/polling-jobs/{ODD}{rest}");
    let page: &[(&str, &str)] =
        &[("after", "00000000-0000-0000-0000-000000000001"), ("limit", "1")];
    samples.extend([
        sample(Method::GET, "/v1/polling-jobs").query(page),
        sample(Method::POST, "/v1/polling-jobs").body(with(interval)),
        sample(Method::POST, "/v1/polling-jobs").body(with(cron)),
        sample(Method::POST, "/v1/polling-jobs/preview").body(question.clone()),
        sample(Method::GET, "/v1/polling-jobs/{id}").at(odd("")),
        sample(Method::DELETE, "/v1/polling-jobs/{id}").at(odd("")),
        sample(Method::PATCH, "/v1/polling-jobs/{id}").at(one("")).body(question.clone()),
        sample(Method::PATCH, "/v1/polling-jobs/{id}").at(odd("")).body(json!({"name": "x"})),
        sample(Method::POST, "/v1/polling-jobs/{id}/run").at(odd("/run")),
        sample(Method::GET, "/v1/polling-jobs/{id}/runs").at(odd("/runs")),
        sample(Method::GET, "/v1/polling-jobs/{id}/runs")
            .at(one("/runs"))
            .query(&[("before", "1"), ("limit", "1")]),
        sample(Method::GET, "/polling-jobs").query(page),
        sample(Method::POST, "/polling-jobs").body(short),
        sample(Method::GET, "/polling-jobs/{id}").at("/polling-jobs/{odd}"),
        sample(Method::DELETE, "/polling-jobs/{id}").at("/polling-jobs/{odd}"),
        sample(Method::PATCH, "/polling-jobs/{id}")
            .at(format!("/polling-jobs/{}", ground.job))
            .body(short_change),
    ]);
}

fn people(samples: &mut Vec<Sample>, ground: &Ground) {
    let user = json!({"name": "u{fresh}", "email": "a@b", "role": "member"});
    let token = json!({
        "name": "t", "scopes": ["ingest"], "streams": ["docs"], "expires_in_seconds": 60, "records_per_second": 1,
        "user": "ada",
    });
    let watched: &[(&str, &str)] = &[("streams", "docs"), ("mode", "full"), ("history", "false")];
    let (since, ticket): (&[_], &[_]) = (&[("since", "x")], &[("ticket", "x")]);
    samples.extend([
        // Without a password each is refused before it is hashed, which takes long; the name is read before.
        sample(Method::POST, "/v1/users").body(user),
        sample(Method::PATCH, "/v1/users/{id}")
            .at(format!("/v1/users/{}", ground.user))
            .body(json!({"email": "a@b", "role": "member", "disabled": false})),
        sample(Method::PATCH, "/v1/users/{id}").at("/v1/users/{odd}").body(json!({"email": "a@b"})),
        sample(Method::POST, "/v1/tokens").body(token),
        sample(Method::DELETE, "/v1/tokens/{id}").at("/v1/tokens/{odd}"),
        sample(Method::POST, "/v1/monitor").query(watched),
        sample(Method::GET, "/v1/monitor").query(watched),
        sample(Method::GET, "/v1/monitor/events").query(watched),
        sample(Method::GET, "/v1/monitor/events").query(since),
        sample(Method::GET, "/v1/monitor/events").query(ticket),
        sample(Method::GET, "/assets/{file}").at("/assets/{odd}"),
    ]);
}

/// Routes on which a caller chooses nothing, or that have a test of their own here.
const WITHOUT_CHOICE: [&str; 10] = [
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/status",
    "/v1/configuration",
    "/v1/users",
    "/v1/tokens",
    "/v1/monitor/tickets",
    "/v1/sessions",
];

/// Sends requests and keeps book of what came.
struct Sender<'a> {
    client: &'a Client,
    fresh: u32,
    sent: u32,
    failures: Vec<String>,
}

impl Sender<'_> {
    /// Each thing of a sample in turn, the rest of it good.
    async fn go_through(&mut self, sample: &Sample) {
        self.send(sample, &sample.path, sample.query, sample.body.clone()).await;
        if sample.path.contains(ODD) {
            for segment in TEXTS.into_iter().map(escaped).chain(BYTES.map(str::to_owned)) {
                let path = sample.path.replace(ODD, &segment);
                self.send(sample, &path, sample.query, sample.body.clone()).await;
            }
        }
        for (index, (name, _)) in sample.query.iter().enumerate() {
            let texts = TEXTS.into_iter().map(escaped).chain(BYTES.map(str::to_owned));
            for text in texts.collect::<Vec<_>>() {
                let mut query = sample.query.to_vec();
                query[index] = (*name, &text);
                self.send(sample, &sample.path, &query, sample.body.clone()).await;
            }
        }
        let Some(body) = &sample.body else { return };
        for place in places(body).into_iter().filter(|place| place.starts_with(sample.below)) {
            for value in values() {
                let mut odd = body.clone();
                *odd.pointer_mut(&place).unwrap() = value;
                self.send(sample, &sample.path, sample.query, Some(odd)).await;
            }
        }
    }

    async fn send(
        &mut self,
        sample: &Sample,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) {
        self.fresh += 1;
        let fresh = self.fresh.to_string();
        if let Some(stream) = &sample.stream {
            let stream = stream.to_string().replace(FRESH, &fresh);
            self.client.create_stream(&serde_json::from_str(&stream).unwrap()).await;
        }
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let path = path.replace(ODD, "x").replace(FRESH, &fresh);
        let path = format!("{path}?{}", query.join("&"));
        let mut request = self.client.request(sample.method.clone(), &path);
        let text = body.map(|body| body.to_string().replace(FRESH, &fresh)).unwrap_or_default();
        if !text.is_empty() {
            let is_lines = sample.route == MANY_STREAMS;
            let kind = if is_lines { "application/x-ndjson" } else { "application/json" };
            request = request.header(CONTENT_TYPE, kind).body(text.clone());
        }
        self.judge(request, &format!("{} {path} {text}", sample.method)).await;
    }

    async fn judge(&mut self, request: RequestBuilder, what: &str) {
        self.sent += 1;
        let response = request.send().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let status = response.status().as_u16();
        let is_problem = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
        if status >= 500 || (status >= 400 && !is_problem) {
            self.failures.push(format!("{status}: {what}"));
        }
    }
}

/// Every byte that could mean something as a percent sign and two digits.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// JSON pointers to everything in a body that is no object of several members.
fn places(body: &Value) -> Vec<String> {
    fn walk(value: &Value, at: String, places: &mut Vec<String>) {
        let inner: Vec<(String, &Value)> = match value {
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), value)).collect()
            }
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
            }
            _ => Vec::new(),
        };
        for (name, value) in inner {
            let name = name.replace('~', "~0").replace('/', "~1");
            walk(value, format!("{at}/{name}"), places);
        }
        places.push(at);
    }
    let mut found = Vec::new();
    walk(body, String::new(), &mut found);
    found
}

/// What the router answers and no sample is about.
fn left_out(samples: &[Sample]) -> Vec<String> {
    let is_covered = |route: &Route| {
        WITHOUT_CHOICE.contains(&route.path)
            || samples
                .iter()
                .any(|sample| (&sample.method, sample.route) == (&route.method, route.path))
    };
    let missing = routes().into_iter().filter(|route| !is_covered(route));
    missing.map(|route| format!("{} {}", route.method, route.path)).collect()
}

#[tokio::test]
async fn no_odd_value_in_a_query_a_path_or_a_body_is_the_gateway_s_failure() {
    let gateway = Gateway::with(&["--polling-runs-max=0", "--streams-max=100000"]).await;
    let ground = prepare(&gateway).await;
    let mut samples = Vec::new();
    streams(&mut samples);
    records::records(&mut samples);
    quarantine(&mut samples, &ground);
    jobs(&mut samples, &ground);
    people(&mut samples, &ground);
    let missing = left_out(&samples);
    assert!(missing.is_empty(), "say here what a caller may choose on {missing:?}");
    let mut sender = Sender { client: &gateway, fresh: 0, sent: 0, failures: Vec::new() };
    for sample in &samples {
        sender.go_through(sample).await;
    }
    assert!(sender.sent > 2_000, "{}", sender.sent);
    assert!(
        sender.failures.is_empty(),
        "{} of {}:\n{}",
        sender.failures.len(),
        sender.sent,
        sender.failures.join("\n")
    );
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    // What such a row was read with is kept with it.
    gateway.records("typed").csv("a,n\nx,y\n").query("null", "\0").send().await.expect(202);
    gateway.commit("docs", &json!({"good": 1})).await;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.parked").await, 0);
}

#[tokio::test]
async fn no_odd_header_name_or_password_is_the_gateway_s_failure() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let mut sender = Sender { client: &gateway, fresh: 0, sent: 0, failures: Vec::new() };
    let odd: [&[u8]; 5] = [b"\xff\xfe", b"", b"\t", b"a\x80b", "流".as_bytes()];
    let headers = [
        ("/v1/streams/docs/records", "idempotency-key"),
        ("/v1/streams/docs/records", "content-type"),
        ("/v1/streams/docs/records", "content-encoding"),
        ("/v1/sessions", "authorization"),
        ("/v1/sessions", "cookie"),
        ("/v1/sessions", "origin"),
        ("/v1/monitor/events", "last-event-id"),
        ("/v1/monitor", "sec-websocket-protocol"),
        ("/", "accept"),
    ];
    for (path, name) in headers {
        for value in odd {
            let value = HeaderValue::from_bytes(value).unwrap();
            let name: HeaderName = name.parse().unwrap();
            let method = if path.ends_with("records") { Method::POST } else { Method::GET };
            let request =
                gateway.request(method, path).header(name.clone(), value.clone()).body("{}");
            sender.judge(request, &format!("{path} {name}: {value:?}")).await;
        }
    }
    for (user, password) in
        [("\0", PASSWORD), ("ada", "\0"), ("a\0da", "a\0 long password"), ("ada", PASSWORD)]
    {
        let body = json!({"user": user, "password": password});
        let request = gateway.request(Method::POST, "/v1/sessions").json(&body);
        sender.judge(request, &body.to_string()).await;
    }
    for password in ["\0\0\0\0\0\0\0\0", "a\0 long password"] {
        let body = json!({"name": "eve", "password": password});
        sender
            .judge(gateway.request(Method::POST, "/v1/users").json(&body), &body.to_string())
            .await;
    }
    assert!(sender.failures.is_empty(), "{}", sender.failures.join("\n"));
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}
