//! What a line of many streams begins with: the name of its stream, and where its records are.

use std::borrow::Cow;

use super::no_json::invalid_json;
use crate::encode::{RecordError, RecordErrorCode};
use crate::json::{Scanner, Stop, Value, ValueKind, unescape};

/// Most characters of a member's name that a message repeats.
const SHOWN_CHARS_MAX: usize = 40;
pub(super) const MEMBERS: &str = "a line has the members stream and record, or stream and records";

/// What a line says of its records.
pub(super) struct Head<'a> {
    pub stream: Cow<'a, str>,
    /// Where the record, or the list of them, begins.
    pub value: usize,
    pub is_list: bool,
    /// Where the line goes on behind it, if the stream's name stands there.
    pub resume: Option<usize>,
}

/// Why a line has no such head.
pub(super) struct NoHead<'a> {
    /// The stream that it names all the same.
    pub stream: Option<Cow<'a, str>>,
    pub error: RecordError,
}

/// Reads a line as far as to know its stream, and where its records begin.
pub(super) fn read_head(line: &[u8], start: usize) -> Result<Head<'_>, NoHead<'_>> {
    let mut scanner = Scanner::new(line, true);
    scanner.skip(start);
    let mut stream = None;
    let found = read_members(&mut scanner, &mut stream);
    match (found, stream) {
        (Ok(Some((value, is_list, resume))), Some(stream)) => {
            Ok(Head { stream, value, is_list, resume })
        }
        (Ok(_), stream) => {
            let message = match &stream {
                None => format!("the line names no stream: {MEMBERS}"),
                Some(_) => format!("the line has no record: {MEMBERS}"),
            };
            let error = RecordError::new(RecordErrorCode::InvalidLine, message);
            Err(NoHead { stream, error })
        }
        (Err(error), stream) => Err(NoHead { stream, error: error.in_line(line) }),
    }
}

/// Where the records begin, whether they are a list, and where the line goes on if that is known.
type FoundRecords = Option<(usize, bool, Option<usize>)>;

fn read_members<'a>(
    scanner: &mut Scanner<'a>,
    stream: &mut Option<Cow<'a, str>>,
) -> Result<FoundRecords, HeadError> {
    if scanner.peek()? != b'{' {
        return Err(HeadError::Line(format!("a line is an object: {MEMBERS}")));
    }
    let mut records: Option<(usize, bool)> = None;
    let mut has_more = scanner.open_object()?;
    while has_more {
        let key = scanner.key()?;
        let name = &scanner.input()[key.start + 1..key.end - 1];
        let first = scanner.peek()?;
        match name {
            b"stream" if stream.is_some() => return Err(twice("stream")),
            b"stream" if first != b'"' => {
                return Err(HeadError::Line("stream is a text, the name of a stream".to_owned()));
            }
            b"stream" => {
                let value = scanner.value(1)?;
                *stream = Some(text_of(value, scanner.input()));
                if let Some((value, is_list)) = records {
                    return Ok(Some((value, is_list, Some(scanner.position()))));
                }
            }
            b"record" | b"records" if records.is_some() => return Err(twice("record")),
            b"records" if first != b'[' => {
                return Err(HeadError::Line("records is a list; one record is record".to_owned()));
            }
            b"record" | b"records" => {
                let value = (scanner.position(), name == b"records");
                if stream.is_some() {
                    return Ok(Some((value.0, value.1, None)));
                }
                scanner.value(1)?;
                records = Some(value);
            }
            other => {
                let shown: String =
                    String::from_utf8_lossy(other).chars().take(SHOWN_CHARS_MAX).collect();
                return Err(HeadError::Line(format!("{MEMBERS}, but no {shown:?}")));
            }
        }
        has_more = scanner.after_member()?;
    }
    Ok(None)
}

/// Why the members of a line could not be read.
enum HeadError {
    Json(Stop),
    /// It is JSON, and says something else than a line does.
    Line(String),
}

impl From<Stop> for HeadError {
    fn from(stop: Stop) -> HeadError {
        HeadError::Json(stop)
    }
}

impl HeadError {
    fn in_line(self, line: &[u8]) -> RecordError {
        match self {
            HeadError::Line(message) => RecordError::new(RecordErrorCode::InvalidLine, message),
            HeadError::Json(Stop::Malformed { offset, message }) => {
                invalid_json(message, line, offset, "line")
            }
            HeadError::Json(Stop::Incomplete) => {
                invalid_json("the line ends inside a value", line, line.len(), "line")
            }
        }
    }
}

fn twice(member: &str) -> HeadError {
    HeadError::Line(format!("the line has the member {member} twice: {MEMBERS}"))
}

fn text_of(value: Value, line: &[u8]) -> Cow<'_, str> {
    let raw = &line[value.start + 1..value.end - 1];
    if value.kind != ValueKind::Escaped {
        return String::from_utf8_lossy(raw);
    }
    let mut text = Vec::new();
    unescape(raw, &mut text);
    Cow::Owned(String::from_utf8_lossy(&text).into_owned())
}
