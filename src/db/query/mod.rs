//! Questions about streams' records: a plan becomes one statement, whose rows are copied out as they come.
//!
//! Nothing of a result is held but what a page shows: rows come in PostgreSQL's binary form, and the codec writes them as they
//! are read.

mod expression;
mod fault;
mod reading;
mod statement;
mod table;
mod trend;

pub use fault::QuestionFault;
pub use reading::{Page, PageLimits, ReadError, Reading, Room};
