//! The messages that monitors get, as text that is made once and shared by all of them.
//!
//! Invariant: a message is one line. The data of a stream of type `json` is kept as it was sent, with its white space;
//! line ends in it become spaces before they come here.

use std::fmt::Write as _;

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use tidegate_codec::StreamName;
use tidegate_codec::decode::write_rfc3339;
use tidegate_record::UnixMicros;

use super::cursor::Cursor;

/// A message. Clones share the text.
#[derive(Debug, Clone)]
pub struct Message {
    pub text: Utf8Bytes,
    /// Where to resume after it; none if it moves nothing.
    pub cursor: Option<Cursor>,
    pub content: Content,
}

/// What a message is about, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// So many records.
    Records(u64),
    /// So many records that were left out, where it is known.
    Gap(Option<u64>),
    /// `hello`, `stats` or `error`.
    Notice,
}

impl Message {
    /// `records`; `list` is the records as JSON with commas between them.
    pub fn records(stream: &StreamName, cursor: Cursor, list: &str, count: u64) -> Message {
        let mut text = String::with_capacity(list.len() + stream.as_str().len() + 180);
        let written = write!(
            text,
            r#"{{"type":"records","stream":"{stream}","cursor":"{cursor}","records":[{list}]}}"#
        );
        written.expect("a string takes all text");
        // The text lives as long as the slowest monitor needs it.
        text.shrink_to_fit();
        Message { text: text.into(), cursor: Some(cursor), content: Content::Records(count) }
    }

    /// `gap`; after it the monitor resumes at `to`.
    pub fn gap(stream: &StreamName, from: Cursor, to: Cursor, count: Option<u64>) -> Message {
        let number = count.map_or_else(|| "null".to_owned(), |count| count.to_string());
        let text = format!(
            r#"{{"type":"gap","stream":"{stream}","from":"{from}","to":"{to}","count":{number}}}"#
        );
        Message { text: text.into(), cursor: Some(to), content: Content::Gap(count) }
    }

    /// `hello`, the first message.
    pub fn hello(cursor: Cursor, streams: &[StreamName], mode: &str, node: &str) -> Message {
        #[derive(Serialize)]
        struct Hello<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            cursor: String,
            streams: &'a [StreamName],
            mode: &'a str,
            node: &'a str,
        }
        let hello = Hello { kind: "hello", cursor: cursor.to_string(), streams, mode, node };
        Message { cursor: Some(cursor), ..Message::notice(&hello) }
    }

    /// `error`: what the monitor did wrong, or why it is over.
    pub fn error(code: &str, message: &str) -> Message {
        #[derive(Serialize)]
        struct Error<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            code: &'a str,
            message: &'a str,
        }
        Message::notice(&Error { kind: "error", code, message })
    }

    /// Any message that moves no cursor.
    pub(super) fn notice(value: &impl Serialize) -> Message {
        let text = serde_json::to_string(value).expect("plain structs become JSON");
        Message { text: text.into(), cursor: None, content: Content::Notice }
    }
}

/// A time as text, as in every message.
pub(super) fn rfc3339(time: UnixMicros) -> String {
    let mut text = Vec::new();
    write_rfc3339(time, &mut text);
    String::from_utf8(text).expect("times are written in ASCII")
}
