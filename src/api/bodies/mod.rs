//! Bodies of requests and replies, and the budget of bytes that are held for them.

pub mod arriving_body;
pub mod counted_body;
pub mod held_bytes;
pub mod refused_body;
pub mod replies;
