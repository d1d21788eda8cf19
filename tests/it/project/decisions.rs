//! Every decision is a page of one form, stands in the index by its title, and is what its number stands for elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

const ARCHITECTURE: &str = include_str!("../../../ARCHITECTURE.md");
const INDEX: &str = include_str!("../../../docs/decisions/README.md");
const PARTS: [&str; 3] = ["**Context.**", "**Decision.**", "**Consequences.**"];

/// The pages by their file names.
fn pages() -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let page = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read_to_string(entry.path()).unwrap())
    };
    entries.map(page).filter(|(name, _)| name != "README.md").collect()
}

#[test]
fn every_decision_stands_in_the_index_and_has_one_form() {
    let pages = pages();
    let listed: Vec<String> =
        INDEX.lines().filter(|line| line.starts_with("- ")).map(str::to_owned).collect();
    let expected = pages.iter().map(|(name, page)| {
        let (number, title) = (&name[..3], page.lines().next().unwrap().trim_start_matches("# "));
        format!("- [{number}]({name}) {title}")
    });
    assert_eq!(listed, expected.collect::<Vec<_>>());
    for (name, page) in &pages {
        let places: Vec<_> = PARTS.iter().map(|part| page.find(part)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{name}: {places:?}");
    }
}

#[test]
fn numbers_stand_for_one_decision_each() {
    let pages = pages();
    let numbers: Vec<&str> = pages.keys().map(|name| &name[..3]).collect();
    let expected: Vec<String> = (1..=pages.len()).map(|number| format!("{number:03}")).collect();
    assert_eq!(numbers, expected);
    let named = ARCHITECTURE.split('[').skip(1).filter_map(|rest| rest.split_once(']'));
    let named: Vec<&str> =
        named.map(|(name, _)| name).filter(|name| name.parse::<u16>().is_ok()).collect();
    assert!(named.len() > 10, "{named:?}");
    for number in named {
        assert!(numbers.contains(&number), "there is no decision {number}");
    }
    for (page, text) in &pages {
        for rest in text.split("](").skip(1) {
            let target = &rest[..rest.find(')').unwrap()];
            let is_decision = target.starts_with(|first: char| first.is_ascii_digit());
            assert!(!is_decision || pages.contains_key(target), "{page} leads to {target}");
        }
    }
}
