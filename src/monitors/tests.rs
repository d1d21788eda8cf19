//! Both transports over loopback, with a real server and a real client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message as Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use super::{MonitorRequest, Session, Upgrade, events, websocket};
use crate::hub::testing::{Bench, Told};
use crate::hub::{Hub, HubLimits};
use crate::lifecycle::Lifecycle;

#[derive(Clone)]
struct App {
    hub: Hub,
    allowed: Arc<AtomicBool>,
    shutdown: CancellationToken,
}

impl App {
    fn session(&self, query: Option<&str>, headers: &HeaderMap) -> Session {
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let mut request = MonitorRequest::parse(pairs).unwrap();
        if let Some(id) = headers.get("last-event-id") {
            request.resume_after(id.to_str().unwrap());
        }
        let selection = request.select(self.hub.streams(), None).unwrap();
        Session::open(&self.hub, None, selection, &request).unwrap()
    }

    fn still_allowed(&self) -> impl FnMut() -> std::future::Ready<bool> + Send + 'static {
        let allowed = Arc::clone(&self.allowed);
        move || std::future::ready(allowed.load(Ordering::SeqCst))
    }
}

async fn serve_websocket(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    mut request: Request,
) -> Response {
    let session = app.session(query.as_deref(), &HeaderMap::new());
    let still_allowed = app.still_allowed();
    let (response, connection) = Upgrade::of(&mut request).unwrap().accept();
    let monitor = websocket::serve(connection, session, still_allowed, app.shutdown);
    Lifecycle::new().spawn("monitor", monitor);
    response
}

async fn serve_events(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let session = app.session(query.as_deref(), &headers);
    events::respond(session, app.still_allowed(), app.shutdown)
}

/// A bench, what serves it, and where.
async fn serve(limits: HubLimits) -> (Bench, App, SocketAddr) {
    let bench = Bench::start(limits);
    let app = App {
        hub: bench.hub.clone(),
        allowed: Arc::new(AtomicBool::new(true)),
        shutdown: CancellationToken::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/monitor", get(serve_websocket))
        .route("/events", get(serve_events))
        .with_state(app.clone());
    Lifecycle::new().spawn("server", async move { axum::serve(listener, router).await });
    (bench, app, address)
}

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(address: SocketAddr, query: &str) -> Client {
    let url = format!("ws://{address}/monitor?{query}");
    tokio_tungstenite::connect_async(url).await.unwrap().0
}

/// The next message of a type, over others.
async fn next_of(client: &mut Client, kind: &str) -> Value {
    loop {
        if let Frame::Text(text) = client.next().await.unwrap().unwrap() {
            let value: Value = serde_json::from_str(&text).unwrap();
            if value["type"] == kind {
                return value;
            }
        }
    }
}

/// The code with which the server closes.
async fn close_code(client: &mut Client) -> u16 {
    loop {
        match client.next().await {
            Some(Ok(Frame::Close(frame))) => return frame.unwrap().code.into(),
            Some(Ok(_)) => {}
            other => panic!("the connection ended without a reason: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_websocket_gets_hello_and_records_and_resumes() {
    let (mut bench, _app, address) = serve(HubLimits::default()).await;
    let mut client = connect(address, "streams=flights,zones").await;
    let hello = next_of(&mut client, "hello").await;
    assert_eq!(hello["streams"], serde_json::json!(["flights", "zones"]));
    let mut told = Told::default();
    bench.append(&[(1, 3), (2, 5)]);
    let records = next_of(&mut client, "records").await;
    told.hear_value(&records);
    assert_eq!(told.of("flights"), 3);

    drop(client);
    bench.append(&[(1, 2)]);
    let since = told.cursor.clone().unwrap();
    let mut client = connect(address, &format!("streams=flights,zones&since={since}")).await;
    while told.of("flights") < 5 {
        told.hear_value(&next_of(&mut client, "records").await);
    }
}

#[tokio::test]
async fn a_shutdown_closes_with_1001() {
    let (_bench, app, address) = serve(HubLimits::default()).await;
    let mut client = connect(address, "").await;
    next_of(&mut client, "hello").await;
    app.shutdown.cancel();
    assert_eq!(close_code(&mut client).await, 1001);
    assert_eq!(app.hub.monitors(), 0);
    // A hub that ended says the same.
    let (bench, _app, address) = serve(HubLimits::default()).await;
    let mut client = connect(address, "").await;
    next_of(&mut client, "hello").await;
    bench.shutdown.cancel();
    assert_eq!(close_code(&mut client).await, 1001);
}

#[tokio::test]
async fn unasked_messages_are_answered_three_times_and_then_closed_with_1008() {
    let (_bench, _app, address) = serve(HubLimits::default()).await;
    let mut client = connect(address, "").await;
    for garbage in ["{", "subscribe!", "\u{0}"] {
        client.send(Frame::text(garbage)).await.unwrap();
        let error = next_of(&mut client, "error").await;
        assert_eq!(error["code"], "unexpected_message");
    }
    client.send(Frame::binary(vec![0; 10])).await.unwrap();
    assert_eq!(close_code(&mut client).await, 1008);
}

#[tokio::test]
async fn a_large_message_is_closed_with_1009_whatever_is_left_of_it() {
    let (_bench, app, address) = serve(HubLimits::default()).await;
    for bytes in [5 * 1024, 10_000_000] {
        let (mut sink, mut stream) = connect(address, "").await.split();
        let sending = sink.send(Frame::binary(vec![0; bytes]));
        let receiving = async {
            loop {
                match stream.next().await {
                    Some(Ok(Frame::Close(frame))) => break frame.unwrap().code.into(),
                    Some(Ok(_)) => {}
                    other => panic!("the connection ended without a reason: {other:?}"),
                }
            }
        };
        let code: u16 = tokio::select! {
            code = receiving => code,
            Err(error) = sending => panic!("{error}"),
        };
        assert_eq!(code, 1009, "{bytes} bytes");
    }
    assert_eq!(app.hub.monitors(), 0);
}

#[tokio::test]
async fn broken_frames_end_only_their_own_connection() {
    let (mut bench, app, address) = serve(HubLimits::default()).await;
    let mut well = connect(address, "").await;
    next_of(&mut well, "hello").await;
    let mut client = connect(address, "").await;
    next_of(&mut client, "hello").await;
    // A text frame with reserved bits, and without a mask.
    let MaybeTlsStream::Plain(socket) = client.get_mut() else { panic!("loopback is plain") };
    socket.write_all(&[0xf1, 0x01, b'x']).await.unwrap();
    while let Some(Ok(_)) = client.next().await {}
    assert_eq!(app.hub.monitors(), 1);
    bench.append(&[(1, 1)]);
    next_of(&mut well, "records").await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_watch_any_longer_is_closed_with_1008() {
    let (_bench, app, address) = serve(HubLimits::default()).await;
    let mut client = connect(address, "").await;
    next_of(&mut client, "hello").await;
    app.allowed.store(false, Ordering::SeqCst);
    assert_eq!(close_code(&mut client).await, 1008);
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_answers_no_ping_is_let_go() {
    let (_bench, app, address) = serve(HubLimits::default()).await;
    let mut client = connect(address, "").await;
    next_of(&mut client, "hello").await;
    // It answers pings only while it is read from.
    let begin = tokio::time::Instant::now();
    while app.hub.monitors() > 0 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    assert!((55..70).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    assert_eq!(close_code(&mut client).await, 1013);
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_reads_nothing_is_let_go_and_the_others_do_not_wait() {
    let (mut bench, app, address) = serve(HubLimits::default()).await;
    let mut stuck = connect(address, "").await;
    next_of(&mut stuck, "hello").await;
    let mut well = connect(address, "").await;
    next_of(&mut well, "hello").await;
    let mut told = Told::default();
    // More than the kernel's buffers and a queue hold.
    for _ in 0..150 {
        bench.append_padded(&[(1, 10)], 15_000);
        while !told.is_complete(&bench) {
            told.hear_value(&next_of(&mut well, "records").await);
        }
    }
    assert_eq!(told.omitted, 0);
    while app.hub.monitors() > 1 {
        let next = tokio::time::timeout(std::time::Duration::from_secs(1), well.next()).await;
        assert!(!matches!(next, Ok(None | Some(Err(_)))), "the other one stays");
    }
    // The reason did not fit into the connection any more, or it did.
    let end = loop {
        match stuck.next().await {
            Some(Ok(Frame::Close(frame))) => break frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(Error::Protocol(_) | Error::Io(_))) | None => break None,
            Some(Err(error)) => panic!("{error}"),
        }
    };
    assert!(matches!(end, None | Some(1013)), "{end:?}");
}

/// The lines of an event stream. HTTP/1.0, so that the body is not chunked.
async fn connect_events(
    address: SocketAddr,
    query: &str,
    header: &str,
) -> Lines<BufReader<TcpStream>> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /events?{query} HTTP/1.0\r\nhost: localhost\r\n{header}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(socket).lines();
    let status = lines.next_line().await.unwrap().unwrap();
    assert!(status.ends_with("200 OK"), "{status}");
    let mut head = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap().filter(|line| !line.is_empty()) {
        head.push(line);
    }
    assert!(head.contains(&"content-type: text/event-stream".to_owned()), "{head:?}");
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "retry: 2000");
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "");
    lines
}

/// The next event: its id and its data. None at the end of the stream.
async fn next_event(lines: &mut Lines<BufReader<TcpStream>>) -> Option<(Option<String>, Value)> {
    let (mut id, mut data) = (None, None);
    while let Some(line) = lines.next_line().await.unwrap() {
        match line.split_once(": ") {
            Some(("id", text)) => id = Some(text.to_owned()),
            Some(("data", text)) => {
                assert!(data.is_none(), "data is one line");
                data = Some(serde_json::from_str(text).unwrap());
            }
            _ if line.is_empty() => {
                if let Some(data) = data {
                    return Some((id, data));
                }
            }
            _ => assert!(line.starts_with(':'), "{line}"),
        }
    }
    None
}

#[tokio::test]
async fn events_are_the_same_messages_and_their_id_resumes() {
    let (mut bench, app, address) = serve(HubLimits::default()).await;
    let mut lines = connect_events(address, "streams=flights", "").await;
    let (id, hello) = next_event(&mut lines).await.unwrap();
    assert_eq!(hello["type"], "hello");
    assert_eq!(hello["cursor"].as_str(), id.as_deref());
    let since = id.unwrap();
    // One message that is copied and one that is shared.
    for padding in [0, 20_000] {
        bench.append_padded(&[(1, 2)], padding);
    }
    for header in [String::new(), format!("last-event-id: {since}\r\n")] {
        let mut told = Told::default();
        if !header.is_empty() {
            lines = connect_events(address, "streams=flights&since=00000000.0", &header).await;
        }
        while told.of("flights") < 4 {
            let (id, value) = next_event(&mut lines).await.unwrap();
            told.hear_value(&value);
            if value["type"] == "records" {
                assert_eq!(value["cursor"].as_str(), id.as_deref());
            }
        }
    }
    app.shutdown.cancel();
    let mut last = Value::Null;
    while let Some((_, value)) = next_event(&mut lines).await {
        last = value;
    }
    assert_eq!((&last["type"], &last["code"]), (&"error".into(), &"shutting_down".into()));
}

#[tokio::test(start_paused = true)]
async fn events_end_with_the_permission() {
    let (_bench, app, address) = serve(HubLimits::default()).await;
    let mut lines = connect_events(address, "", "").await;
    next_event(&mut lines).await.unwrap();
    app.allowed.store(false, Ordering::SeqCst);
    let mut last = Value::Null;
    while let Some((_, value)) = next_event(&mut lines).await {
        last = value;
    }
    assert_eq!(last["code"], "forbidden");
    assert_eq!(app.hub.monitors(), 0);
}

#[tokio::test]
async fn a_reader_of_events_that_hangs_up_has_left() {
    let (mut bench, app, address) = serve(HubLimits::default()).await;
    let mut lines = connect_events(address, "", "").await;
    next_event(&mut lines).await.unwrap();
    assert_eq!(app.hub.monitors(), 1);
    drop(lines);
    while app.hub.monitors() > 0 {
        bench.append(&[(1, 1)]);
        tokio::task::yield_now().await;
    }
}
