//! The places that are taken, by address, and which of them make room.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::phase::Doing;
use super::place::{Place, Worth};

/// Of the places there are, this part is freed at once: to look through all of them for each connection of a flood would
/// cost more than the flood.
const FREED_AT_ONCE: usize = 64;
/// See the module.
#[derive(Debug, Default)]
pub struct Table {
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

/// A place that could be dropped: what it is worth, and what it was seen doing.
type Droppable = (Worth, Doing, Arc<Place>);

impl Table {
    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open
    }

    pub fn places(&self) -> impl Iterator<Item = &Arc<Place>> {
        self.addresses.values().flat_map(|address| address.places.values())
    }

    /// What counts against an address's share.
    pub fn held_by(&self, group: IpAddr) -> usize {
        let address = self.addresses.get(&group);
        address.map_or(0, |address| address.places.len() - address.proxies + address.visits)
    }

    /// Adds the place that is made with its number.
    pub fn add(&mut self, place: impl FnOnce(u64) -> Place) -> Arc<Place> {
        let place = Arc::new(place(self.next));
        self.next += 1;
        self.open += 1;
        let address = self.addresses.entry(place.group()).or_default();
        address.proxies += usize::from(place.is_proxy());
        address.places.insert(place.number, Arc::clone(&place));
        place
    }

    pub fn remove(&mut self, place: &Place) {
        let Some(address) = self.addresses.get_mut(&place.group()) else { return };
        // A place that was dropped is gone already.
        if address.places.remove(&place.number).is_some() {
            self.open -= 1;
            address.proxies -= usize::from(place.is_proxy());
        }
        if address.is_empty() {
            self.addresses.remove(&place.group());
        }
    }

    pub fn begin_visit(&mut self, group: IpAddr) {
        self.addresses.entry(group).or_default().visits += 1;
    }

    pub fn end_visit(&mut self, group: IpAddr) {
        let Some(address) = self.addresses.get_mut(&group) else { return };
        address.visits -= 1;
        if address.is_empty() {
            self.addresses.remove(&group);
        }
    }

    /// Drops a part of `max` connections, of one address or of those that have most; how many.
    pub fn free(&mut self, max: usize, only: Option<IpAddr>) -> usize {
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
        let rank = |group: &Vec<Droppable>| {
            group.last().map(|(worth, doing, _)| (group.len(), Reverse((*worth, doing.since()))))
        };
        let ranked = groups.iter().enumerate();
        let mut heap: BinaryHeap<_> =
            ranked.filter_map(|(index, group)| Some((rank(group)?, index))).collect();
        let mut freed = 0;
        while freed < wanted
            && let Some((_, index)) = heap.pop()
        {
            let group = &mut groups[index];
            if let Some((_, seen, place)) = group.pop()
                && place.take_away(seen)
            {
                self.remove(&place);
                freed += 1;
            }
            heap.extend(rank(group).map(|rank| (rank, index)));
        }
        freed
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

impl Address {
    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.visits == 0
    }

    /// What could be dropped, the least useful last.
    fn droppable(&self, now: Instant) -> Vec<Droppable> {
        let places = self.places.values().filter(|place| !place.is_proxy());
        let droppable = places.filter_map(|place| {
            let (worth, doing) = place.worth(now)?;
            Some((worth, doing, Arc::clone(place)))
        });
        let mut droppable: Vec<_> = droppable.collect();
        droppable.sort_unstable_by_key(|(worth, doing, _)| Reverse((*worth, doing.since())));
        droppable
    }
}
