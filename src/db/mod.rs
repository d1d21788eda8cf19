//! PostgreSQL: connections, migrations, and every SQL statement of the gateway.
//!
//! Layers above call functions named for what they mean; no SQL leaves this module, and no database detail reaches a
//! client.

pub mod acting;
mod answer;
pub mod batch;
pub mod connection_check;
mod database;
pub mod journals;
pub mod kept_records;
pub mod locks;
pub mod notifications;
pub mod parked;
pub mod partitions;
pub mod polled_items;
pub mod polling_jobs;
pub mod polling_runs;
mod pool;
pub mod pools;
pub mod quarantine;
pub mod quarantine_limits;
pub mod query;
pub mod reading;
pub mod replica;
pub mod sessions;
mod sql;
mod stream_limits;
pub mod streams;
mod table_error;
pub mod tokens;
mod type_oid;
pub mod users;
pub mod verdict;
pub mod words;

pub use pool::PgPool as Pool;
pub use sqlx::Error;

pub(crate) use answer::answered;
pub use database::{Database, OwnConnection, PreparationError};
