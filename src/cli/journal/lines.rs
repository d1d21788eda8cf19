//! What an export writes: a line for each record, and one for every piece that is no record, so that no byte is lost.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::value::RawValue;
use tidegate_codec::changes::decode_change;
use tidegate_codec::decode::{decode_tuple, split_tuple, write_rfc3339};
use tidegate_codec::{Stream, StreamsSnapshot};
use tidegate_journal::{Entry, UnreadRange};
use tidegate_record::{ColumnSet, EntryKind, EntryMeta, Position, StreamId, UnixMicros};
use uuid::Uuid;

use crate::db::quarantine::QuarantinedRecord;

/// Bytes of a damaged part in one line.
const PIECE_BYTES: usize = 1 << 20;

/// A record (`data`), or a change of one.
#[derive(Serialize)]
struct RecordLine<'a> {
    stream: &'a str,
    position: Position,
    id: Uuid,
    received_at: String,
    source: Option<&'static str>,
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'a RawValue>,
}

/// A record that was refused and kept. `raw` where it is text, else `raw_base64`.
#[derive(Serialize)]
struct QuarantineLine<'a> {
    stream: &'a str,
    position: Position,
    quarantine: bool,
    id: Uuid,
    received_at: String,
    source: &'static str,
    user: &'a str,
    record: Option<u64>,
    line: Option<u64>,
    column: Option<&'a str>,
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
    truncated: bool,
}

/// The rest of an entry, from the first row that cannot be decoded on, as tuples of COPY's binary format.
#[derive(Serialize)]
struct UndecodableLine<'a> {
    stream: &'a str,
    position: Position,
    undecodable: &'a str,
    kind: u8,
    column_set: ColumnSet,
    row: u32,
    rows: u32,
    received_at: String,
    source: Option<&'static str>,
    user: Option<&'a str>,
    base64: String,
}

/// Bytes in which no entry can be found.
#[derive(Serialize)]
struct DamagedLine<'a> {
    position: Position,
    damaged: &'a str,
    base64: String,
}

/// Writes lines, and complains on standard error about what is no record.
pub(super) struct Lines<W> {
    out: W,
    streams: StreamsSnapshot,
    only: Option<String>,
    data: Vec<u8>,
}

impl<W: Write> Lines<W> {
    pub fn new(out: W, streams: StreamsSnapshot, only: Option<String>) -> Lines<W> {
        Lines { out, streams, only, data: Vec::new() }
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Every record of an entry, if its stream is wanted.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let id = i32::try_from(entry.header.stream).map(StreamId).ok();
        let stream = id.and_then(|id| self.streams.by_id(id)).cloned();
        let unnamed = format!("#{}", entry.header.stream);
        let name = stream.as_ref().map_or(unnamed.as_str(), |stream| stream.name.as_str());
        if self.only.as_deref().is_some_and(|only| only != name && only != unnamed) {
            return Ok(());
        }
        let meta = EntryMeta::decode(&entry.meta);
        let (mut offset, mut row) = (0, 0);
        while row < entry.header.rows {
            let tuple = &entry.body[offset..];
            let written = match (EntryKind::from_code(entry.header.kind), &stream) {
                (Some(EntryKind::Records), Some(stream)) => {
                    self.record(entry, stream, meta.as_ref(), tuple)
                }
                (Some(EntryKind::Changes), Some(stream)) => {
                    self.change(entry, stream, meta.as_ref(), tuple)
                }
                (Some(EntryKind::Records | EntryKind::Changes), None) => {
                    Err("the stream is not known".to_owned())
                }
                (Some(EntryKind::Quarantine), _) => self.quarantined(entry, name, tuple),
                (None, _) => Err("this kind of entry is not known".to_owned()),
            };
            match written {
                Ok(consumed) => offset += consumed?,
                Err(reason) => {
                    return self.undecodable(entry, name, meta.as_ref(), row, tuple, &reason);
                }
            }
            row += 1;
        }
        Ok(())
    }

    /// The outer error is the record's, the inner one that of writing.
    fn record(
        &mut self,
        entry: &Entry,
        stream: &Stream,
        meta: Option<&EntryMeta>,
        tuple: &[u8],
    ) -> Result<io::Result<usize>, String> {
        self.data.clear();
        let decoded = decode_tuple(&stream.shape, entry.header.column_set, tuple, &mut self.data)
            .map_err(|error| error.to_string())?;
        // Only white space between tokens can be a raw line end: inside of strings JSON forbids it.
        for byte in &mut self.data {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        let data = serde_json::from_slice(&self.data).map_err(|error| error.to_string())?;
        let line = RecordLine {
            stream: stream.name.as_str(),
            position: entry.header.position,
            id: decoded.id,
            received_at: rfc3339(decoded.received_at),
            source: meta.map(|meta| meta.source.as_str()),
            user: meta.map(|meta| meta.user.as_str()),
            data: Some(data),
            change: None,
        };
        Ok(write_line(&mut self.out, &line).map(|()| decoded.consumed))
    }

    fn change(
        &mut self,
        entry: &Entry,
        stream: &Stream,
        meta: Option<&EntryMeta>,
        tuple: &[u8],
    ) -> Result<io::Result<usize>, String> {
        let decoded = decode_change(stream, entry.header.column_set, tuple)
            .map_err(|error| error.to_string())?;
        let change = decoded.line().replace(['\n', '\r'], " ");
        let change = serde_json::from_str(&change).map_err(|error| error.to_string())?;
        let line = RecordLine {
            stream: stream.name.as_str(),
            position: entry.header.position,
            id: decoded.id,
            received_at: rfc3339(decoded.received_at),
            source: meta.map(|meta| meta.source.as_str()),
            user: meta.map(|meta| meta.user.as_str()),
            data: None,
            change: Some(change),
        };
        Ok(write_line(&mut self.out, &line).map(|()| decoded.consumed))
    }

    fn quarantined(
        &mut self,
        entry: &Entry,
        stream: &str,
        tuple: &[u8],
    ) -> Result<io::Result<usize>, String> {
        let (fields, consumed) = split_tuple(tuple).map_err(|error| error.to_string())?;
        let record = QuarantinedRecord::decode(&fields)
            .ok_or_else(|| "the fields are not those of a quarantined record".to_owned())?;
        let raw = str::from_utf8(record.raw).ok();
        let line = QuarantineLine {
            stream,
            position: entry.header.position,
            quarantine: true,
            id: record.id,
            received_at: rfc3339(record.received_at),
            source: record.source.as_str(),
            user: record.user,
            record: record.record,
            line: record.line,
            column: record.column,
            code: record.code,
            message: record.message,
            raw,
            raw_base64: raw.is_none().then(|| BASE64.encode(record.raw)),
            truncated: record.truncated,
        };
        Ok(write_line(&mut self.out, &line).map(|()| consumed))
    }

    fn undecodable(
        &mut self,
        entry: &Entry,
        stream: &str,
        meta: Option<&EntryMeta>,
        row: u32,
        tuples: &[u8],
        reason: &str,
    ) -> io::Result<()> {
        let header = &entry.header;
        let left = header.rows - row;
        eprintln!(
            "{}: {left} record(s) of {stream} cannot be decoded and are written as bytes: {reason}",
            header.position
        );
        let line = UndecodableLine {
            stream,
            position: header.position,
            undecodable: reason,
            kind: header.kind,
            column_set: header.column_set,
            row,
            rows: header.rows,
            received_at: rfc3339(header.received_at),
            source: meta.map(|meta| meta.source.as_str()),
            user: meta.map(|meta| meta.user.as_str()),
            base64: BASE64.encode(tuples),
        };
        write_line(&mut self.out, &line)
    }

    /// What is no entry. With a stream asked for it is only complained about: whose bytes they are is unknown.
    pub fn part(&mut self, part: &UnreadRange<'_>) -> io::Result<()> {
        let UnreadRange { from, to, reason, .. } = part;
        eprintln!("{from} to {to}: {reason}");
        if self.only.is_some() {
            return Ok(());
        }
        for piece in part.pieces(PIECE_BYTES) {
            let (position, bytes) = piece?;
            let line = DamagedLine { position, damaged: reason, base64: BASE64.encode(bytes) };
            write_line(&mut self.out, &line)?;
        }
        Ok(())
    }
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn rfc3339(at: UnixMicros) -> String {
    let mut text = Vec::new();
    write_rfc3339(at, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
