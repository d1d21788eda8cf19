//! `tidegate serve`: runs the gateway, and says where to look.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::{self, App, Ended, Prepared, Started};
use crate::config::{Config, Setting};
use crate::telemetry::{limits, logs, metrics};

/// Everything acknowledged is in PostgreSQL.
const DRAINED: u8 = 0;
/// A critical task died.
const FAILED: u8 = 1;
/// Settings that cannot be together; clap ends with the same code over a wrong flag.
const WRONG_SETTING: u8 = 2;
/// Something acknowledged is still in the journal; the next start brings it into PostgreSQL.
const LEFT_IN_JOURNAL: u8 = 3;

pub(super) async fn run(config: Config, settings: Vec<Setting>) -> anyhow::Result<ExitCode> {
    if let Err(error) = config.check() {
        eprintln!("tidegate: {error}");
        return Ok(ExitCode::from(WRONG_SETTING));
    }
    logs::start(&config.log, config.log_format).context("--log")?;
    let metrics = metrics::install()?;
    limits::begin();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let interrupted = CancellationToken::new();
    let mut starting = Box::pin(App::start(config, settings, metrics, &interrupted));
    let started = tokio::select! {
        started = &mut starting => started?,
        () = either(&mut terminate, &mut interrupt) => {
            interrupted.cancel();
            starting.await?
        }
    };
    let Some(mut app) = started else { return Ok(ExitCode::from(DRAINED)) };
    tokio::select! {
        () = run_until_failed(&mut app) => {}
        () = interrupted.cancelled() => {}
        _ = terminate.recv() => tracing::info!("TERM: finishing"),
        _ = interrupt.recv() => tracing::info!("interrupted: finishing"),
    }
    let hard = app.hard().clone();
    let mut shutdown = std::pin::pin!(app.shut_down());
    let ended = loop {
        tokio::select! {
            ended = &mut shutdown => break ended,
            _ = terminate.recv() => hard.cancel(),
            _ = interrupt.recv() => hard.cancel(),
        }
    };
    Ok(ExitCode::from(match ended {
        Ended::Drained => DRAINED,
        Ended::LeftInJournal => LEFT_IN_JOURNAL,
        Ended::Failed => FAILED,
    }))
}

/// Waits for one of the signals that ask the process to end.
async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Says where to look, once it is known how the database is; returns when a critical task died.
async fn run_until_failed(app: &mut App) {
    let prepared = app.prepared().await;
    welcome(app.started(), &prepared);
    app.failed().await;
}

/// What a person needs first. To standard output; logs go to standard error.
fn welcome(started: &Started, prepared: &Prepared) {
    let Started { address, data_dir, database } = started;
    let token = app::local_token_path(data_dir);
    let version = env!("CARGO_PKG_VERSION");
    match prepared {
        Prepared::Ready { .. } => println!("Tidegate {version} is ready."),
        Prepared::NotReady { reason } => {
            println!("Tidegate {version} listens, but is not ready: {reason}");
            println!("It tries again by itself; http://{address}/readyz says when it is ready.");
        }
    }
    println!();
    println!("  Look:      http://{address}/");
    println!("  Records:   http://{address}/v1/streams/<stream>/records");
    println!("  Database:  {database}");
    if let Prepared::Ready { sign_in: Some(sign_in) } = prepared {
        println!("  Sign in:   {sign_in}");
    }
    println!();
    println!("Send a record (the stream `hello` is made by the first one):");
    println!();
    println!(
        "  curl -H \"Authorization: Bearer $(cat '{}')\" -H 'Content-Type: application/json' \\\n       -d '{{\"greeting\":\"hello\"}}' http://{address}/v1/streams/hello/records",
        token.display()
    );
    println!();
}
