//! How the runs of a node are shared between owners of jobs: slow jobs of one owner hold up no other's.

use std::collections::HashMap;

use crate::outbound::owner_share;

/// Who has how many runs.
#[derive(Debug)]
pub(super) struct OwnerRuns {
    share: usize,
    by_owner: HashMap<Option<i64>, usize>,
}

impl OwnerRuns {
    /// `owners`: of the runs under way. `runs_max`: of all owners together.
    pub fn count(owners: impl Iterator<Item = Option<i64>>, runs_max: usize) -> OwnerRuns {
        let mut by_owner = HashMap::new();
        owners.for_each(|owner| *by_owner.entry(owner).or_default() += 1);
        OwnerRuns { share: owner_share(runs_max), by_owner }
    }

    /// Owners that have as many as they may.
    pub fn full(&self) -> Vec<Option<i64>> {
        let full = self.by_owner.iter().filter(|(_, runs)| **runs >= self.share);
        full.map(|(owner, _)| *owner).collect()
    }

    /// So many more may begin of others than the full ones, whose ever they are.
    pub fn room(&self) -> usize {
        let others = self.by_owner.values().filter(|runs| **runs < self.share);
        others.map(|runs| self.share - runs).min().unwrap_or(self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_a_share_whose_ever_the_next_runs_are() {
        let count = |owners: &[Option<i64>]| {
            let runs = OwnerRuns::count(owners.iter().copied(), 8);
            (runs.full(), runs.room())
        };
        assert_eq!(count(&[]), (vec![], 7));
        assert_eq!(count(&[Some(1), None, Some(1)]), (vec![], 5));
        assert_eq!(count(&[Some(1); 7]), (vec![Some(1)], 7));
        assert_eq!(count(&[[Some(1); 7].as_slice(), &[None]].concat()), (vec![Some(1)], 6));
    }
}
