//! The command line: one tree whose doc comments are the help.

mod account;
mod credential;
mod database;
mod job;
mod journal;
mod output;
mod place;
mod quarantine;
mod query;
mod serve;
mod stream;
mod tail;
mod token;
mod user;

use std::ffi::OsStr;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tidegate_record::clock::Clock;

use crate::cli::database::until_interrupted;
use crate::cli::place::Place;
use crate::config::{Config, DataDir, Setting};

/// Tidegate gets data into PostgreSQL, safely and live: it acknowledges a record only when it can no longer be lost,
/// writes it with COPY exactly once, and lets people watch it arrive.
///
/// Every flag can also be given as the environment variable shown beside it, or in a file `.env`.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version = env!("TIDEGATE_VERSION"), max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What `serve` was given, setting by setting.
    #[arg(skip)]
    settings: Vec<Setting>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve(Box<Config>),
    /// Manage users. Works on the database, whether or not the gateway runs.
    User {
        #[command(subcommand)]
        command: user::UserCommand,
        #[command(flatten)]
        place: Place,
    },
    /// Manage tokens, with which programs come in.
    Token {
        #[command(subcommand)]
        command: token::TokenCommand,
        #[command(flatten)]
        place: Place,
    },
    /// Manage streams, and propose columns for one from a sample.
    Stream {
        #[command(subcommand)]
        command: stream::StreamCommand,
        #[command(flatten)]
        place: Place,
    },
    /// Manage polling jobs: APIs that are asked at their intervals.
    Job {
        #[command(subcommand)]
        command: job::JobCommand,
        #[command(flatten)]
        place: Place,
    },
    /// Look at records that streams refused, correct them, replay them, drop them.
    Quarantine {
        #[command(subcommand)]
        command: quarantine::QuarantineCommand,
        #[command(flatten)]
        place: Place,
    },
    /// Watch records of streams as they arrive.
    Tail(tail::TailArgs),
    /// Ask a running gateway for records: filtered, ordered, as a table, CSV or NDJSON.
    Query(query::QueryArgs),
    /// Look into the journal, check it, or get records out of it. Changes nothing; may be used while the gateway runs.
    Journal {
        #[command(subcommand)]
        command: journal::JournalCommand,
        #[command(flatten)]
        data: DataDir,
    },
    /// Print the connection URL of the private PostgreSQL.
    DbUrl {
        #[command(flatten)]
        data: DataDir,
    },
}

/// A variable that is set to nothing (`TIDEGATE_WRITERS=`) is one that is not set: that is how compose files pass them on.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|argument| {
        let ignored = argument.get_env().is_some_and(is_empty);
        if ignored { argument.env(None::<&'static str>) } else { argument }
    });
    command.mut_subcommands(without_empty_variables)
}

impl Cli {
    /// Reads the command line and the environment; ends the process over a mistake, or after help.
    pub fn read() -> Cli {
        let command = Cli::command();
        let matches = without_empty_variables(command.clone()).get_matches();
        let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let serve = command.find_subcommand("serve").zip(matches.subcommand_matches("serve"));
        cli.settings = serve.map(|(serve, given)| Setting::all(serve, given)).unwrap_or_default();
        cli
    }

    /// Carries the command out; the exit code of the process.
    pub async fn run(self) -> anyhow::Result<std::process::ExitCode> {
        match self.command {
            Command::Serve(config) => return serve::run(*config, self.settings).await,
            Command::User { command, place } => {
                let work = async {
                    let database = database::reach(&place).await?;
                    let result = user::run(command, database.pool(), &place.data.data_dir).await;
                    database.finish(result).await
                };
                until_interrupted(work).await?;
            }
            Command::Token { command, place } => {
                let work = async {
                    let database = database::reach(&place).await?;
                    let result = token::run(command, database.pool(), &Clock::System).await;
                    database.finish(result).await
                };
                until_interrupted(work).await?;
            }
            Command::Stream { command, place } => {
                until_interrupted(stream::run(command, &place)).await?;
            }
            Command::Job { command, place } => {
                until_interrupted(job::run(command, &place, &Clock::System)).await?;
            }
            Command::Quarantine { command, place } => {
                until_interrupted(quarantine::run(command, &place)).await?;
            }
            Command::Tail(args) => tail::run(args).await?,
            Command::Query(args) => until_interrupted(query::run(args)).await?,
            Command::Journal { command, data } => return journal::run(command, &data),
            Command::DbUrl { data } => database::print_url(&data)?,
        }
        Ok(std::process::ExitCode::SUCCESS)
    }
}
