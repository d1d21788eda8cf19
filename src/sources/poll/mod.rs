//! Polling: APIs that nobody will make push are asked at their intervals.
//!
//! This part knows HTTP and nothing of PostgreSQL: what a person asks for ([`definition`], [`schedule`]), how an API is
//! asked for its items ([`fetch`]), and what makes an item new ([`items`]).

mod answer;
mod canonical;
pub mod definition;
pub mod endpoint;
pub mod error;
pub mod fetch;
pub mod guard;
pub mod headers;
mod hosts;
pub mod items;
pub mod members;
pub mod pagination;
pub mod pointer;
pub mod resume;
mod retry_after;
mod room;
pub mod schedule;
pub mod sealer;
pub mod since;
mod walk;
