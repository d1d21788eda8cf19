//! docs/LIMITS.md has every limit: those that are counted when they are hit, and those that can be set.

use std::collections::BTreeSet;

const TABLE: &str = include_str!("../../../docs/LIMITS.md");
const COUNTED: &str = include_str!("../../../src/telemetry/limits.rs");
const SETTINGS: &str = include_str!("../../../.env.sample");

/// Names of settings in a text.
fn settings(text: &str) -> BTreeSet<&str> {
    let is_part =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    text.split(|letter| !is_part(letter)).filter(|word| word.starts_with("TIDEGATE_")).collect()
}

/// Labels of the limits that are counted: the first text of each that is made outside of tests.
fn labels() -> BTreeSet<&'static str> {
    let made = COUNTED
        .split("#[cfg(test)]")
        .next()
        .expect("there is something")
        .split("Limit::new(")
        .skip(1);
    made.filter_map(|rest| rest.split('"').nth(1)).collect()
}

#[test]
fn every_limit_stands_in_the_table() {
    let rows: Vec<Vec<&str>> = TABLE
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(!row[3].is_empty(), "what happens at it? {row:?}");
    }
    let counted: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row[4].split([',', ';', ' ', '`']))
        .filter(|word| !word.is_empty())
        .collect();
    assert!(labels().contains("request_memory"), "labels are found in the source");
    assert_eq!(labels(), counted, "limits that are counted, and those of the last column");
    let (known, named) = (settings(SETTINGS), settings(TABLE));
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "there is no such setting: {unknown:?}");
    let missing: Vec<_> = known.difference(&named).filter(|name| name.ends_with("_MAX")).collect();
    assert!(missing.is_empty(), "limits that are not in the table: {missing:?}");
}
