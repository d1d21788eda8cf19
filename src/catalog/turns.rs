//! One new stream at a time for each user: whoever asks for many at once waits behind themselves, and not in front of
//! everybody else, for whom there are only a few connections that make tables.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Users who ask now; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<i64, Turn>>>);

type Turn = Arc<tokio::sync::Mutex<()>>;

impl Turns {
    /// Waits for the user's turn; it ends when the guard is dropped. Whoever has the machine waits for nobody.
    pub async fn take(&self, user: Option<i64>) -> Option<OwnedMutexGuard<()>> {
        let turn = self.of(user?);
        Some(turn.lock_owned().await)
    }

    fn of(&self, user: i64) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of users whom nobody waits for any more.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(user).or_default())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_user_waits_behind_themselves_alone() {
        let turns = Turns::default();
        let first = turns.take(Some(1)).await;
        let mut second = Box::pin(turns.take(Some(1)));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(turns.take(Some(2)).now_or_never().is_some());
        assert!(turns.take(None).now_or_never().is_some_and(|turn| turn.is_none()));
        drop(first);
        assert!(second.now_or_never().is_some());
        drop(turns.take(Some(3)).await);
        assert_eq!(turns.0.lock().unwrap().len(), 1, "nobody is remembered for ever");
    }
}
