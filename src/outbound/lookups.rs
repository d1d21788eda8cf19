//! Permits for look-ups of names in the machine's resolver, in all and of one owner.
//!
//! Promise: a look-up keeps its permits to its end, also where its caller does not wait for it any more; so there are never
//! more of them than permits. A caller that gets none for a while is told so, because it is not its own host that is slow.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::asking::Asking;
use super::owner_shares::OwnerShares;

/// Most names that are looked up at a time. Each takes a thread until the name server answers or is given up, for many
/// seconds, of those that all blocking work shares.
pub(super) const LOOKUPS_MAX: usize = 32;
/// Longest wait for others; shorter than that for a connection.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Other look-ups were under way for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many names are looked up as may be at a time, and others were slow")]
pub struct BusyLookups;

/// See the module. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Lookups {
    all: Arc<Semaphore>,
    shares: OwnerShares,
}

impl Lookups {
    pub fn new(at_once_max: usize) -> Lookups {
        Lookups { all: Arc::new(Semaphore::new(at_once_max)), shares: OwnerShares::of(at_once_max) }
    }

    /// Does blocking work under a permit. The wait for the work can be dropped, the work cannot.
    pub async fn run<T: Send + 'static>(
        &self,
        asking: &Asking,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<io::Result<T>, BusyLookups> {
        let share = self.shares.of_owner(asking.owner());
        let permits = async {
            let of_owner = share.acquire_owned().await.ok()?;
            Some((of_owner, Arc::clone(&self.all).acquire_owned().await.ok()?))
        };
        let permits = asking.wait(timeout(WAIT_MAX, permits)).await;
        let permits = permits.ok().flatten().ok_or(BusyLookups)?;
        let work = move || {
            let done = work();
            drop(permits);
            done
        };
        Ok(tokio::task::spawn_blocking(work).await.map_err(io::Error::other))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;
    use tokio::time::advance;

    use super::*;

    /// Begins a look-up that does not end before what is returned is dropped, and gives up waiting for it.
    async fn stuck(lookups: &Lookups, owner: Option<i64>) -> mpsc::Sender<()> {
        let (begun, begins) = oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let asking = Asking::of(owner);
        let work = lookups.run(&asking, move || {
            begun.send(()).unwrap();
            let _ = released.recv();
        });
        tokio::select! {
            _ = work => panic!("it was not released"),
            begun = begins => begun.unwrap(),
        }
        release
    }

    #[tokio::test]
    async fn a_look_up_without_a_waiter_keeps_its_permit() {
        let lookups = Lookups::new(1);
        let release = stuck(&lookups, None).await;
        assert_eq!(lookups.all.available_permits(), 0, "the wait was dropped, the work was not");
        drop(release);
        assert_eq!(lookups.run(&Asking::of(None), || 7).await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn slow_names_of_one_owner_hold_up_no_other() {
        let lookups = Lookups::new(8);
        let mut held = Vec::new();
        for _ in 0..lookups.shares.share() {
            held.push(stuck(&lookups, Some(1)).await);
        }
        let others = lookups.run(&Asking::of(Some(2)), || 7).await;
        assert_eq!(others.unwrap().unwrap(), 7);
        // Time does not go on by itself while a thread looks up.
        tokio::time::pause();
        let asking = Asking::of(Some(1));
        let (busy, ()) = tokio::join!(lookups.run(&asking, || 7), advance(WAIT_MAX * 2));
        assert_eq!(busy.unwrap_err(), BusyLookups);
        assert!(!asking.waits_for_lookup(), "the wait is over");
        let waiting = timeout(WAIT_MAX / 2, lookups.run(&asking, || 7));
        let (given_up, ()) = tokio::join!(waiting, advance(WAIT_MAX * 3 / 4));
        assert!(given_up.is_err() && asking.waits_for_lookup());
    }
}
