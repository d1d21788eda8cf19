//! Turns by host: so many requests at a time, and so much time between their beginnings.
//!
//! A run that would wait long for its turn is told so at once, with the time when its turn would be, instead of keeping
//! others from running while it waits. Those times lie behind each other, so that who follows them comes in turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// With more hosts than this, those that nobody asks are forgotten.
const HOSTS_KEPT: usize = 1_024;
/// Longest time that a run that only begins waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Farthest time that a run is put off to.
const PUT_OFF_MAX: Duration = Duration::from_secs(60);
/// Shortest time that a run is put off by.
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
    places: Arc<Semaphore>,
    times: Mutex<Times>,
}

#[derive(Debug)]
struct Times {
    /// Before this no request begins.
    next_start: Instant,
    /// Up to here turns are promised to those who were put off.
    promised: Instant,
    /// How long a request took lately.
    taken: Duration,
    /// Runs that wait for their first turn.
    waiting: usize,
}

/// A place among a host's requests, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    host: Arc<Host>,
    began: Instant,
    _place: OwnedSemaphorePermit,
}

/// The host has enough to do; come again after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOff(pub Duration);

impl Hosts {
    pub fn new(requests_max: usize, spacing: Duration) -> Hosts {
        let requests_max = requests_max.max(1);
        Hosts { requests_max, spacing, by_name: Mutex::default() }
    }

    /// The turn of a run that only begins: it is put off rather than to wait for long.
    pub async fn first_turn(&self, name: &str) -> Result<Turn, PutOff> {
        let host = self.host(name);
        if host.times().waiting >= self.requests_max {
            return Err(self.put_off(&host));
        }
        let waiting = Waiting::new(&host);
        let turn = tokio::time::timeout(WAIT_MAX, self.turn_of(Arc::clone(&host))).await;
        drop(waiting);
        turn.map_err(|_| self.put_off(&host))
    }

    /// The turn of a run that is under way.
    pub async fn turn(&self, name: &str) -> Turn {
        self.turn_of(self.host(name)).await
    }

    async fn turn_of(&self, host: Arc<Host>) -> Turn {
        let place = Arc::clone(&host.places).acquire_owned().await;
        let place = place.expect("nobody closes the places");
        loop {
            // Only who begins takes the moment: a wait that is dropped costs nobody anything.
            let start = {
                let mut times = host.times();
                let now = Instant::now();
                if times.next_start <= now {
                    times.next_start = now + self.spacing;
                    drop(times);
                    return Turn { host, began: now, _place: place };
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
        let places = Arc::new(Semaphore::new(self.requests_max));
        let host = Arc::new(Host { places, times: Mutex::new(times) });
        hosts.insert(name.to_owned(), Arc::clone(&host));
        host
    }
}

impl Host {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
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
            drop(hosts.turn("a:80").await);
            assert_eq!(begun.elapsed().as_millis(), u128::from(expected * 100_u32));
        }
        drop(hosts.turn("b:80").await);
        assert_eq!(begun.elapsed().as_millis(), 400);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_waits_only_for_a_moment_and_is_told_when_to_come() {
        let hosts = Hosts::new(1, SPACING);
        let held = hosts.first_turn("a:80").await.unwrap();
        let begun = Instant::now();
        let PutOff(first) = hosts.first_turn("a:80").await.unwrap_err();
        assert_eq!(begun.elapsed(), WAIT_MAX);
        let PutOff(second) = hosts.first_turn("a:80").await.unwrap_err();
        assert!(first >= PUT_OFF_MIN, "{first:?}");
        assert!(second + WAIT_MAX >= first + SPACING, "they come one after the other: {second:?}");
        drop(held);
        hosts.first_turn("a:80").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let hosts = Hosts::new(2, Duration::ZERO);
        let _held = (hosts.turn("a:80").await, hosts.turn("a:80").await);
        let begun = Instant::now();
        let all = futures::future::join_all((0..50).map(|_| hosts.first_turn("a:80"))).await;
        assert_eq!(begun.elapsed(), WAIT_MAX);
        let mut waits: Vec<Duration> = all.into_iter().map(|turn| turn.unwrap_err().0).collect();
        assert!(waits.iter().all(|wait| *wait <= PUT_OFF_MAX), "{waits:?}");
        waits.sort();
        assert_eq!(hosts.host("a:80").times().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_hosts_are_forgotten() {
        let hosts = Hosts::new(1, SPACING);
        let _held = hosts.turn("held:80").await;
        for index in 0..3 * HOSTS_KEPT {
            drop(hosts.turn(&format!("{index}:80")).await);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let kept = hosts.by_name.lock().unwrap();
        assert!(kept.len() <= HOSTS_KEPT + 200, "{}", kept.len());
        assert!(kept.contains_key("held:80"));
    }
}
