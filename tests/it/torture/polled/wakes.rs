//! People at the jobs while everything breaks: they order runs, and change jobs that run.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::{Client, Gateway, Seed};

/// What the orders of a round are drawn for.
const NUDGES_PURPOSE: u64 = 1 << 59;
/// Pause between two orders.
const PAUSE: Duration = Duration::from_millis(10);
/// One order in so many changes a job, which ends its run.
const CHANGE_ONE_IN: u32 = 20;
/// Timeouts that a job is given, in milliseconds: long enough for an API that answers at once.
const TIMEOUTS_MS: std::ops::Range<u64> = 20_000..30_000;

/// Orders until it is dropped.
pub struct Wakes {
    orders: JoinSet<()>,
}

impl Wakes {
    pub(super) fn start(gateways: &[&Gateway], seed: Seed, round: u64, jobs: Vec<Uuid>) -> Wakes {
        let mut orders = JoinSet::new();
        let numbers = seed.numbers(NUDGES_PURPOSE | round);
        let clients = gateways.iter().map(|gateway| Client::clone(gateway)).collect();
        orders.spawn(order(clients, numbers, jobs));
        Wakes { orders }
    }

    /// Ends it; the gateway may be gone.
    pub async fn finish(mut self) {
        self.orders.abort_all();
        while let Some(ended) = self.orders.join_next().await {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

async fn order(clients: Vec<Client>, mut numbers: StdRng, jobs: Vec<Uuid>) {
    loop {
        let client = clients.choose(&mut numbers).expect("there is a gateway");
        let path =
            format!("/v1/polling-jobs/{}", jobs.choose(&mut numbers).expect("there are jobs"));
        let changes = numbers.random_ratio(1, CHANGE_ONE_IN);
        let timeout_ms = numbers.random_range(TIMEOUTS_MS);
        let sent = if changes {
            client.try_to(Method::PATCH, &path, &json!({"timeout_ms": timeout_ms})).await
        } else {
            client.try_to(Method::POST, &format!("{path}/run"), &json!({})).await
        };
        // A gateway that dies answers nothing, and one that was killed is somewhere else now.
        if let Ok(reply) = sent {
            assert!(matches!(reply.status, 200 | 202 | 409 | 503), "{}", reply.body);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
