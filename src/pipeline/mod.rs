//! The pipeline: from an encoded entry to a committed row.
//!
//! 1. [`admission`]: a request gets room for the bytes that it holds, shared fairly between senders, and hands its entries
//!    to the [`Intake`]. Without room in time its sender is told when to come again.
//! 2. [`append`]: a thread puts groups of entries into the journal, syncs, and answers. From here on they cannot be lost.
//! 3. [`commit`]: a session of writers reads the journal, cuts batches and commits each, exactly once.
//! 4. [`parking`]: where a stream's table cannot be written, its entries wait in PostgreSQL until it can.
//!
//! Imports go one way: append and commit name admission, commit names parking. Others know what is exported here.
//!
//! Promises: nothing is acknowledged before its fsync returned; every acknowledged entry is committed exactly once;
//! everything that waits is bounded, and a sender that cannot wait is told when to come again.

mod admission;
mod append;
mod commit;
mod parking;

pub use self::admission::keys;
pub use self::admission::{
    BudgetTaken, Claim, Claimed, CommitOutcome, CommitWait, DrainRate, DroppedRecords,
    DurableEntry, Intake, IntakeError, IntakeLimits, KeptAmount, KeyError, Keys, Ledger,
    MEASURE_EVERY, NoRoomToKeep, Pending, QuarantineBudget, QuarantineLimits, RequestRefusal,
    Reservation, SenderId, Share, Submission, TRIM_EVERY, TornEntry, entry_first_id,
};
pub use self::append::AppenderThread;
pub use self::commit::{
    BatchLimits, CommitContext, DatabaseState, Progress, Writers, WritersConfig,
};
pub use self::parking::{ParkedState, Parking};
