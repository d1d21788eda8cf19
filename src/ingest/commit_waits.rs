//! The commits that a request with `ack=commit` waits for, and what became of those that are known.
//!
//! However long its body is, it keeps a limited number of waits: those that are over become sums, and where too many are not,
//! PostgreSQL is so far behind that the request is answered without waiting for it.

use std::time::Duration;

use crate::pipeline::{CommitOutcome, CommitWait};

/// Most commits that one request waits for at the same time: one for each stream of each of its entries under way.
const COMMIT_WAITS_MAX: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CommitWaits {
    /// Each with the stream that it is for.
    under_way: Vec<(usize, CommitWait)>,
    known: Committed,
    is_given_up: bool,
}

/// What became of a request's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) sum: CommitOutcome,
    /// As many as there are streams with something committed.
    pub(super) by_stream: Vec<CommitOutcome>,
}

impl CommitWaits {
    /// One more; where there are too many all are given up.
    pub(super) fn add(&mut self, slot: usize, wait: CommitWait) {
        if self.is_given_up {
            return;
        }
        self.under_way.push((slot, wait));
        if self.under_way.len() > COMMIT_WAITS_MAX {
            self.fold();
        }
        if self.under_way.len() > COMMIT_WAITS_MAX {
            self.under_way = Vec::new();
            self.is_given_up = true;
        }
    }

    /// Turns those that are over into sums.
    pub(super) fn fold(&mut self) {
        let known = &mut self.known;
        self.under_way.retain_mut(|(slot, wait)| match wait.known() {
            None => true,
            Some(outcome) => {
                known.add(*slot, outcome);
                false
            }
        });
    }

    /// Waits for the rest; `None` if that takes longer than `limit`, or if they were given up.
    pub(super) async fn committed(self, limit: Duration) -> Option<Committed> {
        let CommitWaits { under_way, mut known, is_given_up } = self;
        if is_given_up {
            return None;
        }
        let all = async {
            for (slot, mut wait) in under_way {
                known.add(slot, wait.outcome().await);
            }
            known
        };
        tokio::time::timeout(limit, all).await.ok()
    }
}

impl Committed {
    fn add(&mut self, slot: usize, outcome: CommitOutcome) {
        self.sum.add(outcome);
        if self.by_stream.len() <= slot {
            self.by_stream.resize(slot + 1, CommitOutcome::default());
        }
        self.by_stream[slot].add(outcome);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::pipeline::Ledger;

    const LIMIT: Duration = Duration::from_secs(5);

    fn committed(records: u64) -> CommitOutcome {
        CommitOutcome { committed: records, ..CommitOutcome::default() }
    }

    #[tokio::test]
    async fn waits_that_are_over_become_sums() {
        let (ledger, mut waits) = (Ledger::default(), CommitWaits::default());
        for entry in 0..3 * COMMIT_WAITS_MAX as u128 {
            waits.add(usize::from(entry % 2 == 1), ledger.register(Uuid::from_u128(entry)));
            ledger.resolve(Uuid::from_u128(entry), committed(2));
            assert!(waits.under_way.len() <= COMMIT_WAITS_MAX);
        }
        waits.fold();
        assert!(waits.under_way.is_empty());
        waits.add(2, ledger.register(Uuid::nil()));
        ledger.resolve(Uuid::nil(), committed(5));
        let half = 3 * COMMIT_WAITS_MAX as u64;
        let by_stream = [half, half, 5].map(committed).to_vec();
        let all = Committed { sum: committed(2 * half + 5), by_stream };
        assert_eq!(waits.committed(LIMIT).await, Some(all));
    }

    #[tokio::test]
    async fn too_many_that_are_not_over_are_given_up() {
        let (ledger, mut waits) = (Ledger::default(), CommitWaits::default());
        for entry in 0..COMMIT_WAITS_MAX as u128 {
            waits.add(0, ledger.register(Uuid::from_u128(entry)));
        }
        assert!(ledger.waits_for(Uuid::from_u128(7)));
        for entry in 0..2 {
            waits.add(0, ledger.register(Uuid::from_u128(u128::MAX - entry)));
            assert!(!ledger.is_waited_for(), "they leave nothing behind");
        }
        assert_eq!(waits.committed(LIMIT).await, None);
    }
}
