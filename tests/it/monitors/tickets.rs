//! Tickets: what uses one up and what does not, and an event stream that is resumed with its own.

use reqwest::Method;
use serde_json::{Value, json};

use crate::monitors::events::Events;
use crate::support::people::{Outsider, Token, add_user};
use crate::support::watcher::{Refusal, Watcher};
use crate::support::{Client, Gateway, Reply, eventually};

/// The headers of a WebSocket's request.
const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

async fn ticket_of(client: &Client) -> String {
    let reply = client.post("/v1/monitor/tickets", &json!({})).await.expect(201);
    reply["ticket"].as_str().unwrap().to_owned()
}

/// Asks for a WebSocket with headers that are changed.
async fn upgrade(outsider: &Outsider, query: &str, changes: &[(&str, &str)]) -> Reply {
    let mut request = outsider.request(Method::GET, &format!("/v1/monitor?{query}"));
    let kept = UPGRADE.iter().filter(|(name, _)| changes.iter().all(|(other, _)| other != name));
    for (name, value) in kept.chain(changes) {
        request = request.header(*name, *value);
    }
    Reply::to(request).await
}

#[tokio::test]
async fn a_refused_monitor_leaves_its_ticket_as_it_was() {
    let gateway = Gateway::with(&["--monitors-max=1"]).await;
    gateway.create_stream(&json!({"name": "mine"})).await;
    let outsider = Outsider::of(&gateway);
    let ticket = ticket_of(&gateway).await;
    let query = |rest: &str| format!("ticket={ticket}{rest}");

    let version = upgrade(&outsider, &query(""), &[("sec-websocket-version", "8")]).await;
    assert_eq!(version.headers["sec-websocket-version"], "13");
    assert_eq!(version.headers["upgrade"], "websocket");
    version.problem(426, "unknown_websocket_version");
    let protocol = [("sec-websocket-protocol", "tg_secret, graphql-ws")];
    let problem =
        upgrade(&outsider, &query(""), &protocol).await.problem(400, "unknown_subprotocol");
    assert!(!problem.to_string().contains("tg_secret"), "no token is repeated: {problem}");
    upgrade(&outsider, &query(""), &[("upgrade", "h2c")]).await.problem(400, "not_an_upgrade");
    upgrade(&outsider, &query("&mode=all"), &[]).await.problem(400, "invalid_monitor_request");
    upgrade(&outsider, &query("&streams=nowhere"), &[]).await.problem(404, "no_such_stream");
    let events = |rest: &str| {
        let path = format!("/v1/monitor/events?{}", query(rest));
        Reply::to(outsider.request(Method::GET, &path))
    };
    events("&mode=all").await.problem(400, "invalid_monitor_request");
    events("&streams=nowhere").await.problem(404, "no_such_stream");
    let check = |rest: &str| {
        let path = format!("/v1/monitor?{}", query(rest));
        Reply::to(outsider.request(Method::POST, &path))
    };
    check("").await.expect(204);

    let first = Watcher::local(&gateway, "").await;
    upgrade(&outsider, &query(""), &[]).await.problem(503, "no_more_monitors");
    events("").await.problem(503, "no_more_monitors");
    assert!(check("").await.retry_after_seconds() >= 1);
    check("").await.problem(503, "no_more_monitors");
    drop(first);
    eventually("the place is free again", async || {
        let reply = check("").await;
        (reply.status == 204).then_some(())
    })
    .await;
    // The one name that is spoken is said back: without it this client would hang up, as browsers do.
    let named = [("sec-websocket-protocol", "graphql-ws, tidegate")];
    let mut watcher = Watcher::come(&gateway, &query(""), &named).await.expect("it was good");
    watcher.until("hello", |it| !it.messages.is_empty()).await;
    let Err(Refusal { status, code }) = Watcher::come(&gateway, &query(""), &[]).await else {
        panic!("let in twice")
    };
    assert_eq!((status, code.as_str()), (401, "invalid_ticket"));
    check("").await.problem(401, "invalid_ticket");
}

#[tokio::test]
async fn an_event_stream_is_resumed_with_the_ticket_that_opened_it() {
    let gateway = Gateway::start().await;
    for name in ["mine", "other"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    add_user(&gateway, "ada", "member").await;
    let token = Token::of(&gateway, "ada", &["monitor"], json!({})).await;
    let ticket = ticket_of(&gateway.with_token(&token.text)).await;
    let outsider = Outsider::of(&gateway);
    let send = async |n: i64| {
        gateway.records("mine").json(&json!({"n": n})).send().await.expect(202);
    };
    let address = format!("streams=mine&ticket={ticket}");
    let ask = |query: &str, last_id: Option<&str>| {
        let request = outsider.request(Method::GET, &format!("/v1/monitor/events?{query}"));
        match last_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        }
    };
    let mut events = Events::of(ask(&address, None)).await;
    send(0).await;
    assert!(events.until("a record", |it| it.numbers("mine") == [0]).await);
    for n in 1..4 {
        // The connection breaks, and the browser comes again with the address that it was given.
        let last_id = events.last_id().to_owned();
        drop(events);
        send(n).await;
        events = Events::of(ask(&address, Some(&last_id))).await;
        assert!(events.until("what was missed", |it| it.numbers("mine") == [n]).await);
        assert_eq!(events.of_type("gap").count(), 0);
    }

    // It resumes this stream and does nothing else.
    let id = events.last_id().to_owned();
    for (query, last_id) in [
        (address.clone(), None),
        (format!("ticket={ticket}"), Some(id.as_str())),
        (format!("streams=mine,other&ticket={ticket}"), Some(&id)),
        (format!("streams=mine&mode=sample&ticket={ticket}"), Some(&id)),
    ] {
        Reply::to(ask(&query, last_id)).await.problem(401, "invalid_ticket");
    }
    let socket = Watcher::come(&gateway, &address, &[]).await.map(drop);
    assert_eq!(socket.map_err(|refusal| refusal.status), Err(401));
    send(4).await;
    assert!(events.until("it was not disturbed", |it| it.numbers("mine").contains(&4)).await);

    // Who goes on with it has it alone.
    let mut second = Events::of(ask(&address, Some(&id))).await;
    assert!(!events.until("the end", |_| false).await);
    assert_eq!(events.messages.last().unwrap()["code"], "forbidden");
    assert!(second.until("the record", |it| it.numbers("mine") == [4]).await);
    gateway.delete(&format!("/v1/tokens/{}", token.id)).await.expect(204);
    let refused = Reply::to(ask(&address, Some(&id))).await;
    let problem: Value = refused.problem(401, "invalid_ticket");
    assert!(problem["detail"].as_str().unwrap().contains("Last-Event-ID"), "{problem}");
}
