//! An entry that is being read row by row, each row as the JSON of a record.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tidegate_codec::changes::{ChangeOp, decode_change};
use tidegate_codec::decode::{DecodeError, decode_tuple, tuple_len, write_rfc3339};
use tidegate_codec::{Shape, Stream};
use tidegate_journal::{Entry, EntryHeader};
use tidegate_record::{EntryKind, EntryMeta};

use super::cursor::Point;

/// Why the rest of an entry cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undecodable {
    #[error(transparent)]
    Tuple(#[from] DecodeError),
    #[error("the tuples end before the last row")]
    Short,
    #[error("the record is not UTF-8")]
    NotText,
}

/// An entry and how far it was read.
pub(super) struct OpenEntry {
    header: EntryHeader,
    /// What stands between the time and the data of each record: it is the same for all.
    origin: String,
    body: Bytes,
    offset: usize,
    row: u32,
}

impl OpenEntry {
    pub fn new(entry: Entry) -> OpenEntry {
        let (source, user) = match EntryMeta::decode(&entry.meta) {
            Some(meta) => (json!(meta.source.as_str()), json!(meta.user)),
            None => (json!(null), json!(null)),
        };
        let origin = format!(r#","source":{source},"user":{user},"data":"#);
        OpenEntry { header: entry.header, origin, body: entry.body, offset: 0, row: 0 }
    }

    pub fn header(&self) -> &EntryHeader {
        &self.header
    }

    /// Bytes that it holds in memory.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Rows that were not read.
    pub fn remaining(&self) -> u32 {
        self.header.rows - self.row
    }

    /// What is before it was read.
    pub fn point(&self) -> Point {
        if self.remaining() == 0 {
            return Point::at(self.header.end);
        }
        Point { position: self.header.position, row: self.row }
    }

    /// Leaves out the remaining rows.
    pub fn finish(&mut self) {
        self.row = self.header.rows;
    }

    /// Goes on to a row, if that is not behind already.
    pub fn skip_to(&mut self, row: u32) -> Result<(), Undecodable> {
        while self.row < row.min(self.header.rows) {
            self.offset += tuple_len(&self.body[self.offset..])?;
            self.row += 1;
        }
        Ok(())
    }

    /// Appends the next row as a JSON object without line ends.
    pub fn next_row(
        &mut self,
        stream: &Arc<Stream>,
        scratch: &mut Scratch,
        out: &mut String,
    ) -> Result<(), Undecodable> {
        if self.header.kind == EntryKind::Changes.code() {
            return self.next_change(stream, out);
        }
        let data = &mut scratch.data;
        data.clear();
        let shape: &Shape = &stream.shape;
        let tuple = &self.body[self.offset..];
        let decoded = decode_tuple(shape, self.header.column_set, tuple, data)?;
        if decoded.consumed == 0 || decoded.consumed > tuple.len() {
            return Err(Undecodable::Short);
        }
        // Only white space between tokens can be a raw line end: inside of strings JSON forbids it.
        if memchr::memchr2(b'\n', b'\r', data).is_some() {
            data.iter_mut()
                .filter(|byte| matches!(byte, b'\n' | b'\r'))
                .for_each(|byte| *byte = b' ');
        }
        scratch.time.clear();
        write_rfc3339(decoded.received_at, &mut scratch.time);
        let data = str::from_utf8(data).map_err(|_| Undecodable::NotText)?;
        let time = str::from_utf8(&scratch.time).map_err(|_| Undecodable::NotText)?;

        out.push_str(r#"{"id":""#);
        out.push_str(decoded.id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
        out.push_str(r#"","received_at":""#);
        out.push_str(time);
        out.push('"');
        out.push_str(&self.origin);
        out.push_str(data);
        out.push('}');
        self.offset += decoded.consumed;
        self.row += 1;
        Ok(())
    }
}

impl OpenEntry {
    /// Appends the next change as a JSON object without line ends: as records are, with what is done (`op`), and to which
    /// record, where that is not told by its id: `key`.
    fn next_change(&mut self, stream: &Stream, out: &mut String) -> Result<(), Undecodable> {
        let tuple = &self.body[self.offset..];
        let change = decode_change(stream, self.header.column_set, tuple)?;
        if change.consumed == 0 || change.consumed > tuple.len() {
            return Err(Undecodable::Short);
        }
        let mut time = Vec::new();
        write_rfc3339(change.received_at, &mut time);
        let time = str::from_utf8(&time).map_err(|_| Undecodable::NotText)?;
        let id = change.target.unwrap_or(change.id);
        let flat = |json: &str| json.replace(['\n', '\r'], " ");
        let key = change.key.as_deref().map(|key| format!(r#","key":{}"#, flat(key)));
        let op = match change.op {
            ChangeOp::Delete => "delete",
            ChangeOp::Put | ChangeOp::Patch => "change",
        };
        let is_part = if change.op == ChangeOp::Patch { r#","patch":true"# } else { "" };
        let head = format!(r#"{{"id":"{id}","received_at":"{time}","op":"{op}"{is_part}"#);
        out.push_str(&head);
        out.push_str(&key.unwrap_or_default());
        out.push_str(&self.origin);
        out.push_str(&change.data.as_deref().map_or_else(|| "null".to_owned(), flat));
        out.push('}');
        self.offset += change.consumed;
        self.row += 1;
        Ok(())
    }
}

/// Buffers that are used again for each record.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    data: Vec<u8>,
    time: Vec<u8>,
}

/// Largest record buffer that is kept for the next record, in bytes.
const SCRATCH_BYTES_KEPT: usize = 1024 * 1024;

impl Scratch {
    /// Gives memory back after an unusually large record.
    pub fn trim(&mut self) {
        self.data.clear();
        self.data.shrink_to(SCRATCH_BYTES_KEPT);
    }
}
