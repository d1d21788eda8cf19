//! The settings of the private PostgreSQL, given on its command line so that no file in the cluster overrides them.

use std::ffi::OsString;

use super::place::{ClusterPlace, PORT};

/// For steady ingest on any machine; a caller may override them.
const DEFAULTS: [(&str, &str); 12] = [
    ("max_connections", "100"),
    ("shared_buffers", "128MB"),
    ("wal_buffers", "16MB"),
    // Few, spread checkpoints: each makes the next change of every page cost a whole page of WAL.
    ("max_wal_size", "2GB"),
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
    // Compiling costs more than it saves in the short statements that we send.
    ("jit", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    // Without DETAIL and CONTEXT: they would put records into the log.
    ("log_error_verbosity", "terse"),
];

/// What the gateway promises. They come last on the command line, where PostgreSQL takes the last word.
const PROMISED: [(&str, &str); 5] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
];

/// The arguments for `postgres` after its data directory.
pub(super) fn arguments(place: &ClusterPlace, extra: &[(String, String)]) -> Vec<OsString> {
    let mut arguments = Vec::new();
    for (name, value) in DEFAULTS {
        push(&mut arguments, name, value);
    }
    for (name, value) in extra {
        push(&mut arguments, name, value);
    }
    for (name, value) in PROMISED {
        push(&mut arguments, name, value);
    }
    push(&mut arguments, "port", &PORT.to_string());
    arguments.push("-c".into());
    // Quoted, because the setting is a list and a path may hold spaces; `ClusterPlace` keeps quotes and commas out.
    let mut directories = OsString::from("unix_socket_directories=\"");
    directories.push(place.socket_directory());
    directories.push("\"");
    arguments.push(directories);
    arguments
}

fn push(arguments: &mut Vec<OsString>, name: &str, value: &str) {
    arguments.push("-c".into());
    arguments.push(format!("{name}={value}").into());
}
