//! The pages that people read hold together: links lead somewhere, and what should stand in a page stands there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tidegate::api::router::routes;

const API: &str = include_str!("../../../docs/api.md");
const OPERATION: &str = include_str!("../../../docs/operation.md");
const ALERTS: &str = include_str!("../../../dashboards/prometheus/alerts.yml");
/// As far as a screen or two go.
const README_LINES_MAX: usize = 200;

/// Every page: those of the root, and all of docs/.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.to_owned(), root.join("docs"), root.join("docs/decisions")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "md")).collect()
}

/// A page without its blocks of code.
fn prose(page: &Path) -> String {
    let text =
        fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    text.split("```").step_by(2).collect()
}

/// The places in a page that a link can name.
fn anchors(page: &Path) -> BTreeSet<String> {
    let prose = prose(page);
    prose.lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

/// What a heading becomes in an address, where pages are shown.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// Whether a page's link leads to a file or heading that is there.
fn leads_somewhere(page: &Path, link: &str) -> bool {
    let (file, place) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_owned() } else { page.with_file_name(file) };
    target.exists() && (place.is_empty() || anchors(&target).contains(place))
}

#[test]
fn every_link_leads_somewhere() {
    let mut seen = 0;
    let mut broken = Vec::new();
    for page in pages() {
        let prose = prose(&page);
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            seen += 1;
            if !leads_somewhere(&page, link) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(seen > 50, "{seen} links");
    assert!(broken.is_empty(), "{broken:#?}");
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    assert!(leads_somewhere(&readme, "docs/guarantees.md#7-a-value-is-never-stored-as-another"));
    assert!(!leads_somewhere(&readme, "docs/no_such_page.md"));
    assert!(!leads_somewhere(&readme, "#no-such-place"));
}

#[test]
fn every_route_stands_in_the_page_of_the_api() {
    let routes: Vec<_> =
        routes().iter().map(|route| format!("`{} {}`", route.method, route.path)).collect();
    let missing: Vec<_> = routes.iter().filter(|route| !API.contains(&***route)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_alert_stands_in_the_page_of_operation() {
    let alerts: BTreeSet<_> =
        ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let quoted = OPERATION.split('`').skip(1).step_by(2);
    let told: BTreeSet<_> = quoted.filter(|name| alerts.contains(name)).collect();
    assert!(alerts.len() > 20, "{} alerts", alerts.len());
    assert_eq!(told, alerts);
}

#[test]
fn the_readme_stays_short() {
    let lines = include_str!("../../../README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "{lines} lines; the rest belongs to a page of docs/");
}
