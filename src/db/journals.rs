//! The journals' rows and committed ranges: what makes rows exactly once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};
use tidegate_record::Position;
use time::OffsetDateTime;
use uuid::Uuid;

/// A committed part of the journal: positions `first` up to, not including, `last`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedRange {
    pub first: Position,
    pub last: Position,
    /// By position: entries of which not all records made a row.
    pub outcomes: BTreeMap<Position, EntryShortfall>,
}

/// What became of an entry's records that made no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EntryShortfall {
    /// They found their key taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicates: u64,
    /// PostgreSQL refused them; they are in the quarantine.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// Changes whose record was not there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// Changes whose record was not as they say it is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub conflicts: u64,
    /// The whole entry waits in `tidegate.parked`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parked: bool,
}

/// What all connections of a session of writers must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionMark {
    pub epoch: i64,
    /// When the server was started. One that was set back may have the same epoch, but is another, or began anew.
    pub server_started: OffsetDateTime,
}

/// What [`fence`] found.
#[derive(Debug)]
pub struct Fenced {
    pub session: SessionMark,
    /// PostgreSQL's version.
    pub version: String,
    /// In order of position.
    pub ranges: Vec<CommittedRange>,
}

/// first, last, outcomes
type RangeRow = (i64, i64, Option<Json<BTreeMap<Position, EntryShortfall>>>);

/// Makes the journal known, adds one to its epoch, and reads what is committed.
///
/// The update waits for every batch transaction that is still in flight, wherever it came from, and makes every one
/// that comes later with the old epoch fail; so the ranges read here are final.
pub async fn fence(
    connection: &mut PgConnection,
    journal: Uuid,
    node: &str,
) -> Result<Fenced, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // A transaction in flight may take as long as a statement may.
    sqlx::query("set local lock_timeout = 0").execute(&mut *transaction).await?;
    let (epoch, server_started, version): (i64, OffsetDateTime, String) = sqlx::query_as(
        "insert into tidegate.journals (id, node, epoch) values ($1, $2, 1)
         on conflict (id) do update set epoch = journals.epoch + 1, node = excluded.node
         returning epoch, pg_postmaster_start_time(), current_setting('server_version')",
    )
    .bind(journal)
    .bind(node)
    .fetch_one(&mut *transaction)
    .await?;
    let rows: Vec<RangeRow> = sqlx::query_as(
        "select first, last, outcomes from tidegate.committed_ranges where journal_id = $1 order by first",
    )
    .bind(journal)
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let ranges = rows.into_iter().map(|(first, last, outcomes)| CommittedRange {
        first: from_sql(first),
        last: from_sql(last),
        outcomes: outcomes.map(|json| json.0).unwrap_or_default(),
    });
    let session = SessionMark { epoch, server_started };
    Ok(Fenced { session, version, ranges: ranges.collect() })
}

/// A position as PostgreSQL keeps it. The journal would need 2⁶³ bytes to leave the range.
pub(super) fn to_sql(position: Position) -> i64 {
    i64::try_from(position.0).expect("a journal is shorter than 2^63 bytes")
}

pub(super) fn from_sql(position: i64) -> Position {
    Position(u64::try_from(position).unwrap_or_default())
}

/// The outcomes as a literal of `jsonb`: keys are hexadecimal, values plain numbers, so nothing needs escaping.
pub(super) fn outcomes_literal(outcomes: &BTreeMap<Position, EntryShortfall>) -> String {
    if outcomes.is_empty() {
        return "null".to_owned();
    }
    let json = serde_json::to_string(outcomes).expect("numbers and booleans have a form in JSON");
    format!("'{json}'")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
