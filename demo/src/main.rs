//! `tidegate-demo` proves a gateway to a newcomer: it sends real data in bursts over many connections, watches it
//! arrive on a monitor, and then checks the tables record by record.
//!
//! The path of a record here: a [`feed`] writes it with its number, the [`schedule`] says when it is due, the
//! [`sender`] posts it through the [`gateway`], the [`ledger`] keeps what the reply promised; the [`monitor`] enters
//! it in the [`sightings`]; [`verify`] looks for it in the table; the [`verdict`] compares all three.
//!
//! With `--jobs` it is asked instead: [`polling`] makes polling jobs for the API that [`placeholder`] serves out of the
//! [`collections`].
//!
//! It knows of the gateway only what any client knows: the HTTP API, the monitor's messages and the tables.

mod book;
mod collections;
mod credentials;
mod feed;
mod gateway;
mod latency;
mod ledger;
mod message;
mod moment;
mod monitor;
mod movies;
mod options;
mod placeholder;
mod polling;
mod problem;
mod progress;
mod run;
mod schedule;
mod sender;
mod sequence;
mod sightings;
mod stream;
mod summary;
mod verdict;
mod verify;
mod weather;

use std::future::pending;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use tokio_util::sync::CancellationToken;

use crate::options::Options;
use crate::run::Verdict;

/// No verdict: wrong options (clap exits with the same), no connection, no permission.
const EXIT_NO_VERDICT: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    // An error means that a provider is installed already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = Options::parse();
    let stop = CancellationToken::new();
    let demo = async {
        if options.jobs {
            polling::run(options, stop.clone()).await
        } else {
            run::run(options, stop.clone()).await
        }
    };
    let result = tokio::select! {
        result = demo => result,
        () = interrupted_twice(&stop) => Err(anyhow!("interrupted before the check was done")),
    };
    match result {
        Ok(Verdict::Kept) => ExitCode::SUCCESS,
        Ok(Verdict::Broken) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tidegate-demo: {error:#}");
            ExitCode::from(EXIT_NO_VERDICT)
        }
    }
}

/// The first Ctrl-C ends sending, the second ends all.
async fn interrupted_twice(stop: &CancellationToken) {
    interrupted().await;
    stop.cancel();
    eprintln!("sending ends; Ctrl-C again leaves without the check");
    interrupted().await;
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler, Ctrl-C ends the process as it does any other.
        pending::<()>().await;
    }
}
