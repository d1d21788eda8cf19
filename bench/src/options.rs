//! The command line. The doc comments are the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures Tidegate beside the limits of this machine and prints a table; writes JSON and a plot.
///
/// Starts a PostgreSQL of its own with full durability, gateways on it, and everything that they are compared with. Takes
/// all of the machine: nothing else should run.
#[derive(Debug, Parser)]
#[command(name = "tidegate-bench", version, max_term_width = 100)]
pub struct Options {
    #[command(flatten)]
    pub measure: Measure,

    #[command(subcommand)]
    pub role: Option<Role>,
}

/// What is compared with the gateway runs in processes of its own, as the gateway does.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// A bare HTTP handler that reads the body and answers 202.
    #[command(hide = true)]
    BareHttp,
    /// The same, answering when the body is synced.
    #[command(hide = true)]
    SyncingHttp,
    /// A bare broadcaster that sends each record to each WebSocket as a frame of its own.
    #[command(hide = true)]
    BareBroadcast,
}

#[derive(Debug, Args)]
pub struct Measure {
    /// Fewer records, rows, streams and rounds: under three minutes.
    #[arg(long, conflicts_with = "smoke")]
    pub quick: bool,

    /// Next to nothing of everything, to see that it runs; the figures mean nothing.
    #[arg(long)]
    pub smoke: bool,

    /// Only these groups; all of them where none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Group>,

    /// How often everything is measured.
    #[arg(long)]
    pub rounds: Option<usize>,

    /// Where `bench.json` and `bench.svg` are written.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,

    /// The gateway that is measured; the one beside this program where not given.
    #[arg(long)]
    pub gateway: Option<PathBuf>,

    /// A Python that has the packages of `bench/instead/requirements.txt`; where not given, the group `instead` is left out.
    #[arg(long)]
    pub python: Option<PathBuf>,
}

/// Figures that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Many records a request, against `\copy` of the same records.
    Bulk,
    /// Keyed against unkeyed.
    Keyed,
    /// One record a request, against a bare handler.
    Single,
    /// What people write instead: a service with `FastAPI` and `asyncpg`, which needs `--python`.
    Instead,
    /// Acknowledgement and arrival → monitor at a fixed rate.
    Latency,
    /// Many monitors.
    Fanout,
    /// Catching up after an outage.
    Backlog,
    /// More streams, a larger table, more writers.
    Growth,
    /// Resident memory.
    Memory,
    /// Polling jobs.
    Polling,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub rounds: usize,
    /// Records of one bulk measurement; of 1 kB and 10 kB fewer.
    pub records: usize,
    pub backlog_records: usize,
    /// Rows of the large table; 0 leaves it out.
    pub table_rows: usize,
    pub streams: usize,
    pub monitors: usize,
    pub monitors_many: usize,
    /// Polling jobs, each due once in the interval.
    pub jobs: usize,
    pub jobs_interval_ms: u64,
    /// Length of everything that is measured for a time.
    pub seconds: f64,
}

impl Measure {
    pub fn size(&self) -> Size {
        let size = if self.smoke {
            Size {
                rounds: 1,
                records: 4_000,
                backlog_records: 4_000,
                table_rows: 4_000,
                streams: 5,
                monitors: 5,
                monitors_many: 10,
                jobs: 20,
                jobs_interval_ms: 1_000,
                seconds: 0.3,
            }
        } else if self.quick {
            Size {
                rounds: 2,
                records: 150_000,
                backlog_records: 250_000,
                table_rows: 1_000_000,
                streams: 200,
                monitors: 1_000,
                monitors_many: 0,
                jobs: 1_000,
                jobs_interval_ms: 6_000,
                seconds: 1.4,
            }
        } else {
            Size {
                rounds: 5,
                records: 1_000_000,
                backlog_records: 2_000_000,
                table_rows: 20_000_000,
                streams: 1_000,
                monitors: 1_000,
                monitors_many: 5_000,
                jobs: 10_000,
                jobs_interval_ms: 60_000,
                seconds: 10.0,
            }
        };
        Size { rounds: self.rounds.unwrap_or(size.rounds).max(1), ..size }
    }

    pub fn wants(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }
}
