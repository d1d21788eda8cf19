//! The way in: a request reserves the bytes that it holds, hands its entries on, and waits for what becomes of them.
//!
//! [`intake`] is what sources know; [`fair_semaphore`] shares its room between senders, and [`drain_rate`] measures what a
//! refused sender is told. [`keys`] keeps requests with an idempotency key from being taken twice, [`quarantine_budget`]
//! what is kept of invalid records within limits, and [`ledger`] has the requests that wait for a commit.

mod costly_level;
mod drain_rate;
mod error;
mod fair_semaphore;
mod intake;
pub mod keys;
mod ledger;
mod quarantine_budget;
mod sender;
mod submission;

#[cfg(test)]
pub use self::costly_level::COSTLY_WAITING_MAX;
pub use self::costly_level::CostlyLevel;
pub use self::drain_rate::DrainRate;
pub use self::error::IntakeError;
pub use self::intake::{Intake, IntakeLimits, Pending, TRIM_EVERY};
pub use self::keys::{Claim, Claimed, KeyError, Keys, TornEntry};
pub use self::ledger::{CommitOutcome, CommitWait, Ledger, entry_first_id};
pub use self::quarantine_budget::{
    BudgetTaken, DroppedRecords, KeptAmount, MEASURE_EVERY, NoRoomToKeep, QuarantineBudget,
    QuarantineLimits,
};
pub use self::sender::SenderId;
pub use self::submission::{DurableEntry, RequestRefusal, Reservation, Share, Submission};

pub(super) use self::submission::{Message, QueuedSubmission, Refusal};
