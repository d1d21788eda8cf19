//! Tidegate gets data into PostgreSQL: from anything that can POST, safely and live.
//!
//! The path of a record, in the order of the modules:
//!
//! 1. [`ingest`]: a request's body is split into records; [`tidegate_codec`] encodes each into a COPY tuple as it is read,
//!    or says what is wrong with it. Tuples of one request and stream become an entry, also where a request is for many.
//! 2. [`pipeline`]'s intake takes the entry when there is room; the appender thread writes a group of entries to the
//!    [`tidegate_journal`] and syncs it. Now the record cannot be lost, and the sender is told.
//! 3. The batcher reads the journal and cuts batches; writers copy each into PostgreSQL ([`db`]), together with the
//!    range of the journal that it covers, in one transaction. Now the record is in its table, exactly once.
//!    What polling jobs ask for ([`polling`], through [`outbound`]) comes the same way, and what they have seen is
//!    committed with it.
//! 4. The [`hub`] reads the same journal and makes frames for [`monitors`].
//!
//! Around it: [`catalog`] knows the streams, [`auth`] who may do what, [`api`] has every route, [`app`] puts all of it
//! together, [`cli`] is the command line, and [`tidegate_private_postgres`] runs a PostgreSQL where none is given.

pub mod ingest;
pub mod outbound;
pub mod polling;

pub mod pipeline;

pub mod db;

pub mod hub;
pub mod monitors;

pub mod auth;
pub mod catalog;

pub mod api;
pub mod app;
pub mod cli;

pub mod backoff;
pub mod config;
pub mod counters;
pub mod lifecycle;
pub mod owner_shares;
pub mod telemetry;
