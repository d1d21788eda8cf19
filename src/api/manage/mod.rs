//! What users and admins look after: streams, access, polling jobs, and records that were refused.

pub mod polling_jobs;
pub mod polling_preview;
pub mod quarantine;
pub mod sessions;
pub mod short_polling_jobs;
pub mod streams;
pub mod tickets;
pub mod tokens;
pub mod users;
