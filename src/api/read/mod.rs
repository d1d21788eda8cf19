//! What there is to read: records, monitors, the state of the gateway, and the page that shows them.

pub mod configuration;
pub mod health;
pub mod key_path;
pub mod metrics;
pub mod monitor;
pub mod one_record;
pub mod own_writes;
pub mod page;
mod places;
mod quarantine_level;
mod question;
mod read_error;
pub mod records;
pub mod reply_cache;
pub mod status;
pub mod trends;

pub use quarantine_level::QuarantineLevelView;
