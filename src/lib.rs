//! Tidegate gets data into PostgreSQL: from anything that can POST, safely and live.
//!
//! The path of a record, in the order of the modules:
//!
//! 1. [`sources`]: a request's body is split into records; [`streams`] encodes each into a COPY tuple as it is read, or
//!    says what is wrong with it. Tuples of one request and stream become an entry.
//! 2. [`pipeline`]'s intake takes the entry when there is room; the appender thread writes a group of entries to the
//!    [`journal`] and syncs it. Now the record cannot be lost, and the sender is told.
//! 3. The batcher reads the journal and cuts batches; writers copy each into PostgreSQL ([`db`]), together with the
//!    range of the journal that it covers, in one transaction. Now the record is in its table, exactly once.
//!    What polling jobs ask for ([`sources::poll`]) comes the same way, and what they have seen is committed with it.
//! 4. The [`hub`] reads the same journal and makes frames for [`monitors`].
//!
//! Around it: [`catalog`] knows the streams, [`auth`] who may do what, [`api`] has every route, [`app`] puts all of it
//! together, [`cli`] is the command line, and [`postgres`] runs a private PostgreSQL where none is given.

pub mod record;

pub mod ingest;
pub mod sources;
pub mod streams;

pub mod journal;
pub mod pipeline;

pub mod db;
pub mod postgres;

pub mod hub;
pub mod monitors;

pub mod auth;
pub mod catalog;

pub mod api;
pub mod app;
pub mod cli;

pub mod backoff;
pub mod clock;
pub mod config;
pub mod lifecycle;
pub mod private_file;
pub mod telemetry;
