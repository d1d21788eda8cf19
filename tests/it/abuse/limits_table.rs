//! docs/limits.md is complete: every setting of a limit stands in it, and every row says what happens.
//! [`crate::project::settings`] holds its values against the settings and the code, and its last column against what is counted.

use std::collections::BTreeSet;

const TABLE: &str = include_str!("../../../docs/limits.md");
const SETTINGS: &str = include_str!("../../../.env.sample");

/// Names of settings in a text.
fn settings(text: &str) -> BTreeSet<&str> {
    let is_part =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    text.split(|letter| !is_part(letter)).filter(|word| word.starts_with("TIDEGATE_")).collect()
}

#[test]
fn every_limit_that_can_be_set_is_told_with_what_happens_at_it() {
    let rows = TABLE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what"));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() >= 4 && !cells[3].is_empty(), "what happens at it? {row}");
        seen += 1;
    }
    assert!(seen > 10, "{seen} rows");
    let told = settings(TABLE);
    let is_limit = |name: &&str| name.ends_with("_MAX");
    let missing: Vec<_> = settings(SETTINGS)
        .into_iter()
        .filter(is_limit)
        .filter(|name| !told.contains(name))
        .collect();
    assert!(missing.is_empty(), "limits that are not in the table: {missing:?}");
}
