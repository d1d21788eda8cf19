//! The settings and limits as docs/configuration.md, docs/limits.md and `.env.sample` tell them, with their values, are those that the gateway has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_codec::json::DEPTH_MAX;
use tidegate_codec::{COLUMNS_MAX, KEY_FIELDS_MAX, MEMBER_BYTES_MAX, NAME_BYTES_MAX};

use crate::support::TestDatabase;
use crate::support::command::{Serve, working_directory};
use clap::{Arg, Args, Command};
use tidegate::auth::{
    ACCOUNT_WAIT_MAX, FAILURES_FREE, OWN_FAILURES_FREE, PASSWORD_BYTES_MAX,
    PASSWORD_CHARACTERS_MIN, PASSWORDS_WAITING_MAX, PLACE_WAIT_MAX,
};
use tidegate::config::Config;
use tidegate::db::polling_jobs::PER_OWNER_MAX;
use tidegate::db::polling_runs::RUNS_KEPT;
use tidegate::ingest::{IDS_MAX, RECORD_ERRORS_MAX, REQUEST_STREAMS_MAX};
use tidegate::telemetry::limits;

const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
const LIMITS: &str = include_str!("../../../docs/limits.md");
const LIMITS_HEADING: &str =
    "| what | setting or constant | default | what happens at it | `limit=` |";
const SAMPLE: &str = include_str!("../../../.env.sample");

/// Settings that are looked at, at the least.
const SETTINGS_MIN: usize = 45;

/// Every setting with its environment variable and its default, if it has one.
fn settings() -> BTreeMap<String, Option<String>> {
    let command = Config::augment_args(Command::new("serve"));
    let setting = |argument: &Arg| {
        let name = argument.get_env().expect("every flag has an environment variable");
        let default = argument.get_default_values().first();
        let text = |value: &std::ffi::OsStr| value.to_str().unwrap().to_owned();
        (text(name), default.map(|value| text(value)).filter(|value| !value.is_empty()))
    };
    let settings: BTreeMap<_, _> = command.get_arguments().map(setting).collect();
    assert!(settings.len() >= SETTINGS_MIN, "the flattened settings are looked at: {settings:?}");
    settings
}

/// The rows of a page's tables with this heading, in cells.
fn rows(page: &'static str, heading: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let tables: Vec<&str> = page.split(heading).skip(1).collect();
    assert!(!tables.is_empty(), "no table {heading}");
    let rows = |table: &'static str| table.lines().skip(2).take_while(|line| line.starts_with('|'));
    tables.into_iter().flat_map(rows).map(|row| row[1..].split('|').map(str::trim).collect())
}

/// What stands in backticks, alone or among other words.
fn codes(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

/// As the pages write numbers for people.
fn for_people(number: &str) -> String {
    let value: u64 = number.parse().unwrap_or_else(|_| panic!("{number} is no number"));
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB")] {
        if value > 0 && value.is_multiple_of(unit) {
            return format!("{} {name}", value / unit);
        }
    }
    let mut text = String::new();
    for (index, digit) in number.chars().enumerate() {
        if index > 0 && (number.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn every_setting_has_its_default_in_its_page_and_in_env_sample() {
    let in_page: BTreeMap<&str, &str> = rows(CONFIGURATION, "| variable | default | meaning |")
        .map(|cells| (codes(cells[0]).next().expect("a name"), cells[1]))
        .collect();
    let line = |line: &'static str| line.trim_start_matches(['#', ' ']).split_once('=');
    let in_sample: BTreeMap<&str, &str> = SAMPLE.lines().filter_map(line).collect();
    let settings = settings();
    for (name, default) in &settings {
        let written = in_page
            .get(&**name)
            .unwrap_or_else(|| panic!("{name} is not in docs/configuration.md"));
        // Code is a value; anything else says in words where the value comes from.
        let value = written.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        assert_eq!(value, default.as_deref(), "{name} in docs/configuration.md");
        let written =
            in_sample.get(&**name).unwrap_or_else(|| panic!("{name} is not in .env.sample"));
        let value = Some(*written).filter(|value| !value.is_empty());
        assert_eq!(value, default.as_deref(), "{name} in .env.sample");
    }
    for name in in_page.keys() {
        assert!(settings.contains_key(*name), "{name} in docs/configuration.md is no setting");
    }
    for name in in_sample.keys().filter(|name| name.starts_with("TIDEGATE_")) {
        assert!(settings.contains_key(*name), "{name} in .env.sample is no setting");
    }
}

#[test]
fn the_limits_as_told_are_those_of_the_settings_and_the_code() {
    let settings = settings();
    let mut seen = 0;
    for cells in rows(LIMITS, LIMITS_HEADING) {
        for name in codes(cells[1]).filter(|name| name.starts_with("TIDEGATE_")) {
            let default = settings.get(name).unwrap_or_else(|| panic!("{name} is no setting"));
            // Where the page says in words what it comes from, there is no default.
            let Some(default) = default else { continue };
            let value = for_people(default);
            assert!(cells[2].contains(&value), "{name} is {value}, not {}", cells[2]);
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen} limits that can be set");
    let seconds = |wait: Duration| usize::try_from(wait.as_secs()).unwrap();
    let (place_wait, account_wait) = (seconds(PLACE_WAIT_MAX), seconds(ACCOUNT_WAIT_MAX));
    let free = |failures: u32| usize::try_from(failures).unwrap();
    for (what, numbers) in [
        ("nesting of JSON", vec![DEPTH_MAX]),
        ("columns of a stream; fields of a key", vec![COLUMNS_MAX, KEY_FIELDS_MAX]),
        ("name of a stream or column", vec![NAME_BYTES_MAX, MEMBER_BYTES_MAX]),
        ("polling jobs of a user", vec![whole(PER_OWNER_MAX), whole(RUNS_KEPT)]),
        ("errors in a reply; ids in a reply", vec![RECORD_ERRORS_MAX, IDS_MAX]),
        ("streams of one request to `/v1/records`", vec![REQUEST_STREAMS_MAX]),
        ("password", vec![PASSWORD_CHARACTERS_MIN, PASSWORD_BYTES_MAX]),
        (
            "wrong passwords for one user from one address",
            vec![free(OWN_FAILURES_FREE), place_wait],
        ),
        ("wrong passwords from one address", vec![free(FAILURES_FREE), place_wait]),
        ("wrong passwords for one user from addresses", vec![free(FAILURES_FREE), account_wait]),
        ("passwords that wait to be hashed", vec![PASSWORDS_WAITING_MAX]),
    ] {
        let found = rows(LIMITS, LIMITS_HEADING).find(|cells| cells[0].starts_with(what));
        let limit = found.unwrap_or_else(|| panic!("no limit of {what}"))[2];
        let told: Vec<&str> =
            limit.split(|letter: char| letter != ',' && !letter.is_ascii_digit()).collect();
        for number in numbers {
            let number = for_people(&number.to_string());
            assert!(told.contains(&&*number), "{what}: {number}, the page says {limit}");
        }
    }
}

#[test]
fn every_limit_that_is_counted_is_told_and_the_other_way_round() {
    let told: BTreeSet<&str> =
        rows(LIMITS, LIMITS_HEADING).flat_map(|cells| codes(cells[4])).collect();
    assert_eq!(told, limits::labels().collect());
}

/// A start stopped at them: "cannot parse integer from empty string".
#[tokio::test]
async fn a_variable_that_is_set_to_nothing_is_not_set() {
    let database = TestDatabase::create().await;
    let directory = working_directory();
    let mut environment = vec![("DATABASE_URL", database.url())];
    let settings = settings();
    let names = settings.keys().map(String::as_str).filter(|name| name.starts_with("TIDEGATE_"));
    environment.extend(names.map(|name| (name, "")));
    let mut gateway = Serve::start(directory.path(), &[], &environment).await;
    assert_eq!(gateway.terminate().await, 0);
}

fn whole(number: i64) -> usize {
    usize::try_from(number).expect("a limit is not negative")
}
