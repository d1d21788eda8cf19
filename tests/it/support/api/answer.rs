//! What an [`Api`](super::Api) sends back, and how much of it.

use serde_json::Value;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// What is sent back.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Whole(Vec<u8>),
    /// Not even a head.
    Silence,
    /// The beginning, then nothing more; the connection stays.
    Stalled(Vec<u8>),
    /// The beginning, and the end of the connection.
    Cut(Vec<u8>),
    /// The beginning, then one piece over and over until the client hangs up.
    Endless(Vec<u8>, Vec<u8>),
}

impl Answer {
    pub fn json(value: &Value) -> Answer {
        Answer::text(200, &value.to_string()).header("content-type", "application/json")
    }

    pub fn text(status: u16, body: &str) -> Answer {
        Answer::bytes(status, body)
    }

    pub fn bytes(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    pub fn redirect(status: u16, location: &str) -> Answer {
        Answer::text(status, "").header("location", location)
    }

    pub fn silence() -> Answer {
        Answer { status: 200, headers: Vec::new(), body: Body::Silence }
    }

    pub fn stalled(beginning: &str) -> Answer {
        Answer { status: 200, headers: Vec::new(), body: Body::Stalled(beginning.into()) }
    }

    pub fn cut(beginning: &str) -> Answer {
        Answer { status: 200, headers: Vec::new(), body: Body::Cut(beginning.into()) }
    }

    pub fn endless(beginning: &str, piece: &str) -> Answer {
        let body = Body::Endless(beginning.into(), piece.repeat(1_000).into());
        Answer { status: 200, headers: Vec::new(), body }
    }

    pub fn status(self, status: u16) -> Answer {
        Answer { status, ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

pub(super) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, answer: Answer) -> Option<()> {
    let head = |length: Option<usize>| {
        let mut head = format!("HTTP/1.1 {} Told So\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&header_line(name, value));
        }
        if let Some(length) = length.filter(|_| !matches!(answer.status, 204 | 304)) {
            head.push_str(&header_line("content-length", &length.to_string()));
        }
        head + "\r\n"
    };
    let (head, beginning) = match &answer.body {
        Body::Silence => std::future::pending().await,
        Body::Whole(body) => (head(Some(body.len())), body),
        Body::Cut(body) => (head(Some(body.len() + 1)), body),
        Body::Stalled(body) | Body::Endless(body, _) => (head(None), body),
    };
    stream.write_all(&[head.as_bytes(), beginning].concat()).await.ok()?;
    stream.flush().await.ok()?;
    match &answer.body {
        Body::Silence | Body::Stalled(_) => std::future::pending().await,
        Body::Cut(_) => None,
        Body::Whole(_) => Some(()),
        Body::Endless(_, piece) => loop {
            stream.write_all(piece).await.ok()?;
        },
    }
}

fn header_line(name: &str, value: &str) -> String {
    format!("{name}: {value}\r\n")
}
