//! How much is gathered, and when that is enough to hand it on.

/// An entry is handed on at this many bytes or records, so that a large body is never held in memory.
pub const ENTRY_TARGET_BYTES: usize = 1 << 20;
pub const ENTRY_TARGET_ROWS: u32 = 10_000;
/// And at so many keys and values in the records' documents: a megabyte of plain records has half of them.
pub const ENTRY_TARGET_MEMBERS: u64 = 250_000;

/// How much is gathered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Level {
    pub bytes: usize,
    pub rows: u32,
    pub members: u64,
    pub quarantined: u32,
}

impl Level {
    pub fn plus(self, other: Level) -> Level {
        Level {
            bytes: self.bytes + other.bytes,
            rows: self.rows + other.rows,
            members: self.members.saturating_add(other.members),
            quarantined: self.quarantined + other.quarantined,
        }
    }

    /// Less what is part of it.
    pub fn minus(self, part: Level) -> Level {
        Level {
            bytes: self.bytes - part.bytes,
            rows: self.rows - part.rows,
            members: self.members.saturating_sub(part.members),
            quarantined: self.quarantined - part.quarantined,
        }
    }

    pub fn is_empty(self) -> bool {
        self.rows == 0 && self.quarantined == 0
    }

    /// It is to be handed on.
    pub fn is_full(self) -> bool {
        self.bytes >= ENTRY_TARGET_BYTES
            || self.rows >= ENTRY_TARGET_ROWS
            || self.members >= ENTRY_TARGET_MEMBERS
            || self.quarantined >= ENTRY_TARGET_ROWS
    }
}
