//! What `tidegate tail` shows: one line a record.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::output::printable;

/// Colours for the names of streams.
const STREAM_COLOURS: [&str; 5] =
    ["\u{1b}[36m", "\u{1b}[32m", "\u{1b}[35m", "\u{1b}[34m", "\u{1b}[31m"];
const YELLOW: &str = "\u{1b}[33m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// How messages are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A line of text for each record.
    Text { coloured: bool },
    /// The messages of records and gaps as they came.
    Json,
}

/// Writes what monitors are told.
#[derive(Debug)]
pub struct Printer<W> {
    out: W,
    style: Style,
}

/// What every message has. The rest is read by its type: only so can the data stay as the text that it is.
#[derive(Debug, Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Debug, Deserialize)]
struct Hello {
    cursor: String,
}

#[derive(Debug, Deserialize)]
struct Frame<'a> {
    stream: String,
    cursor: String,
    #[serde(borrow)]
    records: Vec<Record<'a>>,
}

#[derive(Debug, Deserialize)]
struct Gap {
    stream: String,
    to: String,
    count: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Complaint {
    message: String,
}

#[derive(Debug, Deserialize)]
struct Record<'a> {
    received_at: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl<W: Write> Printer<W> {
    pub fn new(out: W, style: Style) -> Printer<W> {
        Printer { out, style }
    }

    /// Shows a message. Returns the cursor after it, if it moves one. What a later gateway may send is passed over.
    pub fn show(&mut self, text: &str) -> io::Result<Option<String>> {
        let mut lines = String::new();
        let cursor = self.lines(text, &mut lines).unwrap_or_default();
        if !lines.is_empty() {
            self.out.write_all(lines.as_bytes())?;
            self.out.flush()?;
        }
        Ok(cursor)
    }

    fn lines(&self, text: &str, out: &mut String) -> serde_json::Result<Option<String>> {
        let Kind { kind } = serde_json::from_str(text)?;
        match (kind, self.style) {
            ("hello", _) => Ok(Some(serde_json::from_str::<Hello>(text)?.cursor)),
            ("records", style) => {
                let Frame { stream, cursor, records } = serde_json::from_str(text)?;
                match style {
                    Style::Json => raw_line(text, out),
                    Style::Text { coloured } => {
                        for record in &records {
                            record.line(&stream, coloured, out);
                        }
                    }
                }
                Ok(Some(cursor))
            }
            ("gap", style) => {
                let Gap { stream, to, count } = serde_json::from_str(text)?;
                match style {
                    Style::Json => raw_line(text, out),
                    Style::Text { coloured } => gap_line(&stream, count, coloured, out),
                }
                Ok(Some(to))
            }
            ("error", _) => {
                let Complaint { message } = serde_json::from_str(text)?;
                eprintln!("the gateway says: {}", printable(&message));
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

fn raw_line(text: &str, out: &mut String) {
    out.push_str(text);
    out.push('\n');
}

impl Record<'_> {
    fn line(&self, stream: &str, coloured: bool, out: &mut String) {
        // 2026-11-21T05:00:00.123456Z: the time of day, to the millisecond.
        let time = self.received_at.get(11..23).unwrap_or(&self.received_at);
        let data = compact(self.data.get());
        let written = if coloured {
            let colour = STREAM_COLOURS
                [stream.bytes().map(usize::from).sum::<usize>() % STREAM_COLOURS.len()];
            writeln!(out, "{DIM}{time}{PLAIN} {colour}{stream}{PLAIN} {data}")
        } else {
            writeln!(out, "{time} {stream} {data}")
        };
        written.expect("a string takes all text");
    }
}

fn gap_line(stream: &str, count: Option<u64>, coloured: bool, out: &mut String) {
    let (on, off) = if coloured { (YELLOW, PLAIN) } else { ("", "") };
    let what = match count {
        Some(1) => "1 record is".to_owned(),
        Some(count) => format!("{count} records are"),
        None => "an unknown number of records is".to_owned(),
    };
    writeln!(out, "{on}-- {what} left out of {stream}{off}").expect("a string takes all text");
}

/// JSON without white space between its tokens, and without characters that a terminal would act on.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        if !in_string && character.is_ascii_whitespace() {
            continue;
        }
        if character.is_control() {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
            continue;
        }
        if character == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && character == '\\' && !escaped;
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = concat!(
        r#"{"type":"records","stream":"flights","cursor":"0000000a.10","records":["#,
        r#"{"id":"x","received_at":"2026-11-21T05:00:00.123456Z","source":"http","user":"ada","data":{"a": [1, 2],  "b c": " \" {} \\"}},"#,
        r#"{"id":"y","received_at":"2026-11-21T05:00:01.000000Z","source":"http","user":"ada","data":{"n":12345678901234567890123}}]}"#
    );
    const GAP: &str =
        r#"{"type":"gap","stream":"flights","from":"0000000a.10","to":"0000000a.20","count":312}"#;

    fn shown(style: Style, messages: &[&str]) -> (String, Option<String>) {
        let mut printer = Printer::new(Vec::new(), style);
        let mut cursor = None;
        for message in messages {
            cursor = printer.show(message).unwrap().or(cursor);
        }
        (String::from_utf8(printer.out).unwrap(), cursor)
    }

    #[test]
    fn a_record_is_a_line_and_numbers_stay_as_they_are() {
        let unknown = GAP.replace("312", "null");
        let (text, cursor) = shown(Style::Text { coloured: false }, &[RECORDS, GAP, &unknown]);
        let expected = concat!(
            "05:00:00.123 flights {\"a\":[1,2],\"b c\":\" \\\" {} \\\\\"}\n",
            "05:00:01.000 flights {\"n\":12345678901234567890123}\n",
            "-- 312 records are left out of flights\n",
            "-- an unknown number of records is left out of flights\n",
        );
        assert_eq!(text, expected);
        assert_eq!(cursor.as_deref(), Some("0000000a.20"));
    }

    #[test]
    fn json_is_the_messages_of_records_and_gaps() {
        let hello =
            r#"{"type":"hello","cursor":"0000000a.5","streams":[],"mode":"full","node":"n"}"#;
        let (text, _) = shown(Style::Json, &[hello, RECORDS, r#"{"type":"stats"}"#, GAP]);
        assert_eq!(text, format!("{RECORDS}\n{GAP}\n"));
    }

    #[test]
    fn a_record_cannot_steer_the_terminal() {
        let record = RECORDS.replace("b c", "\u{9b}31m\u{7f}");
        let (text, _) = shown(Style::Text { coloured: false }, &[&record]);
        assert!(text.contains("\\u009b31m\\u007f"), "{text}");
        let (text, _) = shown(Style::Text { coloured: true }, &[GAP]);
        assert!(text.starts_with(YELLOW) && text.ends_with("\u{1b}[0m\n"), "{text:?}");
    }

    #[test]
    fn what_a_later_gateway_may_send_is_passed_over() {
        for message in [r#"{"type":"task","id":"x"}"#, "{}", "[]", "", "null"] {
            assert_eq!(shown(Style::Text { coloured: true }, &[message]), (String::new(), None));
        }
    }
}
