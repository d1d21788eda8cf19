//! From the journal into PostgreSQL: batches are cut and committed by the writers of a session.

pub(crate) mod aside;
mod batch;
pub(crate) mod batcher;
mod bisect;
mod cursors;
mod cutter;
mod drainer;
mod lanes;
mod plan;
pub(crate) mod progress;
pub(crate) mod session;
mod transaction;
mod watch;
mod writer;
