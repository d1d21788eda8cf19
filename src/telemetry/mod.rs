//! What the gateway tells of itself: logs and metrics.

pub mod limits;
pub mod logs;
pub mod metrics;
