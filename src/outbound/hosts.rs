//! Permits for requests by host: so many at a time, and so much time between their beginnings.
//!
//! A caller that has not begun yet, and would wait long for its first permit, is told so at once, with the time when to
//! come again, instead of keeping others from running while it waits. Those times lie behind each other, so that callers
//! that keep to them come one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// With more hosts than this, those without requests are forgotten.
const HOSTS_KEPT: usize = 1_024;
/// Longest wait for a first permit.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Longest time that a caller is put off by.
const PUT_OFF_MAX: Duration = Duration::from_secs(60);
/// Shortest time that a caller is put off by.
const PUT_OFF_MIN: Duration = Duration::from_millis(500);

/// All hosts that were asked lately.
#[derive(Debug)]
pub struct Hosts {
    requests_max: usize,
    spacing: Duration,
    by_name: Mutex<HashMap<String, Arc<Host>>>,
}

#[derive(Debug)]
struct Host {
    permits: Arc<Semaphore>,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    /// Before this no request begins.
    next_start: Instant,
    /// Up to here times are promised to callers that were put off.
    promised: Instant,
    /// How long a request took lately.
    taken: Duration,
    /// Callers that wait for their first permit.
    waiting: usize,
}

/// Leave for one request to a host, until it is dropped.
#[derive(Debug)]
pub struct HostPermit {
    host: Arc<Host>,
    began: Instant,
    _permit: OwnedSemaphorePermit,
}

/// The host has enough to do; come again after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOff(pub Duration);

impl Hosts {
    pub fn new(requests_max: usize, spacing: Duration) -> Hosts {
        let requests_max = requests_max.max(1);
        Hosts { requests_max, spacing, by_name: Mutex::default() }
    }

    /// The permit of a caller that has not begun yet: it is put off rather than to wait for long.
    pub async fn first_permit(&self, name: &str) -> Result<HostPermit, PutOff> {
        let host = self.host(name);
        if host.times().waiting >= self.requests_max {
            return Err(self.put_off(&host));
        }
        let waiting = Waiting::new(&host);
        let permit = tokio::time::timeout(WAIT_MAX, self.permit_of(Arc::clone(&host))).await;
        drop(waiting);
        permit.map_err(|_| self.put_off(&host))
    }

    /// The permit of a caller that is under way.
    pub async fn permit(&self, name: &str) -> HostPermit {
        self.permit_of(self.host(name)).await
    }

    async fn permit_of(&self, host: Arc<Host>) -> HostPermit {
        let permit = Arc::clone(&host.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        loop {
            // The moment is taken by the request that begins: a wait that is dropped takes nothing.
            let start = {
                let mut times = host.times();
                let now = Instant::now();
                if times.next_start <= now {
                    times.next_start = now + self.spacing;
                    drop(times);
                    return HostPermit { host, began: now, _permit: permit };
                }
                times.next_start
            };
            sleep_until(start).await;
        }
    }

    fn put_off(&self, host: &Host) -> PutOff {
        let mut times = host.times();
        let now = Instant::now();
        let requests_max = u32::try_from(self.requests_max).unwrap_or(u32::MAX);
        let step = self.spacing.max(times.taken / requests_max);
        let promised = times.promised.max(now + PUT_OFF_MIN) + step;
        times.promised = promised.min(now + PUT_OFF_MAX);
        PutOff(times.promised - now)
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(name) {
            return Arc::clone(host);
        }
        let now = Instant::now();
        if hosts.len() >= HOSTS_KEPT {
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || host.times().next_start > now);
        }
        let times = Times { next_start: now, promised: now, taken: Duration::ZERO, waiting: 0 };
        let permits = Arc::new(Semaphore::new(self.requests_max));
        let host = Arc::new(Host { permits, times: Mutex::new(times) });
        hosts.insert(name.to_owned(), Arc::clone(&host));
        host
    }
}

impl Host {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HostPermit {
    fn drop(&mut self) {
        let taken = self.began.elapsed();
        let mut times = self.host.times();
        times.taken = (times.taken * 3 + taken) / 4;
    }
}

struct Waiting<'a>(&'a Host);

impl<'a> Waiting<'a> {
    fn new(host: &'a Host) -> Waiting<'a> {
        host.times().waiting += 1;
        Waiting(host)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.times().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn requests_are_spaced_and_other_hosts_do_not_wait() {
        let hosts = Hosts::new(10, SPACING);
        let begun = Instant::now();
        for expected in 0..5 {
            drop(hosts.permit("a:80").await);
            assert_eq!(begun.elapsed().as_millis(), u128::from(expected * 100_u32));
        }
        drop(hosts.permit("b:80").await);
        assert_eq!(begun.elapsed().as_millis(), 400);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_waits_only_for_a_moment_and_is_told_when_to_come() {
        let hosts = Hosts::new(1, SPACING);
        let held = hosts.first_permit("a:80").await.unwrap();
        let begun = Instant::now();
        let PutOff(first) = hosts.first_permit("a:80").await.unwrap_err();
        assert_eq!(begun.elapsed(), WAIT_MAX);
        let PutOff(second) = hosts.first_permit("a:80").await.unwrap_err();
        assert!(first >= PUT_OFF_MIN, "{first:?}");
        assert!(second + WAIT_MAX >= first + SPACING, "they come one after the other: {second:?}");
        drop(held);
        hosts.first_permit("a:80").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let hosts = Hosts::new(2, Duration::ZERO);
        let _held = (hosts.permit("a:80").await, hosts.permit("a:80").await);
        let begun = Instant::now();
        let all = futures::future::join_all((0..50).map(|_| hosts.first_permit("a:80"))).await;
        assert_eq!(begun.elapsed(), WAIT_MAX);
        let mut waits: Vec<Duration> =
            all.into_iter().map(|permit| permit.unwrap_err().0).collect();
        assert!(waits.iter().all(|wait| *wait <= PUT_OFF_MAX), "{waits:?}");
        waits.sort();
        assert_eq!(hosts.host("a:80").times().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_hosts_are_forgotten() {
        let hosts = Hosts::new(1, SPACING);
        let _held = hosts.permit("held:80").await;
        for index in 0..3 * HOSTS_KEPT {
            drop(hosts.permit(&format!("{index}:80")).await);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let kept = hosts.by_name.lock().unwrap();
        assert!(kept.len() <= HOSTS_KEPT + 200, "{}", kept.len());
        assert!(kept.contains_key("held:80"));
    }
}
