//! Polling jobs: what APIs may do, and what jobs bring exactly once.

mod answers;
mod bad_input;
mod cli;
mod clock;
mod counts;
pub mod exactness;
pub mod fetching;
pub mod jobs;
mod memory;
mod outages;
pub mod pages;
mod poll_budget;
mod progress;
mod rights;
mod runs;
mod scale;
mod secrets;
mod shares;
