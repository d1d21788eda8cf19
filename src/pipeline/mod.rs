//! The pipeline: from an encoded entry to a committed row.
//!
//! [`Intake`] takes entries and answers when they are durable; the appender thread puts groups of them into the
//! journal; a session of writers reads the journal and commits batches. Sources know [`Intake`] and nothing else.
//!
//! Promises: nothing is acknowledged before its fsync returned; every acknowledged entry is committed exactly once;
//! everything that waits is bounded, and who cannot wait is told when to come again.

mod admission;
mod append;
mod commit;
mod parking;

pub use admission::drain_rate::Pressure;
pub use admission::intake::{
    DurableEntry, Intake, IntakeError, IntakeLimits, Pending, RequestFate, Reservation, Submission,
    TRIM_EVERY, entry_first_id,
};
pub use admission::keys;
pub use admission::keys::{Claim, Claimed, KeyError, Keys};
pub use admission::ledger::{CommitOutcome, CommitWait, Ledger};
pub use admission::quarantine_room::{
    DroppedRecords, KeptAmount, MEASURE_EVERY, NoRoomToKeep, QuarantineLimits, QuarantineRoom,
    RoomTaken,
};
pub use admission::sender::SenderId;
pub use append::appender::AppenderThread;
pub use commit::batcher::{BatchLimits, BatcherContext};
pub use commit::progress::Progress;
pub use commit::session::{DatabaseState, Writers, WritersConfig};
pub use parking::{ParkedState, Parking};
