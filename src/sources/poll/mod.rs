//! Polling: APIs that nobody will make push are asked at their intervals.
//!
//! One half knows HTTP and nothing of PostgreSQL: what a person asks for ([`definition`], [`schedule`]), how an API is
//! asked for its items ([`fetch`]), and what makes an item new ([`items`]). The other knows PostgreSQL, the journal and
//! time: a job as people see it ([`job`]), which jobs are due ([`scheduler`]), and how a run's items become records
//! exactly once ([`feed`]).

mod answer;
mod ascent;
mod backoff;
mod canonical;
mod database_clock;
pub mod definition;
mod ending;
pub mod endpoint;
pub mod error;
mod feed;
pub mod fetch;
pub mod guard;
pub mod headers;
mod hosts;
pub mod items;
pub mod job;
pub mod making;
mod mask;
pub mod members;
pub mod memory;
pub mod pagination;
pub mod pointer;
pub mod poller;
pub mod preview;
mod refusal;
pub mod resume;
mod retry_after;
mod room;
mod run;
pub mod schedule;
pub mod scheduler;
pub mod sealer;
mod shown;
pub mod since;
pub mod since_format;
mod walk;

pub use poller::{DestinationError, PollLimits, Poller};
pub use scheduler::Scheduler;
