//! The table `quarantine`: records that a stream refused, as COPY tuples like all others.

use std::ops::Range;

use tidegate_codec::decode::tuple_len;
use tidegate_record::{ColumnSet, Position, Source, StreamId, UnixMicros};
use uuid::Uuid;

use crate::db::journals::to_sql;

/// The table's columns in the order of a tuple.
const COLUMNS: &str = "id, received_at, stream_id, source, user_name, record, line, column_name, \
                                  code, message, raw, truncated";
/// What a tuple has beside that since column set 1.
const READ_AS_COLUMNS: &str = ", format, csv_header, csv_null";
/// And since column set [`COLUMN_SET`].
const DIALECT_COLUMNS: &str = ", csv_delimiter, csv_quote";
const FIELDS: i16 = 17;
/// What PostgreSQL adds when it refuses.
const REFUSED_COLUMNS: &str = ", sqlstate, position, format";
const REFUSED_FIELDS: i16 = 15;

/// The column set of the tuples that are encoded now; an entry of an older gateway has 0, and 12 fields, or 1, and 15.
pub const COLUMN_SET: ColumnSet = ColumnSet::new(2, 0);
/// Longest CSV header that is kept with each row, in bytes; without it a row cannot be replayed as it is.
const CSV_HEADER_BYTES_MAX: usize = 16 << 10;

/// What a row takes beside the record, the message and the CSV header, in bytes: about as much, with its place in the
/// indexes. The migration 0008 has the same number.
const ROW_BYTES: usize = 200;

/// The code of a record that was valid but that PostgreSQL refused: a constraint, a trigger.
pub const REFUSED_CODE: &str = "refused_by_postgresql";

/// What the column `format` says of a change.
pub const CHANGE_FORMAT: &[u8] = b"change";

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// One refused record.
#[derive(Debug)]
pub struct QuarantinedRecord<'a> {
    pub id: Uuid,
    pub received_at: UnixMicros,
    pub stream: StreamId,
    pub source: Source,
    pub user: &'a str,
    /// Number of the record in its request, from 1, where it is still known.
    pub record: Option<u64>,
    /// Line of the body, from 1, where the format has lines.
    pub line: Option<u64>,
    pub column: Option<&'a str>,
    pub code: &'a str,
    pub message: &'a str,
    pub raw: &'a [u8],
    pub truncated: bool,
}

/// How the bytes of a kept record are to be read.
#[derive(Debug, Clone)]
pub enum ReadAs<'a> {
    Json,
    /// A change.
    Change,
    /// A row; its fields have their names from the header line. Of delimiter and quote only those that the sender named.
    Csv {
        header: &'a [u8],
        null: Option<&'a str>,
        delimiter: Option<String>,
        quote: Option<String>,
    },
}

/// Where a tuple has its stream's number: behind the count of fields, the id, the time and its own length.
const STREAM_AT: Range<usize> = 38..42;

/// Puts a stream's number into tuples that were encoded before the stream had one.
pub fn set_stream(tuples: &mut [u8], stream: StreamId) {
    let mut start = 0;
    while let Ok(length) = tuple_len(&tuples[start..]) {
        let tuple = &mut tuples[start..start + length];
        tuple[STREAM_AT].copy_from_slice(&stream.0.to_be_bytes());
        start += length;
    }
}

/// The columns of an entry's tuples, in order.
pub(super) fn columns(column_set: ColumnSet) -> String {
    let read_as = if column_set.columns() >= 1 { READ_AS_COLUMNS } else { "" };
    let dialect = if column_set >= COLUMN_SET { DIALECT_COLUMNS } else { "" };
    format!("{COLUMNS}{read_as}{dialect}")
}

/// The columns of the tuples of records that PostgreSQL refused.
pub(super) fn refused_columns() -> String {
    format!("{COLUMNS}{REFUSED_COLUMNS}")
}

/// Takes records out of the quarantine that a batch commits once more.
pub(super) fn delete_statement(ids: &[Uuid]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
    format!("delete from tidegate.quarantine where id in ({})", ids.join(", "))
}

/// What a kept record counts, in bytes: what was sent of it, what is said of it, and the row itself. The table's triggers
/// count the same.
pub fn kept_bytes(raw: &[u8], csv_header: Option<&[u8]>, message: &str) -> u64 {
    let header = csv_header.map_or(0, <[u8]>::len);
    let header = if header <= CSV_HEADER_BYTES_MAX { header } else { 0 };
    (raw.len() + header + message.len() + ROW_BYTES) as u64
}

impl<'a> QuarantinedRecord<'a> {
    /// From the fields of a tuple that [`QuarantinedRecord::encode`] wrote, perhaps with later fields behind them; `None`
    /// if they are of something else.
    pub fn decode(fields: &[Option<&'a [u8]>]) -> Option<QuarantinedRecord<'a>> {
        let field = |index: usize| fields.get(index).copied().flatten();
        let text = |index: usize| field(index).and_then(|bytes| str::from_utf8(bytes).ok());
        let number = |index: usize| {
            let bytes = field(index)?.try_into().ok()?;
            u64::try_from(i64::from_be_bytes(bytes)).ok()
        };
        let micros = i64::from_be_bytes(field(1)?.try_into().ok()?);
        let source = text(3)?;
        Some(QuarantinedRecord {
            id: Uuid::from_slice(field(0)?).ok()?,
            received_at: UnixMicros(micros.checked_add(POSTGRES_EPOCH_MICROS)?),
            stream: StreamId(i32::from_be_bytes(field(2)?.try_into().ok()?)),
            source: Source::ALL.into_iter().find(|known| known.as_str() == source)?,
            user: text(4)?,
            record: number(5),
            line: number(6),
            column: text(7),
            code: text(8)?,
            message: text(9)?,
            raw: field(10)?,
            truncated: field(11)? == [1],
        })
    }

    /// Appends the COPY tuple to `out`.
    pub fn encode(&self, read_as: &ReadAs<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&FIELDS.to_be_bytes());
        self.put_fields(out);
        read_as.encode(out);
    }

    /// Appends the COPY tuple of a record, or of a change, that PostgreSQL refused, whose entry lay at `position`.
    pub fn encode_refused(
        &self,
        is_change: bool,
        sqlstate: &str,
        position: Position,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(&REFUSED_FIELDS.to_be_bytes());
        self.put_fields(out);
        put(out, sqlstate.as_bytes());
        put(out, &to_sql(position).to_be_bytes());
        if is_change {
            put(out, CHANGE_FORMAT);
        } else {
            put_null(out);
        }
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        put(out, self.id.as_bytes());
        put(out, &(self.received_at.0 - POSTGRES_EPOCH_MICROS).to_be_bytes());
        put(out, &self.stream.0.to_be_bytes());
        put(out, self.source.as_str().as_bytes());
        put_text(out, self.user);
        put_number(out, self.record);
        put_number(out, self.line);
        match self.column {
            Some(column) => put_text(out, column),
            None => put_null(out),
        }
        put(out, self.code.as_bytes());
        put_text(out, self.message);
        put(out, self.raw);
        put(out, &[u8::from(self.truncated)]);
    }
}

impl ReadAs<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let ReadAs::Csv { header, null, delimiter, quote } = self else {
            put(out, if matches!(self, ReadAs::Change) { CHANGE_FORMAT } else { b"json" });
            for _ in 0..4 {
                put_null(out);
            }
            return;
        };
        put(out, b"csv");
        if header.len() <= CSV_HEADER_BYTES_MAX {
            put(out, header);
        } else {
            put_null(out);
        }
        for word in [*null, delimiter.as_deref(), quote.as_deref()] {
            match word {
                Some(word) => put_text(out, word),
                None => put_null(out),
            }
        }
    }
}

fn put_number(out: &mut Vec<u8>, number: Option<u64>) {
    match number {
        Some(number) => put(out, &i64::try_from(number).unwrap_or(i64::MAX).to_be_bytes()),
        None => put_null(out),
    }
}

fn put(out: &mut Vec<u8>, value: &[u8]) {
    let length =
        i32::try_from(value.len()).expect("quarantined bytes are limited to far less than 2 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}

/// PostgreSQL's text holds everything but NUL, which can come in through a refused record's message.
fn put_text(out: &mut Vec<u8>, text: &str) {
    if text.contains('\0') {
        put(out, text.replace('\0', "\u{fffd}").as_bytes());
    } else {
        put(out, text.as_bytes());
    }
}

fn put_null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1_i32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use tidegate_codec::decode::split_tuple;

    use super::*;

    #[test]
    fn a_stream_s_number_is_put_into_tuples_that_had_none() {
        let mut tuples = Vec::new();
        for user in ["ada", ""] {
            let record = QuarantinedRecord {
                id: Uuid::max(),
                received_at: UnixMicros(1),
                stream: StreamId(0),
                source: Source::Http,
                user,
                record: Some(1),
                line: None,
                column: None,
                code: "invalid_json",
                message: "m",
                raw: b"{",
                truncated: false,
            };
            let header = b"a;b";
            let delimiter = Some(";".to_owned());
            let csv = ReadAs::Csv { header, null: None, delimiter, quote: None };
            record.encode(if user.is_empty() { &ReadAs::Json } else { &csv }, &mut tuples);
        }
        set_stream(&mut tuples, StreamId(0x0102_0304));
        let mut rest = &tuples[..];
        for user in ["ada", ""] {
            let (fields, length) = split_tuple(rest).unwrap();
            assert_eq!(fields.len(), usize::try_from(FIELDS).unwrap());
            let record = QuarantinedRecord::decode(&fields).unwrap();
            assert_eq!((record.stream, record.user), (StreamId(0x0102_0304), user));
            assert_eq!((record.id, record.raw), (Uuid::max(), &b"{"[..]));
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
    }
}
