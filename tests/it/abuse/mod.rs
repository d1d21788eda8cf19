//! Attacks: callers that try to take more than their share, one file for each kind. Each tells what the attack did before it
//! was bounded, and asserts what it may still do.

mod attackers;
mod costly_documents;
mod growth;
mod heads;
mod limits_table;
mod many_streams;
mod memory;
mod quarantine;
mod readers;
mod routes;
mod sign_in;
pub mod slow_peers;
mod soak;
mod strangers;

/// What is held for peers, in bytes.
const HELD: &str = "tidegate_request_memory_bytes";

/// Letters that no compression makes much smaller.
fn text_of(bytes: usize, seed: usize) -> String {
    let mut state = seed as u64 + 1;
    let letter = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(
            b"abcdefghijklmnopqrstuvwxyz0123456789"[usize::try_from((state >> 33) % 36).unwrap()],
        )
    };
    (0..bytes).map(letter).collect()
}
