//! Bodies of requests and replies, and the budget of bytes that are held for them.

mod arriving_body;
mod driven;
mod json_body;
mod memory_budget;
pub mod refused_body;
pub mod reply_budget;

pub use arriving_body::ArrivingBody;
pub use driven::{Driven, driven};
pub use json_body::ApiJson;
pub use memory_budget::{Full, Holder, MemoryBudget, MemoryPermit};
pub use reply_budget::{ReplyBudget, Uncounted};
