//! From the journal into PostgreSQL, exactly once.
//!
//! A [`session`] is a batcher, which cuts the journal into batches ([`batcher`]), and writers, each of which commits one
//! batch after the other in one transaction ([`writer`]). A batch is planned ([`plan`]: which entries go where), written
//! ([`transaction`]; [`bisect`] where PostgreSQL refuses something), and committed together with the range of the journal
//! that it covers ([`progress`]). Batches that take long wait in a queue of their own ([`aside`], [`supply`]), and keyed
//! streams keep their order ([`lanes`]). The [`drainer`] brings home what was parked, an entry
//! piece by piece where it must ([`partial_entries`]).

mod aside;
mod batch;
mod batcher;
mod bisect;
mod context;
mod cursors;
mod cutter;
mod database_state;
mod drainer;
mod error;
mod lanes;
mod outcome;
mod partial_entries;
mod plan;
mod progress;
mod ranges;
mod rewind;
mod session;
mod supply;
mod transaction;
mod watch;
mod writer;

pub use self::context::{BatchLimits, CommitContext};
pub use self::database_state::DatabaseState;
pub use self::progress::Progress;
pub use self::session::{Writers, WritersConfig};
