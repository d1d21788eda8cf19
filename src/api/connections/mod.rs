//! The connections there are: how many there may be, of one address and in all, and which make room when there are as many.
//!
//! When all places are taken, the least useful connections make room, of the address that has most of these: first those
//! that never sent a request, then those that do not read their replies, then those that still owe the body of a request and
//! whose sender is not authenticated, then those that were answered and are silent, and last those that came a moment ago.
//! One that is in the midst of any other request, and a monitor, are never dropped for another; where there is nothing else,
//! the newest waits. An address that has its share makes room itself, or is refused.
//!
//! A trusted proxy is no client: its connections have no share and are never dropped, and each request that it brings, for
//! as long as it is under way, counts as a connection of the client that the proxy names.

mod client_address;
mod paced;
mod phase;
mod place;
mod read_deadline;
mod requester;
mod table;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::ApiError;
use crate::config::Networks;
use crate::telemetry::limits;

pub use client_address::ClientAddress;
pub use paced::Paced;
pub use phase::Phase;
use place::UNREAD_MIN;
pub use place::{HEAD_MAX, IDLE_MAX, Place};
pub use read_deadline::ReadDeadline;
pub use requester::Requester;
use table::Table;

/// How long after a shutdown began a head may still come, and a reply wait for its reader.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);
/// Advice to a client that has too many connections.
const TOO_MANY_RETRY: Duration = Duration::from_secs(10);

/// How many there may be.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    pub connections_max: usize,
    /// Of one address, or network of one customer.
    pub per_address_max: usize,
    pub trusted_proxies: Networks,
}

/// All connections; clones are the same.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: ConnectionLimits,
    epoch: Instant,
    table: Mutex<Table>,
    freed: Notify,
}

/// What became of a connection that was made.
#[derive(Debug)]
pub enum Admission {
    Taken(Occupied),
    /// The address has its share.
    AddressFull,
    /// All places are taken by connections that use them.
    Full,
}

/// A place that is taken; dropping it gives it up.
#[derive(Debug)]
pub struct Occupied {
    place: Arc<Place>,
    connections: Connections,
}

/// A request that a proxy brought, as one of its client; dropping it ends it.
#[derive(Debug)]
pub struct Visit {
    group: IpAddr,
    connections: Connections,
}

/// How many connections are what, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Never sent a whole head.
    pub silent: usize,
    /// Take nothing of what is written to them.
    pub unread: usize,
}

impl Connections {
    pub fn new(limits: ConnectionLimits) -> Connections {
        let limits = ConnectionLimits {
            connections_max: limits.connections_max.max(1),
            per_address_max: limits.per_address_max.max(1),
            ..limits
        };
        let (epoch, table, freed) = (Instant::now(), Mutex::default(), Notify::new());
        Connections(Arc::new(Shared { limits, epoch, table, freed }))
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.table().open()
    }

    /// Most connections.
    pub fn max(&self) -> usize {
        self.0.limits.connections_max
    }

    /// What a client is told that has as many connections as it may.
    pub fn too_many_of_address(&self) -> ApiError {
        let detail = format!(
            "your address has {} connections or requests under way, which is as many as one may have \
             (TIDEGATE_CONNECTIONS_PER_ADDRESS_MAX); end some of them",
            self.0.limits.per_address_max
        );
        ApiError::too_many_requests("too_many_connections", detail, TOO_MANY_RETRY)
    }

    pub fn counts(&self) -> Counts {
        let (table, now) = (self.table(), Instant::now());
        let mut counts = Counts::default();
        for place in table.places() {
            counts.silent += usize::from(place.phase() == Phase::Silent);
            counts.unread += usize::from(place.is_unread(now, UNREAD_MIN));
        }
        counts
    }

    /// A place for a connection that `peer` made; others may lose theirs for it.
    pub fn admit(&self, peer: IpAddr) -> Admission {
        let limits = &self.0.limits;
        let group = ClientAddress(peer).group();
        let is_proxy = limits.trusted_proxies.contain(peer.to_canonical());
        let mut table = self.table();
        if !is_proxy && table.held_by(group) >= limits.per_address_max {
            limits::CONNECTIONS_OF_ADDRESS.hit();
            if table.free(limits.per_address_max, Some(group)) == 0 {
                return Admission::AddressFull;
            }
        }
        if table.open() >= limits.connections_max {
            let freed = table.free(limits.connections_max, None);
            limits::CONNECTIONS.hits(freed.max(1) as u64);
            if freed == 0 {
                return Admission::Full;
            }
        }
        let place = table.add(|number| Place::new(number, peer, is_proxy, self.0.epoch));
        Admission::Taken(Occupied { place, connections: self.clone() })
    }

    /// Counts a request that a proxy brought; `None` if its client has its share.
    pub fn visit(&self, client: ClientAddress) -> Option<Visit> {
        let group = client.group();
        let mut table = self.table();
        if table.held_by(group) >= self.0.limits.per_address_max {
            limits::CONNECTIONS_OF_ADDRESS.hit();
            return None;
        }
        table.begin_visit(group);
        Some(Visit { group, connections: self.clone() })
    }

    /// Waits until a place was given up.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }

    /// Ends those for which a shutdown, begun at `since`, does not wait any longer: no whole head came, or no body of an unknown
    /// sender, or the reply is not read.
    pub fn end_useless(&self, since: Instant) {
        let (table, now) = (self.table(), Instant::now());
        let is_late = now.saturating_duration_since(since) >= SHUTDOWN_WAIT;
        for place in table.places() {
            let lacks = place.phase() == Phase::Asking || place.head_deadline().is_some();
            if place.is_unread(now, SHUTDOWN_WAIT) || (is_late && lacks) {
                place.end();
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Occupied {
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.connections.table().remove(&self.place);
        self.connections.0.freed.notify_one();
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.connections.table().end_visit(self.group);
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// Connections with these limits, and 10.0.0.0/8 as trusted proxies.
    pub fn connections(connections_max: usize, per_address_max: usize) -> Connections {
        let trusted_proxies = "10.0.0.0/8".parse().unwrap();
        Connections::new(ConnectionLimits { connections_max, per_address_max, trusted_proxies })
    }

    impl Connections {
        pub fn take(&self, peer: &str) -> Occupied {
            match self.admit(peer.parse().unwrap()) {
                Admission::Taken(occupied) => occupied,
                other => panic!("{peer}: {other:?}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::connections;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn phase(occupied: &Occupied) -> Phase {
        occupied.place().phase()
    }

    async fn idle(connections: &Connections, peer: &str) -> Occupied {
        let occupied = connections.take(peer);
        assert!(occupied.place().begin_request());
        occupied.place().answered(Instant::now());
        tokio::time::advance(SECOND).await;
        occupied
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_useful_connection_makes_room() {
        let connections = connections(6, 6);
        let idle_long = idle(&connections, "192.0.2.1").await;
        let silent = connections.take("192.0.2.1");
        let unread = connections.take("192.0.2.1");
        assert!(unread.place().begin_request());
        unread.place().unread(Instant::now());
        tokio::time::advance(SECOND).await;
        let idle = idle(&connections, "192.0.2.1").await;
        let busy = connections.take("192.0.2.1");
        assert!(busy.place().begin_request());
        let monitor = connections.take("192.0.2.1");
        assert!(monitor.place().begin_request());
        monitor.place().begin_monitor();
        assert_eq!(connections.counts(), Counts { silent: 1, unread: 1 });

        let mut new = Vec::new();
        for dropped in [&silent, &unread, &idle_long, &idle] {
            assert_ne!(phase(dropped), Phase::Dropped);
            let occupied = connections.take("192.0.2.2");
            assert_eq!(phase(dropped), Phase::Dropped);
            assert!(!dropped.place().begin_request(), "a request that comes now is not touched");
            assert!(occupied.place().begin_request());
            new.push(occupied);
        }
        assert!(matches!(connections.admit("192.0.2.2".parse().unwrap()), Admission::Full));
        for kept in [&busy, &monitor].into_iter().chain(&new) {
            assert_ne!(phase(kept), Phase::Dropped);
        }
        assert_eq!(connections.open(), 6);
        drop(silent);
        assert_eq!(connections.open(), 6, "it was gone already");
        drop(busy);
        assert_eq!(connections.open(), 5);
        connections.freed().await;
        connections.take("192.0.2.2");
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_that_has_most_makes_room() {
        let connections = connections(5, 4);
        let honest = connections.take("192.0.2.1");
        tokio::time::advance(SECOND).await;
        let mut many = Vec::new();
        for _ in 0..4 {
            many.push(idle(&connections, "192.0.2.9").await);
        }
        for (dropped, next) in [(0, "192.0.2.2"), (1, "192.0.2.3"), (2, "192.0.2.4")] {
            let occupied = connections.take(next);
            assert_eq!(phase(&many[dropped]), Phase::Dropped, "{next}");
            assert!(occupied.place().begin_request());
            many.push(occupied);
        }
        // Of two that have one each, the one that never sent a request.
        connections.take("192.0.2.5");
        assert_eq!(phase(&honest), Phase::Dropped);
        assert_eq!(phase(&many[3]), Phase::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_share_and_a_customer_has_one_for_a_whole_network() {
        let connections = connections(100, 2);
        for (peers, another) in [
            (["192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.1"),
            (["2001:db8:1:2::1", "2001:db8:1:2::2"], "2001:db8:1:2:ffff::3"),
        ] {
            let [busy, silent] = peers.map(|peer| connections.take(peer));
            assert!(busy.place().begin_request());
            let next = connections.take(another);
            assert_eq!((phase(&busy), phase(&silent)), (Phase::Busy, Phase::Dropped));
            assert!(next.place().begin_request());
            let refused = connections.admit(another.parse().unwrap());
            assert!(matches!(refused, Admission::AddressFull), "{refused:?}");
            drop(busy);
            connections.take(another);
        }
        let _other = connections.take("2001:db8:1:3::1");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_proxy_brings_counts_for_its_client() {
        let connections = connections(4, 2);
        let client = ClientAddress("192.0.2.1".parse().unwrap());
        let proxies = [(); 3].map(|()| connections.take("10.0.0.1"));
        let direct = connections.take("192.0.2.1");
        assert!(direct.place().begin_request());
        let visit = connections.visit(client).unwrap();
        assert!(connections.visit(client).is_none());
        assert!(connections.visit(ClientAddress("192.0.2.2".parse().unwrap())).is_some());
        drop(visit);
        assert!(connections.visit(client).is_some());
        // Nothing else could be dropped, and a proxy is not.
        assert!(matches!(connections.admit("10.0.0.1".parse().unwrap()), Admission::Full));
        assert!(proxies.iter().all(|proxy| phase(proxy) == Phase::Silent));
        // A client behind it that it does not name counts for the proxy, but the proxy's own connections do not.
        let nameless = ClientAddress("10.0.0.1".parse().unwrap());
        let visits = [(); 2].map(|()| connections.visit(nameless).unwrap());
        assert!(connections.visit(nameless).is_none());
        drop(visits);
        drop((proxies, direct));
        assert!(connections.table().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_looked_through_once_for_many_connections() {
        let connections = connections(640, 640);
        let all: Vec<Occupied> = (0..640).map(|_| connections.take("192.0.2.1")).collect();
        connections.take("192.0.2.2");
        let dropped = all.iter().filter(|occupied| phase(occupied) == Phase::Dropped).count();
        assert_eq!((dropped, connections.open()), (10, 630));
    }
}
