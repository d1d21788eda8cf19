//! The gateway as its users meet it: the real binary, a real PostgreSQL, real HTTP and WebSocket clients.
//!
//! One folder a subject, one file a topic. [`support`] starts the gateways; every test has a gateway, a data directory and a database of its
//! own, so that tests run side by side in any order.

#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    clippy::items_after_statements,
    reason = "in a test a panic is the report, and its text is read once"
)]

mod abuse;
mod access;
mod changing;
mod durability;
mod ingest;
mod monitors;
mod operation;
mod polling;
mod project;
mod quarantine;
mod reading;
mod streams;
mod support;
mod torture;
