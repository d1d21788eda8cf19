//! What operators look at and type: command line, dashboard, metrics.

mod cli;
mod dashboard;
pub mod metrics;
mod prometheus;
