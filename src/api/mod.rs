//! The HTTP API. From the bottom to the top: [`error`] is how it refuses; [`connections`] holds a place for each; [`bodies`]
//! bounds what requests and replies hold; [`caller`] authenticates; [`inputs`], [`read`] and [`manage`] have the handlers, one
//! file a noun; [`router`] has every route; [`server`] serves them.

mod authenticated;
mod bodies;
mod caller;
mod connections;
mod error;
mod inputs;
mod manage;
mod named_stream;
mod read;
mod response;
pub mod router;
mod server;
mod state;
mod user_semaphore;

pub use bodies::MemoryBudget;
pub use connections::{ConnectionLimits, Connections};
pub use error::ApiError;
pub use manage::quarantine::{GuessedText, KeptView};
pub use read::reply_cache::ReplyCache;
pub use read::status::node_load;
pub use server::{Entrance, serve};
pub use state::{AppState, Parts};
pub use user_semaphore::{EXPORTS, LISTS, PREVIEWS, READING, SAMPLES, UserSemaphore};
