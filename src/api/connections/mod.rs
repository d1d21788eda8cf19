//! Who has a connection: how many there may be, of one address and in all, and who has to go when there are as many.
//!
//! When all places are taken, the least useful connections make room, of the address that has most of these: first those
//! that never sent a request, then those that do not read their replies, then those that still owe the body of a request and
//! have not said who they are, then those that were answered and are silent, and last those that came a moment ago. One that
//! is in the midst of any other request, and a monitor, are never dropped for another; where there is nothing else, the
//! newest waits. An address that has its share makes room itself, or is refused.
//!
//! A trusted proxy is no client: its connections have no share and are never dropped, and each request that it brings, for
//! as long as it is under way, counts as a connection of the client that the proxy names.

pub mod client_address;
mod paced;
mod place;
mod read_deadline;
pub mod requester;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::connections::client_address::ClientAddress;
use crate::config::Networks;
use crate::telemetry::limits;

pub use paced::Paced;
pub use place::{HEAD_MAX, IDLE_MAX, Phase, Place};
use place::{Seen, Worth};
pub use read_deadline::Patience;

/// A reply counts as unread when nothing of it was taken for so long.
const UNREAD_MIN: Duration = Duration::from_secs(1);
/// Of the places there are, this part is freed at once: to look through all of them for each connection of a flood would
/// cost more than the flood.
const FREED_AT_ONCE: usize = 64;
/// How long after a shutdown began a head may still come, and a reply wait for its reader.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);

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

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: usize,
    addresses: HashMap<IpAddr, Address>,
}

/// What an address, or a customer's network, has.
#[derive(Debug, Default)]
struct Address {
    places: HashMap<u64, Arc<Place>>,
    /// Places of trusted proxies among these, which have no share.
    proxies: usize,
    /// Requests that proxies brought.
    visits: usize,
}

/// What became of somebody who wants a connection.
#[derive(Debug)]
pub enum Admission {
    Taken(Occupied),
    /// The address has its share.
    AddressFull,
    /// All places are taken by those who use them.
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
        self.table().open
    }

    /// Most connections.
    pub fn max(&self) -> usize {
        self.0.limits.connections_max
    }

    /// Most connections of one address.
    pub fn per_address_max(&self) -> usize {
        self.0.limits.per_address_max
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
        if table.open >= limits.connections_max {
            let freed = table.free(limits.connections_max, None);
            limits::CONNECTIONS.hits(freed.max(1) as u64);
            if freed == 0 {
                return Admission::Full;
            }
        }
        let place = Arc::new(Place::new(table.next, group, is_proxy, self.0.epoch));
        table.add(Arc::clone(&place));
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
        table.addresses.entry(group).or_default().visits += 1;
        Some(Visit { group, connections: self.clone() })
    }

    /// Waits until somebody gave up a place.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }

    /// Ends those for whom a shutdown, begun at `since`, does not wait any longer: no whole head came, or no body of somebody
    /// unknown, or the reply is not read.
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

/// Waits for what a request still lacks, as [`Place::asking`] says; a request that no connection brought only waits.
pub async fn asking<T>(place: Option<&Place>, rest: impl Future<Output = T>) -> T {
    match place {
        Some(place) => place.asking(rest).await,
        None => rest.await,
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
        let mut table = self.connections.table();
        if let Some(address) = table.addresses.get_mut(&self.group) {
            address.visits -= 1;
            if address.is_empty() {
                table.addresses.remove(&self.group);
            }
        }
    }
}

impl Address {
    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.visits == 0
    }

    /// What could be dropped, the least useful last.
    fn droppable(&self, now: Instant) -> Vec<(Worth, u64, Seen, Arc<Place>)> {
        let places = self.places.values().filter(|place| !place.is_proxy());
        let droppable = places.filter_map(|place| {
            let (worth, since, seen) = place.worth(now)?;
            Some((worth, since, seen, Arc::clone(place)))
        });
        let mut droppable: Vec<_> = droppable.collect();
        droppable.sort_unstable_by_key(|(worth, since, ..)| Reverse((*worth, *since)));
        droppable
    }
}

impl Table {
    fn places(&self) -> impl Iterator<Item = &Arc<Place>> {
        self.addresses.values().flat_map(|address| address.places.values())
    }

    /// What counts against an address's share.
    fn held_by(&self, group: IpAddr) -> usize {
        let address = self.addresses.get(&group);
        address.map_or(0, |address| address.places.len() - address.proxies + address.visits)
    }

    fn add(&mut self, place: Arc<Place>) {
        self.next += 1;
        self.open += 1;
        let address = self.addresses.entry(place.group).or_default();
        address.proxies += usize::from(place.is_proxy());
        address.places.insert(place.number, place);
    }

    fn remove(&mut self, place: &Place) {
        let Some(address) = self.addresses.get_mut(&place.group) else { return };
        // Who was dropped is gone already.
        if address.places.remove(&place.number).is_some() {
            self.open -= 1;
            address.proxies -= usize::from(place.is_proxy());
        }
        if address.is_empty() {
            self.addresses.remove(&place.group);
        }
    }

    /// Drops a part of `max` connections, of one address or of those that have most; how many.
    fn free(&mut self, max: usize, only: Option<IpAddr>) -> usize {
        let now = Instant::now();
        let wanted = (max / FREED_AT_ONCE).max(1);
        let mut groups: Vec<_> = match only {
            Some(group) => self.addresses.get(&group).into_iter().collect::<Vec<_>>(),
            None => self.addresses.values().collect(),
        }
        .into_iter()
        .map(|address| address.droppable(now))
        .collect();
        // The one that has most, and of equals the one whose next has been silent for longest.
        let rank = |group: &Vec<(Worth, u64, Seen, Arc<Place>)>| {
            group.last().map(|(worth, since, ..)| (group.len(), Reverse((*worth, *since))))
        };
        let ranked = groups.iter().enumerate();
        let mut heap: BinaryHeap<_> =
            ranked.filter_map(|(index, group)| Some((rank(group)?, index))).collect();
        let mut freed = 0;
        while freed < wanted
            && let Some((_, index)) = heap.pop()
        {
            let group = &mut groups[index];
            if let Some((.., seen, place)) = group.pop()
                && place.take_away(seen)
            {
                self.remove(&place);
                freed += 1;
            }
            heap.extend(rank(group).map(|rank| (rank, index)));
        }
        freed
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
        // Who is behind it and not named counts for the proxy, but its own connections do not.
        let nameless = ClientAddress("10.0.0.1".parse().unwrap());
        let visits = [(); 2].map(|()| connections.visit(nameless).unwrap());
        assert!(connections.visit(nameless).is_none());
        drop(visits);
        drop((proxies, direct));
        assert!(connections.table().addresses.is_empty());
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
