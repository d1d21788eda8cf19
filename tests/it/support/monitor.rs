//! A monitor: a WebSocket client that keeps what it was sent.

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::gateway::Gateway;
use super::soon;

/// A monitor of one gateway.
#[derive(Debug)]
pub struct MonitorClient {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Every message so far.
    pub messages: Vec<Value>,
}

impl MonitorClient {
    /// Watches with the gateway's local token; `query` as in `streams=a,b&mode=full`.
    pub async fn connect(gateway: &Gateway, query: &str) -> MonitorClient {
        let url = format!("ws://{}/v1/monitor?{query}", gateway.address());
        let mut request = url.into_client_request().expect("a request");
        let token = format!("Bearer {}", gateway.token());
        request
            .headers_mut()
            .insert(AUTHORIZATION, HeaderValue::from_str(&token).expect("a header"));
        let connected = soon("the monitor is let in", connect_async(request)).await;
        let (socket, _) = connected.expect("the monitor is let in");
        let mut monitor = MonitorClient { socket, messages: Vec::new() };
        monitor
            .until("hello", |messages| messages.iter().any(|message| message["type"] == "hello"))
            .await;
        monitor
    }

    /// Reads until the messages so far are enough.
    pub async fn until(&mut self, what: &str, enough: impl Fn(&[Value]) -> bool) {
        soon(what, async {
            while !enough(&self.messages) {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        let message = serde_json::from_str(&text).expect("every text is JSON");
                        self.messages.push(message);
                    }
                    Some(Ok(Message::Close(reason))) => {
                        panic!("closed while waiting for {what}: {reason:?}")
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => panic!("broken while waiting for {what}: {error}"),
                    None => panic!("ended while waiting for {what}"),
                }
            }
        })
        .await;
    }

    /// Sends whatever; a gateway that hung up already is no failure.
    pub async fn send(&mut self, message: Message) {
        let _ = soon("the message is sent", self.socket.send(message)).await;
    }

    /// Reads until the gateway hangs up or says what is wrong; true if it hung up.
    pub async fn objection(&mut self) -> bool {
        soon("the gateway objects", async {
            loop {
                match self.socket.next().await {
                    None
                    | Some(
                        Ok(Message::Close(_))
                        | Err(Error::ConnectionClosed | Error::Protocol(_) | Error::Io(_)),
                    ) => {
                        return true;
                    }
                    Some(Ok(Message::Text(text))) => {
                        let message: Value =
                            serde_json::from_str(&text).expect("every text is JSON");
                        if message["type"] == "error" {
                            assert!(
                                message["code"].is_string() && message["message"].is_string(),
                                "{message}"
                            );
                            return false;
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => panic!("{error}"),
                }
            }
        })
        .await
    }

    /// The `data` of all records of a stream so far.
    pub fn records(&self, stream: &str) -> Vec<&Value> {
        let frames = self
            .messages
            .iter()
            .filter(|message| message["type"] == "records" && message["stream"] == stream);
        frames
            .flat_map(|frame| frame["records"].as_array().into_iter().flatten())
            .map(|record| &record["data"])
            .collect()
    }
}
