//! The gateway as its users meet it: the real binary, a real PostgreSQL, real HTTP and WebSocket clients.
//!
//! One file a topic. [`support`] starts the gateways; every test has a gateway, a data directory and a database of its
//! own, so that tests run side by side in any order.

mod access;
mod bad_input;
mod batching;
mod command;
mod encode_roundtrip;
mod hostile_names;
mod ingest;
mod keyed;
mod large_bodies;
mod layers;
mod limits;
mod outages;
mod people;
mod quarantine;
mod recovery;
mod retention;
mod sessions;
mod streams;
mod support;
mod typed;
mod watcher;
