//! The table `parked`: entries of streams whose table cannot be written now, in the order of the journal.
//!
//! Every statement is part of a batch's transaction, under its epoch.

use bytes::Bytes;
use sqlx::FromRow;
use tidegate_record::{ColumnSet, Position, StreamId, UnixMicros};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::batch::{BatchConnection, BatchError, during};
use crate::db::journals::{from_sql, to_sql};

/// An entry that waits for its table.
#[derive(Debug, Clone)]
pub struct ParkedEntry {
    pub position: Position,
    /// The number of an [`EntryKind`](tidegate_record::EntryKind).
    pub kind: u8,
    pub column_set: ColumnSet,
    pub rows: u32,
    pub received_at: UnixMicros,
    pub meta: Bytes,
    pub body: Bytes,
}

/// How much of one stream is parked.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ParkedStream {
    pub stream: StreamId,
    pub records: i64,
    pub since: OffsetDateTime,
}

/// How much to take at a time.
#[derive(Debug, Clone, Copy)]
pub struct ParkedLimits {
    pub entries_max: u32,
    /// Records; one entry may have more.
    pub records_max: u64,
    /// Bytes of bodies; one entry may be larger.
    pub bytes_max: u64,
}

/// The position, the kind, the column set, the rows, when they came, meta, body.
type ParkedRow = (i64, i16, i32, i32, OffsetDateTime, Vec<u8>, Vec<u8>);

impl BatchConnection {
    /// What is parked of a journal.
    pub async fn parked_streams(&mut self, journal: Uuid) -> Result<Vec<ParkedStream>, BatchError> {
        sqlx::query_as(
            "select stream_id as stream, sum(rows)::bigint as records, min(parked_at) as since
             from tidegate.parked where journal_id = $1 group by stream_id",
        )
        .bind(journal)
        .fetch_all(self.as_mut())
        .await
        .map_err(during("looking for parked entries"))
    }

    /// Parks entries of a stream.
    pub async fn park(
        &mut self,
        journal: Uuid,
        stream: StreamId,
        entries: &[ParkedEntry],
    ) -> Result<(), BatchError> {
        let numbers = |number: fn(&ParkedEntry) -> u32| -> Vec<i32> {
            entries.iter().map(|entry| number(entry).cast_signed()).collect()
        };
        let positions: Vec<i64> = entries.iter().map(|entry| to_sql(entry.position)).collect();
        let times: Vec<OffsetDateTime> =
            entries.iter().map(|entry| entry.received_at.date_time()).collect();
        let metas: Vec<&[u8]> = entries.iter().map(|entry| entry.meta.as_ref()).collect();
        let bodies: Vec<&[u8]> = entries.iter().map(|entry| entry.body.as_ref()).collect();
        sqlx::query(
            "insert into tidegate.parked
                 (journal_id, stream_id, position, kind, column_set, rows, received_at, meta, body)
             select $1, $2, * from
                 unnest($3::bigint[], $4::smallint[], $5::int[], $6::int[], $7::timestamptz[], $8::bytea[], $9::bytea[])",
        )
        .bind(journal)
        .bind(stream)
        .bind(positions)
        .bind(entries.iter().map(|entry| i16::from(entry.kind)).collect::<Vec<i16>>())
        .bind(numbers(|entry| entry.column_set.0))
        .bind(numbers(|entry| entry.rows))
        .bind(times)
        .bind(metas)
        .bind(bodies)
        .execute(self.as_mut())
        .await
        .map(drop)
        .map_err(during("parking entries"))
    }

    /// The oldest parked entries of a stream that lie below `until`.
    pub async fn oldest_parked(
        &mut self,
        journal: Uuid,
        stream: StreamId,
        until: Position,
        limits: ParkedLimits,
    ) -> Result<Vec<ParkedEntry>, BatchError> {
        let rows: Vec<ParkedRow> = sqlx::query_as(
            "select position, kind, column_set, rows, received_at, meta, body from (
                 select *, sum(length(body)) over (order by position) - length(body) as bytes_before,
                     sum(rows) over (order by position) - rows as records_before from (
                     select * from tidegate.parked
                     where journal_id = $1 and stream_id = $2 and position < $3
                     order by position limit $4) as oldest) as measured
             where bytes_before < $5 and records_before < $6 order by position",
        )
        .bind(journal)
        .bind(stream)
        .bind(to_sql(until))
        .bind(i64::from(limits.entries_max))
        .bind(i64::try_from(limits.bytes_max).unwrap_or(i64::MAX))
        .bind(i64::try_from(limits.records_max).unwrap_or(i64::MAX))
        .fetch_all(self.as_mut())
        .await
        .map_err(during("reading parked entries"))?;
        Ok(rows.into_iter().map(ParkedEntry::from_row).collect())
    }

    /// Is anything of the stream parked?
    pub async fn has_parked(
        &mut self,
        journal: Uuid,
        stream: StreamId,
    ) -> Result<bool, BatchError> {
        sqlx::query_scalar(
            "select exists (select from tidegate.parked where journal_id = $1 and stream_id = $2)",
        )
        .bind(journal)
        .bind(stream)
        .fetch_one(self.as_mut())
        .await
        .map_err(during("looking for parked entries"))
    }

    /// Leaves of an entry what was not written of it, in the transaction that writes the rest.
    pub async fn shorten_parked(
        &mut self,
        journal: Uuid,
        stream: StreamId,
        rest: &ParkedEntry,
    ) -> Result<(), BatchError> {
        sqlx::query(
            "update tidegate.parked set rows = $4, meta = $5, body = $6
             where journal_id = $1 and stream_id = $2 and position = $3",
        )
        .bind(journal)
        .bind(stream)
        .bind(to_sql(rest.position))
        .bind(rest.rows.cast_signed())
        .bind(rest.meta.as_ref())
        .bind(rest.body.as_ref())
        .execute(self.as_mut())
        .await
        .map(drop)
        .map_err(during("shortening a parked entry"))
    }

    /// Takes entries away, in the transaction that writes their rows.
    pub async fn unpark(
        &mut self,
        journal: Uuid,
        stream: StreamId,
        positions: &[Position],
    ) -> Result<(), BatchError> {
        let positions: Vec<i64> = positions.iter().map(|position| to_sql(*position)).collect();
        sqlx::query(
            "delete from tidegate.parked
             where journal_id = $1 and stream_id = $2 and position = any($3)",
        )
        .bind(journal)
        .bind(stream)
        .bind(positions)
        .execute(self.as_mut())
        .await
        .map(drop)
        .map_err(during("taking parked entries away"))
    }
}

impl ParkedEntry {
    fn from_row(row: ParkedRow) -> ParkedEntry {
        let (position, kind, column_set, rows, received_at, meta, body) = row;
        ParkedEntry {
            position: from_sql(position),
            kind: u8::try_from(kind).unwrap_or_default(),
            column_set: ColumnSet(column_set.cast_unsigned()),
            rows: rows.cast_unsigned(),
            received_at: UnixMicros::of(received_at),
            meta: meta.into(),
            body: body.into(),
        }
    }
}
