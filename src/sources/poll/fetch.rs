//! Asks an API for its items, page by page.

use std::sync::Arc;

use ipnet::IpNet;

use super::definition::Definition;
use super::error::{FetchError, FetchErrorKind};
use super::headers::Secrets;
use super::items::Item;
use super::resume::Resume;
use crate::clock::Clock;

/// What asking may cost, and whom it may reach.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Networks that are asked although they are private.
    pub allow_networks: Vec<IpNet>,
    /// Most requests to one host at a time.
    pub host_requests_max: usize,
    /// Shortest time between the beginnings of two requests to one host, in milliseconds.
    pub host_spacing_ms: u64,
    /// Most bytes of answers that are held at a time, of all jobs together.
    pub answers_bytes_max: u64,
}

/// Asks. Cheap to clone; all clones share connections and limits.
#[derive(Debug, Clone)]
pub struct Fetcher(Arc<FetchOptions>);

/// The pages of one run, asked for one by one.
#[derive(Debug)]
pub struct Pages {
    resume: Resume,
}

/// A page's items that this run has not given before.
#[derive(Debug)]
pub struct Page {
    pub items: Vec<Item>,
    /// How many items of the answer are not in `items`, because the run gave the same before, or a later one of the answer
    /// has the same key.
    pub duplicates: u64,
    /// Certainly the last page. Where this is false the next call may still say that there is none.
    pub last: bool,
}

/// How a run ended that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Fresh,
    /// The API says that nothing changed since the last run.
    NotModified,
}

impl Fetcher {
    pub fn new(options: FetchOptions, _clock: Clock) -> Result<Fetcher, FetchError> {
        Ok(Fetcher(Arc::new(options)))
    }

    /// What asking may cost.
    pub fn options(&self) -> &FetchOptions {
        &self.0
    }

    /// The pages that answer a definition; nothing is asked yet.
    pub fn pages(&self, _definition: Arc<Definition>, _secrets: Secrets, resume: Resume) -> Pages {
        Pages { resume }
    }
}

impl Pages {
    /// The next page; `None` after the last one. After an error there is nothing more. A call that is dropped half way ends
    /// the run.
    pub async fn next(&mut self) -> Result<Option<Page>, FetchError> {
        Err(FetchError::new(FetchErrorKind::Connect, "asking is not built yet"))
    }

    /// After the last page: how it ended, and what the next run goes on from. It must not be kept before all items of this
    /// run are, and not at all where the run failed.
    pub fn finish(self) -> (Outcome, Resume) {
        (Outcome::Fresh, self.resume)
    }
}
