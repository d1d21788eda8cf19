//! The layouts of the tables that a writer has met. Each is read once, and compared in every transaction that writes there.

use std::collections::{HashMap, HashSet};

use tidegate_codec::Stream;
use tidegate_record::StreamId;

use crate::db::batch::{BatchConnection, BatchError, Layout};
use crate::pipeline::commit::error::Failure;
use crate::pipeline::commit::plan::Part;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Layouts(HashMap<StreamId, Layout>);

impl Layouts {
    /// Says of each part how its tuples come into their table, as far as that is known. Returns the streams whose tables
    /// do not take them as they are.
    pub async fn fit(
        &mut self,
        connection: &mut BatchConnection,
        parts: &mut [Part],
    ) -> Result<HashSet<StreamId>, BatchError> {
        let streams = parts.iter().filter_map(|part| part.destination.stream());
        let unknown = streams.filter(|stream| !self.0.contains_key(&stream.id));
        let unknown: HashMap<StreamId, &Stream> =
            unknown.map(|stream| (stream.id, stream.as_ref())).collect();
        if !unknown.is_empty() {
            let unknown: Vec<&Stream> = unknown.into_values().collect();
            self.0.extend(connection.layouts(&unknown).await?);
        }
        let mut misfits = HashSet::new();
        for part in parts {
            let Some(stream) = part.destination.stream() else { continue };
            // A table that is not there says so when it is written.
            let Some(layout) = self.0.get(&stream.id) else { continue };
            match layout.fit(stream, part.column_set) {
                Ok(fit) => part.fit = fit,
                Err(_told_by_bisecting) => drop(misfits.insert(stream.id)),
            }
        }
        Ok(misfits)
    }

    /// The last look before the commit: are the tables that were written still what the rows were written for? Those
    /// of bisected streams were locked before.
    pub async fn check(
        &self,
        connection: &mut BatchConnection,
        parts: &[Part],
        bisected: &HashSet<StreamId>,
    ) -> Result<(), Failure> {
        let streams = parts.iter().filter_map(|part| part.destination.stream());
        let written = streams.filter(|stream| !bisected.contains(&stream.id));
        let written: HashMap<StreamId, &Stream> =
            written.map(|stream| (stream.id, stream.as_ref())).collect();
        let (mut known, mut changed) = (Vec::new(), Vec::new());
        for (id, stream) in written {
            match self.0.get(&id) {
                Some(layout) => known.push((stream, layout)),
                // It came into being between the look and the rows.
                None => changed.push(id),
            }
        }
        if !known.is_empty() {
            changed.extend(connection.changed_layouts(&known).await?);
        }
        if changed.is_empty() {
            return Ok(());
        }
        Err(Failure::Refused { streams: changed, error: BatchError::TableChanged })
    }

    /// What is known of these is in doubt.
    pub fn forget<'a>(&mut self, streams: impl IntoIterator<Item = &'a StreamId>) {
        for stream in streams {
            self.0.remove(stream);
        }
    }
}
