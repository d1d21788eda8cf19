//! Settings of reading: what is kept of replies, and the replica that reads go to.

use clap::Args;

/// How records are read.
#[derive(Debug, Clone, Args)]
pub struct Reading {
    /// Seconds that a reply to a question about records is kept; 0: not at all. Every commit of this gateway into the stream
    /// ends it at once; what others write into the table is seen when the time is over.
    #[arg(long, env = "TIDEGATE_READ_CACHE_SECONDS", default_value_t = 120)]
    pub read_cache_seconds: u64,

    /// Most bytes of replies that are kept.
    #[arg(long, env = "TIDEGATE_READ_CACHE_BYTES_MAX", default_value_t = 16 << 20)]
    pub read_cache_bytes_max: u64,

    /// Address of a replica of the database, in the form of the database's own, that takes reads of records. Without it the primary does.
    #[arg(long, env = "DATABASE_REPLICA_URL", hide_env_values = true)]
    pub database_replica_url: Option<String>,

    /// Seconds that the replica may be behind the primary; beyond them, and while it is away, the primary takes the reads.
    #[arg(long, env = "DATABASE_REPLICA_LAG_SECONDS_MAX", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub database_replica_lag_seconds_max: u64,
}
