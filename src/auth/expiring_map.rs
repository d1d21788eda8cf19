//! A bounded map whose entries live for a fixed time: what stands behind every cache of this module.
//!
//! It promises never to hold more than its limit and never to hand out an entry past its time. A clock that was set
//! back ends entries early rather than keeping them alive.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tidegate_record::UnixMicros;

/// See the module. Not synchronised.
#[derive(Debug)]
pub struct ExpiringMap<K, V> {
    lifetime_micros: i64,
    entries_max: usize,
    next_number: u64,
    entries: HashMap<K, Entry<V>>,
    // Invariant: one row for each entry, keyed by the entry's number; numbers grow with every insert.
    by_age: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Entry<V> {
    number: u64,
    inserted_at: UnixMicros,
    value: V,
}

impl<K: Clone + Eq + Hash, V> ExpiringMap<K, V> {
    pub fn new(entries_max: usize, lifetime: Duration) -> ExpiringMap<K, V> {
        ExpiringMap {
            lifetime_micros: i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX),
            entries_max,
            next_number: 0,
            entries: HashMap::new(),
            by_age: BTreeMap::new(),
        }
    }

    /// The value, if its time is not over.
    pub fn get(&self, key: &K, now: UnixMicros) -> Option<&V> {
        let entry = self.entries.get(key)?;
        self.is_alive(entry, now).then_some(&entry.value)
    }

    /// Puts a value in, in place of the oldest one where the map is full.
    pub fn insert(&mut self, key: K, value: V, now: UnixMicros) {
        self.discard(&key);
        self.drop_expired(now);
        while self.entries.len() >= self.entries_max {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.entries.remove(&oldest);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.by_age.insert(number, key.clone());
        self.entries.insert(key, Entry { number, inserted_at: now, value });
    }

    /// Puts a value in unless the map is full of living ones; says whether it did.
    pub fn try_insert(&mut self, key: K, value: V, now: UnixMicros) -> bool {
        self.drop_expired(now);
        if self.entries.len() >= self.entries_max {
            return false;
        }
        self.insert(key, value, now);
        true
    }

    /// Takes a value out; hands it over if its time is not over.
    pub fn take(&mut self, key: &K, now: UnixMicros) -> Option<V> {
        let entry = self.discard(key)?;
        self.is_alive(&entry, now).then_some(entry.value)
    }

    /// Keeps only the entries that `keep` says yes to.
    pub fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.entries.retain(|_, entry| keep(&entry.value));
        self.by_age.retain(|_, key| self.entries.contains_key(key));
    }

    /// Every value whose time is not over.
    pub fn living(&self, now: UnixMicros) -> impl Iterator<Item = &V> {
        let alive = self.entries.values().filter(move |entry| self.is_alive(entry, now));
        alive.map(|entry| &entry.value)
    }

    fn is_alive(&self, entry: &Entry<V>, now: UnixMicros) -> bool {
        let age = now.0.saturating_sub(entry.inserted_at.0);
        (0..self.lifetime_micros).contains(&age)
    }

    fn discard(&mut self, key: &K) -> Option<Entry<V>> {
        let entry = self.entries.remove(key)?;
        self.by_age.remove(&entry.number);
        Some(entry)
    }

    fn drop_expired(&mut self, now: UnixMicros) {
        while let Some((_, oldest)) = self.by_age.first_key_value() {
            let expired = self.entries.get(oldest).is_none_or(|entry| !self.is_alive(entry, now));
            if !expired {
                return;
            }
            if let Some((_, key)) = self.by_age.pop_first() {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: i64) -> UnixMicros {
        UnixMicros(millis * 1_000)
    }

    #[test]
    fn an_entry_lives_for_its_time_and_not_a_microsecond_longer() {
        let mut map = ExpiringMap::new(10, SECOND);
        map.insert("a", 1, UnixMicros(0));
        assert_eq!(map.get(&"a", UnixMicros(999_999)), Some(&1));
        assert_eq!(map.get(&"a", UnixMicros(1_000_000)), None);
        assert_eq!(map.get(&"a", UnixMicros(-1)), None, "a clock set back keeps nothing alive");
        assert_eq!(map.take(&"a", UnixMicros(1_000_000)), None);
        assert_eq!(map.take(&"a", UnixMicros(0)), None, "taking removes, even what is too old");
    }

    #[test]
    fn the_map_never_exceeds_its_limit() {
        let mut map = ExpiringMap::new(3, SECOND);
        for key in 0..100 {
            map.insert(key, key, at(0));
            map.insert(0, 0, at(0));
            assert!(map.entries.len() <= 3);
            assert_eq!(map.entries.len(), map.by_age.len());
        }
        assert_eq!(map.get(&99, at(0)), Some(&99));
        assert_eq!(map.get(&0, at(0)), Some(&0), "putting in again makes young again");
        assert_eq!(map.get(&50, at(0)), None);
    }

    #[test]
    fn a_full_map_refuses_until_something_expires() {
        let mut map = ExpiringMap::new(2, SECOND);
        assert!(map.try_insert("a", 1, at(0)));
        assert!(map.try_insert("b", 2, at(500)));
        assert!(!map.try_insert("c", 3, at(999)));
        assert!(map.try_insert("c", 3, at(1_000)));
        assert_eq!(map.living(at(1_000)).count(), 2);
        map.retain(|value| *value != 2);
        assert_eq!((map.entries.len(), map.by_age.len()), (1, 1));
    }

    #[test]
    fn a_limit_of_nothing_holds_nothing() {
        let mut map = ExpiringMap::new(0, SECOND);
        map.insert("a", 1, at(0));
        assert_eq!(map.get(&"a", at(0)), None);
        assert!(!map.try_insert("a", 1, at(0)));
    }
}
