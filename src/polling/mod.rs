//! Polling: APIs that cannot be made to push are asked at their intervals.
//!
//! In the order in which they know each other: what people ask for ([`jobs`]); how an API is asked for its items ([`ask`]);
//! what the runs of a node share ([`PollingContext`]); one run, from its claim to its end, whose items become records
//! exactly once (`run`); and which jobs are due, and whose turn it is ([`Scheduler`], `owner_runs`).

pub mod ask;
mod context;
mod database_clock;
pub mod jobs;
pub mod making;
mod owner_runs;
mod run;
mod scheduler;

pub use context::{MemoryDays, PollLimits, PollingContext};
pub use scheduler::Scheduler;
