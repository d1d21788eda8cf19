//! A second look at users and tokens before a caller is refused.
//!
//! A token may have been made, or its user let in again, a moment ago: on another gateway, or from the command line. Word
//! of it is on its way. So before the answer is no, the database is asked once more: for all requests that wait together, and
//! for a small part of the time only, so that made-up credentials cost it next to nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use crate::auth::accounts::Accounts;
use crate::db::{Database, answered};
use crate::lifecycle::Lifecycle;

/// Shortest and longest time from the end of a look to the beginning of the next.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A look that took long is not repeated before so many times as long: it has a tenth of the time, or half of it at most where
/// it takes over a second.
const PAUSE_FOR_LOOK: u32 = 10;
/// Longest wait for one.
pub const LOOK_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long no request waits for another look after one that failed.
pub const GIVEN_UP_FOR: Duration = Duration::from_secs(5);

/// See the module; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct SecondLook(Arc<Mutex<Last>>);

/// The latest look.
#[derive(Debug, Default)]
struct Last {
    began: Option<Instant>,
    ended: Option<Ended>,
}

#[derive(Debug, Clone, Copy)]
enum Ended {
    /// The next may begin then.
    Well {
        next: Instant,
    },
    Badly(Instant),
}

/// Users and tokens cannot be read at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CannotLook;

impl SecondLook {
    /// Reads users and tokens, unless another call did since this one began.
    pub async fn look(
        &self,
        accounts: &Accounts,
        database: &Database,
        lifecycle: &Lifecycle,
    ) -> Result<(), CannotLook> {
        let looking = self.look_in_turn(accounts, database, lifecycle);
        timeout(LOOK_WAIT_MAX, looking).await.unwrap_or(Err(CannotLook))
    }

    async fn look_in_turn(
        &self,
        accounts: &Accounts,
        database: &Database,
        lifecycle: &Lifecycle,
    ) -> Result<(), CannotLook> {
        let asked = Instant::now();
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if let Some(Ended::Badly(at)) = last.ended
            && at.elapsed() < GIVEN_UP_FOR
        {
            return Err(CannotLook);
        }
        if let (Some(began), Some(Ended::Well { next })) = (last.began, last.ended) {
            if began >= asked {
                return Ok(());
            }
            sleep_until(next).await;
        }
        // A task, because a client that hangs up must not take it from the others.
        let (accounts, database) = (accounts.clone(), database.clone());
        let look = lifecycle.spawn("second look", async move {
            let began = Instant::now();
            *last = Last { began: Some(began), ended: None };
            let read = answered(accounts.reload(database.pool())).await;
            last.ended = Some(match &read {
                Ok(()) => Ended::Well { next: next_look(began, Instant::now()) },
                Err(_) => Ended::Badly(Instant::now()),
            });
            read.map_err(|error| {
                tracing::debug!(%error, "users and tokens cannot be read");
                CannotLook
            })
        });
        look.await.unwrap_or(Err(CannotLook))
    }
}

fn next_look(began: Instant, ended: Instant) -> Instant {
    ended + (ended.duration_since(began) * PAUSE_FOR_LOOK).clamp(PAUSE_MIN, PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_look_has_a_small_part_of_the_time() {
        let began = Instant::now();
        for (took, pause) in
            [(0, 50), (1, 50), (20, 200), (100, 1_000), (900, 1_000), (4_000, 1_000)]
        {
            let ended = began + Duration::from_millis(took);
            let next = next_look(began, ended);
            assert_eq!(next.duration_since(ended), Duration::from_millis(pause), "{took} ms");
        }
    }
}
