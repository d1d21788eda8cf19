//! Attacks: callers that try to take more than their share, one file for each kind. Each tells what the attack did before it
//! was bounded, and asserts what it may still do.

mod attackers;
mod costly_documents;
mod growth;
mod heads;
mod limits_table;
mod many_streams;
mod quarantine;
mod routes;
mod sign_in;
mod slow_peers;
mod soak;
