//! Records that are offered by the clock, whatever becomes of those before.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::http::{self, Connection};

/// Connections that the bodies are sent over.
const CONNECTIONS: usize = 16;
pub const NDJSON: &str = "application/x-ndjson";

/// Bodies at a rate.
#[derive(Debug, Clone)]
pub struct Offer {
    pub address: String,
    pub path: String,
    pub token: String,
    pub bodies_per_second: f64,
    pub length: Duration,
}

impl Offer {
    /// How many bodies that is.
    pub fn bodies(&self) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let bodies = (self.bodies_per_second * self.length.as_secs_f64()).ceil() as usize;
        bodies
    }

    /// Sends all of them from `started` on, each when it is due, and waits for the replies. `body` makes one, by its
    /// number and the time when it is due.
    pub fn run<F>(
        &self,
        started: Instant,
        body: F,
    ) -> impl Future<Output = anyhow::Result<()>> + use<F>
    where
        F: Fn(usize, Instant) -> Bytes + Send + Sync + 'static,
    {
        let (offer, body) = (self.clone(), Arc::new(body));
        async move {
            let mut senders = JoinSet::new();
            for first in 0..CONNECTIONS {
                let (offer, body) = (offer.clone(), Arc::clone(&body));
                senders.spawn(async move {
                    let mut connection = Connection::open(&offer.address).await?;
                    for number in (first..offer.bodies()).step_by(CONNECTIONS) {
                        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
                        let after = number as f64 / offer.bodies_per_second;
                        let due = started + Duration::from_secs_f64(after);
                        sleep_until(due).await;
                        let body = body(number, due);
                        let Offer { address, path, token, .. } = &offer;
                        let request = http::post(address, path, token, NDJSON, &body);
                        connection.send(&request).await?;
                    }
                    anyhow::Ok(())
                });
            }
            while let Some(sender) = senders.join_next().await {
                sender??;
            }
            Ok(())
        }
    }
}
