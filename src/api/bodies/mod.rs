//! Bodies of requests and replies, and the budget of bytes that are held for them.

mod arriving_body;
mod held_bytes;
mod json_body;
pub mod refused_body;
pub mod reply_budget;

pub use arriving_body::ArrivingBody;
pub use held_bytes::{Full, Held, HeldBytes, Holder};
pub use json_body::ApiJson;
pub use reply_budget::{ReplyBudget, Uncounted};
