//! The items of an answer: what tells one from another, and whether it changed.

use std::collections::HashMap;

use bytes::Bytes;
use tidegate_codec::json::{Scanner, Stop, Value, ValueKind};

use super::error::{FetchError, FetchErrorKind};
use crate::outbound::canonical::{self, Unhashable};
use crate::polling::jobs::Pointer;

/// Most items in one answer.
const ITEMS_MAX: usize = 200_000;
/// What an item costs beside its own bytes, in bytes, until its page is done: here, in the map of keys, and in the memory of
/// what the run has sent. Tables that have just grown are half empty.
pub const ITEM_BYTES: usize = 192;

/// One item of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Hash of what makes it the same item: the values at the key's pointers, else (or where it has none of them) all that
    /// is in it.
    pub key: [u8; 16],
    /// Hash of all that is in it, whatever the order of its keys.
    pub content: [u8; 16],
    /// The item as it came. Not checked beyond its syntax: what a stream refuses is the encoder's business.
    pub json: Bytes,
}

/// The items of one answer, in its order.
#[derive(Debug, Default)]
pub struct Items {
    /// Of equal keys only the last.
    pub items: Vec<Item>,
    /// How many there were, equal keys included.
    pub count: usize,
}

/// Where the items of an answer are; nothing is made of them yet.
#[derive(Debug)]
pub struct Found {
    answer: Bytes,
    place: Value,
    /// How many they are.
    pub count: usize,
}

/// Finds the items in an answer.
pub fn find(answer: &Bytes, pointer: &Pointer) -> Result<Found, FetchError> {
    let found = check_syntax(answer)
        .and_then(|whole| pointer.find(whole.raw(answer)).map(|found| (whole, found)))
        .map_err(|stop| not_json(answer, stop))?;
    let (whole, Some(place)) = found else {
        let message = format!("the answer has nothing at `items` {:?}", pointer.to_string());
        return Err(FetchError::new(FetchErrorKind::NoItems, message));
    };
    let answer = answer.slice(whole.start..whole.end);
    let mut found = Found { answer, place, count: 0 };
    let mut count = 0;
    found.each(|_| {
        count += 1;
        if count > ITEMS_MAX {
            let message =
                format!("the answer has more than {ITEMS_MAX} items; ask for it in pages");
            return Err(FetchError::new(FetchErrorKind::TooLarge, message));
        }
        Ok(())
    })?;
    if !matches!(place.kind, ValueKind::Null | ValueKind::Object | ValueKind::Array) {
        let message = format!(
            "at `items` {:?} the answer has neither an array nor an object: {}",
            pointer.to_string(),
            shown(place.raw(&found.answer))
        );
        return Err(FetchError::new(FetchErrorKind::NoItems, message));
    }
    found.count = count;
    Ok(found)
}

impl Found {
    /// Makes the items.
    pub fn read(&self, key: &[Pointer]) -> Result<Items, FetchError> {
        let mut items: Vec<Item> = Vec::with_capacity(self.count);
        let mut places: HashMap<[u8; 16], usize> = HashMap::with_capacity(self.count);
        self.each(|json| {
            let item = item(json, key).map_err(|error| self.unreadable(error))?;
            match places.get(&item.key) {
                Some(&place) => items[place] = item,
                None => {
                    places.insert(item.key, items.len());
                    items.push(item);
                }
            }
            Ok(())
        })?;
        Ok(Items { items, count: self.count })
    }

    /// Gives each item's text.
    fn each(
        &self,
        mut take: impl FnMut(Bytes) -> Result<(), FetchError>,
    ) -> Result<(), FetchError> {
        let Found { answer, place, .. } = self;
        if place.kind == ValueKind::Object {
            return take(answer.slice(place.start..place.end));
        }
        if place.kind != ValueKind::Array {
            return Ok(());
        }
        let mut scanner = Scanner::new(place.raw(answer), true);
        let stopped = |stop| not_json(answer, stop);
        scanner.peek().map_err(stopped)?;
        let mut more = scanner.open_array().map_err(stopped)?;
        while more {
            let value = scanner.value(1).map_err(stopped)?;
            take(answer.slice(place.start + value.start..place.start + value.end))?;
            more = scanner.after_element().map_err(stopped)?;
        }
        Ok(())
    }

    fn unreadable(&self, error: Unhashable) -> FetchError {
        match error {
            Unhashable::Stop(stop) => not_json(&self.answer, stop),
            Unhashable::TooManyMembers => FetchError::new(
                FetchErrorKind::TooLarge,
                format!("an item of the answer has {error}"),
            ),
        }
    }
}

/// One item.
fn item(json: Bytes, key: &[Pointer]) -> Result<Item, Unhashable> {
    let content = canonical::hash(&json)?;
    let mut values = Vec::with_capacity(16 * key.len());
    for pointer in key {
        match pointer.find(&json).map_err(Unhashable::Stop)? {
            Some(value) if value.kind != ValueKind::Null => {
                values.extend_from_slice(&canonical::hash(value.raw(&json))?);
            }
            // Without a whole key it is like no other item.
            _ => return Ok(Item { key: content, content, json }),
        }
    }
    let key = if key.is_empty() { content } else { canonical::digest(&values) };
    Ok(Item { key, content, json })
}

/// The one value that an answer must be.
fn check_syntax(answer: &Bytes) -> Result<Value, Stop> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let skipped = if answer.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    if let Err(error) = std::str::from_utf8(answer) {
        return Err(Stop::Malformed { offset: error.valid_up_to(), message: "it is not UTF-8" });
    }
    let mut scanner = Scanner::new(&answer[skipped..], true);
    let value = scanner.value(0)?;
    let end = skipped + scanner.position();
    if let Some(at) = answer[end..].iter().position(|byte| !byte.is_ascii_whitespace()) {
        return Err(Stop::Malformed {
            offset: end + at,
            message: "something follows the JSON value",
        });
    }
    Ok(Value { start: skipped + value.start, end, ..value })
}

fn not_json(answer: &[u8], stop: Stop) -> FetchError {
    let (offset, message) = match stop {
        Stop::Incomplete => (answer.len(), "it ends inside a value"),
        Stop::Malformed { offset, message } => (offset, message),
    };
    let message = format!(
        "the answer is no JSON: {message} at byte {offset}; it begins {}",
        shown(&answer[..answer.len().min(200)])
    );
    FetchError::new(FetchErrorKind::NotJson, message)
}

/// The beginning of a text for a message.
fn shown(raw: &[u8]) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 40;
    let text = String::from_utf8_lossy(raw);
    let mut cut: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}
