//! A WebSocket whose every frame matters: who comes how, what each message was word for word, why it ended.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::{Gateway, soon};

/// A monitor's end of the line.
#[derive(Debug)]
pub struct Watcher {
    socket: WebSocketStream<TcpStream>,
    /// Every message so far, as it came.
    pub texts: Vec<String>,
    /// The same, read.
    pub messages: Vec<Value>,
}

/// A monitor that was not let in.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub code: String,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// With this code.
    Closed(u16),
    /// Without a word.
    Broken,
}

impl Watcher {
    /// Comes with these headers; `query` as in `streams=a,b&mode=full`.
    pub async fn come(
        gateway: &Gateway,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<Watcher, Refusal> {
        let socket = TcpSocket::new_v4().expect("a socket");
        Watcher::come_on(socket, gateway.address(), query, headers).await
    }

    /// Comes on a socket that was prepared.
    pub async fn come_on(
        socket: TcpSocket,
        address: &str,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<Watcher, Refusal> {
        let come = Watcher::try_come(socket, address, query, headers).await;
        come.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Comes to a gateway that may die meanwhile.
    pub async fn try_come(
        socket: TcpSocket,
        address: &str,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<Result<Watcher, Refusal>, Error> {
        let target: SocketAddr = address.parse().expect("an address");
        let url = format!("ws://{address}/v1/monitor?{query}");
        let mut request = url.into_client_request().expect("a request");
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            request.headers_mut().append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let stream = soon("the gateway takes the connection", socket.connect(target)).await?;
        match soon("the gateway answers the upgrade", client_async(request, stream)).await {
            Ok((socket, _)) => Ok(Ok(Watcher { socket, texts: Vec::new(), messages: Vec::new() })),
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                let code = body["code"].as_str().unwrap_or_default().to_owned();
                Ok(Err(Refusal { status: response.status().as_u16(), code }))
            }
            Err(error) => Err(error),
        }
    }

    /// Comes with a token, and is let in.
    pub async fn with_token(gateway: &Gateway, token: &str, query: &str) -> Watcher {
        let bearer = format!("Bearer {token}");
        let come = Watcher::come(gateway, query, &[("authorization", &bearer)]).await;
        let mut watcher = come.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        watcher.until("hello", |watcher| !watcher.messages.is_empty()).await;
        assert_eq!(watcher.messages[0]["type"], "hello", "{:?}", watcher.texts);
        watcher
    }

    /// Comes with the local token, and is let in.
    pub async fn local(gateway: &Gateway, query: &str) -> Watcher {
        Watcher::with_token(gateway, gateway.token(), query).await
    }

    /// Comes with a token, and is not let in.
    pub async fn refused(gateway: &Gateway, token: &str, query: &str) -> Refusal {
        let bearer = format!("Bearer {token}");
        match Watcher::come(gateway, query, &[("authorization", &bearer)]).await {
            Ok(_) => panic!("a monitor of {query:?} was let in"),
            Err(refusal) => refusal,
        }
    }

    /// Reads until it is enough.
    pub async fn until(&mut self, what: &str, enough: impl Fn(&Watcher) -> bool) {
        soon(what, async {
            while !enough(self) {
                let end = self.read().await;
                assert!(end.is_none(), "{end:?} while waiting for {what}: {:?}", self.texts.last());
            }
        })
        .await;
    }

    /// Reads on to the end, and says how that was.
    pub async fn end(&mut self) -> End {
        soon("the monitor ends", async {
            loop {
                if let Some(end) = self.read().await {
                    return end;
                }
            }
        })
        .await
    }

    /// Sends a message of any kind; a gateway that hung up already is no failure.
    pub async fn send(&mut self, message: Message) {
        let _ = soon("the message is sent", self.socket.send(message)).await;
    }

    /// The line below the WebSocket.
    pub fn line(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// The records of a stream so far, with all that is told of each.
    pub fn records(&self, stream: &str) -> Vec<&Value> {
        let frames = self.of_type("records").filter(|frame| frame["stream"] == stream);
        frames.flat_map(|frame| frame["records"].as_array().expect("a list")).collect()
    }

    /// One member of the data of each record of a stream so far.
    pub fn data(&self, stream: &str, member: &str) -> Vec<i64> {
        let number = |record: &&Value| record["data"][member].as_i64().expect("a number");
        self.records(stream).iter().map(number).collect()
    }

    /// How many records of a stream were left out, as far as it was told.
    pub fn missed(&self, stream: &str) -> u64 {
        let gaps = self.of_type("gap").filter(|gap| gap["stream"] == stream);
        gaps.map(|gap| gap["count"].as_u64().expect("a count")).sum()
    }

    /// Messages of a type so far.
    pub fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.messages.iter().filter(move |message| message["type"] == kind)
    }

    /// Messages of a type so far, word for word.
    pub fn words(&self, kind: &str) -> Vec<&str> {
        let both = self.messages.iter().zip(&self.texts);
        both.filter(|(message, _)| message["type"] == kind).map(|(_, text)| text.as_str()).collect()
    }

    /// Where to resume.
    pub fn cursor(&self) -> String {
        let cursor = self.messages.iter().rev().find_map(cursor_of);
        cursor.expect("hello has a cursor").to_owned()
    }

    /// Reads what comes next, if it is not the end. May be cancelled.
    pub async fn read(&mut self) -> Option<End> {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => {
                self.messages.push(serde_json::from_str(&text).expect("every message is JSON"));
                self.texts.push(text.as_str().to_owned());
                None
            }
            Some(Ok(Message::Close(frame))) => {
                Some(frame.map_or(End::Broken, |frame| End::Closed(frame.code.into())))
            }
            Some(Ok(_)) => None,
            Some(Err(_)) | None => Some(End::Broken),
        }
    }
}

/// Where a monitor that saw this message resumes.
pub fn cursor_of(message: &Value) -> Option<&str> {
    let member = if message["type"] == "gap" { "to" } else { "cursor" };
    message[member].as_str()
}
