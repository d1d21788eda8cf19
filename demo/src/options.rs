//! The command line. The doc comments are the help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use url::Url;

use crate::feed::{Format, Packing};
use crate::schedule::Schedule;

/// Most records of one request: such a body stays below the gateway's limit for one entry (16 MiB), so that a request
/// is accepted as a whole or not at all.
const BATCH_RECORDS_MAX: u64 = 10_000;
/// Most records that fall due together.
const BURST_RECORDS_MAX: u64 = 1_000_000;
/// How often a burst falls due, unless its size is asked for.
const BURSTS_PER_SECOND: u64 = 10;
/// Highest rate, in records a second.
const RATE_MAX: u64 = 10_000_000;
/// Most HTTP connections.
const CONNECTIONS_MAX: u64 = 1_024;
/// Longest time that can be asked for, in seconds.
const SECONDS_MAX: f64 = 86_400.0;
/// Longest prefix of the streams' names, in bytes.
const PREFIX_BYTES_MAX: usize = 50;

/// Sends real data to a Tidegate gateway in bursts, watches it arrive, and checks the tables record by record.
///
/// Exit code: 0 all is well; 1 a record is missing, double, or was neither seen on the monitor nor announced as a gap;
/// 2 the check could not be made (no connection, no permission, a wrong option).
#[derive(Debug, Clone, Parser)]
#[command(name = "tidegate-demo", version, max_term_width = 100)]
pub struct Options {
    /// Where the gateway listens.
    #[arg(long, env = "TIDEGATE_URL", default_value = "http://127.0.0.1:8000", value_parser = parse_url)]
    pub url: Url,

    /// Bearer token. Without it and without --user, the demo takes the one that the gateway keeps in
    /// <data-dir>/local-token.
    #[arg(long, env = "TIDEGATE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Name of a user, for HTTP Basic; goes before --token.
    #[arg(long, env = "TIDEGATE_USER", requires = "password")]
    pub user: Option<String>,

    /// The user's password; better given in the environment than here.
    #[arg(long, env = "TIDEGATE_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,

    /// The gateway's data directory, for its token and its private database.
    #[arg(long, env = "TIDEGATE_DATA_DIR", default_value = "./tidegate-data")]
    pub data_dir: PathBuf,

    /// The database in which the tables are checked. Without it: the gateway's private one, found through --data-dir.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Do not check the tables, for a gateway whose database cannot be reached from here.
    #[arg(long)]
    pub no_table_check: bool,

    /// How long to wait for the gateway to be ready, and to keep trying when it refuses or cannot be reached.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub wait: Duration,

    /// How long to wait at the end until all is committed and seen.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub settle: Duration,

    /// HTTP connections, each with one request at a time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    pub connections: u64,

    /// Records a second over all connections; 0: as fast as possible.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(..=RATE_MAX))]
    pub rate: u64,

    /// Records that fall due at the same moment [default: a tenth of --rate].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=BURST_RECORDS_MAX))]
    pub burst: Option<u64>,

    /// Records a request.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=BATCH_RECORDS_MAX))]
    pub batch: u64,

    /// Send one record a request.
    #[arg(long, conflicts_with = "batch")]
    pub single: bool,

    /// How long to send: 10s, 500ms, 2m.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,

    /// When a request is acknowledged: durable in the journal, or committed in its table.
    #[arg(long, value_enum, default_value_t = Acknowledgement::Journal)]
    pub ack: Acknowledgement,

    /// How the weather is sent; movies are always JSON.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    pub format: Format,

    /// Percent of the requests that carry movies (documents); the others carry weather (typed columns).
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(..=100))]
    pub movies: u64,

    /// Instead of sending: serve an API of its own, have polling jobs ask it, change some of its items, and check that
    /// exactly these arrive. The gateway must be started with `TIDEGATE_ALLOW_NETWORKS=127.0.0.0/8`.
    #[arg(long, conflicts_with = "no_table_check")]
    pub jobs: bool,

    /// Goes before the names of the streams.
    #[arg(long, default_value = "", value_parser = parse_prefix)]
    pub prefix: String,
}

/// When the gateway acknowledges a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Acknowledgement {
    /// When it is durable in the journal.
    Journal,
    /// When it is committed in its table.
    Commit,
}

impl Acknowledgement {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Acknowledgement::Journal => "journal",
            Acknowledgement::Commit => "commit",
        }
    }
}

impl Options {
    pub fn schedule(&self) -> Schedule {
        let batch = if self.single { 1 } else { self.batch };
        let burst = self.burst.unwrap_or((self.rate / BURSTS_PER_SECOND).max(1));
        Schedule { rate: self.rate, burst, batch, duration: self.duration }
    }

    pub fn packing(&self) -> Packing {
        if self.single { Packing::Single } else { Packing::Batch }
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let mut url: Url = text.parse().map_err(|error| format!("{error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("expected http://host:port or https://host:port".into());
    }
    // Paths of the API are joined to it, and joining replaces what follows the last slash.
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("unknown unit {unit:?}; write 500ms, 10s, 2m or 1h")),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number such as 10s".to_owned())?;
    let seconds = number * seconds_per_unit;
    if seconds > 0.0 && seconds <= SECONDS_MAX {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("expected more than 0 and at most 24h".into())
    }
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts_well = text.bytes().next().is_none_or(|first| !first.is_ascii_digit());
    if starts_well && text.len() <= PREFIX_BYTES_MAX && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("at most {PREFIX_BYTES_MAX} of a-z, 0-9 and _, not starting with a digit"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn bursts_follow_the_rate() {
        let burst = |arguments: &[&str]| {
            Options::parse_from([&["tidegate-demo"], arguments].concat()).schedule().burst
        };
        assert_eq!(burst(&[]), 2_000);
        assert_eq!(burst(&["--rate", "5"]), 1);
        assert_eq!(burst(&["--rate", "0"]), 1);
        assert_eq!(burst(&["--rate", "500", "--burst", "300"]), 300);
    }

    #[test]
    fn durations_have_units_and_limits() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["", "s", "0s", "-1s", "25h", "10 days", "infs", "NaN"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_path_in_the_address_is_kept() {
        let url = parse_url("https://example.org/gate").expect("valid");
        assert_eq!(url.join("v1/status").expect("valid").path(), "/gate/v1/status");
        for wrong in ["ftp://example.org", "127.0.0.1:8000", "http://"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_cannot_leave_the_schema() {
        assert_eq!(parse_prefix("demo_2_"), Ok("demo_2_".to_owned()));
        for wrong in ["2", "a.b", "a\"", "A", "a-b", "ü", &"a".repeat(51)] {
            assert!(parse_prefix(wrong).is_err(), "{wrong:?}");
        }
    }
}
