//! Peers that hold connections and do nothing with them: they do not read what they asked for, or never ask.
//!
//! Before: 42 sockets without credentials, which pipelined requests and read no reply, stopped a gateway with 40 places for
//! as long as they liked, on either way, and a shutdown took its full time; a peer that took one byte every nine seconds
//! did as well. 16,500 sockets that said nothing stopped one of default settings for half a minute at a time. Now a reply
//! has 20 seconds to move, the least useful connections make room at once, and one address cannot have all of them.
//!
//! Before: requests to sign in whose body stopped after a byte were under way for 15 seconds, and none was ever dropped, so
//! two addresses that renewed 210 of them had all of 200 places for as long as they liked, and honest newcomers, the only
//! ones left without a request, were dropped for them. Now a caller who has not said who they are makes room.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::watcher::Watcher;
use crate::support::{Gateway, Metrics, eventually, soon};

/// Addresses that attackers come from, beside the one of honest clients, 127.0.0.1.
pub const ATTACKER: &str = "127.0.0.2";
const ANOTHER: &str = "127.0.0.3";
/// A write of a test that has not moved for so long is given up.
const STUCK: Duration = Duration::from_millis(500);
/// The longest that a reply may wait for its reader, and time for a loaded machine.
const GIVEN_UP: Duration = Duration::from_secs(20 + 60);
/// A shutdown's deadline in these tests, and what a shutdown that waits for no attacker stays under.
const SHUTDOWN_SECONDS: &str = "--shutdown-seconds=55";
const SHUTDOWN_SOON: Duration = Duration::from_secs(30);

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n";
/// A request that the general server answers at length.
const METRICS: &str = "GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n";
/// One that stays on the fast path, and is refused at once: its token is no token.
const FAST_PATH: &str = "POST /v1/streams/nobodys/records HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer \
                       (nobody)\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
/// Requests of unknown callers whose bodies do not come: to sign in, without a token, and with one that is none, on
/// either way.
const HALVES: [&str; 4] = [
    "POST /v1/sessions HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{",
    "POST /v1/streams/s/records HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{",
    "POST /v1/streams/s/records HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer (nobody)\r\nContent-Type: \
     application/json\r\nContent-Length: 40\r\n\r\n{",
    "POST /v1/streams/s/records HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer (nobody)\r\nContent-Type: \
     application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{",
];

/// A connection from an address, that takes little before it is read.
pub async fn connect_from(gateway: &Gateway, address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    let target: SocketAddr = gateway.address().parse().unwrap();
    soon("a connection", socket.connect(target)).await.unwrap()
}

/// Sends the same request until nothing moves any more: neither way.
async fn pipeline(peer: &mut TcpStream, request: &str) {
    let requests = request.repeat(100);
    let sending = async { while peer.write_all(requests.as_bytes()).await.is_ok() {} };
    // It is over when the gateway has stopped reading.
    let mut sending = std::pin::pin!(sending);
    let begin = Instant::now();
    while begin.elapsed() < 4 * STUCK
        && tokio::time::timeout(STUCK, sending.as_mut()).await.is_err()
    {}
}

/// Reads the head and body of one answer: its status and problem.
pub async fn answer(peer: &mut TcpStream) -> (u16, Value) {
    let mut bytes = Vec::new();
    soon("an answer", async {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut response = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(head) = response.parse(&bytes).unwrap() {
                let length = response
                    .headers
                    .iter()
                    .find(|header| header.name.eq_ignore_ascii_case("content-length"))
                    .map_or(0, |header| {
                        std::str::from_utf8(header.value).unwrap().parse().unwrap()
                    });
                if let Some(body) = bytes.get(head..head + length) {
                    let body = serde_json::from_slice(body).unwrap_or_default();
                    return (response.code.unwrap(), body);
                }
            }
            let read = peer.read_buf(&mut bytes).await.unwrap();
            assert!(read > 0, "hung up after {:?}", String::from_utf8_lossy(&bytes));
        }
    })
    .await
}

async fn hits(gateway: &Gateway, limit: &str) -> f64 {
    Metrics::read(gateway).await.sum("tidegate_limit_hits_total", "limit", limit)
}

#[tokio::test]
async fn peers_that_never_read_stop_neither_service_nor_a_shutdown() {
    let mut gateway = Gateway::with(&["--connections-max=40", SHUTDOWN_SECONDS]).await;
    gateway.create_stream(&json!({"name": "honest"})).await;
    let mut watcher = Watcher::local(&gateway, "streams=honest").await;
    let attacking: FuturesUnordered<_> = (0..42)
        .map(async |n| {
            let mut peer = connect_from(&gateway, [ATTACKER, ANOTHER][n / 21]).await;
            pipeline(&mut peer, [FAST_PATH, METRICS][n % 2]).await;
            peer
        })
        .collect();
    let attackers: Vec<TcpStream> =
        soon("the gateway has stopped reading what is not read", attacking.collect()).await;
    // Every newcomer is served, over new connections too, and a monitor stays.
    for n in 0..60 {
        let mut honest = connect_from(&gateway, "127.0.0.1").await;
        honest.write_all(HEALTH.as_bytes()).await.unwrap();
        assert_eq!(answer(&mut honest).await.0, 200);
        gateway.commit("honest", &json!({"n": n})).await;
    }
    watcher.until("all records", |it| it.records("honest").len() == 60).await;
    assert!(hits(&gateway, "connections").await > 0.0, "they made room");
    let begin = Instant::now();
    assert_eq!(gateway.terminate().await, 0);
    assert!(begin.elapsed() < SHUTDOWN_SOON, "{:?}", begin.elapsed());
    drop(attackers);
}

#[tokio::test]
async fn a_reply_has_to_move_and_a_slow_line_is_let_be() {
    let gateway = Gateway::start().await;
    let mut fast = connect_from(&gateway, ATTACKER).await;
    pipeline(&mut fast, FAST_PATH).await;
    let mut general = connect_from(&gateway, ATTACKER).await;
    pipeline(&mut general, METRICS).await;
    let mut dripping = connect_from(&gateway, ATTACKER).await;
    pipeline(&mut dripping, METRICS).await;
    eventually("they are seen", async || {
        let metrics = Metrics::read(&gateway).await;
        (metrics.of("tidegate_connections_unread") >= 3.0).then_some(())
    })
    .await;

    // One that asks for a lot and reads steadily is let be, for longer than a reply may stand still.
    let slow = TcpStream::connect(gateway.address()).await.unwrap();
    let (mut source, mut sink) = slow.into_split();
    let asked = async {
        while sink.write_all(METRICS.as_bytes()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reading = async {
        let mut piece = vec![0; 16 << 10];
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            ticks.tick().await;
            let read = source.read_exact(&mut piece).await;
            assert!(read.is_ok(), "a slow line was given up: {read:?}");
        }
    };
    let given_up = async {
        // One byte every nine seconds.
        let drip = async {
            let mut ticks = tokio::time::interval(Duration::from_secs(9));
            loop {
                ticks.tick().await;
                if dripping.read_u8().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let counted = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(500));
            while hits(&gateway, "reply_unread").await < 3.0 {
                ticks.tick().await;
            }
        };
        tokio::select! {
            () = drip => {}
            counted = tokio::time::timeout(GIVEN_UP, counted) => counted.expect("three are given up"),
        }
    };
    tokio::select! {
        () = asked => panic!("a slow line was given up"),
        () = reading => {}
        () = given_up => {}
    }
    // What they had not read is gone with them.
    for mut peer in [fast, general, dripping] {
        let mut rest = Vec::new();
        let _ = soon("it is closed", peer.read_to_end(&mut rest)).await;
    }
}

#[tokio::test]
async fn silent_connections_make_room_for_newcomers() {
    let gateway =
        Gateway::with(&["--connections-max=200", "--connections-per-address-max=200"]).await;
    gateway.create_stream(&json!({"name": "honest"})).await;
    let mut watcher = Watcher::local(&gateway, "streams=honest").await;
    let mut flood = Vec::new();
    // Half of them ask once, as if they were of use. Before, the 201st waited for half a minute.
    for n in 0..260 {
        let mut peer = connect_from(&gateway, ATTACKER).await;
        if n % 2 == 0 {
            peer.write_all(HEALTH.as_bytes()).await.unwrap();
        }
        flood.push(peer);
    }
    let mut honest = connect_from(&gateway, "127.0.0.1").await;
    honest.write_all(HEALTH.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut honest).await.0, 200);
    gateway.commit("honest", &json!({"n": 1})).await;
    watcher.until("the record", |it| it.records("honest").len() == 1).await;
    let metrics = Metrics::read(&gateway).await;
    assert!(metrics.of("tidegate_connections") <= 200.0);
    assert_eq!(metrics.of("tidegate_connections_limit").to_string(), "200");
    assert!(metrics.sum("tidegate_limit_hits_total", "limit", "connections") >= 60.0);
    let closed: FuturesUnordered<_> = flood
        .iter_mut()
        .map(async |peer| {
            let mut rest = Vec::new();
            tokio::time::timeout(STUCK, peer.read_to_end(&mut rest)).await.is_ok()
        })
        .collect();
    let closed: Vec<bool> = closed.collect().await;
    assert!(closed.iter().filter(|closed| **closed).count() >= 60, "{closed:?}");
}

#[tokio::test]
async fn who_owes_a_body_and_has_not_said_who_they_are_makes_room() {
    const LIMITS: [&str; 3] =
        ["--connections-max=40", "--connections-per-address-max=30", SHUTDOWN_SECONDS];
    let mut gateway = Gateway::with(&LIMITS).await;
    gateway.create_stream(&json!({"name": "honest"})).await;
    let mut attacking: FuturesUnordered<_> = (0..48)
        .map(async |n| {
            let mut rest = Vec::new();
            loop {
                let mut peer = connect_from(&gateway, [ATTACKER, ANOTHER][n % 2]).await;
                let half = HALVES[n / 2 % HALVES.len()];
                if peer.write_all(half.as_bytes()).await.is_ok() {
                    let _ = peer.read_to_end(&mut rest).await;
                }
                rest.clear();
            }
        })
        .collect();
    let honest = async {
        eventually("all places are taken", async || {
            let metrics = Metrics::read(&gateway).await;
            (metrics.of("tidegate_connections") >= 38.0).then_some(())
        })
        .await;
        for n in 0..60 {
            let mut honest = connect_from(&gateway, "127.0.0.1").await;
            honest.write_all(HEALTH.as_bytes()).await.unwrap();
            assert_eq!(answer(&mut honest).await.0, 200);
            gateway.commit("honest", &json!({"n": n})).await;
        }
    };
    tokio::select! {
        _ = attacking.next() => panic!("it goes on"),
        () = honest => {}
    }
    drop(attacking);
    let mut asking = Vec::new();
    for half in HALVES {
        let mut peer = connect_from(&gateway, ATTACKER).await;
        peer.write_all(half.as_bytes()).await.unwrap();
        asking.push(peer);
    }
    assert_eq!(gateway.terminate().await, 0);
}

#[tokio::test]
async fn an_address_has_its_share_and_no_more() {
    let gateway = Gateway::with(&["--connections-per-address-max=5"]).await;
    let watch = format!(
        "GET /v1/monitor/events HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\r\n",
        gateway.token()
    );
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut peer = connect_from(&gateway, ATTACKER).await;
        peer.write_all(watch.as_bytes()).await.unwrap();
        assert_eq!(answer(&mut peer).await.0, 200, "it is under way");
        held.push(peer);
    }
    let refused = async || {
        let mut peer = connect_from(&gateway, ATTACKER).await;
        peer.write_all(HEALTH.as_bytes()).await.unwrap();
        answer(&mut peer).await
    };
    let (status, problem) = refused().await;
    assert_eq!(status, 429, "{problem}");
    assert_eq!(problem["code"], "too_many_connections");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("TIDEGATE_CONNECTIONS_PER_ADDRESS_MAX"), "{detail}");
    assert!(
        hits(&gateway, "connections_of_address").await > 0.0,
        "from another address it is served"
    );
    drop(held.pop());
    eventually("there is room again", async || (refused().await.0 == 200).then_some(())).await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_a_client_has_its_share() {
    let gateway =
        Gateway::with(&["--connections-per-address-max=2", "--trusted-proxies=127.0.0.1"]).await;
    let forwarded = |client: &str| format!("X-Forwarded-For: 203.0.113.9, {client}\r\n");
    let watch = async |client: &str| {
        let mut connection = connect_from(&gateway, "127.0.0.1").await;
        let request = format!(
            "GET /v1/monitor/events HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n{}\r\n",
            gateway.token(),
            forwarded(client)
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        soon("an answer", connection.read_exact(&mut head)).await.unwrap();
        let status = std::str::from_utf8(&head[9..]).unwrap().parse::<u16>().unwrap();
        (status, connection)
    };
    let socket = || TcpSocket::new_v4().unwrap();
    let token = format!("Bearer {}", gateway.token());
    let headers = [("authorization", token.as_str()), ("x-forwarded-for", "192.0.2.1")];
    let over_websocket = async || Watcher::come_on(socket(), gateway.address(), "", &headers).await;
    // An event stream and a WebSocket are its two.
    let (status, events) = watch("192.0.2.1").await;
    assert_eq!(status, 200);
    let watcher = over_websocket().await.expect("the second");
    assert_eq!(watch("192.0.2.1").await.0, 429);
    // The body of a sender who is over it is not waited for.
    let mut owing = connect_from(&gateway, "127.0.0.1").await;
    let head = HALVES[1].replace("Content-Type", "X-Forwarded-For: 192.0.2.1\r\nContent-Type");
    owing.write_all(head.as_bytes()).await.unwrap();
    let mut told = String::new();
    soon("it is told", owing.read_to_string(&mut told)).await.unwrap();
    assert!(
        told.starts_with("HTTP/1.1 429 ") && told.contains("\r\nconnection: close\r\n"),
        "{told}"
    );
    // The fast path would not count it.
    let mut on_fast_path = connect_from(&gateway, "127.0.0.1").await;
    let whole = FAST_PATH.replace("Content-Type", "X-Forwarded-For: 192.0.2.1\r\nContent-Type");
    on_fast_path.write_all(whole.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut on_fast_path).await.0, 429);
    let refusal = over_websocket().await.expect_err("a third");
    assert_eq!((refusal.status, refusal.code.as_str()), (429, "too_many_connections"));
    // Others have theirs, though they come from the same proxy; and it may have any number of connections.
    let mut others = Vec::new();
    for client in ["192.0.2.2", "192.0.2.3", "192.0.2.2", "2001:db8::1", "[2001:db8::2]:80"] {
        let (status, connection) = watch(client).await;
        assert_eq!(status, 200, "{client}");
        others.push(connection);
    }
    assert_eq!(watch("2001:db8::3").await.0, 429, "of the same network");
    drop(events);
    eventually("an event stream that ended counts no longer", async || {
        (watch("192.0.2.1").await.0 == 200).then_some(())
    })
    .await;
    drop(watcher);
    let again = async || over_websocket().await.ok();
    eventually("a WebSocket that ended counts no longer", again).await;
}
