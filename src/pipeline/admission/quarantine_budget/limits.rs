//! Amounts of invalid records, and how much of them the quarantine may hold.

use crate::config::QuarantineFull;

/// What comes in while the oldest are dropped may exceed a limit by this part of it; beyond that it is not kept.
const OVER_LIMIT_PART: u64 = 4;

/// Records, and bytes of them with everything that is kept beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptAmount {
    pub records: u64,
    pub bytes: u64,
}

impl KeptAmount {
    pub fn plus(self, other: KeptAmount) -> KeptAmount {
        KeptAmount {
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    pub(super) fn minus(self, other: KeptAmount) -> KeptAmount {
        KeptAmount {
            records: self.records.saturating_sub(other.records),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Is more than the limit allows?
    pub fn exceeds(self, limit: KeptAmount) -> bool {
        self.records > limit.records || self.bytes > limit.bytes
    }

    pub(super) fn with_slack(self) -> KeptAmount {
        let slack = |limit: u64| limit.saturating_add(limit / OVER_LIMIT_PART);
        KeptAmount { records: slack(self.records), bytes: slack(self.bytes) }
    }
}

/// Limits on what is kept of invalid records.
#[derive(Debug, Clone, Copy)]
pub struct QuarantineLimits {
    pub request: KeptAmount,
    pub stream: KeptAmount,
    pub all: KeptAmount,
    pub full: QuarantineFull,
}

impl QuarantineLimits {
    /// No limits at all.
    pub const NONE: QuarantineLimits = {
        let endless = KeptAmount { records: u64::MAX, bytes: u64::MAX };
        QuarantineLimits {
            request: endless,
            stream: endless,
            all: endless,
            full: QuarantineFull::Refuse,
        }
    };
}

/// Which limit an invalid record did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoomToKeep {
    Stream,
    All,
}
