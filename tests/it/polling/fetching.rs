//! Asking an API that misbehaves: whatever it does, the run ends in time, with an error in words, and nothing else suffers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tidegate::outbound::Secrets;
use tidegate::polling::ask::{FetchError, FetchErrorKind, FetchOptions, Fetcher, Outcome, Resume};
use tidegate::polling::jobs::{Definition, Members};
use tidegate_record::clock::Clock;

use crate::support::{Answer, Api, Compression, compressed, soon};

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub pages: Vec<Vec<Value>>,
    pub duplicates: u64,
    pub outcome: Outcome,
    pub resume: Resume,
}

impl Run {
    pub(crate) fn items(&self) -> Vec<Value> {
        self.pages.concat()
    }
}

pub(crate) fn options(allowed: &[&str]) -> FetchOptions {
    let _ = rustls::crypto::ring::default_provider().install_default();
    FetchOptions {
        allow_networks: allowed.iter().map(|network| network.parse().unwrap()).collect(),
        host_requests_max: 4,
        host_spacing_ms: 0,
        answers_bytes_max: 64 << 20,
    }
}

pub(crate) fn fetcher() -> Fetcher {
    Fetcher::new(options(&["127.0.0.0/8"]), Clock::System).unwrap()
}

pub(crate) fn definition(members: Value) -> (Definition, Secrets) {
    let members: Map<String, Value> = serde_json::from_value(members).unwrap();
    Definition::take(&mut Members::new(members)).unwrap()
}

pub(crate) async fn run_from(
    fetcher: &Fetcher,
    members: Value,
    resume: Resume,
) -> Result<Run, FetchError> {
    let (definition, secrets) = definition(members);
    let mut pages = fetcher.pages(None, Arc::new(definition), secrets, resume);
    let (mut all, mut duplicates) = (Vec::new(), 0);
    while let Some(page) = soon("a page or an error", pages.next()).await? {
        let parse = |item: &tidegate::polling::ask::Item| {
            serde_json::from_slice(&item.json).expect("an item is JSON")
        };
        all.push(page.items.iter().map(parse).collect());
        duplicates += page.duplicates;
    }
    let (outcome, resume) = pages.finish();
    Ok(Run { pages: all, duplicates, outcome, resume })
}

pub(crate) async fn run(members: Value) -> Result<Run, FetchError> {
    run_from(&fetcher(), members, Resume::default()).await
}

async fn error_of(members: Value) -> FetchError {
    run(members).await.expect_err("the run must fail")
}

#[tokio::test]
async fn items_come_as_they_are() {
    let api = Api::start().await;
    api.always("/users", Answer::text(200, " [ {\"id\" : 1.0}, {\"id\":2} ] "));
    api.always("/one", Answer::json(&json!({"id": 1})));
    api.always("/deep", Answer::json(&json!({"data": {"items": [{"id": 1}]}, "null": null})));
    api.always("/nothing", Answer::text(204, ""));
    let users = run(json!({"url": api.url("/users")})).await.unwrap();
    assert_eq!(users.items(), [json!({"id": 1.0}), json!({"id": 2})]);
    assert_eq!(users.outcome, Outcome::Fresh);
    assert_eq!(run(json!({"url": api.url("/one")})).await.unwrap().items(), [json!({"id": 1})]);
    let deep = run(json!({"url": api.url("/deep"), "items": "/data/items"})).await.unwrap();
    assert_eq!(deep.items(), [json!({"id": 1})]);
    let none = run(json!({"url": api.url("/deep"), "items": "/null"})).await.unwrap();
    assert_eq!(none.items(), [] as [Value; 0]);
    let nothing = run(json!({"url": api.url("/nothing")})).await.unwrap();
    assert_eq!((nothing.items().len(), nothing.outcome), (0, Outcome::Silent));
}

#[tokio::test]
async fn of_equal_keys_in_one_answer_the_last_counts() {
    let api = Api::start().await;
    let items =
        json!([{"id": 1, "v": "a"}, {"id": 2}, {"id": 1, "v": "b"}, {"v": 1, "id": 2}, {"id": 2}]);
    api.always("/users", Answer::json(&items));
    let keyed = run(json!({"url": api.url("/users"), "key": ["/id"]})).await.unwrap();
    assert_eq!(keyed.items(), [json!({"id": 1, "v": "b"}), json!({"id": 2})]);
    assert_eq!(keyed.duplicates, 3);
    let hashed = run(json!({"url": api.url("/users")})).await.unwrap();
    assert_eq!((hashed.items().len(), hashed.duplicates), (4, 1));
}

#[tokio::test]
async fn a_request_is_sent_as_it_was_defined() {
    let api = Api::start().await;
    api.always("/search", Answer::json(&json!([])));
    run(json!({
        "url": api.url("/search?a=1&b=%20x"), "method": "POST", "body": "{\"q\":1}",
        "headers": {"X-Plain": "seen"}, "secret_headers": {"Authorization": "Bearer hidden"},
    }))
    .await
    .unwrap();
    let asked = api.requests().remove(0);
    assert_eq!((&*asked.method, &*asked.target), ("POST", "/search?a=1&b=%20x"));
    assert_eq!(asked.body, "{\"q\":1}");
    assert_eq!(asked.header("x-plain"), Some("seen"));
    assert_eq!(asked.header("authorization"), Some("Bearer hidden"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.header("accept"), Some("application/json"));
    assert_eq!(asked.header("accept-encoding"), Some("gzip, br, zstd, deflate"));
    assert!(asked.header("user-agent").unwrap().starts_with("tidegate/"));
}

#[tokio::test]
async fn credentials_in_the_address_become_a_secret_header() {
    let api = Api::start().await;
    api.always("/users", Answer::json(&json!([])));
    let url = api.url("/users").replace("http://", "http://ada:pw@");
    let (definition, secrets) = definition(json!({"url": url}));
    assert!(!serde_json::to_string(&definition).unwrap().contains("pw"));
    assert_eq!(definition.secret_headers, ["authorization"]);
    let mut pages = fetcher().pages(None, Arc::new(definition), secrets, Resume::default());
    pages.next().await.unwrap();
    assert_eq!(api.requests()[0].header("authorization"), Some("Basic YWRhOnB3"));
}

#[tokio::test]
async fn connections_are_used_again() {
    let api = Api::start().await;
    api.always("/users", Answer::json(&json!([])));
    let fetcher = fetcher();
    for _ in 0..5 {
        run_from(&fetcher, json!({"url": api.url("/users")}), Resume::default()).await.unwrap();
    }
    assert_eq!((api.requests().len(), api.connections()), (5, 1));
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_again() {
    let api = Api::start().await;
    api.on("/users", |asked| match asked.header("if-none-match") {
        Some("\"v1\"") => Answer::text(304, ""),
        _ => Answer::json(&json!([{"id": 1}])).header("etag", "\"v1\""),
    });
    let plain = json!({"url": api.url("/users")});
    let first = run_from(&fetcher(), plain.clone(), Resume::default()).await.unwrap();
    let second = run_from(&fetcher(), plain, first.resume.clone()).await.unwrap();
    assert_eq!((second.outcome, second.items().len()), (Outcome::NotModified, 0));
    assert_eq!(second.resume, first.resume, "the next run asks the same way");

    // To any other request the tag says nothing.
    for other in [
        json!({"url": api.url("/users?all=1")}),
        json!({"url": api.url("/users"), "headers": {"x-tenant": "2"}}),
        json!({"url": api.url("/users"), "conditional": false}),
        json!({"url": api.url("/users"), "key": ["/id"]}),
    ] {
        let fresh = run_from(&fetcher(), other, first.resume.clone()).await.unwrap();
        assert_eq!((fresh.outcome, fresh.items().len()), (Outcome::Fresh, 1));
    }
    api.always("/liar", Answer::text(304, ""));
    let error = error_of(json!({"url": api.url("/liar")})).await;
    assert_eq!(error.kind, FetchErrorKind::Status(304), "it was not asked whether it changed");
}

#[tokio::test]
async fn statuses_are_errors_in_words() {
    let api = Api::start().await;
    for status in [400_u16, 401, 403, 404, 410, 429, 500, 502, 503, 599, 300] {
        api.always("/users", Answer::text(status, "no"));
        let error = error_of(json!({"url": api.url("/users?token=hidden")})).await;
        assert_eq!(error.kind, FetchErrorKind::Status(status));
        assert!(error.message.contains(&status.to_string()), "{error}");
        assert!(error.message.contains("/users") && !error.message.contains("hidden"), "{error}");
        assert_eq!(error.retry_after, None);
    }
    for (status, wait) in [(429, "7"), (503, "7")] {
        api.always("/users", Answer::text(status, "").header("retry-after", wait));
        let error = error_of(json!({"url": api.url("/users")})).await;
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn what_is_no_json_is_shown() {
    let api = Api::start().await;
    let deep = format!("{}1", "[".repeat(3_000_000));
    for (body, said) in [
        (&b"<!DOCTYPE html><html>"[..], "<!DOCTYPE html>"),
        (b"", "ends inside a value"),
        (b"[{\"a\":1},", "ends inside a value"),
        (b"[1] [2]", "something follows"),
        (b"{\"a\":\"\xff\xfe\"}", "not UTF-8 at byte 6"),
        (b"\x00\x01\x02", "no JSON"),
        (deep.as_bytes(), "ends inside a value"),
    ] {
        api.always("/users", Answer::bytes(200, body));
        let error = error_of(json!({"url": api.url("/users")})).await;
        assert_eq!(error.kind, FetchErrorKind::NotJson, "{error}");
        assert!(error.message.contains(said), "{error}");
        assert!(error.message.len() < 500, "{error}");
    }
    api.always("/users", Answer::bytes(200, &b"\xef\xbb\xbf[{\"id\":1}]"[..]));
    assert_eq!(run(json!({"url": api.url("/users")})).await.unwrap().items().len(), 1);
}

#[tokio::test]
async fn shapes_that_change_are_named() {
    let api = Api::start().await;
    for answer in [json!({"error": "moved"}), json!({"items": 7}), json!({"items": "x"}), json!([])]
    {
        api.always("/users", Answer::json(&answer));
        let error = error_of(json!({"url": api.url("/users"), "items": "/items"})).await;
        assert_eq!(error.kind, FetchErrorKind::NoItems, "{error}");
        assert!(error.message.contains("/items"), "{error}");
    }
    // What is in the items is for the stream to judge, one by one.
    api.always("/users", Answer::json(&json!({"items": [1, "x", null, [], {"id": 1}]})));
    let run = run(json!({"url": api.url("/users"), "items": "/items", "key": ["/id"]})).await;
    assert_eq!(run.unwrap().items().len(), 5);
}

#[tokio::test]
async fn an_api_that_hangs_is_left() {
    let api = Api::start().await;
    api.always("/silent", Answer::silence());
    api.always("/stalled", Answer::stalled("[{\"id\":1},"));
    api.always("/drip", Answer::endless("[", " "));
    for path in ["/silent", "/stalled"] {
        let begun = Instant::now();
        let error = error_of(json!({"url": api.url(path), "timeout_ms": 300})).await;
        assert_eq!(error.kind, FetchErrorKind::Timeout, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    api.always("/cut", Answer::cut("[{\"id\":1},"));
    let error = error_of(json!({"url": api.url("/cut")})).await;
    assert_eq!(error.kind, FetchErrorKind::Connect, "{error}");
}

#[tokio::test]
async fn no_server_listens() {
    let url = Api::start().await.url("/users");
    let error = error_of(json!({"url": url})).await;
    assert_eq!(error.kind, FetchErrorKind::Connect, "{error}");
    let error = error_of(json!({"url": "http://nowhere.invalid/"})).await;
    assert_eq!(error.kind, FetchErrorKind::Name, "{error}");
}

#[tokio::test]
async fn too_much_is_not_read() {
    let api = Api::start().await;
    api.always("/endless", Answer::endless("[", "1,"));
    api.always("/huge", Answer::endless("[", "1,").header("content-length", "2147483648"));
    let limit = 1 << 20;
    for path in ["/endless", "/huge"] {
        let error = error_of(json!({"url": api.url(path), "response_bytes_max": limit})).await;
        assert_eq!(error.kind, FetchErrorKind::TooLarge, "{path}: {error}");
    }
    let spaces = vec![b' '; 64 << 20];
    for compression in Compression::ALL {
        let bomb = compressed(compression, &spaces).await;
        assert!(bomb.len() < limit, "it is small on the line");
        let answer = Answer::bytes(200, bomb).header("content-encoding", compression.name());
        api.always("/bomb", answer);
        let error = error_of(json!({"url": api.url("/bomb"), "response_bytes_max": limit})).await;
        assert_eq!(error.kind, FetchErrorKind::TooLarge, "{compression:?}: {error}");
    }
    let many = format!("[{}1]", "1,".repeat(200_000));
    api.always("/many", Answer::text(200, &many));
    let error = error_of(json!({"url": api.url("/many")})).await;
    assert_eq!(error.kind, FetchErrorKind::TooLarge, "{error}");
}

#[tokio::test]
async fn compressed_answers_are_read_and_broken_ones_named() {
    let api = Api::start().await;
    let plain = b"[{\"id\":1}]";
    for compression in Compression::ALL {
        let body = compressed(compression, plain).await;
        let whole = Answer::bytes(200, body.clone());
        api.always("/users", whole.header("content-encoding", compression.name()));
        let run = run(json!({"url": api.url("/users")})).await.unwrap();
        assert_eq!(run.items().len(), 1, "{compression:?}");
        let half = Answer::bytes(200, &body[..body.len() / 2]);
        api.always("/users", half.header("content-encoding", compression.name()));
        let error = error_of(json!({"url": api.url("/users")})).await;
        assert_eq!(error.kind, FetchErrorKind::Encoding, "{compression:?}: {error}");
    }
    api.always("/users", Answer::bytes(200, &plain[..]).header("content-encoding", "zip"));
    let error = error_of(json!({"url": api.url("/users")})).await;
    assert_eq!(error.kind, FetchErrorKind::Encoding, "{error}");
}

/// While one answer is held another does not fit; then it does again.
pub(crate) async fn only_one_answer_fits(fetcher: &Fetcher, members: Value) {
    let (definition, secrets) = definition(members);
    let definition = Arc::new(definition);
    let pages = || fetcher.pages(None, Arc::clone(&definition), secrets.clone(), Resume::default());
    let page = pages().next().await.unwrap().expect("one fits");
    let error = soon("it does not fit", pages().next()).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Busy, "{error}");
    drop(page);
    pages().next().await.unwrap().expect("it fits again");
}

#[tokio::test]
async fn all_answers_together_have_their_limit() {
    let api = Api::start().await;
    api.always("/big", Answer::text(200, &format!("[\"{}\"]", "x".repeat(800 << 10))));
    let narrow = FetchOptions { answers_bytes_max: 1 << 20, ..options(&["127.0.0.0/8"]) };
    let fetcher = Fetcher::new(narrow, Clock::System).unwrap();
    only_one_answer_fits(&fetcher, json!({"url": api.url("/big")})).await;
}
