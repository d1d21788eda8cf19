//! Every metric of the gateway: its name, meaning, unit and labels, in Prometheus' conventions.
//!
//! Labels are bounded: so many streams have their own (`TIDEGATE_METRIC_STREAMS_MAX`) and the others share
//! [`OTHER_STREAMS`]; routes, methods and statuses are fixed sets. Counts of records, which the path of a record keeps as
//! plain numbers, are read when the metrics are ([`render_streams`], [`set_gauges`]).

mod gauges;
mod streams;

use std::sync::LazyLock;
use std::time::Duration;

use metrics::{
    Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use gauges::{Gauges, set_gauges};
pub use streams::{SourceCounts, StreamCounts, render_streams};

const ACCEPTED: &str = "tidegate_records_accepted_total";
const COMMITTED: &str = "tidegate_records_committed_total";
const DUPLICATE: &str = "tidegate_records_duplicate_total";
const QUARANTINED: &str = "tidegate_records_quarantined_total";
const NOT_KEPT: &str = "tidegate_records_not_kept_total";
const BYTES_ACCEPTED: &str = "tidegate_bytes_accepted_total";
const REQUEST_DURATION: &str = "tidegate_http_request_duration_seconds";
const CONNECTIONS: &str = "tidegate_connections";
const LIMIT_HITS: &str = "tidegate_limit_hits_total";
const CONNECTIONS_LIMIT: &str = "tidegate_connections_limit";
const CONNECTIONS_SILENT: &str = "tidegate_connections_silent";
const CONNECTIONS_UNREAD: &str = "tidegate_connections_unread";
const REQUEST_MEMORY: &str = "tidegate_request_memory_bytes";
const REQUEST_MEMORY_LIMIT: &str = "tidegate_request_memory_bytes_limit";
const INTAKE_ENTRIES: &str = "tidegate_intake_entries";
const INTAKE_ENTRIES_LIMIT: &str = "tidegate_intake_entries_limit";
const INTAKE_BYTES: &str = "tidegate_intake_bytes";
const INTAKE_BYTES_LIMIT: &str = "tidegate_intake_bytes_limit";
const INTAKE_REFUSED: &str = "tidegate_intake_refused_total";
const IDEMPOTENCY_KEYS: &str = "tidegate_idempotency_keys";
const IDEMPOTENCY_KEYS_LIMIT: &str = "tidegate_idempotency_keys_limit";
const IDEMPOTENCY_REPLAYS: &str = "tidegate_idempotency_replays_total";
const WITHOUT_STREAM: &str = "tidegate_records_without_stream_total";
const QUARANTINE_RECORDS: &str = "tidegate_quarantine_records";
const QUARANTINE_RECORDS_LIMIT: &str = "tidegate_quarantine_records_limit";
const QUARANTINE_BYTES: &str = "tidegate_quarantine_bytes";
const QUARANTINE_BYTES_LIMIT: &str = "tidegate_quarantine_bytes_limit";
const QUARANTINE_ACCEPTED: &str = "tidegate_quarantine_accepted_records";
const JOURNAL_BYTES: &str = "tidegate_journal_bytes";
const JOURNAL_BYTES_LIMIT: &str = "tidegate_journal_bytes_limit";
const JOURNAL_BACKLOG: &str = "tidegate_journal_backlog_bytes";
const JOURNAL_FAILED: &str = "tidegate_journal_failed";
const JOURNAL_DAMAGES: &str = "tidegate_journal_damages";
const DISK_FREE: &str = "tidegate_disk_free_bytes";
const JOURNAL_FSYNC: &str = "tidegate_journal_fsync_duration_seconds";
const JOURNAL_GROUP: &str = "tidegate_journal_group_entries";
const BATCH_ROWS: &str = "tidegate_batch_rows";
const BATCH_DURATION: &str = "tidegate_batch_duration_seconds";
const COPY_DURATION: &str = "tidegate_copy_duration_seconds";
const CHANGES: &str = "tidegate_changes_total";
const READS: &str = "tidegate_reads_total";
const REPLICA_FALLBACKS: &str = "tidegate_replica_fallbacks_total";
const REPLICA_LAG: &str = "tidegate_replica_lag_seconds";
const KEYED_PARTS: &str = "tidegate_keyed_parts_total";
const COMMIT_LAG: &str = "tidegate_commit_lag_seconds";
const WRITER_SESSIONS: &str = "tidegate_writer_sessions_total";
const WRITER_ERRORS: &str = "tidegate_writer_errors_total";
const DATABASE_REWINDS: &str = "tidegate_database_rewinds_total";
const COSTLY_BATCHES: &str = "tidegate_costly_batches_waiting";
const LOST_BYTES: &str = "tidegate_journal_lost_bytes";
const PARKED: &str = "tidegate_parked_records";
const PARTITIONS_BEHIND: &str = "tidegate_partitions_behind_streams";
const REFUSED: &str = "tidegate_records_refused_total";
const MONITORS: &str = "tidegate_monitors";
const MONITOR_FRAMES_HELD: &str = "tidegate_monitor_frames_held_bytes";
const MONITOR_FRAMES_HELD_LIMIT: &str = "tidegate_monitor_frames_held_bytes_limit";
const MONITOR_FRAMES: &str = "tidegate_monitor_frames_total";
const MONITOR_DELIVERIES: &str = "tidegate_monitor_deliveries_total";
const MONITOR_GAPS: &str = "tidegate_monitor_gaps_total";
const MONITOR_GAP_RECORDS: &str = "tidegate_monitor_gap_records_total";
const POLL_RUNS: &str = "tidegate_polling_runs_total";
const POLL_DURATION: &str = "tidegate_polling_run_duration_seconds";
const POLL_LAG: &str = "tidegate_polling_lag_seconds";
const POLL_ITEMS: &str = "tidegate_polling_items_total";
const POLL_UNDER_WAY: &str = "tidegate_polling_runs";
const POLL_UNDER_WAY_LIMIT: &str = "tidegate_polling_runs_limit";
const PASSWORD_CHECKS: &str = "tidegate_password_checks_total";
const CACHED_REPLIES: &str = "tidegate_read_replies_total";
const STREAMS: &str = "tidegate_streams";
const STREAMS_LIMIT: &str = "tidegate_streams_limit";
const READY: &str = "tidegate_ready";
const BUILD_INFO: &str = "tidegate_build_info";

/// The router's pattern for requests to ingest, whose time is recorded on two ways.
pub const INGEST_ROUTE: &str = "/v1/streams/{stream}/records";
/// Label of all streams together that are not named by themselves. No stream can be called so.
pub const OTHER_STREAMS: &str = "(other)";

const SECONDS_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const ROWS_BUCKETS: [f64; 8] = [1.0, 10.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];

/// How often [`PrometheusHandle::run_upkeep`] must run, so that histograms stay small.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Installs the recorder of this process. Once.
///
/// # Errors
/// A recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let rows = [Matcher::Full(BATCH_ROWS.to_owned()), Matcher::Full(JOURNAL_GROUP.to_owned())];
    let mut builder = PrometheusBuilder::new().set_buckets(&SECONDS_BUCKETS)?;
    for matcher in rows {
        builder = builder.set_buckets_for_metric(matcher, &ROWS_BUCKETS)?;
    }
    let handle = builder.install_recorder()?;
    describe_way_in();
    describe_way_out();
    counter!(DATABASE_REWINDS).increment(0);
    set_costly_batches(0);
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

fn describe_way_in() {
    describe_histogram!(REQUEST_DURATION, Unit::Seconds, "Time to answer a request.");
    describe_gauge!(CONNECTIONS, "Open connections.");
    describe_gauge!(CONNECTIONS_LIMIT, "Most connections that may be open.");
    describe_gauge!(CONNECTIONS_SILENT, "Connections that have not sent a whole request yet.");
    describe_gauge!(
        CONNECTIONS_UNREAD,
        "Connections whose peers take nothing of what they are sent at the moment."
    );
    describe_gauge!(
        REQUEST_MEMORY,
        Unit::Bytes,
        "Bytes held for peers: heads, bodies that are not records, replies."
    );
    describe_gauge!(REQUEST_MEMORY_LIMIT, Unit::Bytes, "Most bytes that may be held for peers.");
    describe_counter!(
        LIMIT_HITS,
        "Times that a limit refused, cut or dropped something, by limit."
    );
    describe_gauge!(INTAKE_ENTRIES, "Submissions that wait for the journal.");
    describe_gauge!(INTAKE_ENTRIES_LIMIT, "Most submissions that may wait.");
    describe_gauge!(
        INTAKE_BYTES,
        Unit::Bytes,
        "Bytes of records held before they are in the journal."
    );
    describe_gauge!(INTAKE_BYTES_LIMIT, Unit::Bytes, "Most bytes that may be held.");
    describe_counter!(
        INTAKE_REFUSED,
        "Requests refused because something is full or a quota is used up, by reason."
    );
    describe_gauge!(IDEMPOTENCY_KEYS, "Idempotency keys that are remembered.");
    describe_gauge!(IDEMPOTENCY_KEYS_LIMIT, "Most idempotency keys that may be remembered.");
    describe_counter!(
        IDEMPOTENCY_REPLAYS,
        "Requests answered as the first one with their key was."
    );
    counter!(IDEMPOTENCY_REPLAYS).absolute(0);
    describe_counter!(
        WITHOUT_STREAM,
        "Records of requests of many streams that no stream takes; nothing of them is kept."
    );
    counter!(WITHOUT_STREAM).absolute(0);
    describe_gauge!(QUARANTINE_RECORDS, "Invalid records in the quarantine.");
    describe_gauge!(QUARANTINE_RECORDS_LIMIT, "Most invalid records in the quarantine.");
    describe_gauge!(QUARANTINE_BYTES, Unit::Bytes, "Bytes of invalid records in the quarantine.");
    describe_gauge!(
        QUARANTINE_BYTES_LIMIT,
        Unit::Bytes,
        "Most bytes of invalid records in the quarantine."
    );
    describe_gauge!(
        QUARANTINE_ACCEPTED,
        "Accepted records that PostgreSQL refused, in the quarantine; no limit holds for them."
    );
    describe_gauge!(JOURNAL_BYTES, Unit::Bytes, "Size of the journal.");
    describe_gauge!(JOURNAL_BYTES_LIMIT, Unit::Bytes, "Largest size of the journal.");
    describe_gauge!(JOURNAL_BACKLOG, Unit::Bytes, "Journal bytes that are not committed yet.");
    describe_gauge!(
        JOURNAL_FAILED,
        "1 while the journal cannot be written and records are refused."
    );
    describe_gauge!(JOURNAL_DAMAGES, "Parts of the journal that the latest start found damaged.");
    describe_gauge!(
        DISK_FREE,
        Unit::Bytes,
        "Bytes that are free on the journal's disk; NaN if it does not say."
    );
    describe_histogram!(JOURNAL_FSYNC, Unit::Seconds, "Time to write and sync one group.");
    describe_histogram!(JOURNAL_GROUP, "Entries that shared one fsync.");
}

fn describe_way_out() {
    describe_histogram!(BATCH_ROWS, "Records in a batch.");
    describe_histogram!(BATCH_DURATION, Unit::Seconds, "Time to commit a batch.");
    describe_histogram!(COPY_DURATION, Unit::Seconds, "Time of one COPY.");
    describe_counter!(
        CHANGES,
        "Committed changes of records, by their end: applied, missing (there was no such record), conflict (it was not as \
         the change says), refused (by PostgreSQL)."
    );
    describe_counter!(
        KEYED_PARTS,
        "Keyed streams' parts of batches, by the way to their tables: direct, or staged because a key may be taken."
    );
    describe_gauge!(COMMIT_LAG, Unit::Seconds, "Age of the oldest record that is not committed.");
    describe_counter!(WRITER_SESSIONS, "Sessions of the writers with PostgreSQL.");
    describe_counter!(
        WRITER_ERRORS,
        "Sessions that ended in an error, by class of SQLSTATE or kind."
    );
    describe_counter!(DATABASE_REWINDS, "Times that PostgreSQL came back with less than it had.");
    describe_gauge!(
        COSTLY_BATCHES,
        "Batches of documents that PostgreSQL takes long over, waiting beside all others."
    );
    describe_gauge!(
        LOST_BYTES,
        Unit::Bytes,
        "Journal bytes that PostgreSQL lost when it was set back and that the journal no longer keeps."
    );
    describe_gauge!(
        PARTITIONS_BEHIND,
        "Streams whose partitions could not be made ahead or dropped at the latest try."
    );
    describe_reading();
    describe_monitors_and_polling();
}

fn describe_reading() {
    describe_counter!(
        READS,
        "Questions about records that PostgreSQL answered: primary or replica."
    );
    describe_counter!(
        REPLICA_FALLBACKS,
        "Questions that the primary took in place of the replica: unseen, unreachable, behind, foreign, failed."
    );
    describe_gauge!(REPLICA_LAG, Unit::Seconds, "How far the replica is behind the primary.");
    for place in ["primary", "replica"] {
        counter!(READS, "place" => place).absolute(0);
    }
    for reason in ["unseen", "unreachable", "behind", "foreign", "failed"] {
        counter!(REPLICA_FALLBACKS, "reason" => reason).absolute(0);
    }
    set_replica_lag(Duration::ZERO);
}

fn describe_monitors_and_polling() {
    describe_gauge!(MONITORS, "Monitors that watch now.");
    describe_gauge!(
        MONITOR_FRAMES_HELD,
        Unit::Bytes,
        "Bytes of frames that monitors did not take yet; a frame counts once."
    );
    describe_gauge!(MONITOR_FRAMES_HELD_LIMIT, Unit::Bytes, "Most bytes of frames that may wait.");
    describe_counter!(
        MONITOR_FRAMES,
        "Messages with records handed to monitors, counted for each."
    );
    describe_counter!(MONITOR_DELIVERIES, "Records handed to monitors, counted for each.");
    describe_counter!(MONITOR_GAPS, "Gaps announced to monitors.");
    describe_counter!(MONITOR_GAP_RECORDS, "Records in these gaps, counted for each monitor.");
    describe_counter!(POLL_RUNS, "Runs of polling jobs that ended here, by outcome.");
    describe_histogram!(POLL_DURATION, Unit::Seconds, "Time of a polling job's run, by outcome.");
    describe_histogram!(POLL_LAG, Unit::Seconds, "How late runs of polling jobs began.");
    describe_counter!(
        POLL_ITEMS,
        "Items of polling jobs: new, changed, duplicate (seen before), refused."
    );
    describe_gauge!(POLL_UNDER_WAY, "Runs of polling jobs under way here.");
    describe_gauge!(POLL_UNDER_WAY_LIMIT, "Most runs of polling jobs at once.");
    describe_counter!(
        PASSWORD_CHECKS,
        "Passwords that were sent, by outcome: right, wrong, throttled after wrong ones, busy."
    );
    for outcome in PasswordCheck::ALL {
        count_password_checks(outcome, 0);
    }
    describe_counter!(
        CACHED_REPLIES,
        "Replies to questions about records, by where they came from: the cache, or PostgreSQL."
    );
    for came in [CachedReply::Found, CachedReply::Made] {
        counter!(CACHED_REPLIES, "from" => came.label()).absolute(0);
    }
    describe_gauge!(STREAMS, "Streams that there are.");
    describe_gauge!(STREAMS_LIMIT, "Most streams that there may be.");
    describe_gauge!(READY, "1 when the gateway takes records and writes to PostgreSQL.");
    describe_gauge!(BUILD_INFO, "Always 1; the labels tell the build.");
}

/// One group of entries that shared an fsync.
pub fn record_group(entries: usize, took: Duration) {
    histogram!(JOURNAL_FSYNC).record(took);
    #[expect(clippy::cast_precision_loss, reason = "a group has far fewer than 2^52 entries")]
    histogram!(JOURNAL_GROUP).record(entries as f64);
}

/// One committed batch.
pub fn record_batch(rows: u64, took: Duration) {
    histogram!(BATCH_DURATION).record(took);
    #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 rows")]
    histogram!(BATCH_ROWS).record(rows as f64);
}

/// One COPY into one table.
pub fn record_copy(took: Duration) {
    histogram!(COPY_DURATION).record(took);
}

/// Parts of keyed streams that were committed.
pub fn count_keyed_parts(direct: u64, staged: u64) {
    for (way, parts) in [("direct", direct), ("staged", staged)] {
        counter!(KEYED_PARTS, "way" => way).increment(parts);
    }
}

/// Where records were read: `primary` or `replica`.
pub fn count_read(place: &'static str) {
    counter!(READS, "place" => place).increment(1);
}

/// The primary was asked in place of the replica.
pub fn count_replica_fallback(reason: &'static str) {
    counter!(REPLICA_FALLBACKS, "reason" => reason).increment(1);
}

/// How far the replica is behind.
pub fn set_replica_lag(lag: Duration) {
    gauge!(REPLICA_LAG).set(lag.as_secs_f64());
}

/// What became of committed changes.
pub fn count_changes(ends: [(&'static str, u64); 4]) {
    for (end, changes) in ends {
        counter!(CHANGES, "end" => end).increment(changes);
    }
}

/// A session of the writers began.
pub fn count_writer_session() {
    counter!(WRITER_SESSIONS).increment(1);
}

/// A session ended in an error; classes are PostgreSQL's two letters or a few words.
pub fn count_writer_error(class: &str) {
    counter!(WRITER_ERRORS, "class" => class.to_owned()).increment(1);
}

/// PostgreSQL came back with less than it had.
pub fn count_database_rewind() {
    counter!(DATABASE_REWINDS).increment(1);
}

/// Batches that PostgreSQL takes long over, which wait beside all others.
#[expect(clippy::cast_precision_loss, reason = "a number of batches is far below 2^52")]
pub fn set_costly_batches(batches: usize) {
    gauge!(COSTLY_BATCHES).set(batches as f64);
}

/// What neither PostgreSQL nor the journal has any more.
#[expect(clippy::cast_precision_loss, reason = "a size for people and alerts")]
pub fn set_lost_bytes(bytes: u64) {
    gauge!(LOST_BYTES).set(bytes as f64);
}

/// A request was refused because something is full or a quota is used up.
pub fn count_refused(reason: &'static str) {
    counter!(INTAKE_REFUSED, "reason" => reason).increment(1);
}

/// A limit refused, cut or dropped something so many times; labels are those of `limits` beside.
pub(super) fn count_limit_hits(label: &'static str, hits: u64) {
    counter!(LIMIT_HITS, "limit" => label).increment(hits);
}

/// A request with an idempotency key was answered as it had been before.
pub fn count_idempotency_replay() {
    counter!(IDEMPOTENCY_REPLAYS).increment(1);
}

/// So many records of a request of many streams were taken by none of them.
pub fn count_without_stream(records: u64) {
    counter!(WITHOUT_STREAM).increment(records);
}

/// What became of a password that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordCheck {
    Right,
    Wrong,
    /// Not looked at, after too many wrong ones.
    Throttled,
    /// Not looked at, because too many others were.
    Busy,
}

impl PasswordCheck {
    const ALL: [PasswordCheck; 4] =
        [PasswordCheck::Right, PasswordCheck::Wrong, PasswordCheck::Throttled, PasswordCheck::Busy];
}

/// Passwords were sent.
pub fn count_password_checks(outcome: PasswordCheck, count: u64) {
    let outcome = match outcome {
        PasswordCheck::Right => "right",
        PasswordCheck::Wrong => "wrong",
        PasswordCheck::Throttled => "throttled",
        PasswordCheck::Busy => "busy",
    };
    counter!(PASSWORD_CHECKS, "outcome" => outcome).increment(count);
}

/// Where a reply to a question about records came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachedReply {
    Found,
    Made,
}

impl CachedReply {
    fn label(self) -> &'static str {
        match self {
            CachedReply::Found => "cache",
            CachedReply::Made => "postgresql",
        }
    }
}

/// A question about records was answered.
pub fn count_cached_reply(came: CachedReply) {
    counter!(CACHED_REPLIES, "from" => came.label()).increment(1);
}

/// A polling job's run ended; outcomes are a few words.
pub fn count_poll_run(outcome: &'static str, took: Duration) {
    counter!(POLL_RUNS, "outcome" => outcome).increment(1);
    histogram!(POLL_DURATION, "outcome" => outcome).record(took);
}

/// A polling job's run began so long after it was due.
pub fn record_poll_lag(lag: Duration) {
    histogram!(POLL_LAG).record(lag);
}

/// What became of a run's items.
#[derive(Debug, Clone, Copy, Default)]
pub struct PolledItems {
    pub fresh: u64,
    pub changed: u64,
    pub duplicates: u64,
    pub refused: u64,
}

/// Adds a run's items.
pub fn count_polled_items(items: PolledItems) {
    let PolledItems { fresh, changed, duplicates, refused } = items;
    let of_kinds =
        [("new", fresh), ("changed", changed), ("duplicate", duplicates), ("refused", refused)];
    for (kind, count) in of_kinds {
        counter!(POLL_ITEMS, "kind" => kind).increment(count);
    }
}

/// So many runs of polling jobs are under way.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are 64-bit floats")]
pub fn set_poll_runs(under_way: usize, limit: usize) {
    gauge!(POLL_UNDER_WAY).set(under_way as f64);
    gauge!(POLL_UNDER_WAY_LIMIT).set(limit as f64);
}

/// One answered request. `route` is the router's pattern, never the path.
pub fn record_request(method: &'static str, route: String, status: u16, took: Duration) {
    request_duration(method, route, status).record(took);
}

/// [`record_request`] for a request to ingest. The handle for those that were taken is kept: looking it up takes longer
/// than anything else that is measured here.
pub fn record_ingest_request(status: u16, took: Duration) {
    static DURABLE: LazyLock<Histogram> = LazyLock::new(|| ingest_duration(202));
    if status == 202 { DURABLE.record(took) } else { ingest_duration(status).record(took) }
}

fn ingest_duration(status: u16) -> Histogram {
    request_duration("POST", INGEST_ROUTE.to_owned(), status)
}

fn request_duration(method: &'static str, route: String, status: u16) -> Histogram {
    histogram!(REQUEST_DURATION, "method" => method, "route" => route, "status" => status.to_string())
}
