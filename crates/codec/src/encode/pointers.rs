//! The key of a document: the values at its JSON pointers, found while the document is scanned.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::value::RawValue;

use super::error::{RecordError, RecordErrorCode, shown};
use super::members::key_text;
use crate::json::{DEPTH_MAX, Scanner, Stop, Value, ValueKind};
use crate::values::numeric;

/// Longest value of one field of a key, in bytes of its raw text (a number: of the text PostgreSQL makes of it).
pub(super) const KEY_BYTES_MAX: usize = 1_000;
/// Longest values of a whole key, in bytes: a row of a PostgreSQL index holds 2,704 with all that it adds.
const KEY_TOTAL_BYTES_MAX: usize = 2_400;

/// The pointers as a tree of segments.
#[derive(Debug)]
pub(super) struct KeyPointers {
    /// The root is the first.
    nodes: Vec<PathNode>,
    /// What messages call each field.
    names: Vec<String>,
    /// The value at each field, in the document that was scanned last.
    found: Vec<Option<Value>>,
    /// The objects that are open.
    path: Vec<usize>,
    scratch: Vec<u8>,
}

#[derive(Debug, Default)]
struct PathNode {
    children: Vec<(Box<[u8]>, usize)>,
    field: Option<usize>,
    /// The fields here and below. Fields are numbered so that they lie side by side.
    fields: Range<usize>,
}

const ROOT: usize = 0;

impl KeyPointers {
    /// `None` if a pointer names no member or too deep a one.
    pub(super) fn new(mut pointers: Vec<&[String]>) -> Option<KeyPointers> {
        if pointers.iter().any(|segments| !(1..DEPTH_MAX).contains(&segments.len())) {
            return None;
        }
        // Sorted, the pointers with a common beginning lie side by side.
        pointers.sort_unstable();
        pointers.dedup();
        let mut nodes = vec![PathNode { fields: 0..pointers.len(), ..PathNode::default() }];
        for (field, segments) in pointers.iter().enumerate() {
            let mut node = ROOT;
            for segment in *segments {
                node = child_or_insert(&mut nodes, node, segment.as_bytes(), field);
                nodes[node].fields.end = field + 1;
            }
            nodes[node].field = Some(field);
        }
        let names: Vec<String> = pointers.iter().map(|segments| display(segments)).collect();
        let found = vec![None; names.len()];
        Some(KeyPointers { nodes, names, found, path: Vec::new(), scratch: Vec::new() })
    }

    /// Reads an object, of which the scanner has peeked at the brace.
    pub(super) fn scan(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        self.found.fill(None);
        self.path.clear();
        self.path.push(ROOT);
        let mut more = scanner.open_object()?;
        while let Some(&node) = self.path.last() {
            if more {
                more = self.scan_member(node, scanner)?;
            } else {
                self.path.pop();
                if !self.path.is_empty() {
                    more = scanner.after_member()?;
                }
            }
        }
        Ok(())
    }

    /// Reads a member, or its key and the brace of its object if pointers lead there. True if a key follows in
    /// the object that is innermost then.
    fn scan_member(&mut self, node: usize, scanner: &mut Scanner<'_>) -> Result<bool, Stop> {
        let key = scanner.key()?;
        scanner.count_member();
        let name = key_text(key, scanner.input(), &mut self.scratch);
        let Some(child) = child(&self.nodes, node, name) else {
            scanner.value(self.path.len())?;
            return scanner.after_member();
        };
        let PathNode { children, field, fields } = &self.nodes[child];
        // The last of equal keys counts, with all that is in it.
        self.found[fields.clone()].fill(None);
        if !children.is_empty() && scanner.peek()? == b'{' {
            if let Some(field) = *field {
                let start = scanner.position();
                self.found[field] = Some(Value { kind: ValueKind::Object, start, end: start });
            }
            self.path.push(child);
            return scanner.open_object();
        }
        let value = scanner.value(self.path.len())?;
        if let Some(field) = *field {
            self.found[field] = Some(value);
        }
        scanner.after_member()
    }

    /// Whether the document that was scanned last has a complete key.
    pub(super) fn check(&self, input: &[u8]) -> Result<(), RecordError> {
        let mut total = 0;
        for (name, value) in self.names.iter().zip(&self.found) {
            let Some(value) = value else {
                return Err(RecordError::missing_key(name));
            };
            let raw = value.raw(input);
            total += match value.kind {
                ValueKind::Null => return Err(RecordError::missing_key(name)),
                ValueKind::Object | ValueKind::Array => {
                    let message = "a part of the key must be a string, a number or a boolean";
                    let error = RecordError::new(RecordErrorCode::MissingKey, message);
                    return Err(error.in_column(name));
                }
                ValueKind::Integer | ValueKind::Number => {
                    check_length(numeric::text_length(raw).max(raw.len()), raw, name)?
                }
                _ => check_length(raw.len(), raw, name)?,
            };
            check_total(total, name)?;
        }
        Ok(())
    }

    /// What messages call each field, and the value of it in the document that was scanned last.
    pub(super) fn found(&self) -> impl Iterator<Item = (&str, Option<Value>)> {
        self.names.iter().map(String::as_str).zip(self.found.iter().copied())
    }

    /// The first field that a document, merged into another one, would take away or make something else than a part of a key:
    /// the document has null or no object on the way to it. The document was scanned last.
    pub(super) fn lost_when_merged(&self, document: &[u8]) -> Option<&str> {
        let fields = self.names.iter().zip(&self.found);
        let mut lost = fields.filter(|(name, value)| match value {
            Some(value) => {
                matches!(value.kind, ValueKind::Null | ValueKind::Object | ValueKind::Array)
            }
            None => is_cut_off(document, name),
        });
        lost.next().map(|(name, _)| name.as_str())
    }

    /// Whether a record of named texts (NULL or the text) has a complete key.
    pub(super) fn check_fields<'a>(
        &self,
        value_of: impl Fn(&[u8]) -> Option<&'a [u8]>,
    ) -> Result<(), RecordError> {
        let mut total = 0;
        for (segment, child) in &self.nodes[ROOT].children {
            let node = &self.nodes[*child];
            // The texts are members of one flat object: nothing lies below them.
            for field in node.fields.clone() {
                let name = &self.names[field];
                let value = value_of(segment).filter(|_| node.field == Some(field));
                let value = value.ok_or_else(|| RecordError::missing_key(name))?;
                total += check_length(value.len(), value, name)?;
                check_total(total, name)?;
            }
        }
        Ok(())
    }
}

/// The length, if a field of a key may have it.
pub(super) fn check_length(length: usize, value: &[u8], name: &str) -> Result<usize, RecordError> {
    if length <= KEY_BYTES_MAX {
        return Ok(length);
    }
    let message = format!(
        "a part of the key may have {KEY_BYTES_MAX} bytes; this one has {length}: {}",
        shown(value)
    );
    Err(RecordError::new(RecordErrorCode::OutOfRange, message).in_column(name))
}

/// Whether the parts of a key so far are not too long together.
pub(super) fn check_total(total: usize, name: &str) -> Result<(), RecordError> {
    if total <= KEY_TOTAL_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the key's values have more than {KEY_TOTAL_BYTES_MAX} bytes together");
    Err(RecordError::new(RecordErrorCode::OutOfRange, message).in_column(name))
}

fn child(nodes: &[PathNode], node: usize, segment: &[u8]) -> Option<usize> {
    let children = &nodes[node].children;
    children.iter().find(|(name, _)| **name == *segment).map(|&(_, child)| child)
}

fn child_or_insert(nodes: &mut Vec<PathNode>, node: usize, segment: &[u8], field: usize) -> usize {
    if let Some(child) = child(nodes, node, segment) {
        return child;
    }
    let inserted = nodes.len();
    nodes.push(PathNode { fields: field..field, ..PathNode::default() });
    nodes[node].children.push((segment.into(), inserted));
    inserted
}

/// Whether a document has something else than an object on the way to the place of a pointer.
fn is_cut_off(document: &[u8], pointer: &str) -> bool {
    let mut place = document;
    for segment in pointer.split('/').skip(1) {
        let name = segment.replace("~1", "/").replace("~0", "~");
        let Ok(mut members) = serde_json::from_slice::<HashMap<String, &RawValue>>(place) else {
            return true;
        };
        match members.remove(&name) {
            None => return false,
            Some(value) => place = value.get().as_bytes(),
        }
    }
    false
}

/// The pointer as RFC 6901 writes it.
fn display(segments: &[String]) -> String {
    let escaped = |segment: &String| format!("/{}", segment.replace('~', "~0").replace('/', "~1"));
    segments.iter().map(escaped).collect()
}
