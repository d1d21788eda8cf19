//! The HTTP API. From the bottom to the top: [`error`] is how it refuses; [`connections`] knows who is connected; [`bodies`]
//! bounds what requests and replies hold; [`caller`] authenticates; [`inputs`], [`read`] and [`manage`] have the handlers, one
//! file a noun; [`router`] has every route; [`server`] serves them.

mod bodies;
mod caller;
mod connections;
mod error;
mod inputs;
mod manage;
mod permits;
mod read;
pub mod router;
mod server;
mod state;

pub use bodies::{held_bytes::HeldBytes, replies::RESERVE_BYTES as REPLY_RESERVE_BYTES};
pub use connections::{ConnectionLimits, Connections};
pub use error::ApiError;
pub use manage::polling_preview::Previews;
pub use manage::quarantine::{KeptView, guessed_text::GuessedText};
pub use permits::{READING, SAMPLES, Turns};
pub use read::status::node_load;
pub use server::accept::run as serve;
pub use server::entrance::Entrance;
pub use state::{AppState, Parts};
