//! Asks an API for its items, page by page, within what this node may ask and hold at a time.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tidegate_record::clock::Clock;

use super::answer::Asker;
use super::budget::AnswerBudget;
use super::pages::Pages;
use super::resume::Resume;
use crate::outbound::{Client, ClientError, Guard, Hosts, Secrets};
use crate::polling::jobs::Definition;

/// What asking may cost, and what it may reach.
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
pub struct Fetcher(Arc<Asker>);

impl Fetcher {
    pub fn new(options: FetchOptions, clock: Clock) -> Result<Fetcher, ClientError> {
        Fetcher::trusting(options, &[], clock)
    }

    /// Believes the authorities whose certificates (DER) are given, beside the machine's own.
    pub fn trusting(
        options: FetchOptions,
        roots: &[Vec<u8>],
        clock: Clock,
    ) -> Result<Fetcher, ClientError> {
        let guard = Guard::new(options.allow_networks);
        let client = Client::new(guard, options.host_requests_max, roots)?;
        let spacing = Duration::from_millis(options.host_spacing_ms);
        let hosts = Hosts::new(options.host_requests_max, spacing);
        let budget = AnswerBudget::new(options.answers_bytes_max);
        Ok(Fetcher(Arc::new(Asker { client, hosts, budget, clock })))
    }

    /// The pages that answer a definition; nothing is asked yet. `owner`: the user on whose behalf, who has a share of what
    /// may be asked and held at a time.
    pub fn pages(
        &self,
        owner: Option<i64>,
        definition: Arc<Definition>,
        secrets: Secrets,
        resume: Resume,
    ) -> Pages {
        Pages::new(Arc::clone(&self.0), owner, definition, secrets, resume)
    }
}
