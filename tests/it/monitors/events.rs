//! A monitor over server-sent events: what each event was, and the id that resumes it.

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::support::{Gateway, soon};

/// An event stream, read event by event.
#[derive(Debug)]
pub struct Events {
    response: Response,
    unread: Vec<u8>,
    /// Ids of the messages so far; empty where a message had none.
    pub ids: Vec<String>,
    pub texts: Vec<String>,
    pub messages: Vec<Value>,
}

impl Events {
    /// Comes with the local token.
    pub async fn open(gateway: &Gateway, query: &str) -> Events {
        let path = format!("/v1/monitor/events?{query}");
        Events::of(gateway.request(Method::GET, &path)).await
    }

    /// Comes again, as a browser does.
    pub async fn resume(gateway: &Gateway, query: &str, last_event_id: &str) -> Events {
        let path = format!("/v1/monitor/events?{query}");
        let request = gateway.request(Method::GET, &path);
        Events::of(request.header("last-event-id", last_event_id)).await
    }

    /// Comes with a request, and is let in.
    pub async fn of(request: RequestBuilder) -> Events {
        let response = soon("the gateway answers", request.send()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let (ids, texts, messages) = (Vec::new(), Vec::new(), Vec::new());
        Events { response, unread: Vec::new(), ids, texts, messages }
    }

    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Reads until it is enough; false if the stream ended before.
    pub async fn until(&mut self, what: &str, enough: impl Fn(&Events) -> bool) -> bool {
        soon(what, async {
            while !enough(self) {
                let Some(chunk) = self.response.chunk().await.unwrap() else { return false };
                self.unread.extend_from_slice(&chunk);
                while let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                    let event: Vec<u8> = self.unread.drain(..end + 2).collect();
                    self.note(std::str::from_utf8(&event).unwrap());
                }
            }
            true
        })
        .await
    }

    fn note(&mut self, event: &str) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let Some(data) = field("data: ") else { return };
        self.ids.push(field("id: ").unwrap_or_default().to_owned());
        self.texts.push(data.to_owned());
        self.messages.push(serde_json::from_str(data).unwrap());
    }

    /// The member `n` of each record of a stream so far.
    pub fn numbers(&self, stream: &str) -> Vec<i64> {
        let frames =
            self.messages.iter().filter(|it| it["type"] == "records" && it["stream"] == stream);
        let records = frames.flat_map(|frame| frame["records"].as_array().unwrap());
        records.map(|record| record["data"]["n"].as_i64().unwrap()).collect()
    }

    /// Messages of a type so far.
    pub fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.messages.iter().filter(move |message| message["type"] == kind)
    }

    /// What a browser sends when it comes again.
    pub fn last_id(&self) -> &str {
        self.ids.iter().rev().find(|id| !id.is_empty()).expect("hello has an id")
    }
}
