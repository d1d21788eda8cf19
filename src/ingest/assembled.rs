//! What an assembler hands on: entries, and what was taken of limits for their invalid records.

use tidegate_journal::SealedEntry;
use uuid::Uuid;

use crate::auth::InvalidRecords;
use crate::pipeline::BudgetTaken;

/// Entries that are ready for the journal.
#[derive(Debug)]
pub struct Assembled {
    pub entries: Vec<SealedEntry>,
    /// The good records among them: id of the first, and how many.
    pub first_id: Uuid,
    pub rows: u32,
    pub quarantined: u32,
    /// What the refused ones among them take of the quarantine's room.
    pub kept: Option<Box<BudgetTaken>>,
    /// What was paid for them; given back unless they are on their way to the journal.
    pub paid: Option<InvalidRecords>,
    /// PostgreSQL takes longer over them than their bytes say; [`tidegate_record::DENSE_EXCESS_MIN`] says when.
    pub is_costly: bool,
}

impl Assembled {
    /// Bytes that the entries take.
    pub fn bytes(&self) -> usize {
        let bytes: u64 = self.entries.iter().map(SealedEntry::len_bytes).sum();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}
