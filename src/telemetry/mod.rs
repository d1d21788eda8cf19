//! What the gateway tells of itself: logs, metrics, and which limits were hit.

pub mod limits;
pub mod logs;
pub mod metrics;
