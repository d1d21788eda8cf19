//! What is gathered of a request, stream by stream, and the limits on what it is gathered of.

use tidegate_codec::formats::FramerLimits;
use tidegate_record::StreamId;
use uuid::Uuid;

use crate::auth::InvalidRecords;
use crate::ingest::Ingest;
use crate::ingest::assembled::Assembled;

/// First bytes of a refused record that are kept.
const RAW_BYTES_MAX: usize = 64 << 10;

/// What was gathered for one stream.
#[derive(Debug)]
pub(super) struct Part {
    /// Which of the request's streams it is, as they were met.
    pub(super) slot: usize,
    pub(super) stream: StreamId,
    pub(super) assembled: Assembled,
}

/// What was gathered for all streams.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) first: Part,
    /// Nearly always there is none.
    pub(super) others: Vec<Part>,
}

impl Parts {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Takes out what was paid for the invalid records among them.
    pub(super) fn take_paid(&mut self) -> Vec<InvalidRecords> {
        let parts = std::iter::once(&mut self.first).chain(&mut self.others);
        parts.filter_map(|part| part.assembled.paid.take()).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.iter().map(|part| part.assembled.bytes()).sum()
    }
}

/// Limits on a record of the service's bodies.
pub(super) fn framer_limits(ingest: &Ingest) -> FramerLimits {
    FramerLimits { record_bytes_max: ingest.entry_bytes_max, raw_bytes_max: RAW_BYTES_MAX }
}

/// See [`Parser::gathered`].
pub(super) struct Gathered {
    pub(super) accepted: u64,
    pub(super) quarantined: u64,
    pub(super) first_id: Uuid,
    /// How many were accepted and quarantined of each stream of a request of many.
    pub(super) streams: Vec<(u64, u64)>,
}
