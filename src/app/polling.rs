//! Polling jobs, made from the configuration.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::app::{Ground, Pipeline};
use crate::outbound::Sealer;
use crate::polling::ask::{FetchOptions, Fetcher};
use crate::polling::{MemoryDays, PollLimits, PollingContext};
use crate::sources::encoders::Encoders;

impl Ground {
    /// What the runs of polling jobs share.
    pub(super) fn polling_context(&self, pipeline: &Pipeline) -> anyhow::Result<PollingContext> {
        let config = &self.config.polling;
        let fetcher = Fetcher::new(
            FetchOptions {
                allow_networks: config.allow_networks.0.clone(),
                host_requests_max: config.polling_host_requests_max,
                host_spacing_ms: config.polling_host_spacing_ms,
                answers_bytes_max: config.polling_answers_bytes_max,
            },
            self.clock.clone(),
        )
        .context("polling jobs cannot ask")?;
        let sealer = Sealer::load_or_make(config.secret_key(), &self.data_dir)
            .context("the key of the polling jobs' secret headers")?;
        Ok(PollingContext {
            pool: self.database.pools().polling.clone(),
            journal: self.journal.id(),
            node: self.config.node_name(),
            catalog: self.catalog.clone(),
            intake: pipeline.intake.clone(),
            encoders: Encoders::new(self.encode_limits()),
            counters: pipeline.counters.clone(),
            committed: pipeline.progress.clone(),
            quarantine: pipeline.quarantine.clone(),
            synced_at_start: self.journal.synced(),
            fetcher,
            sealer: Arc::new(sealer),
            clock: self.clock.clone(),
            lifecycle: self.lifecycle.clone(),
            limits: PollLimits {
                runs_max: config.polling_runs_max,
                lease: Duration::from_secs(config.polling_lease_seconds),
                run_time_max: Duration::from_secs(config.polling_run_seconds),
                memory: MemoryDays(Some(config.polling_memory_days).filter(|days| *days > 0)),
            },
            wake: Arc::default(),
        })
    }
}
