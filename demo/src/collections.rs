//! What the demo's API serves, how it changes on the way, and every content that an item ever had: exactly these must be
//! in the tables at the end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use rand::Rng;
use serde_json::{Value, json};

const PLACEHOLDER: &str = include_str!("../data/placeholder.json");
/// Of each collection every so many-th item changes in a round.
const CHANGED_EVERY: usize = 40;

/// A collection of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Users,
    Posts,
    Comments,
    Photos,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Users, Kind::Posts, Kind::Comments, Kind::Photos];

    /// Its name in the data, in paths and in the streams' names.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Users => "users",
            Kind::Posts => "posts",
            Kind::Comments => "comments",
            Kind::Photos => "photos",
        }
    }
}

/// All collections. Shared by the API, which serves them, and the demo, which changes them.
#[derive(Debug)]
pub struct Collections {
    run: String,
    by_kind: Mutex<BTreeMap<Kind, Collection>>,
}

/// One of them, as it is now.
#[derive(Debug, Clone)]
pub struct Collection {
    pub items: Vec<Value>,
    /// Counts its changes.
    pub version: u64,
    /// Every content that an item had.
    pub contents: Vec<Value>,
}

/// What a round did, over all collections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    pub changed: usize,
    pub added: usize,
    pub removed: usize,
}

impl Collections {
    /// As in the data, each item marked with the run: the tables may hold items of other runs.
    pub fn new(run: &str) -> anyhow::Result<Collections> {
        let mut data: BTreeMap<String, Vec<Value>> =
            serde_json::from_str(PLACEHOLDER).context("the demo's own data")?;
        let mut by_kind = BTreeMap::new();
        for kind in Kind::ALL {
            let mut items = data.remove(kind.name()).context("a collection is missing")?;
            for item in &mut items {
                item["demo_run"] = run.into();
            }
            let contents = items.clone();
            by_kind.insert(kind, Collection { items, version: 0, contents });
        }
        Ok(Collections { run: run.to_owned(), by_kind: Mutex::new(by_kind) })
    }

    /// A collection as it is now.
    pub fn get(&self, kind: Kind) -> Collection {
        self.lock().get(&kind).expect("every kind is there from the beginning").clone()
    }

    /// Changes some items of each collection, adds one and removes one.
    pub fn change(&self) -> Changes {
        let mut changes = Changes::default();
        for (kind, collection) in self.lock().iter_mut() {
            let Collection { items, version, contents } = collection;
            *version += 1;
            let first = rand::rng().random_range(0..CHANGED_EVERY.min(items.len()));
            for item in items.iter_mut().skip(first).step_by(CHANGED_EVERY) {
                item["demo_version"] = (*version).into();
                contents.push(item.clone());
                changes.changed += 1;
            }
            // Not one that has just changed: no job would have seen it.
            items.remove((first + 1) % items.len());
            changes.removed += 1;
            let added = json!({
                "id": 1_000_000 + *version, "title": format!("added to the {}", kind.name()),
                "demo_run": self.run,
            });
            contents.push(added.clone());
            items.push(added);
            changes.added += 1;
        }
        changes
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, Collection>> {
        self.by_kind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a table differs from what it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    pub missing: usize,
    pub double: usize,
    pub unexpected: usize,
}

/// Compares every content that items had with the documents of a table; each must be there once.
pub fn compare(contents: &[Value], documents: &[Value]) -> Difference {
    // Texts with sorted keys: a table does not keep their order.
    let mut copies: BTreeMap<String, i64> = BTreeMap::new();
    for content in contents {
        copies.insert(sorted(content), 0);
    }
    let mut difference = Difference::default();
    for document in documents {
        match copies.get_mut(&sorted(document)) {
            Some(count) => *count += 1,
            None => difference.unexpected += 1,
        }
    }
    difference.missing = copies.values().filter(|count| **count == 0).count();
    difference.double = copies.values().filter(|count| **count > 1).count();
    difference
}

fn sorted(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<&String, String> =
                members.iter().map(|(name, value)| (name, sorted(value))).collect();
            format!("{members:?}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_content_is_kept_and_told_from_others() {
        let collections = Collections::new("run").expect("the data is there");
        let photos = collections.get(Kind::Photos);
        assert_eq!((photos.items.len(), photos.version), (5_000, 0));
        let changes = collections.change();
        assert_eq!((changes.added, changes.removed), (4, 4));
        assert!(changes.changed > 130, "{changes:?}");
        let after = collections.get(Kind::Photos);
        assert_eq!(after.items.len(), 5_000);
        assert_eq!(after.contents.len(), 5_000 + 125 + 1);
        assert_eq!(compare(&after.contents, &after.contents), Difference::default());

        let difference = compare(&after.contents, &photos.items);
        assert_eq!(difference, Difference { missing: 126, ..Difference::default() });
        let doubled =
            [photos.items.clone(), vec![photos.items[7].clone(), json!({"id": 1})]].concat();
        let expected = Difference { missing: 0, double: 1, unexpected: 1 };
        assert_eq!(compare(&photos.contents, &doubled), expected);
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let one = [json!({"a": 1, "b": {"c": 2, "d": [3, {"e": 4, "f": 5}]}})];
        let other = [json!({"b": {"d": [3, {"e": 4, "f": 5}], "c": 2}, "a": 1})];
        assert_eq!(compare(&one, &other), Difference::default());
    }
}
