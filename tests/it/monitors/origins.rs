//! Origins: a proxy that changes `Host`, the public URL that helps, and pages of other origins (CORS).

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::monitors::events::Events;
use crate::support::people::{Outsider, PASSWORD, add_user, set_cookie};
use crate::support::watcher::Watcher;
use crate::support::{Gateway, Reply};

const PUBLIC: &str = "https://tide.example.com";
const APP: &str = "https://app.example.com";
const EVIL: &str = "https://evil.example";

/// Signs in from a page of this origin.
async fn sign_in(outsider: &Outsider, origin: &str) -> Reply {
    let body = json!({"user": "ada", "password": PASSWORD});
    let request = outsider.request(Method::POST, "/v1/sessions").json(&body);
    Reply::to(request.header("origin", origin)).await
}

fn cookie_in(reply: &Reply) -> String {
    set_cookie(reply).split(';').next().expect("the cookie itself").to_owned()
}

#[tokio::test]
async fn behind_a_proxy_that_changes_host_one_is_told_what_helps() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let cookie = outsider.cookie_of("ada").await;
    // The proxy sends the address on that it connects to, as nginx does unless told otherwise.
    let host = gateway.address();
    let told = |problem: &Value| {
        assert_eq!((&problem["origin"], &problem["host"]), (&json!(PUBLIC), &json!(host)));
        let detail = problem["detail"].as_str().unwrap();
        for part in [PUBLIC, host, &format!("TIDEGATE_PUBLIC_URL={PUBLIC}")] {
            assert!(detail.contains(part), "{detail}");
        }
    };
    told(&sign_in(&outsider, PUBLIC).await.problem(403, "foreign_origin"));
    let ours = |method, path| {
        let request = outsider.request(method, path);
        Reply::to(request.header("cookie", &cookie).header("origin", PUBLIC))
    };
    told(&ours(Method::DELETE, "/v1/sessions").await.problem(403, "foreign_origin"));
    told(&ours(Method::POST, "/v1/monitor/tickets").await.problem(403, "foreign_origin"));
    // What a page asks that was not let in.
    told(&ours(Method::POST, "/v1/monitor?mode=full").await.problem(403, "foreign_origin"));
    let headers = [("cookie", cookie.as_str()), ("origin", PUBLIC)];
    let refused = Watcher::come(&gateway, "", &headers).await.map(drop).unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (403, "foreign_origin"));
}

#[tokio::test]
async fn pages_of_the_public_url_are_our_own_whatever_host_the_proxy_sends() {
    let gateway = Gateway::with(&["--public-url=https://Tide.example.com/"]).await;
    add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let reply = sign_in(&outsider, PUBLIC).await;
    assert!(set_cookie(&reply).contains("; Secure"), "the browser came by https");
    let cookie = cookie_in(&reply);
    let request = |method, path, origin| {
        let request = outsider.request(method, path);
        request.header("cookie", &cookie).header("origin", origin)
    };
    let create = |name: &str, origin| {
        Reply::to(request(Method::POST, "/v1/streams", origin).json(&json!({"name": name})))
    };
    create("ours", PUBLIC).await.expect(201);
    let own_address = format!("http://{}", gateway.address());
    create("inside", own_address.as_str()).await.expect(201);
    for origin in [EVIL, "http://tide.example.com", "https://tide.example.com:8443", "null"] {
        create("forged", origin).await.problem(403, "foreign_origin");
        sign_in(&outsider, origin).await.problem(403, "foreign_origin");
    }
    Reply::to(request(Method::POST, "/v1/monitor", PUBLIC)).await.expect(204);
    let headers = [("cookie", cookie.as_str()), ("origin", PUBLIC)];
    let mut watcher = Watcher::come(&gateway, "", &headers).await.expect("our own page may watch");
    watcher.until("hello", |it| !it.messages.is_empty()).await;
    Reply::to(request(Method::DELETE, "/v1/sessions", PUBLIC)).await.expect(204);
    // Being our own is not being open to scripts of others.
    let reply =
        Reply::to(gateway.request(Method::GET, "/v1/streams").header("origin", PUBLIC)).await;
    assert_eq!(shown_to(&reply.headers), None);
}

/// Whose scripts may read an answer.
fn shown_to(headers: &HeaderMap) -> Option<&str> {
    assert!(!headers.contains_key("access-control-allow-credentials"), "never with cookies");
    headers.get("access-control-allow-origin").map(|origin| origin.to_str().unwrap())
}

/// Whether a list in a header has this word.
fn lists(headers: &HeaderMap, name: &str, word: &str) -> bool {
    let list = headers.get(name).map(|list| list.to_str().unwrap()).unwrap_or_default();
    list.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// What a browser asks before it sends a request from a page.
async fn preflight(outsider: &Outsider, origin: &str, method: &str, path: &str) -> Reply {
    let request = outsider.request(Method::OPTIONS, path).header("origin", origin);
    let request = request.header("access-control-request-method", method);
    let headers = "authorization,content-type,idempotency-key";
    Reply::to(request.header("access-control-request-headers", headers)).await
}

#[tokio::test]
async fn pages_of_an_allowed_origin_send_watch_and_read() {
    let gateway =
        Gateway::with(&["--allowed-origins=https://app.example.com, http://localhost:5173"]).await;
    gateway.create_stream(&json!({"name": "mine"})).await;
    let outsider = Outsider::of(&gateway);
    let records = "/v1/streams/mine/records";
    for (method, path) in [
        ("POST", records),
        ("GET", records),
        ("POST", "/v1/monitor/tickets"),
        ("GET", "/v1/monitor/events"),
        ("GET", "/v1/streams"),
        ("GET", "/v1/streams/mine"),
    ] {
        for origin in [APP, "http://localhost:5173"] {
            let reply = preflight(&outsider, origin, method, path).await;
            assert_eq!(reply.status, 200, "{method} {path}: {}", reply.body);
            assert_eq!(shown_to(&reply.headers), Some(origin), "{path}");
            assert!(lists(&reply.headers, "access-control-allow-methods", method), "{path}");
            for header in ["authorization", "content-type", "content-encoding", "idempotency-key"] {
                assert!(lists(&reply.headers, "access-control-allow-headers", header), "{header}");
            }
            assert!(lists(&reply.headers, "vary", "origin"), "caches tell origins apart");
        }
        assert_eq!(shown_to(&preflight(&outsider, EVIL, method, path).await.headers), None);
    }
    let send = |query: &str, origin| {
        let request = gateway.request(Method::POST, &format!("{records}{query}"));
        Reply::to(request.header("origin", origin).json(&json!({"n": 1})))
    };
    for (query, status) in [("", 202), ("?ack=commit", 201), ("?ack=never", 400)] {
        let reply = send(query, APP).await;
        assert_eq!((reply.status, shown_to(&reply.headers)), (status, Some(APP)), "{}", reply.body);
        for header in ["retry-after", "idempotency-replayed"] {
            assert!(lists(&reply.headers, "access-control-expose-headers", header), "{header}");
        }
    }
    // A token is let in from anywhere; what it is told is the page's affair.
    let reply = send("", EVIL).await;
    assert_eq!((reply.status, shown_to(&reply.headers)), (202, None));
    let anonymous = outsider.request(Method::GET, records).header("origin", APP);
    let reply = Reply::to(anonymous).await;
    assert_eq!(shown_to(&reply.headers), Some(APP), "a page reads why it is refused");
    reply.problem(401, "missing_credentials");
    let request = gateway.request(Method::POST, "/v1/monitor/tickets").header("origin", APP);
    let reply = Reply::to(request).await;
    assert_eq!(shown_to(&reply.headers), Some(APP));
    let ticket = reply.expect(201)["ticket"].as_str().unwrap().to_owned();
    let path = format!("/v1/monitor/events?streams=mine&ticket={ticket}");
    let mut events = Events::of(outsider.request(Method::GET, &path).header("origin", APP)).await;
    assert_eq!(shown_to(events.headers()), Some(APP));
    assert!(events.until("hello", |it| !it.messages.is_empty()).await);
}

#[tokio::test]
async fn an_allowed_origin_gets_nothing_by_a_cookie_and_nothing_else_is_open() {
    let gateway = Gateway::with(&["--allowed-origins=https://app.example.com"]).await;
    gateway.create_stream(&json!({"name": "mine"})).await;
    add_user(&gateway, "ada", "admin").await;
    let outsider = Outsider::of(&gateway);
    let cookie = outsider.cookie_of("ada").await;
    let with_cookie = |method, path: &str| {
        let request = outsider.request(method, path).header("origin", APP);
        request.header("cookie", &cookie)
    };
    for path in ["/v1/streams/mine/records", "/v1/monitor/tickets", "/v1/monitor"] {
        let reply = Reply::to(with_cookie(Method::POST, path).json(&json!({"n": 1}))).await;
        shown_to(&reply.headers);
        reply.problem(403, "foreign_origin");
    }
    let events = Reply::to(with_cookie(Method::GET, "/v1/monitor/events")).await;
    events.problem(403, "foreign_origin");
    let headers = [("cookie", cookie.as_str()), ("origin", APP)];
    let socket = Watcher::come(&gateway, "", &headers).await.map(drop);
    assert_eq!(socket.unwrap_err().code, "foreign_origin");
    // Without `Access-Control-Allow-Credentials` a browser does not show the page what a cookie brought.
    let reply = Reply::to(with_cookie(Method::GET, "/v1/streams")).await;
    shown_to(&reply.headers);
    sign_in(&outsider, APP).await.problem(403, "foreign_origin");

    for (method, path) in [
        ("GET", "/v1/sessions"),
        ("POST", "/v1/sessions"),
        ("GET", "/v1/users"),
        ("POST", "/v1/tokens"),
        ("GET", "/v1/quarantine"),
        ("GET", "/v1/configuration"),
        ("GET", "/v1/status"),
        ("POST", "/v1/streams/infer"),
        ("POST", "/v1/polling-jobs"),
    ] {
        let asked = preflight(&outsider, APP, method, path).await;
        assert_eq!((asked.status, shown_to(&asked.headers)), (405, None), "{path}");
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let sent = Reply::to(gateway.request(method, path).header("origin", APP)).await;
        assert_eq!(shown_to(&sent.headers), None, "{path}");
    }
    // Nor may it change what it may read.
    for method in ["PATCH", "DELETE"] {
        let reply = preflight(&outsider, APP, method, "/v1/streams/mine").await;
        assert!(!lists(&reply.headers, "access-control-allow-methods", method), "{method}");
    }
}

#[tokio::test]
async fn every_origin_may_be_allowed() {
    let gateway = Gateway::with(&["--allowed-origins=*"]).await;
    gateway.create_stream(&json!({"name": "mine"})).await;
    let outsider = Outsider::of(&gateway);
    let asked = preflight(&outsider, EVIL, "POST", "/v1/streams/mine/records").await;
    assert_eq!(shown_to(&asked.headers), Some("*"));
    let request = gateway.request(Method::GET, "/v1/streams/mine/records").header("origin", "null");
    let reply = Reply::to(request).await;
    assert_eq!(shown_to(&reply.headers), Some("*"));
    reply.expect(200);
}
