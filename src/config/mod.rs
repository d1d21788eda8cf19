//! Every setting, once: the doc comments are the help, the fields are the flags, each has an environment variable.
//!
//! `.env.sample` and the tables of docs/configuration.md show the same list; a test holds them together.

mod networks;
mod origins;
mod quarantine;
mod reading;
mod setting;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

pub use networks::Networks;
pub use origins::{AllowedOrigins, PublicUrl};
pub use quarantine::{Quarantine, QuarantineFull};
pub use reading::Reading;
pub use setting::Setting;

/// Most streams by default; the command line has the same.
pub const STREAMS_MAX_DEFAULT: usize = 5_000;
/// Fewest characters of a token for the metrics: its holder reads the names of all streams.
const METRICS_TOKEN_CHARACTERS_MIN: usize = 16;

/// The largest record is held this often for a moment: as it came, what follows it, and as a tuple.
const INTAKE_ENTRIES_MIN: u64 = 3;

/// The journal's directory in the data directory.
pub const JOURNAL_DIR: &str = "journal";

/// Where the data directory is. Shared by every command.
#[derive(Debug, Clone, Args)]
pub struct DataDir {
    /// Directory of the journal, the private PostgreSQL and the gateway's own files.
    #[arg(long, env = "TIDEGATE_DATA_DIR", default_value = "./tidegate-data", global = true)]
    pub data_dir: PathBuf,
}

/// Which PostgreSQL to use. Shared by every command that needs one.
#[derive(Debug, Clone, Args)]
pub struct Database {
    /// PostgreSQL's URL. Without it the gateway runs a private PostgreSQL in the data directory.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    pub database_url: Option<String>,

    /// Directory of the PostgreSQL programs for the private PostgreSQL; found by itself where it can be.
    #[arg(long, env = "TIDEGATE_POSTGRES_BIN", global = true)]
    pub postgres_bin: Option<PathBuf>,

    /// User that runs the private PostgreSQL when the gateway was started as root.
    #[arg(long, env = "TIDEGATE_POSTGRES_USER", default_value = "postgres", global = true)]
    pub postgres_user: String,
}

/// Settings of `tidegate serve`.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address to listen on.
    #[arg(long, env = "TIDEGATE_LISTEN", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub data: DataDir,

    #[command(flatten)]
    pub database: Database,

    /// Name of this gateway in status and messages; the host's name where not given.
    #[arg(long, env = "TIDEGATE_NODE_NAME")]
    pub node_name: Option<String>,

    #[command(flatten)]
    pub access: Access,

    #[command(flatten)]
    pub intake: Intake,

    #[command(flatten)]
    pub journal: Journal,

    #[command(flatten)]
    pub writer: Writer,

    #[command(flatten)]
    pub quarantine: Quarantine,

    #[command(flatten)]
    pub reading: Reading,

    #[command(flatten)]
    pub monitor: Monitor,

    #[command(flatten)]
    pub polling: Polling,

    /// Seconds to bring what is acknowledged into PostgreSQL on shutdown; the rest stays in the journal.
    #[arg(long, env = "TIDEGATE_SHUTDOWN_SECONDS", default_value_t = 25)]
    pub shutdown_seconds: u64,

    /// What to log, as `level` or `module=level,…`.
    #[arg(long, env = "TIDEGATE_LOG", default_value = "info")]
    pub log: String,

    /// How to log.
    #[arg(long, env = "TIDEGATE_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Who may come in.
#[derive(Debug, Clone, Args)]
pub struct Access {
    /// Name of the first admin, made when there is no user yet.
    #[arg(long, env = "TIDEGATE_ADMIN_USER", default_value = "admin")]
    pub admin_user: String,

    /// Password of the first admin; generated, shown once and kept in a file where not given.
    #[arg(long, env = "TIDEGATE_ADMIN_PASSWORD", hide_env_values = true)]
    pub admin_password: Option<String>,

    /// Hours that a browser session lasts.
    #[arg(long, env = "TIDEGATE_SESSION_HOURS", default_value_t = 168)]
    pub session_hours: u64,

    /// Believe `X-Forwarded-Proto`, so that cookies are marked secure. Only behind a proxy that always sets it.
    #[arg(long, env = "TIDEGATE_TRUST_FORWARDED_PROTO", default_value_t = false, action = clap::ArgAction::Set)]
    pub trust_forwarded_proto: bool,

    /// Where people find this gateway, such as `https://tide.example.com`. Only needed behind a proxy that changes `Host`:
    /// pages of this address count as the gateway's own.
    #[arg(long, env = "TIDEGATE_PUBLIC_URL", default_value = "")]
    pub public_url: PublicUrl,

    /// Other origins whose pages may send records, watch and read (CORS), with a token or a ticket and never with a cookie:
    /// `https://app.example.com,…`, or `*` for all.
    #[arg(long, env = "TIDEGATE_ALLOWED_ORIGINS", default_value = "")]
    pub allowed_origins: AllowedOrigins,

    /// Create an unknown stream on its first record, when the sender may (`streams:write`).
    #[arg(long, env = "TIDEGATE_AUTO_CREATE_STREAMS", default_value_t = true, action = clap::ArgAction::Set)]
    pub auto_create_streams: bool,

    /// Most streams at once; each is a table. The same on all gateways of a database.
    #[arg(long, env = "TIDEGATE_STREAMS_MAX", default_value_t = STREAMS_MAX_DEFAULT)]
    pub streams_max: usize,

    /// Most streams at once that one user made.
    #[arg(long, env = "TIDEGATE_STREAMS_PER_USER_MAX", default_value_t = 1_000)]
    pub streams_per_user_max: usize,

    /// Most streams that metrics tell by name; the others are counted together, as `(other)`.
    #[arg(long, env = "TIDEGATE_METRIC_STREAMS_MAX", default_value_t = 200)]
    pub metric_streams_max: usize,

    /// Token that `/metrics` asks for; without it the counts and the names of streams are open to every peer that can connect.
    #[arg(long, env = "TIDEGATE_METRICS_TOKEN", hide_env_values = true)]
    pub metrics_token: Option<String>,

    /// Most connections at once, monitors among them.
    #[arg(long, env = "TIDEGATE_CONNECTIONS_MAX", default_value_t = 16_384)]
    pub connections_max: usize,

    /// Most connections at once from one address (of IPv6: one network of 64 bits); three quarters of those there may be
    /// where not given. Behind a trusted proxy a client's requests under way and monitors count instead.
    #[arg(long, env = "TIDEGATE_CONNECTIONS_PER_ADDRESS_MAX", value_parser = parse_positive)]
    pub connections_per_address_max: Option<usize>,

    /// Proxies whose `X-Forwarded-For` is believed, such as `127.0.0.1,10.1.0.0/16`. What is limited by address then goes by
    /// the address that they name.
    #[arg(long, env = "TIDEGATE_TRUSTED_PROXIES", default_value = "")]
    pub trusted_proxies: Networks,

    /// Most bytes held in memory for heads, bodies that are not records, and replies; half of it at most for peers without
    /// credentials. What does not fit is refused with 503.
    #[arg(long, env = "TIDEGATE_REQUEST_MEMORY_BYTES_MAX", default_value_t = 128 << 20)]
    pub request_memory_bytes_max: usize,
}

/// Limits on what comes in.
#[derive(Debug, Clone, Args)]
pub struct Intake {
    /// Most entries that wait for the journal.
    #[arg(long, env = "TIDEGATE_INTAKE_ENTRIES_MAX", default_value_t = 4_096)]
    pub intake_entries_max: usize,

    /// Most bytes of records held in memory before they are in the journal.
    #[arg(long, env = "TIDEGATE_INTAKE_BYTES_MAX", default_value_t = 96 << 20)]
    pub intake_bytes_max: u64,

    /// Longest wait in milliseconds for room in the intake before a request is refused with 503.
    #[arg(long, env = "TIDEGATE_INTAKE_WAIT_MS", default_value_t = 2_000)]
    pub intake_wait_ms: u64,

    /// Largest body in bytes, as sent.
    #[arg(long, env = "TIDEGATE_BODY_BYTES_MAX", default_value_t = 1 << 30)]
    pub body_bytes_max: u64,

    /// Largest body in bytes, decompressed.
    #[arg(long, env = "TIDEGATE_BODY_DECOMPRESSED_BYTES_MAX", default_value_t = 4 << 30)]
    pub body_decompressed_bytes_max: u64,

    /// Largest record in bytes, and the largest body with `on_error=reject` or an `Idempotency-Key`.
    #[arg(long, env = "TIDEGATE_ENTRY_BYTES_MAX", default_value_t = 16 << 20)]
    pub entry_bytes_max: usize,

    /// Most keys and values in a record's documents that PostgreSQL takes apart (`jsonb`); an object of n > 1,000 keys counts
    /// n²/1,000 for them, which is what sorting them may cost.
    #[arg(long, env = "TIDEGATE_DOCUMENT_MEMBERS_MAX", default_value_t = 500_000)]
    pub document_members_max: u64,

    /// Most idempotency keys that are remembered; at the limit requests with a new key are refused with 503.
    #[arg(long, env = "TIDEGATE_IDEMPOTENCY_KEYS_MAX", default_value_t = 1_000_000)]
    pub idempotency_keys_max: usize,

    /// Seconds without a byte of the body before a request is given up.
    #[arg(long, env = "TIDEGATE_BODY_IDLE_SECONDS", default_value_t = 30)]
    pub body_idle_seconds: u64,

    /// Longest wait in milliseconds for `ack=commit`; after it the reply is 202, durable but not yet in the table.
    #[arg(long, env = "TIDEGATE_COMMIT_WAIT_MS", default_value_t = 30_000)]
    pub commit_wait_ms: u64,
}

/// The journal's size and retention.
#[derive(Debug, Clone, Args)]
pub struct Journal {
    /// Most bytes in the journal; at the limit requests are refused with 503 until PostgreSQL has caught up.
    #[arg(long, env = "TIDEGATE_JOURNAL_BYTES_MAX", default_value_t = 16 << 30)]
    pub journal_bytes_max: u64,

    /// Size of a journal segment in bytes.
    #[arg(long, env = "TIDEGATE_JOURNAL_SEGMENT_BYTES", default_value_t = 64 << 20)]
    pub journal_segment_bytes: u64,

    /// Seconds that committed segments are kept for monitors that resume and for a database that was rewound.
    #[arg(long, env = "TIDEGATE_JOURNAL_RETENTION_SECONDS", default_value_t = 900)]
    pub journal_retention_seconds: u64,

    /// Most bytes of committed segments that are kept.
    #[arg(long, env = "TIDEGATE_JOURNAL_RETENTION_BYTES", default_value_t = 1 << 30)]
    pub journal_retention_bytes: u64,
}

/// When a batch is cut, and how many are committed side by side.
#[derive(Debug, Clone, Args)]
pub struct Writer {
    /// Writers that commit side by side; as many as cores, at most 4, where not given.
    #[arg(long, env = "TIDEGATE_WRITERS", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub writers: Option<u16>,

    /// A batch is cut at this many records.
    #[arg(long, env = "TIDEGATE_BATCH_ROWS", default_value_t = 20_000)]
    pub batch_rows: u64,

    /// A batch is cut at this many bytes.
    #[arg(long, env = "TIDEGATE_BATCH_BYTES", default_value_t = 8 << 20)]
    pub batch_bytes: u64,

    /// A batch is cut when its first record has waited this many milliseconds.
    #[arg(long, env = "TIDEGATE_BATCH_INTERVAL_MS", default_value_t = 250)]
    pub batch_interval_ms: u64,

    /// Longest time in seconds that PostgreSQL may take for one statement of a batch.
    #[arg(long, env = "TIDEGATE_STATEMENT_TIMEOUT_SECONDS", default_value_t = 60)]
    pub statement_timeout_seconds: u64,

    /// Longest wait in milliseconds for a lock on a stream's table; after it the stream's records are parked, so that the
    /// others go on.
    #[arg(long, env = "TIDEGATE_LOCK_TIMEOUT_MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub lock_timeout_ms: u64,

    /// Seconds without a commit coming back, while records wait, after which the gateway says that it is not ready.
    #[arg(long, env = "TIDEGATE_COMMIT_STALL_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub commit_stall_seconds: u64,
}

/// Limits on watching.
#[derive(Debug, Clone, Args)]
pub struct Monitor {
    /// Most monitors at once.
    #[arg(long, env = "TIDEGATE_MONITORS_MAX", default_value_t = 10_000)]
    pub monitors_max: usize,

    /// Most bytes that wait for one monitor; what does not fit is announced as a gap.
    #[arg(long, env = "TIDEGATE_MONITOR_QUEUE_BYTES", default_value_t = 1 << 20)]
    pub monitor_queue_bytes: usize,

    /// Most bytes of frames that wait for all monitors together; a frame counts once, however many it is for.
    #[arg(long, env = "TIDEGATE_MONITORS_BYTES_MAX", default_value_t = 256 << 20)]
    pub monitors_bytes_max: usize,

    /// Longest time in milliseconds over which records are gathered into one frame; with fewer than 400 monitors it is
    /// shorter, down to 5.
    #[arg(long, env = "TIDEGATE_MONITOR_TICK_MS", default_value_t = 20)]
    pub monitor_tick_ms: u64,

    /// Records a second and stream that a monitor in sample mode gets.
    #[arg(long, env = "TIDEGATE_MONITOR_SAMPLE_RATE", default_value_t = 50)]
    pub monitor_sample_rate: u32,
}

/// Polling jobs: whom they may ask, and how much at once.
#[derive(Debug, Clone, Args)]
pub struct Polling {
    /// Most runs of polling jobs at once; 0: this gateway leaves them to others.
    #[arg(long, env = "TIDEGATE_POLLING_RUNS_MAX", default_value_t = 64)]
    pub polling_runs_max: usize,

    /// Seconds without a word from a gateway after which another takes its polling jobs over.
    #[arg(long, env = "TIDEGATE_POLLING_LEASE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..=300))]
    pub polling_lease_seconds: u64,

    /// Seconds that one run of a polling job may ask for.
    #[arg(long, env = "TIDEGATE_POLLING_RUN_SECONDS", default_value_t = 6 * 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub polling_run_seconds: u64,

    /// Private networks that polling jobs may ask all the same, such as `127.0.0.0/8,10.1.0.0/16`.
    #[arg(long, env = "TIDEGATE_ALLOW_NETWORKS", default_value = "")]
    pub allow_networks: Networks,

    /// Most requests of polling jobs to one host at once.
    #[arg(long, env = "TIDEGATE_POLLING_HOST_REQUESTS_MAX", default_value_t = 8, value_parser = parse_positive)]
    pub polling_host_requests_max: usize,

    /// Milliseconds between the beginnings of two requests of polling jobs to one host.
    #[arg(long, env = "TIDEGATE_POLLING_HOST_SPACING_MS", default_value_t = 20)]
    pub polling_host_spacing_ms: u64,

    /// Most bytes of answers to polling jobs held in memory at once.
    #[arg(long, env = "TIDEGATE_POLLING_ANSWERS_BYTES_MAX", default_value_t = 96 << 20)]
    pub polling_answers_bytes_max: u64,

    /// Days after which a polling job forgets an item that no answer had any more; 0: never.
    #[arg(long, env = "TIDEGATE_POLLING_MEMORY_DAYS", default_value_t = 365)]
    pub polling_memory_days: u16,

    /// Key that the secret headers of polling jobs are sealed with: 32 bytes in base64, the same on all gateways of a
    /// database; made and kept in the data directory where not given.
    #[arg(long, env = "TIDEGATE_SECRET_KEY", hide_env_values = true)]
    pub secret_key: Option<String>,
}

fn parse_positive(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().map_err(|error| error.to_string())?;
    if number > 0 { Ok(number) } else { Err("at least 1".to_owned()) }
}

/// Settings that cannot be together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error(
        "--intake-bytes-max (TIDEGATE_INTAKE_BYTES_MAX) is {intake_bytes_max}, but a record of --entry-bytes-max \
         (TIDEGATE_ENTRY_BYTES_MAX), {entry_bytes_max}, needs {INTAKE_ENTRIES_MIN} times its size while it is read; raise \
         the first to {needed} or lower the second"
    )]
    IntakeTooSmall { intake_bytes_max: u64, entry_bytes_max: usize, needed: u64 },
    #[error(
        "--metrics-token (TIDEGATE_METRICS_TOKEN) has fewer than {METRICS_TOKEN_CHARACTERS_MIN} characters, or some that \
         a header cannot carry; `openssl rand -hex 24` makes one"
    )]
    MetricsToken,
}

impl Database {
    /// The URL that was given; an empty variable, as in a copied `.env`, counts as none.
    pub fn url(&self) -> Option<&str> {
        self.database_url.as_deref().filter(|url| !url.is_empty())
    }
}

impl Polling {
    /// The key that was given; an empty variable counts as none.
    pub fn secret_key(&self) -> Option<&str> {
        self.secret_key.as_deref().filter(|key| !key.is_empty())
    }
}

impl Access {
    /// The first admin's password that was given; an empty variable counts as none.
    pub fn admin_password(&self) -> Option<&str> {
        self.admin_password.as_deref().filter(|password| !password.is_empty())
    }

    /// The token for the metrics that was given; an empty variable counts as none.
    pub fn metrics_token(&self) -> Option<&str> {
        self.metrics_token.as_deref().filter(|token| !token.is_empty())
    }
}

impl Config {
    /// Finds settings that would only fail later: with too small an intake the largest record is refused for ever.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (intake_bytes_max, entry_bytes_max) =
            (self.intake.intake_bytes_max, self.intake.entry_bytes_max);
        let needed = INTAKE_ENTRIES_MIN.saturating_mul(entry_bytes_max as u64);
        if intake_bytes_max < needed {
            return Err(ConfigError::IntakeTooSmall { intake_bytes_max, entry_bytes_max, needed });
        }
        if let Some(token) = self.access.metrics_token()
            && (token.len() < METRICS_TOKEN_CHARACTERS_MIN
                || !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(ConfigError::MetricsToken);
        }
        Ok(())
    }

    /// Connections of one address: as asked for, else so many that an address which has them leaves a quarter to all others.
    pub fn connections_per_address_max(&self) -> usize {
        let all = self.access.connections_max;
        let share = || (all - all.div_ceil(4)).max(1);
        self.access.connections_per_address_max.unwrap_or_else(share)
    }

    /// The number of writers: as asked for, else the cores up to 4.
    pub fn writers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(4);
        self.writer.writers.map_or_else(cores, usize::from)
    }

    /// The node's name: as given, else the host's.
    pub fn node_name(&self) -> String {
        let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        self.node_name.clone().or_else(host).unwrap_or_else(|| "tidegate".to_owned())
    }

    /// Time for the drain on shutdown.
    pub fn shutdown_deadline(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Serve {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn the_largest_record_fits_the_intake() {
        let check = |flags: &[&str]| {
            let arguments = std::iter::once("serve").chain(flags.iter().copied());
            Serve::try_parse_from(arguments).unwrap().config.check()
        };
        assert_eq!(check(&["--intake-bytes-max=3000", "--entry-bytes-max=1000"]), Ok(()));
        let error = check(&["--intake-bytes-max=2999", "--entry-bytes-max=1000"]).unwrap_err();
        assert!(error.to_string().contains("raise the first to 3000"), "{error}");
    }

    #[test]
    fn a_token_for_the_metrics_is_long_enough_and_fits_a_header() {
        let check = |token: &str| {
            let flag = format!("--metrics-token={token}");
            Serve::try_parse_from(["serve", &flag]).unwrap().config.check()
        };
        assert_eq!(check(""), Ok(()), "none");
        assert_eq!(check(&"x".repeat(METRICS_TOKEN_CHARACTERS_MIN)), Ok(()));
        for token in ["x".repeat(METRICS_TOKEN_CHARACTERS_MIN - 1), format!("{} x", "x".repeat(20))]
        {
            let error = check(&token).unwrap_err();
            assert_eq!(error, ConfigError::MetricsToken);
            assert!(!error.to_string().contains(&token), "{error}");
        }
    }

    #[test]
    fn one_address_leaves_connections_to_others_where_there_are_several() {
        for (all, share) in [(1, 1), (2, 1), (3, 2), (5, 3), (6, 4), (9, 6), (16_384, 12_288)] {
            let flag = format!("--connections-max={all}");
            let serve = Serve::try_parse_from(["serve", &flag]).unwrap();
            assert_eq!(serve.config.connections_per_address_max(), share, "of {all}");
        }
    }

    #[test]
    fn defaults_parse() {
        let serve = Serve::try_parse_from(["serve"]).unwrap();
        assert_eq!(serve.config.check(), Ok(()));
        assert!(serve.config.writers() >= 1);
        assert!(!serve.config.node_name().is_empty());
    }
}
