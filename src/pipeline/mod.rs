//! The pipeline: from an encoded entry to a committed row.
//!
//! [`Intake`] takes entries and answers when they are durable; the appender thread puts groups of them into the
//! journal; a session of writers reads the journal and commits batches. Sources know [`Intake`] and nothing else.
//!
//! Promises: nothing is acknowledged before its fsync returned; every acknowledged entry is committed exactly once;
//! everything that waits is bounded, and who cannot wait is told when to come again.

mod appender;
#[cfg(test)]
mod appender_tests;
mod aside;
mod batcher;
mod careful;
mod commit_watch;
mod cursors;
mod drainer;
mod intake;
pub mod keys;
mod lanes;
mod ledger;
mod outage;
mod parking;
mod plan;
mod pressure;
mod progress;
mod quarantine_room;
mod room;
mod sender;
mod transaction;
mod waiters;
mod writer;
mod writers;

pub use appender::AppenderThread;
pub use batcher::{BatchLimits, BatcherContext};
pub use intake::{
    DurableEntry, Intake, IntakeError, IntakeLimits, Pending, RequestFate, Reservation, Share,
    Submission, TRIM_EVERY, entry_first_id,
};
pub use keys::{Claim, Claimed, KeyError, Keys, TornEntry};
pub use ledger::{CommitOutcome, CommitWait, Ledger};
pub use parking::{ParkedState, Parking};
pub use pressure::Pressure;
pub use progress::Progress;
pub use quarantine_room::{
    DroppedRecords, KeptAmount, MEASURE_EVERY, NoRoomToKeep, QuarantineLimits, QuarantineRoom,
    RoomTaken,
};
pub use sender::SenderId;
pub use writers::{DatabaseState, Writers, WritersConfig};
