//! Settings of the quarantine: how much is kept of invalid records, and for how long.

use clap::{Args, ValueEnum};

/// What happens to invalid records when the quarantine is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum QuarantineFull {
    /// What was kept stays; new ones are not kept, and their senders are told.
    Refuse,
    /// The oldest go, and room is made for the new ones.
    DropOldest,
}

impl QuarantineFull {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            QuarantineFull::Refuse => "refuse",
            QuarantineFull::DropOldest => "drop_oldest",
        }
    }
}

/// Limits on what is kept of invalid records.
#[derive(Debug, Clone, Args)]
pub struct Quarantine {
    /// Most invalid records of one request that are kept; the others are only counted, and the reply says how many.
    #[arg(long, env = "TIDEGATE_QUARANTINE_REQUEST_RECORDS_MAX", default_value_t = 10_000)]
    pub quarantine_request_records_max: u64,

    /// Most bytes of invalid records of one request that are kept.
    #[arg(long, env = "TIDEGATE_QUARANTINE_REQUEST_BYTES_MAX", default_value_t = 16 << 20)]
    pub quarantine_request_bytes_max: u64,

    /// Most invalid records of one stream in the quarantine.
    #[arg(long, env = "TIDEGATE_QUARANTINE_STREAM_RECORDS_MAX", default_value_t = 1_000_000)]
    pub quarantine_stream_records_max: u64,

    /// Most bytes of invalid records of one stream in the quarantine.
    #[arg(long, env = "TIDEGATE_QUARANTINE_STREAM_BYTES_MAX", default_value_t = 1 << 30)]
    pub quarantine_stream_bytes_max: u64,

    /// Most invalid records in the quarantine.
    #[arg(long, env = "TIDEGATE_QUARANTINE_RECORDS_MAX", default_value_t = 4_000_000)]
    pub quarantine_records_max: u64,

    /// Most bytes of invalid records in the quarantine.
    #[arg(long, env = "TIDEGATE_QUARANTINE_BYTES_MAX", default_value_t = 4 << 30)]
    pub quarantine_bytes_max: u64,

    /// What happens when the quarantine is full: `refuse` new invalid records, or `drop_oldest`.
    #[arg(long, env = "TIDEGATE_QUARANTINE_FULL", default_value = "refuse")]
    pub quarantine_full: QuarantineFull,

    /// Days after which invalid records leave the quarantine; 0: never.
    #[arg(long, env = "TIDEGATE_QUARANTINE_DAYS", default_value_t = 90)]
    pub quarantine_days: u16,

    /// Days after which accepted records that PostgreSQL refused leave the quarantine; 0: never.
    #[arg(long, env = "TIDEGATE_QUARANTINE_ACCEPTED_DAYS", default_value_t = 0)]
    pub quarantine_accepted_days: u16,
}
