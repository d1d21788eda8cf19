//! What a sample has told of each column so far.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::form::{ValueForm, form_of_field, form_of_string};
use super::names::names;
use super::{EXAMPLE_BYTES_MAX, Inferred, ProposedColumn, Skipped, TOO_MANY_KEYS, UNUSABLE_KEY};
use crate::COLUMNS_MAX;
use crate::columns::{ColumnType, check_member};
use crate::json::{Value, ValueKind, unescape};
use crate::values::{self, unquoted};

/// The types in the order of preference: the first one that took every value is proposed.
const CANDIDATES: [ColumnType; 10] = [
    ColumnType::Boolean,
    ColumnType::Integer,
    ColumnType::BigInt,
    ColumnType::DoublePrecision,
    ColumnType::Numeric,
    ColumnType::Date,
    ColumnType::TimestampTz,
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Jsonb,
];

#[derive(Default)]
pub(super) struct Columns {
    by_key: HashMap<Vec<u8>, usize>,
    observed: Vec<Observed>,
    /// Records so far; the last one is being looked at.
    pub(super) records: u64,
    /// There are more than are looked at.
    pub(super) has_more: bool,
    skipped: Vec<Skipped>,
    scratch: Vec<u8>,
    encoded: Vec<u8>,
}

/// What is known of one column.
struct Observed {
    key: String,
    /// The candidates that took every value so far.
    live: Vec<ColumnType>,
    values: u64,
    /// The record in which the column was seen last, and whether it counts as a value there.
    last_seen: (u64, bool),
    example: Option<Json>,
}

impl Columns {
    /// Counts something that is left out.
    pub(super) fn skip(&mut self, code: &'static str, line: Option<u64>, message: &str) {
        match self.skipped.iter_mut().find(|skipped| skipped.code == code) {
            Some(skipped) => skipped.count += 1,
            None => {
                let message = message.to_owned();
                self.skipped.push(Skipped { code, count: 1, line, message });
            }
        }
    }

    /// The column of a key; `None` if there can be none, which is counted.
    pub(super) fn index(&mut self, key: &[u8], line: Option<u64>) -> Option<usize> {
        if let Some(&index) = self.by_key.get(key) {
            return Some(index);
        }
        if self.observed.len() >= COLUMNS_MAX {
            let message = format!("a stream has at most {COLUMNS_MAX} columns");
            self.skip(TOO_MANY_KEYS, line, &message);
            return None;
        }
        let checked = match str::from_utf8(key) {
            Ok(key) => check_member(key).map(|()| key.to_owned()),
            Err(_) => Err("a key is not UTF-8".to_owned()),
        };
        let key = match checked {
            Ok(key) => key,
            Err(message) => {
                self.skip(UNUSABLE_KEY, line, &message);
                return None;
            }
        };
        self.by_key.insert(key.clone().into_bytes(), self.observed.len());
        self.observed.push(Observed {
            key,
            live: CANDIDATES.to_vec(),
            values: 0,
            last_seen: (0, false),
            example: None,
        });
        Some(self.observed.len() - 1)
    }

    /// Takes the value of a JSON member.
    pub(super) fn observe_json(&mut self, index: usize, value: Value, raw: &[u8]) {
        let form = match value.kind {
            ValueKind::Null => {
                self.observed[index].count(self.records, false);
                return;
            }
            ValueKind::False | ValueKind::True => ValueForm::Boolean,
            ValueKind::Integer => ValueForm::Integer,
            ValueKind::Number => ValueForm::Decimal,
            ValueKind::Plain => form_of_string(unquoted(raw)),
            ValueKind::Escaped => {
                self.scratch.clear();
                unescape(unquoted(raw), &mut self.scratch);
                form_of_string(&self.scratch)
            }
            ValueKind::Object | ValueKind::Array => ValueForm::Nested,
        };
        let text = matches!(value.kind, ValueKind::Plain | ValueKind::Escaped);
        let column = &mut self.observed[index];
        let (scratch, encoded) = (&mut self.scratch, &mut self.encoded);
        column.count(self.records, true);
        column.live.retain(|&kind| {
            encoded.clear();
            let allowed = match kind {
                ColumnType::Text => text,
                ColumnType::Jsonb => true,
                _ => form.allows(kind, raw),
            };
            allowed && values::encode_json(kind, value.kind, raw, scratch, encoded).is_ok()
        });
        if column.example.is_none() && raw.len() <= EXAMPLE_BYTES_MAX {
            column.example = serde_json::from_slice(raw).ok();
        }
    }

    /// Takes a CSV field that is not NULL.
    pub(super) fn observe_text(&mut self, index: usize, field: &[u8]) {
        let form = form_of_field(field);
        let column = &mut self.observed[index];
        let encoded = &mut self.encoded;
        column.count(self.records, true);
        column.live.retain(|&kind| {
            encoded.clear();
            let allowed = match kind {
                ColumnType::Text => true,
                ColumnType::Jsonb => false,
                _ => form.allows(kind, field),
            };
            allowed && values::encode_text(kind, field, encoded).is_ok()
        });
        if column.example.is_none() && field.len() <= EXAMPLE_BYTES_MAX {
            column.example = std::str::from_utf8(field).ok().map(Json::from);
        }
    }

    pub(super) fn into_inferred(self) -> Inferred {
        let records = self.records;
        let names = names(self.observed.iter().map(|column| column.key.as_str()));
        let propose = |(column, name): (Observed, String)| {
            let kind = column.proposed();
            ProposedColumn {
                kind,
                from: (column.key != name).then_some(column.key),
                nulls: records - column.values,
                name,
                example: column.example.map(|example| as_kind(example, kind)),
            }
        };
        let columns = self.observed.into_iter().zip(names).map(propose).collect();
        Inferred { columns, records, has_more: self.has_more, skipped: self.skipped }
    }
}

impl Observed {
    /// Counts the column's value in a record. Of a key that is given twice the last one counts.
    fn count(&mut self, record: u64, value: bool) {
        if self.last_seen == (record, true) {
            self.values -= 1;
        }
        self.values += u64::from(value);
        self.last_seen = (record, value);
    }

    fn proposed(&self) -> ColumnType {
        let nothing_seen = self.live.len() == CANDIDATES.len();
        let first = self.live.first().copied().filter(|_| !nothing_seen);
        first.unwrap_or(ColumnType::Text)
    }
}

/// A CSV field is text until its column's type is known.
fn as_kind(example: Json, kind: ColumnType) -> Json {
    match (&example, kind) {
        (
            Json::String(text),
            ColumnType::Boolean
            | ColumnType::Integer
            | ColumnType::BigInt
            | ColumnType::DoublePrecision,
        ) => serde_json::from_str(&text.to_ascii_lowercase()).unwrap_or(example),
        _ => example,
    }
}
