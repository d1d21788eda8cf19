//! Settings of reading: what is kept of replies.

use clap::Args;

/// What is kept of replies to questions about records.
#[derive(Debug, Clone, Args)]
pub struct Reading {
    /// Seconds that a reply to a question about records is kept; 0: not at all. Every commit of this gateway into the stream
    /// ends it at once; what others write into the table is seen when the time is over.
    #[arg(long, env = "TIDEGATE_READ_CACHE_SECONDS", default_value_t = 120)]
    pub read_cache_seconds: u64,

    /// Most bytes of replies that are kept.
    #[arg(long, env = "TIDEGATE_READ_CACHE_BYTES_MAX", default_value_t = 16 << 20)]
    pub read_cache_bytes_max: u64,
}
