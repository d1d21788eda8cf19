//! Every declared type against every type that a table may have instead, in every kind of stream.

use serde_json::json;

use super::cases::{Case, FLAGS, judge};
use super::kinds::{DECLARED, Declared, Fit, has_order, setup};
use super::ways::Way;
use crate::support::Gateway;

/// A column `measured` of the declared type becomes one of another; where they are the same it is dropped and added again.
fn case(way: Way, declared: &Declared, number: usize, table: &str) -> Case {
    let mut stream = format!("{}_{}_{number}_{table}", way.name(), declared.name);
    stream = stream.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let case = Case::typed(stream, &json!([{"name": "measured", "type": declared.name}]));
    let case = way.of(case, "measured", "n");
    let (name, own) = (case.table(), declared.in_sql);
    let alter = if table == own {
        let index = format!("create unique index on {name} (measured)");
        let index = if way.is_by_it() { index } else { String::new() };
        format!("alter table {name} drop column measured, add column measured {own}; {index}")
    } else {
        format!("alter table {name} alter measured type {table} using null::{table}")
    };
    let fit = declared.fits(table);
    let case = match fit {
        Fit::Stored => case.stored(alter),
        Fit::Parked => {
            let repair = format!("alter table {name} alter measured type {own} using null::{own}");
            case.parked(alter, repair, &["column measured", declared.name])
        }
    };
    let untouched = format!("select count(*) = 1 and max(g) = 0 from {name}");
    let right_in = if fit == Fit::Stored { table } else { own };
    let case = Case { altered_column: Some("measured"), untouched, ..case };
    with_records(case, way, declared, right_in)
}

/// All values of the type; where the column is the key, all are sent twice.
fn with_records(case: Case, way: Way, declared: &Declared, right_in: &str) -> Case {
    let record = |generation: i32, number: usize| {
        let (value, _) = declared.values.get(number).unwrap_or(&("null", ""));
        format!(
            "{{\"g\":{generation},\"n\":{number},\"measured\":{value},\"t\":\"t{number}\",\"more\":[{number}]}}"
        )
    };
    // NULL is one value more, which no key has; the last value of a key is for generation 2.
    let values = declared.values.len();
    let count = if way.is_by_it() { values - 1 } else { values + 1 };
    let records: Vec<String> = (0..count).map(|number| record(1, number)).collect();
    let is_sent = |number: usize| {
        format!("when {number} then {}", declared.equals("measured", number, right_in))
    };
    let conditions: Vec<String> = (0..count).map(is_sent).collect();
    let right = format!(
        "t = 't' || n and extra = jsonb_build_object('more', jsonb_build_array(n)) and case n {} end",
        conditions.join(" ")
    );
    Case {
        before: record(0, 0),
        after: vec![format!("[{}]", records.join(",")); if way.is_by_it() { 2 } else { 1 }],
        again: record(2, count),
        rows: way.rows(count),
        right,
        ..case
    }
}

/// Every pair in some kind of stream, by turns; the declared types also plain; in every kind where a record is stored all
/// the same.
fn every_case() -> Vec<Case> {
    let mut cases = Vec::new();
    for (turn, declared) in DECLARED.iter().enumerate() {
        for (number, table) in declared.instead().iter().enumerate() {
            let ways = if has_order(table) { &Way::ALL[..] } else { &Way::BY_ANOTHER };
            let by_turns = ways[(turn + number) % ways.len()];
            let is_declared = number < DECLARED.len();
            for &way in ways {
                let is_stored = declared.fits(table) == Fit::Stored;
                if is_stored || way == by_turns || way == Way::Plain && is_declared {
                    cases.push(case(way, declared, number, table));
                }
            }
        }
    }
    cases
}

#[tokio::test]
async fn every_pair_of_types_is_stored_right_or_parked_with_words() {
    let gateway = Gateway::with(&FLAGS).await;
    gateway.execute(&setup()).await;
    judge(&gateway, &every_case()).await;
}
