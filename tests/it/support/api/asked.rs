//! A request, as it came over the line.

use std::collections::HashMap;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of a query parameter.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub(super) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut Vec<u8>,
) -> Option<Asked> {
    loop {
        if let Some((asked, length)) = parse(input).ok()? {
            input.drain(..length);
            return Some(asked);
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
}

/// A request and its length, if it is there as a whole.
fn parse(input: &[u8]) -> Result<Option<(Asked, usize)>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(input)? else {
        return Ok(None);
    };
    let text = |header: &httparse::Header<'_>| {
        let value = String::from_utf8_lossy(header.value).into_owned();
        (header.name.to_ascii_lowercase(), value)
    };
    let headers: HashMap<String, String> = request.headers.iter().map(text).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let Some(body) = input.get(head..head + length) else { return Ok(None) };
    let asked = Asked {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers,
        body: String::from_utf8_lossy(body).into_owned(),
    };
    Ok(Some((asked, head + length)))
}
