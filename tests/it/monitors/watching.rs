//! Connections of monitors: who is refused and how, what a monitor that misbehaves brings about, and how each ends.

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::Message;

use crate::support::people::{Outsider, Token, add_user};
use crate::support::watcher::{End, Refusal, Watcher};
use crate::support::{Gateway, Reply, eventually, soon};

/// A gateway with a stream, and a monitor that must not notice anything of what happens to others.
async fn with_bystander() -> (Gateway, Watcher) {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "stream"})).await;
    let bystander = Watcher::local(&gateway, "").await;
    (gateway, bystander)
}

/// Sends a record, which the bystander must see after all before it.
async fn assert_unaffected(gateway: &Gateway, bystander: &mut Watcher) {
    let n = i64::try_from(bystander.records("stream").len()).unwrap();
    gateway.records("stream").json(&json!({"n": n})).send().await.expect(202);
    bystander.until("the next record", |it| it.data("stream", "n").last() == Some(&n)).await;
    assert_eq!(bystander.data("stream", "n"), (0..=n).collect::<Vec<i64>>());
}

#[tokio::test]
async fn who_may_not_watch_is_refused_before_the_upgrade() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "mine"})).await;
    gateway.create_stream(&json!({"name": "other"})).await;
    add_user(&gateway, "ada", "member").await;
    let blind = Token::of(&gateway, "ada", &["ingest", "read"], json!({})).await;
    let limited = Token::of(&gateway, "ada", &["monitor"], json!({"streams": ["mine"]})).await;
    let local = gateway.token().to_owned();
    let unknown = format!("tg_{}", "A".repeat(43));
    let names = vec!["mine"; 1_001].join(",");
    for (token, query, status, code) in [
        (&unknown, "", 401, "invalid_token"),
        (&blind.text, "", 403, "missing_scope"),
        (&limited.text, "streams=other", 403, "stream_not_allowed"),
        (&limited.text, "streams=mine,nowhere", 403, "stream_not_allowed"),
        (&local, "streams=nowhere", 404, "no_such_stream"),
        (&local, "streams=mine,nowhere", 404, "no_such_stream"),
        (&local, "streams=Mine", 400, "invalid_monitor_request"),
        (&local, "streams=", 400, "invalid_monitor_request"),
        (&local, &format!("streams={names}"), 400, "invalid_monitor_request"),
        (&local, "mode=all", 400, "invalid_monitor_request"),
        (&local, "since=yesterday", 400, "invalid_monitor_request"),
        (&local, "since=00000000.", 400, "invalid_monitor_request"),
        (&local, "since=%00%ff", 400, "invalid_monitor_request"),
        (&local, "steams=mine", 400, "invalid_monitor_request"),
    ] {
        let Refusal { status: found, code: found_code } =
            Watcher::refused(&gateway, token, query).await;
        assert_eq!((found, found_code.as_str()), (status, code), "{query}");
        let path = format!("/v1/monitor/events?{query}");
        let reply = Reply::to(gateway.with_token(token).request(Method::GET, &path)).await;
        reply.problem(status, code);
    }
    let outsider = Outsider::of(&gateway);
    Reply::to(outsider.request(Method::GET, "/v1/monitor/events"))
        .await
        .problem(401, "missing_credentials");
    assert_eq!(gateway.get("/v1/status").await.expect(200)["monitors"], 0);
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_told_so_like_any_mistake() {
    let gateway = Gateway::start().await;
    let reply = gateway.get("/v1/monitor").await;
    assert!((400..500).contains(&reply.status), "{}", reply.status);
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{}", reply.body);
}

#[tokio::test]
async fn there_are_no_more_monitors_than_may_be() {
    let gateway = Gateway::with(&["--monitors-max=2"]).await;
    let first = Watcher::local(&gateway, "").await;
    let _second = Watcher::local(&gateway, "").await;
    let refusal = Watcher::refused(&gateway, gateway.token(), "").await;
    assert_eq!((refusal.status, refusal.code.as_str()), (503, "no_more_monitors"));
    let reply = gateway.get("/v1/monitor/events").await;
    assert!(reply.retry_after_seconds() >= 1);
    reply.problem(503, "no_more_monitors");
    drop(first);
    eventually("the place is free again", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        (status["monitors"] == 1).then_some(())
    })
    .await;
    Watcher::local(&gateway, "").await;
}

/// Before: one token could have all places, and no other user watched.
#[tokio::test]
async fn one_user_leaves_places_for_monitors_to_others() {
    let gateway = Gateway::with(&["--monitors-max=8"]).await;
    let mut own = Vec::new();
    for _ in 0..7 {
        own.push(Watcher::local(&gateway, "").await);
    }
    let refusal = Watcher::refused(&gateway, gateway.token(), "").await;
    assert_eq!((refusal.status, refusal.code.as_str()), (429, "too_many_monitors"));
    add_user(&gateway, "ada", "member").await;
    let token = Token::of(&gateway, "ada", &["monitor"], json!({})).await;
    let ada = Watcher::with_token(&gateway, &token.text, "").await;
    let refusal = Watcher::refused(&gateway, &token.text, "").await;
    assert_eq!((refusal.status, refusal.code.as_str()), (503, "no_more_monitors"));
    own.pop();
    drop(ada);
    eventually("their places are free again", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        (status["monitors"] == 6).then_some(())
    })
    .await;
    own.push(Watcher::local(&gateway, "").await);
    let refusal = Watcher::refused(&gateway, gateway.token(), "").await;
    assert_eq!((refusal.status, refusal.code.as_str()), (429, "too_many_monitors"));
}

#[tokio::test]
async fn a_monitor_that_talks_is_told_then_closed() {
    let (gateway, mut bystander) = with_bystander().await;
    let mut talker = Watcher::local(&gateway, "").await;
    for message in [
        Message::text("garbage"),
        Message::binary(vec![0, 159, 146, 150]),
        Message::text("{\"type\":\"ack\"}"),
    ] {
        talker.send(message).await;
    }
    talker.until("a complaint for each", |it| it.of_type("error").count() == 3).await;
    let complaint = talker.of_type("error").next().unwrap();
    assert_eq!(complaint["code"], "unexpected_message");
    assert!(complaint["message"].as_str().is_some_and(|text| !text.is_empty()));
    assert_unaffected(&gateway, &mut bystander).await;
    talker.until("it is still a monitor", |it| it.records("stream").len() == 1).await;
    talker.send(Message::text("once too often")).await;
    assert_eq!(talker.end().await, End::Closed(1008));
    assert_unaffected(&gateway, &mut bystander).await;
}

#[tokio::test]
async fn a_monitor_that_breaks_the_protocol_harms_no_other_monitor() {
    let (gateway, mut bystander) = with_bystander().await;
    let mut large = Watcher::local(&gateway, "").await;
    large.send(Message::binary(vec![7; 10 << 20])).await;
    assert_eq!(large.end().await, End::Closed(1009));
    assert_unaffected(&gateway, &mut bystander).await;

    // Reserved bits, an unknown kind of frame, no mask, text that is no text, a pong of half a terabyte.
    for (bytes, code) in [
        (&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x81\x01a", 1002),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x8a\xff\0\0\0\x80\0\0\0\0\0\0\0\0", 1009),
    ] {
        let mut broken = Watcher::local(&gateway, "").await;
        broken.line().write_all(bytes).await.expect("the gateway reads on");
        assert_eq!(broken.end().await, End::Closed(code), "{bytes:x?}");
    }
    assert_unaffected(&gateway, &mut bystander).await;
    // Who is just gone leaves nothing behind.
    drop(Watcher::local(&gateway, "").await);
    eventually("only the bystander is left", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        (status["monitors"] == 1).then_some(())
    })
    .await;
    assert_unaffected(&gateway, &mut bystander).await;
}

#[tokio::test]
async fn a_monitor_that_does_not_read_holds_up_no_other_and_is_told_what_it_missed() {
    const REQUESTS: usize = 60;
    const RECORDS: usize = 200;
    const TOTAL: u64 = (REQUESTS * RECORDS) as u64;
    let gateway = Gateway::with(&["--monitor-queue-bytes=262144"]).await;
    gateway.create_stream(&json!({"name": "stream"})).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    let bearer = format!("Bearer {}", gateway.token());
    let headers = [("authorization", bearer.as_str())];
    let slow = Watcher::come_on(socket, gateway.address(), "", &headers).await;
    let mut slow = slow.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let mut quick = Watcher::local(&gateway, "").await;

    let text = "x".repeat(1_000);
    let sending = async {
        for request in 0..REQUESTS {
            let lines: Vec<String> = (0..RECORDS)
                .map(|n| format!("{{\"n\":{},\"text\":\"{text}\"}}\n", request * RECORDS + n))
                .collect();
            gateway.records("stream").ndjson(lines.concat()).send().await.expect(202);
        }
    };
    let told = |it: &Watcher| it.records("stream").len() as u64 + it.missed("stream");
    tokio::join!(
        sending,
        quick.until("the quick one is told of everything", |it| told(it) >= TOTAL)
    );
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("stream").await, i64::try_from(TOTAL).unwrap());
    // Now it reads after all.
    slow.until("the slow one is told of everything", |it| told(it) >= TOTAL).await;
    assert_eq!(told(&slow), TOTAL);
    assert!(slow.missed("stream") > 0, "12 MB did not fit anywhere on the way");
    let seen = slow.data("stream", "n");
    assert!(seen.is_sorted_by(|left, right| left < right), "nothing twice, nothing out of order");
    // It is a monitor like any other again.
    gateway.records("stream").json(&json!({"n": TOTAL})).send().await.expect(202);
    let last = i64::try_from(TOTAL).unwrap();
    slow.until("the next record", |it| it.data("stream", "n").last() == Some(&last)).await;
}

#[tokio::test]
async fn a_monitor_that_never_reads_is_let_go() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "stream"})).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    let bearer = format!("Bearer {}", gateway.token());
    let stuck =
        Watcher::come_on(socket, gateway.address(), "", &[("authorization", &bearer)]).await;
    let mut stuck = stuck.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let lines = format!("{{\"text\":\"{}\"}}\n", "x".repeat(2_000)).repeat(10);
    eventually("the gateway gives up on it", async || {
        gateway.records("stream").ndjson(lines.clone()).send().await.expect(202);
        let status = gateway.get("/v1/status").await.expect(200);
        (status["monitors"] == 0).then_some(())
    })
    .await;
    let end = stuck.end().await;
    assert!(matches!(end, End::Closed(1013) | End::Broken), "{end:?}");
    gateway.wait_all_committed().await;
}

#[tokio::test]
async fn a_shutdown_closes_every_monitor_with_1001() {
    let mut gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "stream"})).await;
    let mut watchers =
        [Watcher::local(&gateway, "").await, Watcher::local(&gateway, "mode=sample").await];
    gateway.records("stream").json(&json!({"n": 1})).send().await.expect(202);
    for watcher in &mut watchers {
        watcher.until("the record", |it| it.records("stream").len() == 1).await;
    }
    gateway.ask_to_end();
    for watcher in &mut watchers {
        assert_eq!(watcher.end().await, End::Closed(1001));
    }
    assert_eq!(gateway.ended().await, 0);
}

#[tokio::test]
async fn who_may_watch_no_longer_is_closed_with_1008() {
    let (gateway, mut bystander) = with_bystander().await;
    let eve = add_user(&gateway, "eve", "member").await;
    add_user(&gateway, "ada", "member").await;
    let revoked = Token::of(&gateway, "ada", &["monitor"], json!({})).await;
    let disabled = Token::of(&gateway, "eve", &["monitor"], json!({})).await;
    let expired = Token::of(&gateway, "ada", &["monitor"], json!({"expires_in_seconds": 3})).await;
    let mut watchers = [
        Watcher::with_token(&gateway, &revoked.text, "").await,
        Watcher::with_token(&gateway, &disabled.text, "").await,
        Watcher::with_token(&gateway, &expired.text, "").await,
    ];
    let ada = gateway.with_token(&revoked.text);
    let events = ada.request(Method::GET, "/v1/monitor/events").send().await.unwrap();
    gateway.delete(&format!("/v1/tokens/{}", revoked.id)).await.expect(204);
    gateway.patch(&format!("/v1/users/{eve}"), &json!({"disabled": true})).await.expect(200);
    for watcher in &mut watchers {
        assert_eq!(watcher.end().await, End::Closed(1008));
    }
    let rest: Vec<_> = soon("the events end", events.bytes_stream().collect()).await;
    let rest: Vec<u8> = rest.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
    let rest = String::from_utf8(rest).unwrap();
    let last = rest.trim_end().lines().last().unwrap().strip_prefix("data: ").unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("forbidden")));
    assert_unaffected(&gateway, &mut bystander).await;
}
