//! Where a job may go, and how it gets from page to page: redirects, private networks, certificates, every pagination.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::polling::ask::{FetchError, FetchErrorKind, FetchOptions, Fetcher, Resume};
use tidegate::polling::jobs::SinceValue;
use tidegate_record::UnixMicros;
use tidegate_record::clock::Clock;

use crate::polling::fetching::{Run, definition, fetcher, options, run, run_from};
use crate::support::{Answer, Api, Asked};

async fn run_allowing(allowed: &[&str], members: Value) -> Result<Run, FetchError> {
    let fetcher = Fetcher::new(options(allowed), Clock::System).unwrap();
    run_from(&fetcher, members, Resume::default()).await
}

async fn kind_of(members: Value) -> FetchErrorKind {
    run(members).await.expect_err("the run must fail").kind
}

#[tokio::test]
async fn redirects_are_followed_and_bounded() {
    let api = Api::start().await;
    api.always("/users", Answer::json(&json!([{"id": 1}])));
    api.always("/old", Answer::redirect(301, "/users"));
    api.always("/older", Answer::redirect(308, &api.url("/old")));
    assert_eq!(run(json!({"url": api.url("/older")})).await.unwrap().items().len(), 1);
    api.always("/loop", Answer::redirect(302, "/loop"));
    assert_eq!(kind_of(json!({"url": api.url("/loop")})).await, FetchErrorKind::Redirects);
    assert_eq!(api.requests().iter().filter(|asked| asked.target == "/loop").count(), 6);
    for location in
        ["ftp://127.0.0.1/", "file:///etc/passwd", "http://a:b@127.0.0.1/", "http://[", ""]
    {
        // An empty location is the page itself.
        api.always("/bad", Answer::redirect(302, location));
        let error = run(json!({"url": api.url("/bad")})).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Redirects, "{location}: {error}");
        assert!(!error.message.contains("passwd"), "{error}");
    }
    api.always("/nowhere", Answer::text(302, ""));
    assert_eq!(kind_of(json!({"url": api.url("/nowhere")})).await, FetchErrorKind::Redirects);
}

#[tokio::test]
async fn secrets_and_bodies_do_not_leave_their_host() {
    let (here, there) = (Api::start().await, Api::start_at("127.0.0.2").await);
    there.always("/users", Answer::json(&json!([{"id": 1}])));
    here.always("/away", Answer::redirect(302, &there.url("/users")));
    let secret = json!({"url": here.url("/away"), "headers": {"x-plain": "1"}, "secret_headers": {"x-mine": "s"}});
    assert_eq!(run(secret).await.unwrap().items().len(), 1);
    assert_eq!(here.requests()[0].header("x-mine"), Some("s"));
    assert_eq!(there.requests()[0].header("x-mine"), None);
    assert_eq!(there.requests()[0].header("x-plain"), Some("1"));

    here.always("/post", Answer::redirect(307, &there.url("/users")));
    let post = json!({"url": here.url("/post"), "method": "POST", "body": "{}"});
    assert_eq!(kind_of(post).await, FetchErrorKind::Redirects);
    here.always("/post", Answer::redirect(303, "/users"));
    here.always("/users", Answer::json(&json!([{"id": 2}])));
    let post = json!({"url": here.url("/post"), "method": "POST", "body": "{}"});
    assert_eq!(run(post).await.unwrap().items().len(), 1);
    let last = here.requests().pop().unwrap();
    assert_eq!((&*last.method, &*last.body), ("GET", ""));
}

#[tokio::test]
async fn a_post_is_not_taken_to_another_host_by_a_page() {
    let (here, there) = (Api::start().await, Api::start_at("127.0.0.2").await);
    let next = there.url("/x");
    let first = Answer::json(&json!({"items": [{"id": 1}], "next": next}));
    here.always("/x", first.header("link", &format!("<{next}>; rel=next")));
    for pagination in [json!({"by": "link"}), json!({"by": "next", "pointer": "/next"})] {
        let members = json!({
            "url": here.url("/x"), "method": "POST", "body": "{\"mine\":1}", "items": "/items",
            "pagination": pagination,
        });
        let error = run(members).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Pages, "{error}");
        assert_eq!(there.connections(), 0);
    }
}

#[tokio::test]
async fn private_networks_are_refused_by_address_name_and_redirect() {
    let api = Api::start().await;
    api.always("/users", Answer::json(&json!([{"id": 1}])));
    for url in [api.url("/users"), api.url_by_name("localhost", "/users")] {
        for allowed in [&[][..], &["10.0.0.0/8"], &["127.0.0.2/32"]] {
            let error = run_allowing(allowed, json!({"url": url})).await.unwrap_err();
            assert_eq!(error.kind, FetchErrorKind::Refused, "{url}: {error}");
            assert!(error.message.contains("TIDEGATE_ALLOW_NETWORKS"), "{error}");
        }
        assert_eq!(
            run_allowing(&["127.0.0.1/32"], json!({"url": url})).await.unwrap().items().len(),
            1
        );
    }
    let other = Api::start_at("127.0.0.2").await;
    for target in [
        api.url("/users"),
        api.url_by_name("localhost", "/users"),
        api.url_by_name("[::ffff:127.0.0.1]", "/users"),
    ] {
        other.always("/away", Answer::redirect(302, &target));
        let error =
            run_allowing(&["127.0.0.2/32"], json!({"url": other.url("/away")})).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Refused, "{target}: {error}");
    }
    other.always(
        "/pages",
        Answer::json(&json!([{"id": 1}]))
            .header("link", &format!("<{}>; rel=next", api.url("/users"))),
    );
    let linked = json!({"url": other.url("/pages"), "pagination": {"by": "link"}});
    let error = run_allowing(&["127.0.0.2/32"], linked).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Refused, "{error}");
    assert_eq!(api.requests().len(), 2, "only the two that were allowed came through");
}

#[tokio::test]
async fn certificates_are_checked() {
    let authority = Authority::new();
    let trusting = || {
        let roots = [authority.der.clone()];
        Fetcher::trusting(options(&["127.0.0.0/8"]), &roots, Clock::System).unwrap()
    };
    let api = Api::start_tls(authority.server("localhost", 2020, 2090)).await;
    api.always("/users", Answer::json(&json!([{"id": 1}])));
    let url = api.url_by_name("localhost", "/users");
    let good = run_from(&trusting(), json!({"url": url}), Resume::default()).await.unwrap();
    assert_eq!(good.items().len(), 1);
    let stranger = run(json!({"url": url})).await.unwrap_err();
    assert_eq!(stranger.kind, FetchErrorKind::Tls, "{stranger}");

    for (name, from, to, said) in [
        ("localhost", 2020, 2021, "expired"),
        ("localhost", 2089, 2090, "not valid yet"),
        ("other.test", 2020, 2090, "other.test"),
    ] {
        let api = Api::start_tls(authority.server(name, from, to)).await;
        let url = api.url_by_name("localhost", "/users");
        let error =
            run_from(&trusting(), json!({"url": url}), Resume::default()).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Tls, "{error}");
        assert!(error.message.contains(said), "{said}: {error}");
    }
    let plain = Api::start().await;
    let error =
        run(json!({"url": plain.url("/users").replace("http:", "https:")})).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Tls, "{error}");
}

/// Items in a page.
const SIZE: usize = 4;

/// Some of ten items.
fn page_of(asked: &Asked, start: usize, size: usize) -> Vec<Value> {
    assert!(asked.query("q").is_some_and(|query| query == "a b"), "{asked:?}");
    (start..10).take(size).map(|id| json!({"id": id})).collect()
}

fn number(asked: &Asked, name: &str) -> usize {
    asked.query(name).expect("the parameter").parse().unwrap()
}

#[tokio::test]
async fn every_pagination_finds_every_item_once() {
    let api = Api::start().await;
    let at = |asked: &Asked, start: usize| (page_of(asked, start, SIZE), start + SIZE);
    api.on("/link", move |asked| {
        let (items, next) = at(asked, asked.query("at").map_or(0, |at| at.parse().unwrap()));
        let answer = Answer::json(&json!(items))
            .header("link", "</first>; rel=\"first prev\"; title=\"a, <b>\"");
        if next >= 10 {
            answer
        } else {
            answer.header("link", &format!("<?q=a+b&at={next}>; foo; REL=\"last Next\""))
        }
    });
    api.on("/next", move |asked| {
        let (items, next) = at(asked, asked.query("at").map_or(0, |at| at.parse().unwrap()));
        let next = (next < 10).then(|| format!("/next?q=a+b&at={next}"));
        Answer::json(&json!({"items": items, "next": next}))
    });
    api.on("/cursor", move |asked| {
        let (items, next) = at(asked, asked.query("cursor").map_or(0, |at| at.parse().unwrap()));
        let more = next < 10;
        Answer::json(&json!({"items": items, "meta": {"next": if more { json!(next) } else { json!(false) }}}))
    });
    api.on("/page", move |asked| {
        assert_eq!(asked.query("per").as_deref(), Some("4"));
        Answer::json(&json!({"items": at(asked, (number(asked, "page") - 1) * SIZE).0}))
    });
    api.on("/bare", move |asked| {
        Answer::json(&json!({"items": at(asked, number(asked, "p") * SIZE).0}))
    });
    api.on("/offset", move |asked| {
        assert_eq!(number(asked, "limit"), 4);
        Answer::json(&json!({"items": at(asked, number(asked, "offset")).0}))
    });
    // Sends fewer than it is asked for.
    api.on("/capped", |asked| {
        Answer::json(&json!({"items": page_of(asked, number(asked, "offset"), 3)}))
    });
    for (path, items, pagination, requests) in [
        ("/link", "", json!({"by": "link"}), 3),
        ("/next", "/items", json!({"by": "next", "pointer": "/next"}), 3),
        (
            "/cursor",
            "/items",
            json!({"by": "next", "pointer": "/meta/next", "parameter": "cursor"}),
            3,
        ),
        ("/page", "/items", json!({"by": "page", "size_parameter": "per", "size": 4}), 3),
        ("/bare", "/items", json!({"by": "page", "parameter": "p", "first": 0}), 4),
        ("/offset", "/items", json!({"by": "offset", "limit": 4}), 3),
        ("/capped", "/items", json!({"by": "offset", "limit": 50}), 5),
    ] {
        let before = api.requests().len();
        let url = api.url(&format!("{path}?q=a%20b"));
        let run = run(json!({"url": url, "items": items, "pagination": pagination})).await;
        let run = run.unwrap_or_else(|error| panic!("{path}: {error}"));
        let expected: Vec<Value> = (0..10).map(|id| json!({"id": id})).collect();
        assert_eq!(run.items(), expected, "{path}");
        assert_eq!(api.requests().len() - before, requests, "{path}");
    }
}

#[tokio::test]
async fn pages_end_even_if_the_api_does_not_say_so() {
    let api = Api::start().await;
    api.always("/same", Answer::json(&json!([{"id": 1}, {"id": 2}])));
    let deaf = run(json!({"url": api.url("/same"), "pagination": {"by": "page"}})).await.unwrap();
    assert_eq!((deaf.items().len(), deaf.duplicates), (2, 2), "it does not know the parameter");

    api.on("/circle", |asked| {
        let next = if asked.query("b").is_some() { "/circle?a=1" } else { "/circle?b=1" };
        Answer::json(&json!([{"id": asked.target, "now": asked.headers.len()}]))
            .header("link", &format!("<{next}>; rel=next"))
    });
    let circle = json!({"url": api.url("/circle?a=1"), "pagination": {"by": "link"}});
    assert_eq!(kind_of(circle).await, FetchErrorKind::Pages);

    api.on("/endless", |asked| Answer::json(&json!([{"id": asked.target}])));
    let endless = json!({"url": api.url("/endless"), "pagination": {"by": "page"}, "pages_max": 3});
    let (definition, secrets) = definition(endless);
    let mut pages = fetcher().pages(None, Arc::new(definition), secrets, Resume::default());
    for _ in 0..3 {
        assert!(!pages.next().await.unwrap().expect("a page").last, "what was found is given");
    }
    let error = pages.next().await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Pages, "{error}");
    assert!(pages.next().await.unwrap().is_none());

    api.always("/odd", Answer::json(&json!({"next": {"a": 1}})));
    let odd = json!({"url": api.url("/odd"), "pagination": {"by": "next", "pointer": "/next"}});
    assert_eq!(kind_of(odd).await, FetchErrorKind::Pages);
}

#[tokio::test]
async fn an_item_is_given_once_for_each_content_of_a_run() {
    let api = Api::start().await;
    api.on("/moving", |asked| {
        Answer::json(&match number(asked, "page") {
            1 => json!([{"id": 1, "v": "a"}, {"id": 2}]),
            2 => json!([{"id": 2}, {"id": 1, "v": "b"}]),
            3 => json!([{"id": 1, "v": "a"}]),
            _ => json!([]),
        })
    });
    let moving = json!({"url": api.url("/moving"), "key": ["/id"], "pagination": {"by": "page"}});
    let run = run(moving).await.unwrap();
    assert_eq!(run.pages[1], [json!({"id": 1, "v": "b"})]);
    assert_eq!(run.pages[2], [json!({"id": 1, "v": "a"})]);
    assert_eq!(run.duplicates, 1);
}

#[tokio::test]
async fn only_what_is_newer_is_asked_for() {
    let api = Api::start().await;
    api.on("/users", |asked| match asked.query("since").as_deref() {
        None => {
            Answer::json(&json!([{"at": "2026-11-21T17:00:00Z"}, {"at": "2026-11-20T00:00:00Z"}]))
        }
        Some(_) => Answer::json(&json!([])),
    });
    let newer = json!({
        "url": api.url("/users?since=never"),
        "since": {"parameter": "since", "field": "/at", "overlap": 5},
    });
    api.on("/users", |_| {
        Answer::json(&json!([{"at": "2026-11-21T17:00:00Z"}, {"at": "2026-11-20"}]))
    });
    let clock = Clock::manual(UnixMicros(1_800_000_000_000_000));
    let fetcher = Fetcher::new(options(&["127.0.0.0/8"]), clock.clone()).unwrap();
    let first = run_from(&fetcher, newer.clone(), Resume::default()).await.unwrap();
    assert_eq!(first.resume.since, Some(SinceValue::Micros(1_795_280_400_000_000)));
    let text = serde_json::to_string(&first.resume).unwrap();
    let kept: Resume = serde_json::from_str(&text).unwrap();
    assert_eq!(kept, first.resume);

    api.on("/users", |_| Answer::json(&json!([{"at": "2999-01-01T00:00:00Z"}])));
    let second = run_from(&fetcher, newer, kept).await.unwrap();
    assert_eq!(api.requests()[0].query("since").as_deref(), Some("never"));
    assert_eq!(api.requests()[1].query("since").as_deref(), Some("2026-11-21T16:59:55Z"));
    assert_eq!(second.resume.since, Some(SinceValue::Micros(clock.now().0)), "not beyond now");
}

#[tokio::test]
async fn a_busy_host_puts_runs_off_and_others_do_not_notice() {
    let (busy, other) = (Api::start().await, Api::start().await);
    busy.always("/users", Answer::silence());
    other.always("/users", Answer::json(&json!([{"id": 1}])));
    let options = FetchOptions { host_requests_max: 1, ..options(&["127.0.0.0/8"]) };
    let fetcher = Fetcher::new(options, Clock::System).unwrap();
    let hanging = json!({"url": busy.url("/users"), "timeout_ms": 60_000});
    let mut held = Box::pin(run_from(&fetcher, hanging.clone(), Resume::default()));
    tokio::select! {
        _ = &mut held => panic!("it hangs"),
        () = async { while busy.requests().is_empty() { tokio::task::yield_now().await } } => {}
    }
    let put_off = run_from(&fetcher, hanging, Resume::default()).await.unwrap_err();
    assert_eq!(put_off.kind, FetchErrorKind::Busy, "{put_off}");
    assert!(put_off.retry_after.is_some_and(|wait| wait <= Duration::from_secs(60)));
    let fine = run_from(&fetcher, json!({"url": other.url("/users")}), Resume::default()).await;
    assert_eq!(fine.unwrap().items().len(), 1);
    assert_eq!(busy.requests().len(), 1);
}

/// Signs certificates.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "Test authority");
        let der = parameters.self_signed(&key).unwrap().der().to_vec();
        Authority { issuer: rcgen::Issuer::new(parameters, key), der }
    }

    /// A server with a certificate for a name, valid from one year to another.
    pub fn server(&self, name: &str, from: i32, to: i32) -> rustls::ServerConfig {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap()
    }
}
