//! Readers of large records, many at once, and such as never take what they asked for.
//!
//! Before: `GET …/records?limit=500` of documents of 62 KiB read and sent 31 MB; 16 of them at once took all connections that
//! reading had, so that sizes of streams and the quarantine waited 1.4 s, and with larger documents were answered 503; 40
//! replies that were not read kept 750 MiB for as long as their peers liked. Now a page ends at
//! 4 MiB, and reading has connections of its own; of one user three replies are under way at most: the same
//! readers hold 84 MiB for a moment, and no other caller waits.

use futures::FutureExt;
use futures::future::select_ok;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::{HELD, text_of};
use crate::support::people::{Token, add_user};
use crate::support::{Client, Gateway, Metrics, Reply, eventually, soon};

/// Most bytes of records in a reply.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// What stands around a record in a reply, at most.
const AROUND_RECORD_BYTES: usize = 200;

/// Fills a stream with records whose `text` has so many bytes that no compression makes much smaller.
async fn fill(gateway: &Gateway, stream: &str, records: usize, bytes: usize) {
    let list: Vec<Value> =
        (0..records).map(|seed| json!({"n": seed, "text": text_of(bytes, seed)})).collect();
    for some in list.chunks(100) {
        gateway.commit(stream, &json!(some)).await;
    }
}

/// The reply and how long it was.
async fn read(client: &Client, path: &str) -> (Value, usize) {
    let response = client.request(Method::GET, path).send().await.unwrap();
    let bytes = response.error_for_status().unwrap().bytes().await.unwrap();
    (serde_json::from_slice(&bytes).unwrap(), bytes.len())
}

#[tokio::test]
async fn a_page_ends_at_its_bytes_and_no_record_is_left_out() {
    let gateway = Gateway::start().await;
    let columns = json!([
        {"name": "n", "type": "integer"}, {"name": "text", "type": "text"},
        {"name": "stored", "type": "text"},
    ]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    gateway.create_stream(&json!({"name": "daily", "retention_days": 3})).await;
    gateway.create_stream(&json!({"name": "texts", "payload": "json"})).await;
    for stream in ["typed", "daily", "texts", "documents"] {
        fill(&gateway, stream, 300, 20_000).await;
        // Of these two PostgreSQL keeps a hundredth, and a hundredth of that.
        gateway.commit(stream, &json!({"n": -1, "text": "x".repeat(100_000)})).await;
        gateway.commit(stream, &json!({"n": -2, "text": "x".repeat(10_000_000)})).await;
        gateway.commit(stream, &json!({"n": -3, "text": "x"})).await;
        let (mut seen, mut after, mut large) = (Vec::new(), String::new(), 0);
        loop {
            let path = format!("/v1/streams/{stream}/records?limit=500{after}");
            let (page, bytes) = read(&gateway, &path).await;
            let records = page["records"].as_array().unwrap();
            let around = records.len() * AROUND_RECORD_BYTES;
            if bytes > REPLY_BYTES_MAX + around {
                large += 1;
                assert_eq!(records.len(), 1, "{stream}: {bytes}");
            }
            seen.extend(records.iter().map(|record| record["data"]["n"].as_i64().unwrap()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        let expected: Vec<i64> = [-3, -2, -1].into_iter().chain((0..300).rev()).collect();
        assert_eq!((seen, large), (expected, 1), "{stream}");
    }
}

#[tokio::test]
async fn a_page_of_the_quarantine_ends_at_its_limit_and_the_next_goes_on() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    // Each byte of it is six in JSON.
    let raw = format!("{}\n", "\u{1}".repeat(4_096)).repeat(400);
    gateway.records("typed").ndjson(raw).send().await.expect(202);
    gateway.wait_all_committed().await;
    let (mut seen, mut after, mut pages) = (0, String::new(), 0);
    loop {
        let (page, bytes) = read(&gateway, &format!("/v1/quarantine?limit=500{after}")).await;
        assert!(bytes <= REPLY_BYTES_MAX + 100, "{bytes}");
        seen += page["records"].as_array().unwrap().len();
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert!(pages > 1, "it was more than one page may have");
    let kept: i64 = gateway.scalar("select count(*) from tidegate.quarantine").await;
    assert_eq!(i64::try_from(seen).unwrap(), kept);
}

#[tokio::test]
async fn slow_readers_hold_up_no_other_caller() {
    let gateway = Gateway::start().await;
    gateway.commit("slow", &json!({"n": 1})).await;
    gateway.post("/v1/users", &json!({"name": "ada", "password": "long enough"})).await.expect(201);
    let mut held = gateway.pool().begin().await.unwrap();
    // A reader of the table waits, as long as reading waits for a lock.
    sqlx::query("lock table streams.slow in access exclusive mode")
        .execute(&mut *held)
        .await
        .unwrap();
    let mut readers = JoinSet::new();
    for _ in 0..16 {
        let client = (*gateway).clone();
        readers.spawn(async move { client.get("/v1/streams/slow/records?limit=500").await });
    }
    eventually("readers wait for the table", async || {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database()
                       and wait_event_type = 'Lock'";
        (gateway.scalar::<i64>(waiting).await > 0).then_some(())
    })
    .await;
    for path in [
        "/v1/status",
        "/v1/streams",
        "/v1/quarantine",
        "/v1/quarantine/summary",
        "/v1/users",
        "/v1/tokens",
        "/v1/polling-jobs",
        "/v1/configuration",
        "/readyz",
    ] {
        gateway.get(path).await.expect(200);
    }
    let sign_in = json!({"user": "ada", "password": "long enough"});
    gateway.post("/v1/sessions", &sign_in).await.expect(201);
    gateway.create_stream(&json!({"name": "made"})).await;
    gateway.commit("made", &json!({"n": 1})).await;
    held.rollback().await.unwrap();
    // Each reader was answered: with records, or with when to come again.
    while let Some(reply) = readers.join_next().await {
        let reply = reply.unwrap();
        match reply.status {
            200 => {}
            429 => assert_eq!(reply.problem(429, "too_many_at_once")["status"], 429),
            _ => {
                assert!(reply.retry_after_seconds() > 0);
                assert_eq!(reply.status, 503, "{}", reply.body);
            }
        }
    }
    gateway.get("/v1/streams/slow/records").await.expect(200);
}

/// Before: they took all connections of the lists, and another user's was refused after five seconds.
#[tokio::test]
async fn slow_readers_of_the_quarantine_hold_up_no_other_user() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let ada = Token::of(&gateway, "ada", &["read"], json!({})).await;
    let mut held = gateway.pool().begin().await.unwrap();
    let lock = "lock table tidegate.quarantine in access exclusive mode";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    let waiting = async |what: &str, statement: &str, least: i64| {
        let waiting = format!(
            "select count(*) from pg_stat_activity where datname = current_database()
             and wait_event_type = 'Lock' and query like '%{statement}%'"
        );
        eventually(what, async || (gateway.scalar::<i64>(&waiting).await >= least).then_some(()))
            .await;
    };
    let mut readers = JoinSet::new();
    for _ in 0..16 {
        let client = (*gateway).clone();
        readers.spawn(async move { client.get("/v1/quarantine").await });
    }
    waiting("the first readers wait", "order by q.id desc limit", 3).await;
    let client = gateway.with_token(&ada.text);
    let let_go = async {
        waiting("the other user's question is asked beside them", "group by q.stream_id", 1).await;
        held.rollback().await.unwrap();
    };
    let (summary, ()) = tokio::join!(client.get("/v1/quarantine/summary"), let_go);
    summary.expect(200);
    while let Some(reply) = readers.join_next().await {
        let reply = reply.unwrap();
        if reply.status != 200 {
            assert!([429, 503].contains(&reply.status), "{}", reply.body);
            assert!(reply.retry_after_seconds() > 0);
        }
    }
}

/// Asks again and again, and never reads: what the system takes for the reader is less than that.
async fn ask(gateway: &Gateway, token: &str, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // What the system keeps for the reader shall not be the whole reply.
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(gateway.address().parse().unwrap()).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.repeat(5).as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn replies_that_are_not_taken_count_and_are_few() {
    let gateway = Gateway::start().await;
    fill(&gateway, "large", 100, 60_000).await;
    gateway.post("/v1/users", &json!({"name": "ada", "password": "long enough"})).await.expect(201);
    let asked = json!({"name": "t", "scopes": ["read"], "user": "ada"});
    let token = gateway.post("/v1/tokens", &asked).await.expect(201)["token"].clone();
    let path = "/v1/streams/large/records?limit=100";
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(ask(&gateway, gateway.token(), path).await);
    }
    // Once three replies of this user are held, the next is refused.
    eventually("a reply is refused", async || {
        let reply = gateway.get(path).await;
        if reply.status == 200 {
            return None;
        }
        assert!(reply.retry_after_seconds() > 0);
        reply.problem(429, "too_many_at_once");
        Some(())
    })
    .await;
    eventually("no more than three replies are held", async || {
        let held = Metrics::read(&gateway).await.of(HELD);
        #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
        let replies = held / REPLY_BYTES_MAX as f64;
        (0.5..=3.5).contains(&replies).then_some(())
    })
    .await;
    // Another reads as ever, and so does the first once the replies are taken or given up.
    let ada = gateway.with_token(token.as_str().unwrap());
    ada.get(path).await.expect(200);
    // Which of them got the three replies is up to the scheduler: the others were refused, in a few bytes.
    let takers = unread
        .iter_mut()
        .map(|stream| async move { stream.read_exact(&mut vec![0; 1 << 20]).await }.boxed());
    soon("a reply comes", select_ok(takers)).await.unwrap();
    drop(unread);
    eventually("what was held is given back", async || {
        (Metrics::read(&gateway).await.of(HELD) < 1e6).then_some(())
    })
    .await;
    Reply::expect(gateway.get(path).await, 200);
}
