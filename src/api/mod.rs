//! The HTTP API: [`entrance`] lets requests in, [`router`] has every route, one file a noun has its handlers.

mod caller;
pub mod client_address;
mod configuration;
mod counted_body;
mod cross_origin;
pub mod entrance;
mod error;
mod explained;
pub mod express;
pub mod guessed_text;
mod heads;
mod health;
pub mod held_bytes;
mod metrics;
mod monitor;
mod page;
mod polling_jobs;
pub mod polling_preview;
pub mod quarantine;
mod reading;
mod records;
mod refused_body;
pub mod replies;
pub mod router;
pub mod server;
mod sessions;
mod short_polling_jobs;
pub mod state;
pub mod status;
mod streams;
mod tickets;
mod tokens;
pub mod turns;
mod users;

pub use error::ApiError;
pub use state::AppState;
