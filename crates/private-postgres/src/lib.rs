//! The private PostgreSQL: when no database is configured, the gateway runs its own from the machine's binaries.
//!
//! It lives below the gateway's data directory, answers on a Unix socket that only its owner can reach, and syncs
//! like any other PostgreSQL. Promises:
//! - `kill -9` at any moment leaves either no cluster or a whole one, with the database `tidegate` in it;
//! - a server that still runs on the data directory is adopted, a stale pid file is not;
//! - an existing cluster keeps its major version and its owner;
//! - `fsync`, `full_page_writes` and the closed doors (socket only) cannot be switched off through settings.
//!
//! Refuses: to run PostgreSQL as root, to upgrade a cluster, to start a second server beside one it cannot see (in
//! another container on the same volume), to listen on the network. Two gateways on one data directory are prevented
//! by the caller.
//!
//! Public: [`Cluster`], which is started, watched and stopped; [`ClusterOptions`]; [`PostgresError`];
//! [`is_passed_through`], for the caller that guards the data directory's mode.
//!
//! Layout: `<data dir>/postgres/{data,socket}` and `<data dir>/postgres.log`; the exceptions are in `place.rs`.

mod binaries;
mod cluster;
mod create;
mod error;
mod log;
mod pid_file;
mod place;
mod postmaster;
mod run_as;
mod settings;
mod supervisor;

#[cfg(test)]
mod tests;

pub use cluster::{Cluster, ClusterOptions};
pub use error::PostgresError;
pub use place::is_passed_through;
