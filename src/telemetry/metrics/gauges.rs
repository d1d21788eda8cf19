//! What stands at the moment the metrics are read.

use metrics::{counter, gauge};

use super::{
    COMMIT_LAG, CONNECTIONS, CONNECTIONS_LIMIT, CONNECTIONS_SILENT, CONNECTIONS_UNREAD, DISK_FREE,
    IDEMPOTENCY_KEYS, IDEMPOTENCY_KEYS_LIMIT, INTAKE_BYTES, INTAKE_BYTES_LIMIT, INTAKE_ENTRIES,
    INTAKE_ENTRIES_LIMIT, JOURNAL_BACKLOG, JOURNAL_BYTES, JOURNAL_BYTES_LIMIT, JOURNAL_DAMAGES,
    JOURNAL_FAILED, MONITOR_DELIVERIES, MONITOR_FRAMES, MONITOR_FRAMES_HELD,
    MONITOR_FRAMES_HELD_LIMIT, MONITOR_GAP_RECORDS, MONITOR_GAPS, MONITORS, PARTITIONS_BEHIND,
    QUARANTINE_ACCEPTED, QUARANTINE_BYTES, QUARANTINE_BYTES_LIMIT, QUARANTINE_RECORDS,
    QUARANTINE_RECORDS_LIMIT, READY, REQUEST_MEMORY, REQUEST_MEMORY_LIMIT, STREAMS, STREAMS_LIMIT,
};

/// All of it; see the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    pub connections: usize,
    pub connections_limit: usize,
    pub connections_silent: usize,
    pub connections_unread: usize,
    pub request_memory_bytes: usize,
    pub request_memory_bytes_limit: usize,
    pub intake_entries: usize,
    pub intake_entries_limit: usize,
    pub intake_bytes: u64,
    pub intake_bytes_limit: u64,
    pub idempotency_keys: usize,
    pub idempotency_keys_limit: usize,
    pub quarantine_records: u64,
    pub quarantine_records_limit: u64,
    pub quarantine_bytes: u64,
    pub quarantine_bytes_limit: u64,
    pub quarantine_accepted_records: u64,
    pub journal_bytes: u64,
    pub journal_bytes_limit: u64,
    pub journal_failed: bool,
    pub journal_damages: usize,
    pub journal_backlog_bytes: u64,
    /// `None` if the disk does not say.
    pub disk_free_bytes: Option<u64>,
    pub commit_lag_seconds: f64,
    pub ready: bool,
    pub partitions_behind: usize,
    pub streams: usize,
    pub streams_limit: usize,
    pub monitors: usize,
    pub monitor_frames_held_bytes: usize,
    pub monitor_frames_held_bytes_limit: usize,
    pub monitor_frames: u64,
    pub monitor_deliveries: u64,
    pub monitor_gaps: u64,
    pub monitor_gap_records: u64,
}

/// Sets all of [`Gauges`].
#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are 64-bit floats")]
pub fn set_gauges(now: &Gauges) {
    gauge!(CONNECTIONS).set(now.connections as f64);
    gauge!(CONNECTIONS_LIMIT).set(now.connections_limit as f64);
    gauge!(CONNECTIONS_SILENT).set(now.connections_silent as f64);
    gauge!(CONNECTIONS_UNREAD).set(now.connections_unread as f64);
    gauge!(REQUEST_MEMORY).set(now.request_memory_bytes as f64);
    gauge!(REQUEST_MEMORY_LIMIT).set(now.request_memory_bytes_limit as f64);
    gauge!(INTAKE_ENTRIES).set(now.intake_entries as f64);
    gauge!(INTAKE_ENTRIES_LIMIT).set(now.intake_entries_limit as f64);
    gauge!(INTAKE_BYTES).set(now.intake_bytes as f64);
    gauge!(INTAKE_BYTES_LIMIT).set(now.intake_bytes_limit as f64);
    gauge!(IDEMPOTENCY_KEYS).set(now.idempotency_keys as f64);
    gauge!(IDEMPOTENCY_KEYS_LIMIT).set(now.idempotency_keys_limit as f64);
    gauge!(QUARANTINE_RECORDS).set(now.quarantine_records as f64);
    gauge!(QUARANTINE_RECORDS_LIMIT).set(now.quarantine_records_limit as f64);
    gauge!(QUARANTINE_BYTES).set(now.quarantine_bytes as f64);
    gauge!(QUARANTINE_BYTES_LIMIT).set(now.quarantine_bytes_limit as f64);
    gauge!(QUARANTINE_ACCEPTED).set(now.quarantine_accepted_records as f64);
    gauge!(JOURNAL_BYTES).set(now.journal_bytes as f64);
    gauge!(JOURNAL_BYTES_LIMIT).set(now.journal_bytes_limit as f64);
    gauge!(JOURNAL_FAILED).set(f64::from(u8::from(now.journal_failed)));
    gauge!(JOURNAL_DAMAGES).set(now.journal_damages as f64);
    gauge!(JOURNAL_BACKLOG).set(now.journal_backlog_bytes as f64);
    gauge!(DISK_FREE).set(now.disk_free_bytes.map_or(f64::NAN, |bytes| bytes as f64));
    gauge!(COMMIT_LAG).set(now.commit_lag_seconds);
    gauge!(READY).set(f64::from(u8::from(now.ready)));
    gauge!(PARTITIONS_BEHIND).set(now.partitions_behind as f64);
    gauge!(STREAMS).set(now.streams as f64);
    gauge!(STREAMS_LIMIT).set(now.streams_limit as f64);
    gauge!(MONITORS).set(now.monitors as f64);
    gauge!(MONITOR_FRAMES_HELD).set(now.monitor_frames_held_bytes as f64);
    gauge!(MONITOR_FRAMES_HELD_LIMIT).set(now.monitor_frames_held_bytes_limit as f64);
    counter!(MONITOR_FRAMES).absolute(now.monitor_frames);
    counter!(MONITOR_DELIVERIES).absolute(now.monitor_deliveries);
    counter!(MONITOR_GAPS).absolute(now.monitor_gaps);
    counter!(MONITOR_GAP_RECORDS).absolute(now.monitor_gap_records);
}
