//! What the API has for one job, and the book of what it showed.
//!
//! With each question items come or change, so that no two answers are the same, and pages move while they are asked
//! for. Versions count up: no content comes twice. Every answer has a receipt at its end, an item that no other answer
//! has: a receipt in the table says that the answer was taken, so all that the answer had must be there. That holds for
//! first pages, which are committed in one transaction. Of a later one, on which an item was met for the second time, a
//! part may be committed, and the rest left to the run that followed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use serde_json::{Value, json};

use super::job::Job;
use crate::support::{Answer, Asked};

/// Items that a season begins with, and most that it has.
const ITEMS_AT_FIRST: usize = 20;
const ITEMS_MAX: usize = 60;
/// Most changes with one question.
const CHANGES_MAX: usize = 8;
/// One question in so many finds everything as it was.
const UNCHANGED_ONE_IN: u32 = 3;
/// One question in so many is not answered as it should be.
const REFUSED_ONE_IN: u32 = 12;
/// One version in so many is refused by a typed stream.
const INVALID_ONE_IN: u32 = 8;
/// Longest text in characters.
const NOTE_CHARACTERS_MAX: usize = 30;
const CHARACTERS: [char; 12] = ['a', 'Z', '0', ' ', ',', '"', '\'', '\\', '\n', 'ü', '€', '😀'];

/// One content of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edition {
    pub key: i64,
    pub version: i64,
}

#[derive(Debug, Clone)]
pub struct Item {
    pub edition: Edition,
    pub json: Value,
    /// Otherwise the stream must refuse it.
    pub is_valid: bool,
    /// Grows with every change of anything.
    changed: i64,
}

/// Sums over all seasons.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShelfCounts {
    pub questions: u64,
    /// Told that nothing changed.
    pub unchanged: u64,
    /// Not answered as they should be.
    pub refused: u64,
    /// Items in answers.
    pub shown: u64,
    /// Items that came.
    pub items: u64,
    /// Changes of items that were there.
    pub changes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Shelf {
    job: Job,
    numbers: StdRng,
    /// What there is now, by key.
    items: BTreeMap<i64, Item>,
    /// Everything that was shown in this season.
    shown: BTreeMap<Edition, Item>,
    /// What first pages of this season had, by the key of the receipt.
    answers: BTreeMap<i64, Vec<Edition>>,
    /// The last numbers that were given, and what they were when the season began.
    given: Given,
    given_before: Given,
    is_quiet: bool,
    counts: ShelfCounts,
}

/// Numbers that count up for ever.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    key: i64,
    receipt: i64,
    change: i64,
}

impl Shelf {
    pub fn new(job: Job, numbers: StdRng) -> Shelf {
        Shelf {
            job,
            numbers,
            items: BTreeMap::new(),
            shown: BTreeMap::new(),
            answers: BTreeMap::new(),
            given: Given::default(),
            given_before: Given::default(),
            is_quiet: false,
            counts: ShelfCounts::default(),
        }
    }

    /// From now on nothing changes, and every question is answered.
    pub fn be_quiet(&mut self) {
        self.is_quiet = true;
    }

    /// Empty again, and with other keys; the book begins anew.
    pub fn new_season(&mut self) {
        self.items.clear();
        self.shown.clear();
        self.answers.clear();
        self.given.change += 1;
        self.given_before = self.given;
        self.is_quiet = false;
    }

    pub fn counts(&self) -> ShelfCounts {
        self.counts
    }

    /// Every item as it is now.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// An item as it was once shown in this season.
    pub fn shown(&self, edition: Edition) -> Option<&Item> {
        self.shown.get(&edition)
    }

    /// Belongs this key to a season that is over?
    pub fn is_over(&self, key: i64) -> bool {
        (-self.given_before.receipt..=self.given_before.key).contains(&key)
    }

    /// What the answer with this receipt had, but for what must be refused; nothing of a later page.
    pub fn answer_of(&self, receipt: i64) -> impl Iterator<Item = Edition> {
        let editions = self.answers.get(&receipt).into_iter().flatten();
        editions.copied().filter(|edition| self.shown[edition].is_valid)
    }

    pub fn answer(&mut self, asked: &Asked) -> Answer {
        self.counts.questions += 1;
        if !self.is_quiet {
            self.change();
            if let Some(refusal) = self.refusal() {
                self.counts.refused += 1;
                return refusal;
            }
        }
        let tag = format!("\"{}\"", self.given.change);
        if self.job == Job::Tagged && asked.header("if-none-match") == Some(&tag) {
            self.counts.unchanged += 1;
            return Answer::text(304, "").header("etag", &tag);
        }
        let number = |name: &str| asked.query(name).map(|text| text.parse().expect("a number"));
        let (since, page): (Option<i64>, i64) = (number("since"), number("page").unwrap_or(0));
        let (mut page_items, has_more) = self.page(since, usize::try_from(page).expect("small"));
        if !self.is_quiet {
            let receipt = self.receipt();
            if page == 0 {
                let editions = page_items.iter().map(|item| item.edition).collect();
                self.answers.insert(receipt.edition.key, editions);
            }
            page_items.push(receipt);
        }
        self.note(&page_items);
        let items: Value = page_items.into_iter().map(|item| item.json).collect();
        let since = since.map_or(String::new(), |since| format!("&since={since}"));
        let next = has_more.then(|| format!("?page={}{since}", page + 1));
        match self.job {
            Job::Appended => Answer::json(&items),
            Job::Tagged => Answer::json(&items).header("etag", &tag),
            Job::Typed | Job::Since => Answer::json(&json!({"items": items, "next": next})),
            Job::Replaced => match next {
                Some(next) => {
                    Answer::json(&items).header("link", &format!("<{next}>; rel=\"next\""))
                }
                None => Answer::json(&items),
            },
        }
    }

    /// Some items come, some change.
    fn change(&mut self) {
        let changes = match self.items.len() {
            0 => ITEMS_AT_FIRST,
            _ if self.numbers.random_ratio(1, UNCHANGED_ONE_IN) => 0,
            _ => self.numbers.random_range(1..=CHANGES_MAX),
        };
        for _ in 0..changes {
            let comes = match self.items.len() {
                0..ITEMS_AT_FIRST => true,
                ITEMS_AT_FIRST..ITEMS_MAX => self.numbers.random_ratio(1, 3),
                _ => false,
            };
            let known = self.items.values().map(|item| item.edition).choose(&mut self.numbers);
            let edition = match known.filter(|_| !comes) {
                Some(Edition { key, version }) => {
                    self.counts.changes += 1;
                    Edition { key, version: version + 1 }
                }
                None => {
                    self.counts.items += 1;
                    self.given.key += 1;
                    Edition { key: self.given.key, version: 1 }
                }
            };
            let item = self.item(edition);
            self.items.insert(edition.key, item);
        }
    }

    fn item(&mut self, edition: Edition) -> Item {
        self.given.change += 1;
        let length = self.numbers.random_range(0..=NOTE_CHARACTERS_MAX);
        let mut character = || CHARACTERS[self.numbers.random_range(0..CHARACTERS.len())];
        let note: String = (0..length).map(|_| character()).collect();
        let is_valid = self.job != Job::Typed || !self.numbers.random_ratio(1, INVALID_ONE_IN);
        let amount = if is_valid { json!(self.numbers.random::<i32>()) } else { json!("noon") };
        let Edition { key, version } = edition;
        let mut json = json!({"key": key, "version": version, "note": note, "amount": amount});
        if self.job == Job::Since {
            json["changed"] = json!(self.given.change);
        }
        Item { edition, json, is_valid, changed: self.given.change }
    }

    /// What an answer has at its end, and no other answer has.
    fn receipt(&mut self) -> Item {
        self.given.receipt += 1;
        let edition = Edition { key: -self.given.receipt, version: 0 };
        let json = json!({"key": edition.key, "version": 0, "note": "receipt", "amount": 0});
        Item { edition, json, is_valid: true, changed: 0 }
    }

    /// The items of a page, and whether another follows. New items come first, and so does what changed for who asks for
    /// changes: else what moves from page to page could not be seen by any run.
    fn page(&self, since: Option<i64>, page: usize) -> (Vec<Item>, bool) {
        let is_asked_for = |item: &&Item| since.is_none_or(|since| item.changed >= since);
        let mut items: Vec<Item> = self.items.values().filter(is_asked_for).cloned().collect();
        match self.job {
            Job::Since => items.sort_by_key(|item| Reverse(item.changed)),
            _ => items.sort_by_key(|item| Reverse(item.edition.key)),
        }
        let Some(size) = self.job.page_items() else { return (items, false) };
        let has_more = items.len() > (page + 1) * size;
        (items.into_iter().skip(page * size).take(size).collect(), has_more)
    }

    fn note(&mut self, page: &[Item]) {
        self.counts.shown += page.len() as u64;
        self.shown.extend(page.iter().map(|item| (item.edition, item.clone())));
    }

    /// What APIs say instead of an answer.
    fn refusal(&mut self) -> Option<Answer> {
        if !self.numbers.random_ratio(1, REFUSED_ONE_IN) {
            return None;
        }
        Some(match self.numbers.random_range(0..4) {
            0 => Answer::text(500, "oh no"),
            1 => Answer::text(429, "").header("retry-after", "1"),
            2 => Answer::text(200, "<html>come back later</html>"),
            _ => Answer::cut("{\"items\":[{\"key\":"),
        })
    }
}
