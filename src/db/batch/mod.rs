//! One batch, one transaction: the fence, a COPY for each stream, the merges of keyed streams, the committed range.
//!
//! Invariant: rows and the range that names them become visible together or not at all.
//!
//! A [`BatchConnection`] belongs to one writer. After any error, or when a call was given up half way, it must be
//! dropped: the socket closes, the server rolls back, and the next session finds out what was committed.

mod changes;
mod connection;
mod direct;
mod error;
mod layout;
mod layouts;
mod staged;
mod statements;
mod tuple;

pub use changes::ChangeEnd;
pub use connection::{BatchConnection, BatchTimeouts, Savepoint};
pub(super) use error::during;
pub use error::{BatchError, Refusal};
pub use layout::{Fit, Layout};
pub use statements::{Staged, Target};
