//! What became of the records of each stream, in a reply to a request of many.

use serde::{Serialize, Serializer};

use crate::ingest::StreamReply;

/// `{"flights":{"accepted":2,"quarantined":1},…}`, in the order in which the streams were met.
#[derive(Debug)]
pub struct ByStream(pub Vec<StreamReply>);

/// What became of one stream's records; with `ack=commit` the members are those of the whole reply.
#[derive(Debug, Serialize)]
struct StreamView {
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    committed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<u64>,
    quarantined: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_kept: Option<u64>,
}

impl ByStream {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for ByStream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|stream| (&stream.name, StreamView::of(stream))))
    }
}

impl StreamView {
    fn of(stream: &StreamReply) -> StreamView {
        let committed = stream.committed;
        StreamView {
            accepted: committed.is_none().then_some(stream.accepted),
            committed: committed.map(|outcome| outcome.committed),
            duplicates: committed.map(|outcome| outcome.duplicates),
            quarantined: stream.quarantined,
            not_kept: Some(stream.not_kept.total()).filter(|records| *records > 0),
        }
    }
}
