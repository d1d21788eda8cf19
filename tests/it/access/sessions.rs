//! Browsers: sessions and their cookie, requests that other sites make a browser send, and tickets.

use reqwest::Method;
use serde_json::{Value, json};
use tidegate_record::clock::Clock;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::monitors::events::Events;
use crate::support::people::{COOKIE, Outsider, PASSWORD, Token, add_user, set_cookie};
use crate::support::watcher::{End, Refusal, Watcher};
use crate::support::{Gateway, Reply, eventually};

#[tokio::test]
async fn a_session_is_a_cookie_out_of_reach_of_scripts_and_other_sites() {
    let gateway = Gateway::with(&["--session-hours=2"]).await;
    let id = add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let reply = outsider.sign_in("ada", PASSWORD).await;
    let header = set_cookie(&reply);
    let user = json!({"id": id, "name": "ada", "email": null, "role": "member"});
    assert_eq!(reply.expect(201), json!({"user": user}));
    let (cookie, attributes) = header.split_once("; ").unwrap();
    let mut attributes: Vec<&str> = attributes.split("; ").collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["HttpOnly", "Max-Age=7200", "Path=/", "SameSite=Lax"]);
    let secret = cookie.strip_prefix(COOKIE).unwrap().strip_prefix('=').unwrap();
    assert!(secret.len() >= 40, "{} characters", secret.len());
    let who = outsider.who_by_cookie(cookie).await.expect(200);
    assert_eq!((&who["user"], &who["streams"]), (&user, &Value::Null));
    let kept: bool = gateway
        .scalar(format!(
            "select exists (select from tidegate.sessions s where s::text like '%{secret}%')"
        ))
        .await;
    assert!(!kept, "only hashes are kept");
    outsider.who_by_cookie(&format!("{cookie}x")).await.problem(401, "invalid_session");
    outsider.who_by_cookie(&format!("{COOKIE}=")).await.problem(401, "missing_credentials");
    // Behind a proxy with TLS that is trusted to say so, the cookie never travels in the clear.
    let secure = Gateway::with(&["--trust-forwarded-proto=true"]).await;
    add_user(&secure, "ada", "member").await;
    let body = json!({"user": "ada", "password": PASSWORD});
    let request = Outsider::of(&secure).request(Method::POST, "/v1/sessions").json(&body);
    let header = set_cookie(&Reply::to(request.header("x-forwarded-proto", "https")).await);
    assert!(header.contains("; Secure"), "{header}");
}

#[tokio::test]
async fn signing_in_takes_the_right_password() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let wrong = outsider.sign_in("ada", "correct horse").await;
    assert!(!wrong.headers.contains_key("set-cookie"));
    let wrong = wrong.problem(401, "invalid_password");
    let unknown = outsider.sign_in("eve", PASSWORD).await.problem(401, "invalid_password");
    assert_eq!(wrong, unknown, "who exists is not told");
    let request = outsider.request(Method::POST, "/v1/sessions").json(&json!({"user": "ada"}));
    let problem = Reply::to(request).await.problem(422, "invalid_body");
    assert!(problem["detail"].as_str().unwrap().contains("password"), "{problem}");
    let request = outsider.request(Method::POST, "/v1/sessions").body("user=ada");
    Reply::to(request).await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn a_session_ends_when_it_is_signed_out_or_its_time_is_over() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let own_page = format!("http://{}", gateway.address());
    let sign_out = |cookie: &str, origin: &str| {
        let request = outsider.request(Method::DELETE, "/v1/sessions");
        request.header("cookie", cookie).header("origin", origin)
    };
    let (first, second) = (outsider.cookie_of("ada").await, outsider.cookie_of("ada").await);
    assert_ne!(first, second);
    outsider.who_by_cookie(&first).await.expect(200);
    Reply::to(sign_out(&first, "https://evil.example")).await.problem(403, "foreign_origin");
    outsider.who_by_cookie(&first).await.expect(200);

    let reply = Reply::to(sign_out(&first, &own_page)).await;
    let header = set_cookie(&reply);
    assert!(header.starts_with(&format!("{COOKIE}=;")) && header.contains("Max-Age=0"), "{header}");
    reply.expect(204);
    outsider.who_by_cookie(&first).await.problem(401, "invalid_session");
    Reply::to(sign_out(&first, &own_page)).await.expect(204);
    outsider.who_by_cookie(&second).await.expect(200);

    gateway.execute("update tidegate.sessions set expires_at = now() - interval '1 second'").await;
    // What was looked up a moment ago is remembered for seconds.
    eventually("the session is over", async || {
        let reply = outsider.who_by_cookie(&second).await;
        (reply.status != 200).then(|| reply.problem(401, "invalid_session"))
    })
    .await;
}

/// What is on its way with a session's cookie, at one gateway.
struct Watching {
    socket: Watcher,
    events: Events,
    by_ticket: Watcher,
    unused_ticket: String,
}

impl Watching {
    async fn begin(gateway: &Gateway, cookie: &str) -> Watching {
        let outsider = Outsider::of(gateway);
        let own_page = format!("http://{}", gateway.address());
        let from_page = |method, path: &str| {
            let request = outsider.request(method, path);
            request.header("cookie", cookie).header("origin", &own_page)
        };
        let ticket = async || {
            let request = from_page(Method::POST, "/v1/monitor/tickets");
            Reply::to(request).await.expect(201)["ticket"].as_str().unwrap().to_owned()
        };
        let headers = [("cookie", cookie), ("origin", own_page.as_str())];
        let query = format!("ticket={}", ticket().await);
        let socket = Watcher::come(gateway, "", &headers).await.expect("a session may watch");
        let by_ticket = Watcher::come(gateway, &query, &[]).await.expect("a ticket opens");
        let mut events = Events::of(from_page(Method::GET, "/v1/monitor/events")).await;
        assert!(events.until("hello", |it| !it.messages.is_empty()).await);
        Watching { socket, events, by_ticket, unused_ticket: ticket().await }
    }

    async fn ends(mut self, gateway: &Gateway) {
        assert_eq!(self.socket.end().await, End::Closed(1008));
        assert_eq!(self.by_ticket.end().await, End::Closed(1008));
        assert!(!self.events.until("the end", |_| false).await);
        assert_eq!(self.events.messages.last().unwrap()["code"], "forbidden");
        let query = format!("ticket={}", self.unused_ticket);
        let Err(Refusal { status, code }) = Watcher::come(gateway, &query, &[]).await else {
            panic!("a ticket outlives its session")
        };
        assert_eq!((status, code.as_str()), (401, "invalid_ticket"));
    }
}

/// It went on for as long as the connection did, on the gateway where it was signed out, too.
#[tokio::test]
async fn what_watches_with_a_session_ends_with_it_on_every_gateway() {
    let gateway = Gateway::start().await;
    let other = Gateway::on(gateway.database_url(), &[]).await;
    add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let (first, second) = (outsider.cookie_of("ada").await, outsider.cookie_of("ada").await);
    let own_page = format!("http://{}", gateway.address());
    let headers = [("cookie", second.as_str()), ("origin", own_page.as_str())];
    let mut goes_on = Watcher::come(&gateway, "", &headers).await.expect("a session may watch");

    let watching = (Watching::begin(&gateway, &first).await, Watching::begin(&other, &first).await);
    let request = outsider.request(Method::DELETE, "/v1/sessions").header("cookie", &first);
    Reply::to(request.header("origin", &own_page)).await.expect(204);
    watching.0.ends(&gateway).await;
    watching.1.ends(&other).await;
    gateway.commit("flights", &json!({"n": 1})).await;
    goes_on.until("a record", |it| it.data("flights", "n") == [1]).await;

    // The time of a session is over.
    let watching =
        (Watching::begin(&gateway, &second).await, Watching::begin(&other, &second).await);
    gateway.execute("update tidegate.sessions set expires_at = now() - interval '1 second'").await;
    watching.0.ends(&gateway).await;
    watching.1.ends(&other).await;

    // A new password, at the other gateway.
    let third = outsider.cookie_of("ada").await;
    let watching = (Watching::begin(&gateway, &third).await, Watching::begin(&other, &third).await);
    let who = outsider.who_by_cookie(&third).await.expect(200);
    let change = json!({"password": "another password"});
    other.patch(&format!("/v1/users/{}", who["user"]["id"]), &change).await.expect(200);
    watching.0.ends(&gateway).await;
    watching.1.ends(&other).await;
}

/// A session's cookie alone was enough.
#[tokio::test]
async fn a_session_changes_its_password_only_with_the_one_so_far() {
    let gateway = Gateway::start().await;
    let ada = add_user(&gateway, "ada", "member").await;
    let grace = add_user(&gateway, "grace", "admin").await;
    let outsider = Outsider::of(&gateway);
    let own_page = format!("http://{}", gateway.address());
    let change = |cookie: &str, id: i64, body: Value| {
        let request = outsider.request(Method::PATCH, &format!("/v1/users/{id}")).json(&body);
        Reply::to(request.header("cookie", cookie).header("origin", &own_page))
    };
    for (id, name) in [(ada, "ada"), (grace, "grace")] {
        let cookie = outsider.cookie_of(name).await;
        let new = json!({"password": "another password"});
        let problem = change(&cookie, id, new).await.problem(422, "invalid_field");
        assert_eq!(problem["field"], "current_password");
        let detail = "your password so far is needed, too (current_password)";
        assert_eq!(problem["detail"], detail);
        let wrong = json!({"password": "another password", "current_password": "a guess at it"});
        let problem = change(&cookie, id, wrong).await.problem(403, "wrong_current_password");
        assert_eq!(problem["field"], "current_password");
        assert_eq!(problem["detail"], "this is not your password so far");
        outsider.who_by_cookie(&cookie).await.expect(200);
        change(&cookie, id, json!({"email": "a@example.com"})).await.expect(200);
        let right = json!({"password": "another password", "current_password": PASSWORD});
        change(&cookie, id, right).await.expect(200);
        outsider.who_by_cookie(&cookie).await.problem(401, "invalid_session");
        outsider.who_by_password(name, "another password").await.expect(200);
    }
    // An admin sets another user's without knowing it.
    let reply = outsider.sign_in("grace", "another password").await;
    let cookie = set_cookie(&reply).split(';').next().unwrap().to_owned();
    change(&cookie, ada, json!({"password": PASSWORD})).await.expect(200);
    outsider.who_by_password("ada", PASSWORD).await.expect(200);
}

/// What a password's change does to tokens was not said.
#[tokio::test]
async fn tokens_outlive_a_password_unless_they_are_revoked_with_it() {
    let gateway = Gateway::start().await;
    let id = add_user(&gateway, "ada", "member").await;
    add_user(&gateway, "eve", "member").await;
    let outsider = Outsider::of(&gateway);
    let token = Token::of(&gateway, "ada", &["read"], json!({})).await;
    let other = Token::of(&gateway, "eve", &["read"], json!({})).await;
    let path = format!("/v1/users/{id}");
    gateway.patch(&path, &json!({"password": "another password"})).await.expect(200);
    outsider.who_by_token(&token.text).await.expect(200);
    let change = json!({"password": "a third password", "revoke_tokens": true});
    gateway.patch(&path, &change).await.expect(200);
    outsider.who_by_token(&token.text).await.problem(401, "invalid_token");
    outsider.who_by_token(&other.text).await.expect(200);
}

#[tokio::test]
async fn a_new_password_ends_all_sessions() {
    let gateway = Gateway::start().await;
    let id = add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let cookie = outsider.cookie_of("ada").await;
    outsider.who_by_cookie(&cookie).await.expect(200);
    let change = json!({"password": "another password"});
    gateway.patch(&format!("/v1/users/{id}"), &change).await.expect(200);
    outsider.who_by_cookie(&cookie).await.problem(401, "invalid_session");
}

#[tokio::test]
async fn a_cookie_speaks_only_for_our_own_pages() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let cookie = outsider.cookie_of("ada").await;
    let own_page = format!("http://{}", gateway.address());
    let other_port = "http://127.0.0.1:1";
    let create = |name: &str, header: &str, value: &str| {
        let request = outsider.request(Method::POST, "/v1/streams").json(&json!({"name": name}));
        Reply::to(request.header("cookie", &cookie).header(header, value))
    };
    for (header, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", other_port),
        ("origin", ""),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("x-nothing", "is said"),
    ] {
        create("forged", header, value).await.problem(403, "foreign_origin");
    }
    create("own", "origin", &own_page).await.expect(201);
    create("own_too", "sec-fetch-site", "same-origin").await.expect(201);
    let records = |origin: &str| {
        let request =
            outsider.request(Method::POST, "/v1/streams/own/records").json(&json!({"n": 1}));
        Reply::to(request.header("cookie", &cookie).header("origin", origin.to_owned()))
    };
    records("https://evil.example").await.problem(403, "foreign_origin");
    records(&own_page).await.expect(202);
    // Reading does no harm: the other site does not get to see the answer.
    let request = outsider.request(Method::GET, "/v1/streams").header("cookie", &cookie);
    let reply = Reply::to(request.header("origin", "https://evil.example")).await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
    let names: Vec<Value> = reply.expect(200)["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].clone())
        .collect();
    assert_eq!(names, ["own", "own_too"]);
    // Who sends a token means it.
    let request = gateway.request(Method::POST, "/v1/streams").json(&json!({"name": "meant"}));
    Reply::to(request.header("origin", "https://evil.example")).await.expect(201);
    // No browser is signed in as another user from another site.
    let body = json!({"user": "ada", "password": PASSWORD});
    let request = outsider.request(Method::POST, "/v1/sessions").json(&body);
    Reply::to(request.header("origin", "https://evil.example"))
        .await
        .problem(403, "foreign_origin");
}

#[tokio::test]
async fn a_cookie_opens_a_monitor_only_from_our_own_pages() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let cookie = outsider.cookie_of("ada").await;
    let own_page = format!("http://{}", gateway.address());
    let come = |origin: Option<&str>| {
        let mut headers = vec![("cookie", cookie.clone())];
        headers.extend(origin.map(|origin| ("origin", origin.to_owned())));
        let gateway = &gateway;
        async move {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Watcher::come(gateway, "", &headers).await
        }
    };
    for origin in [Some("https://evil.example"), Some("null"), Some("http://127.0.0.1:1"), None] {
        let Err(Refusal { status, code }) = come(origin).await else {
            panic!("{origin:?} was let in")
        };
        assert_eq!((status, code.as_str()), (403, "foreign_origin"), "{origin:?}");
        let mut request =
            outsider.request(Method::GET, "/v1/monitor/events").header("cookie", &cookie);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        Reply::to(request).await.problem(403, "foreign_origin");
    }
    let mut watcher = come(Some(&own_page)).await.expect("our own page may watch");
    watcher.until("hello", |watcher| watcher.of_type("hello").count() == 1).await;
}

#[tokio::test]
async fn a_ticket_opens_one_monitor_once_and_nothing_else() {
    let gateway = Gateway::start().await;
    for name in ["mine", "other"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    add_user(&gateway, "ada", "member").await;
    let token = Token::of(&gateway, "ada", &["monitor"], json!({"streams": ["mine"]})).await;
    let client = gateway.with_token(&token.text);
    let ticket = async || {
        let reply = client.post("/v1/monitor/tickets", &json!({})).await.expect(201);
        let expires_at =
            OffsetDateTime::parse(reply["expires_at"].as_str().unwrap(), &Rfc3339).unwrap();
        let left = expires_at - Clock::System.now().date_time();
        assert!((50.0..=60.0).contains(&left.as_seconds_f64()), "{left}");
        reply["ticket"].as_str().unwrap().to_owned()
    };
    let come = async |query: String| {
        Watcher::come(&gateway, &query, &[("origin", "https://elsewhere.example")]).await
    };
    let refused = async |query: String| match come(query).await {
        Ok(_) => panic!("let in"),
        Err(Refusal { status, code }) => (status, code),
    };
    let good = ticket().await;
    let spent = format!("streams=mine&ticket={good}");
    let mut watcher = come(spent.clone()).await.expect("a ticket opens from anywhere");
    watcher.until("hello", |watcher| !watcher.messages.is_empty()).await;
    assert_eq!(watcher.messages[0]["streams"], json!(["mine"]));
    assert_eq!(refused(spent).await, (401, "invalid_ticket".to_owned()));
    assert_eq!(refused("ticket=made-up".to_owned()).await, (401, "invalid_ticket".to_owned()));
    assert_eq!(refused("ticket=".to_owned()).await, (401, "invalid_ticket".to_owned()));
    assert_eq!(refused(String::new()).await, (401, "missing_credentials".to_owned()));
    // It can do no more than who asked for it.
    let limited = format!("streams=other&ticket={}", ticket().await);
    assert_eq!(refused(limited).await, (403, "stream_not_allowed".to_owned()));
    let outsider = Outsider::of(&gateway);
    let path = format!("/v1/streams?ticket={}", ticket().await);
    Reply::to(outsider.request(Method::GET, &path)).await.problem(401, "missing_credentials");
}

#[tokio::test]
async fn a_ticket_opens_nothing_once_its_token_is_revoked() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "mine"})).await;
    add_user(&gateway, "ada", "member").await;
    let token = Token::of(&gateway, "ada", &["monitor"], json!({})).await;
    let client = gateway.with_token(&token.text);
    let ticket =
        async || client.post("/v1/monitor/tickets", &json!({})).await.expect(201)["ticket"].clone();
    let (used, unused) = (ticket().await, ticket().await);
    let query = |ticket: &Value| format!("ticket={}", ticket.as_str().unwrap());
    let mut watcher = Watcher::come(&gateway, &query(&used), &[]).await.expect("a ticket opens");
    watcher.until("hello", |watcher| !watcher.messages.is_empty()).await;
    gateway.delete(&format!("/v1/tokens/{}", token.id)).await.expect(204);
    let Err(Refusal { status, code }) = Watcher::come(&gateway, &query(&unused), &[]).await else {
        panic!("let in")
    };
    assert_eq!((status, code.as_str()), (401, "invalid_ticket"));
    assert_eq!(watcher.end().await, End::Closed(1008), "a monitor that came with a ticket");
}
