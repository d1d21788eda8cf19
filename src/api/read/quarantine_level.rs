//! How full the quarantine is, as the status and the quarantine's summary show it.

use serde::Serialize;

use crate::api::AppState;

/// `{"records":17,"bytes":5210,"records_max":4000000,…}`
#[derive(Debug, Serialize)]
pub struct QuarantineLevelView {
    /// Invalid records that are kept, and bytes of them, with what this gateway is bringing in.
    records: u64,
    bytes: u64,
    records_max: u64,
    bytes_max: u64,
    /// The limits for one stream.
    stream_records_max: u64,
    stream_bytes_max: u64,
    /// Streams of which it holds as much as it may.
    full_streams: usize,
    /// Accepted records that PostgreSQL refused; no limit holds for them.
    accepted_records: u64,
    accepted_bytes: u64,
    /// `refuse` or `drop_oldest`.
    when_full: &'static str,
    /// Days that they are kept; null: for ever.
    days: Option<u16>,
    accepted_days: Option<u16>,
    /// Records that this gateway dropped since it started: the oldest to make room, and old ones.
    dropped_oldest: u64,
    dropped_for_age: u64,
}

impl QuarantineLevelView {
    pub fn of(state: &AppState) -> QuarantineLevelView {
        let (room, settings) = (&state.ingest.quarantine, &state.config.quarantine);
        let (level, accepted, dropped) = (room.level(), room.accepted(), room.dropped());
        let limits = room.limits();
        let days = |days: u16| Some(days).filter(|days| *days > 0);
        QuarantineLevelView {
            records: level.records,
            bytes: level.bytes,
            records_max: limits.all.records,
            bytes_max: limits.all.bytes,
            stream_records_max: limits.stream.records,
            stream_bytes_max: limits.stream.bytes,
            full_streams: room.full_streams(),
            accepted_records: accepted.records,
            accepted_bytes: accepted.bytes,
            when_full: limits.full.as_str(),
            days: days(settings.quarantine_days),
            accepted_days: days(settings.quarantine_accepted_days),
            dropped_oldest: dropped.oldest,
            dropped_for_age: dropped.for_age,
        }
    }
}
