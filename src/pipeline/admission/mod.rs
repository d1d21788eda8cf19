//! The way in: who sends, how much of it is held, and what a request waits for.

pub(crate) mod drain_rate;
pub(crate) mod fair_semaphore;
pub(crate) mod intake;
pub mod keys;
pub(crate) mod ledger;
pub(crate) mod quarantine_room;
pub(crate) mod sender;
