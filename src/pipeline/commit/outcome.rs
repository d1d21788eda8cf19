//! What becomes of an entry in PostgreSQL, and how much of that is kept beside the committed range.

use crate::db::journals::EntryShortfall;
use crate::pipeline::admission::CommitOutcome;

/// What becomes of an entry when the transaction commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryOutcome {
    Settled(CommitOutcome),
    /// It waits in the table `parked`.
    Parked,
}

impl EntryOutcome {
    /// No record of it has an outcome.
    pub const NONE: EntryOutcome = EntryOutcome::Settled(CommitOutcome {
        committed: 0,
        duplicates: 0,
        refused: 0,
        missing: 0,
        conflicts: 0,
    });

    /// Of an entry of so many records, all of which made a row but for these.
    pub fn but_for(shortfall: EntryShortfall, records: u64) -> EntryOutcome {
        let EntryShortfall { duplicates, refused, missing, conflicts, parked } = shortfall;
        let committed = records.saturating_sub(duplicates + refused + missing + conflicts);
        if parked {
            return EntryOutcome::Parked;
        }
        EntryOutcome::Settled(CommitOutcome { committed, duplicates, refused, missing, conflicts })
    }

    /// What a later session must know of it; the default where every record made a row.
    pub fn shortfall(self) -> EntryShortfall {
        match self {
            EntryOutcome::Parked => EntryShortfall { parked: true, ..EntryShortfall::default() },
            EntryOutcome::Settled(outcome) => {
                let CommitOutcome { duplicates, refused, missing, conflicts, .. } = outcome;
                EntryShortfall { duplicates, refused, missing, conflicts, parked: false }
            }
        }
    }
}
