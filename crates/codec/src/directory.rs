//! The directory of streams that every layer looks into: an immutable snapshot, replaced as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate_record::StreamId;

use crate::{Stream, StreamName};

/// All streams at one moment.
#[derive(Debug, Default)]
pub struct StreamsSnapshot {
    by_name: HashMap<StreamName, Arc<Stream>>,
    by_id: HashMap<StreamId, Arc<Stream>>,
}

impl StreamsSnapshot {
    pub fn new(streams: impl IntoIterator<Item = Stream>) -> StreamsSnapshot {
        let mut snapshot = StreamsSnapshot::default();
        for stream in streams {
            let stream = Arc::new(stream);
            snapshot.by_name.insert(stream.name.clone(), Arc::clone(&stream));
            snapshot.by_id.insert(stream.id, stream);
        }
        snapshot
    }

    pub fn by_name(&self, name: &StreamName) -> Option<&Arc<Stream>> {
        self.by_name.get(name)
    }

    pub fn by_id(&self, id: StreamId) -> Option<&Arc<Stream>> {
        self.by_id.get(&id)
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Every stream, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.by_id.values()
    }
}

/// The current snapshot, shared by clones. Reading it takes no lock.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<ArcSwap<StreamsSnapshot>>);

impl Streams {
    /// The snapshot as it stands now.
    pub fn snapshot(&self) -> Arc<StreamsSnapshot> {
        self.0.load_full()
    }

    pub fn by_name(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.0.load().by_name(name).cloned()
    }

    pub fn by_id(&self, id: StreamId) -> Option<Arc<Stream>> {
        self.0.load().by_id(id).cloned()
    }

    /// Puts a new snapshot in place.
    pub fn replace(&self, snapshot: StreamsSnapshot) {
        self.0.store(Arc::new(snapshot));
    }
}
