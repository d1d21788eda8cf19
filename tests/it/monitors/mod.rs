//! Watching: over a WebSocket or server-sent events, `tidegate tail`, and who may watch from where.

pub mod events;
mod monitors_under_fire;
mod origins;
pub mod tail;
mod tickets;
pub mod watching;
mod websockets;
