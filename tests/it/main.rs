//! The gateway as its users meet it: the real binary, a real PostgreSQL, real HTTP and WebSocket clients.
//!
//! One file a topic. [`support`] starts the gateways; every test has a gateway, a data directory and a database of its
//! own, so that tests run side by side in any order.

#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    clippy::items_after_statements,
    reason = "in a test a panic is the report, and its text is read once"
)]

mod abuse;
mod access;
mod altered_tables;
mod backlog;
mod bad_input;
mod batching;
mod bench;
mod cli;
mod column_keys;
mod command;
mod corpus;
mod csv_bodies;
mod damage;
mod dashboard;
mod data_directory;
mod decisions;
mod demo;
mod encode_roundtrip;
mod events;
mod exact_limits;
mod express;
mod fairness;
mod fence;
mod first_start;
mod full_disk;
mod guarantees;
mod hostile_names;
mod http_layer;
mod idempotency;
mod ingest;
mod journal_cli;
mod keyed;
mod keyed_direct;
mod keyed_parking;
mod large_bodies;
mod layers;
mod limits;
mod metrics;
mod monitors;
mod monitors_under_fire;
mod no_json;
mod odd_values;
mod older_journal;
mod oracle;
mod origins;
mod outages;
mod pages;
mod parking;
mod partition_upkeep;
mod people;
mod poison;
mod poll_answers;
mod poll_budget;
mod poll_fetch;
mod poll_pages;
mod polling;
mod polling_bad_input;
mod polling_cli;
mod polling_clock;
mod polling_counts;
mod polling_exactness;
mod polling_memory;
mod polling_outages;
mod polling_progress;
mod polling_rights;
mod polling_runs;
mod polling_scale;
mod polling_secrets;
mod poolers;
mod postgresql_words;
mod private_postgres;
mod prometheus;
mod quarantine;
mod quarantine_api;
mod quotas;
mod readme;
mod recovery;
mod retention;
mod second_look;
mod sessions;
mod set_back;
mod settings;
mod stalled_commits;
mod streams;
mod support;
mod table_faults;
mod tail;
mod taken_names;
mod tickets;
mod times;
mod torture;
mod typed;
mod version;
mod watcher;
mod watching;
mod widening;
mod widening_waits;
