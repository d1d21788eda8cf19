//! `tidegate-bench`: measures the gateway beside the limits of the machine, in one run.
//!
//! Absolute figures say more about the machine than about the gateway, so every figure that is promised is a ratio to
//! something that was measured next to it, round by round: `psql \copy`, a bare HTTP handler, a bare `fdatasync`, the service
//! that people write instead.

mod arrival;
mod backlog;
mod bare;
mod bench;
mod bulk;
mod copies;
mod fanout;
mod figures;
mod frames;
mod gateway;
mod growth;
mod http;
mod instead;
mod keyed;
mod latency;
mod limits;
mod load;
mod memory;
mod offer;
mod options;
mod plot;
mod polling;
mod postgres;
mod process;
mod records;
mod report;
mod run;
mod service;
mod single;
mod watchers;

use std::process::ExitCode;

use clap::Parser;

use crate::options::{Options, Role};

fn main() -> ExitCode {
    let options = Options::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match options.role {
            None => run::run(&options.measure).await,
            Some(Role::BareHttp) => bare::serve_http().await,
            Some(Role::SyncingHttp) => bare::serve_syncing().await,
            Some(Role::BareBroadcast) => bare::serve_broadcast().await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
