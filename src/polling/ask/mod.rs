//! One request to an API and its pages: redirects followed, statuses told apart, items found, the next page named.
//!
//! A [`Fetcher`] gives the [`Pages`] that answer a job's definition. It knows HTTP and JSON, and neither PostgreSQL nor what
//! becomes of the items.

mod answer;
mod ascent;
mod budget;
mod error;
mod fetcher;
mod items;
mod pages;
mod paginator;
mod question;
mod refusal;
mod resume;
mod since_seen;

pub use error::{FetchError, FetchErrorKind};
pub use fetcher::{FetchOptions, Fetcher};
pub use items::Item;
pub use pages::{Outcome, Page, Pages, Reached};
pub use resume::Resume;
