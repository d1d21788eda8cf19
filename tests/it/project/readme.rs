//! The examples of README.md and of docs/, run word for word: only the address is another, because ports are not fixed in
//! tests. The replies that the pages show are held against those that come.
//!
//! Each page goes on from the README's walk, on a gateway of its own.

use std::fs;
use std::path::Path;

use serde_json::{Deserializer, Value, json};
use tempfile::TempDir;

use crate::support::command::{Serve, program, run, working_directory};
use crate::support::eventually;

const README: &str = include_str!("../../../README.md");
const CHANGES: &str = include_str!("../../../docs/changes.md");
const API: &str = include_str!("../../../docs/api.md");
const STREAMS: &str = include_str!("../../../docs/streams.md");
const OPERATION: &str = include_str!("../../../docs/operation.md");
const READING: &str = include_str!("../../../docs/reading.md");
/// The pages of docs/ whose examples are run here.
const PAGES: [&str; 5] = ["api.md", "changes.md", "operation.md", "reading.md", "streams.md"];
/// The address in the pages.
const ADDRESS: &str = "127.0.0.1:8000";
/// What the pages write for what they do not show.
const ELLIPSIS: &str = "…";
/// How a piece of shell that is run begins. One that cannot be run as it stands is marked `bash`.
const RUN: &str = "\n```sh\n";

/// A piece of shell and the reply that the page shows for it.
#[derive(Debug)]
struct Step {
    script: String,
    shown: Vec<Value>,
}

/// The examples in a text. A reply is shown right behind its request.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut answers_the_last = false;
    for (index, part) in text.split("```").enumerate() {
        if index.is_multiple_of(2) {
            answers_the_last &= part.trim().is_empty();
            continue;
        }
        let (language, block) = part.split_once('\n').expect("a line with the language");
        match language {
            "sh" => {
                steps.push(Step { script: block.to_owned(), shown: Vec::new() });
                answers_the_last = true;
            }
            "json" if answers_the_last => {
                let shown: Result<Vec<Value>, _> =
                    Deserializer::from_str(block).into_iter().collect();
                steps.last_mut().expect("a reply to something").shown.extend(shown.expect("JSON"));
            }
            _ => answers_the_last = false,
        }
    }
    steps
}

/// The README's walk.
fn walk() -> Vec<Step> {
    let begin = README.find("\n## A walk with curl\n").expect("the walk");
    let walk = &README[begin + 1..];
    steps(&walk[..walk.find("\n## ").expect("what comes after")])
}

/// The JSON in an output, be it a document, lines, or events.
fn values(output: &str) -> Vec<Value> {
    let documents: Result<Vec<Value>, _> = Deserializer::from_str(output).into_iter().collect();
    let events = || {
        output.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
    };
    documents.unwrap_or_else(|_| events().collect())
}

/// Whether a value is what a page shows, as far as it shows it.
fn fits(shown: &Value, found: &Value) -> bool {
    match (shown, found) {
        (Value::Object(shown), Value::Object(found)) => shown
            .iter()
            .filter(|(name, _)| *name != ELLIPSIS)
            .all(|(name, shown)| found.get(name).is_some_and(|found| fits(shown, found))),
        (Value::Array(shown), Value::Array(found)) => match shown.split_last() {
            Some((last, first)) if last == ELLIPSIS => {
                found.len() >= first.len()
                    && first.iter().zip(found).all(|(shown, found)| fits(shown, found))
            }
            _ => {
                shown.len() == found.len()
                    && shown.iter().zip(found).all(|(shown, found)| fits(shown, found))
            }
        },
        (Value::String(shown), Value::String(found)) => match shown.split_once(ELLIPSIS) {
            Some((beginning, "")) => found.starts_with(id_free(beginning)),
            _ if is_position(shown) => is_position(found),
            _ => shown == found,
        },
        _ => shown == ELLIPSIS || shown == found,
    }
}

/// An id begins with the time, which is another one now.
fn id_free(beginning: &str) -> &str {
    let is_id = beginning.len() == 9 && beginning.ends_with('-');
    if is_id { "" } else { beginning }
}

fn is_position(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn fitting_means_what_it_says() {
    let shown = json!({"id": 1, "at": "…", "list": [1, "…"], "token": "tg_…", "position": "0000000000000128", "…": 0});
    let found = |list: Value, token: &str| json!({"id": 1, "at": "now", "list": list, "token": token, "position": "00000000000fffff", "more": true});
    assert!(fits(&shown, &found(json!([1, 2, 3]), "tg_x")));
    assert!(!fits(&shown, &found(json!([2]), "tg_x")));
    assert!(!fits(&shown, &found(json!([]), "tg_x")));
    assert!(!fits(&shown, &found(json!([1]), "x")));
    assert!(!fits(&shown, &json!({"id": 1})));
    assert!(!fits(&json!([1]), &json!([1, 2])));
}

/// A gateway, and the directory in which the examples are run.
struct Reader {
    directory: TempDir,
    gateway: Serve,
}

impl Reader {
    async fn start() -> Reader {
        let directory = working_directory();
        let gateway = Serve::start(directory.path(), &[], &[]).await;
        Reader { directory, gateway }
    }

    /// Does what the page says, and finds what it shows; the outputs.
    async fn follow(&self, steps: &[Step]) -> Vec<String> {
        let mut outputs = Vec::new();
        for step in steps {
            outputs.push(self.run(step).await);
        }
        outputs
    }

    async fn run(&self, Step { script, shown }: &Step) -> String {
        let directory = self.directory.path();
        let mut shell = program("sh", directory);
        let script = script.replace(ADDRESS, self.gateway.address());
        let output = run(shell.args(["-c", &script])).await;
        assert_eq!(output.code, 0, "{script}\n{}\n{}", output.stdout, output.stderr);
        let found = if script.contains("> sensor-token") {
            // The reply goes into a file, cut down to the token.
            let token = fs::read_to_string(directory.join("sensor-token")).unwrap();
            vec![json!({"id": 1, "token": token.trim_end()})]
        } else {
            values(&output.stdout)
        };
        for shown in shown {
            let fitting = found.iter().any(|found| fits(shown, found));
            assert!(fitting, "{script}\nshall answer\n{shown}\nand answers\n{}", output.stdout);
        }
        output.stdout
    }

    /// Follows the README, then a page.
    async fn follow_both(&self, page: &[Step]) -> Vec<String> {
        self.follow(&walk()).await;
        self.follow(page).await
    }
}

/// There are as many examples as there should be, and as many of them show a reply.
fn assert_shown(steps: &[Step], steps_min: usize, shown_min: usize) {
    assert!(steps.len() >= steps_min, "{} steps", steps.len());
    let shown = steps.iter().filter(|step| !step.shown.is_empty()).count();
    assert!(shown >= shown_min, "{shown} replies");
}

/// The output of the step whose script has this in it.
fn output_of<'a>(steps: &[Step], outputs: &'a [String], part: &str) -> &'a str {
    let index = steps.iter().position(|step| step.script.contains(part));
    &outputs[index.unwrap_or_else(|| panic!("{part}"))]
}

fn assert_carriers(flights: &str, carriers: &[&str]) {
    for carrier in carriers {
        assert!(flights.contains(&format!(" {carrier} ")), "{carrier}: {flights}");
    }
}

#[tokio::test]
async fn the_walk_with_curl_works_word_for_word() {
    let steps = walk();
    assert_shown(&steps, 6, 5);
    let outputs = Reader::start().await.follow(&steps).await;
    let flights = output_of(&steps, &outputs, "from streams.flights");
    assert_carriers(flights, &["AA", "B6", "UA"]);
}

#[tokio::test]
async fn the_examples_of_the_api_work_word_for_word() {
    let page = steps(API);
    assert_shown(&page, 8, 4);
    let reader = Reader::start().await;
    let outputs = reader.follow_both(&page).await;
    let metrics = output_of(&page, &outputs, "grep '^tidegate_records'");
    assert!(metrics.contains("tidegate_records_accepted_total{"), "{metrics}");
    let walk = walk();
    let query = walk.iter().find(|step| step.script.contains("from streams.flights"));
    let query = query.expect("the README's query");
    let flights = eventually("the rows are there", async || {
        Some(reader.run(query).await).filter(|flights| flights.contains(" EV "))
    })
    .await;
    assert_carriers(&flights, &["AA", "B6", "DL", "EV", "MQ", "UA"]);
}

#[tokio::test]
async fn the_examples_of_streams_work_word_for_word() {
    let page = steps(STREAMS);
    assert_shown(&page, 4, 0);
    let outputs = Reader::start().await.follow_both(&page).await;
    let quarantine = output_of(&page, &outputs, "from tidegate.quarantine");
    assert!(
        quarantine.contains("dep_delay") && quarantine.contains("invalid_type"),
        "{quarantine}"
    );
    assert!(quarantine.contains("(1 row)"), "{quarantine}");
    let replayed = output_of(&page, &outputs, "quarantine replay");
    assert!(replayed.contains("is replayed as"), "{replayed}");
}

#[tokio::test]
async fn the_examples_of_operation_work_word_for_word() {
    let page = steps(OPERATION);
    assert_shown(&page, 1, 0);
    let reader = Reader::start().await;
    reader.follow_both(&page).await;
    let exported = fs::read_to_string(reader.directory.path().join("flights.ndjson")).unwrap();
    // What was accepted, and what was refused.
    assert_eq!(exported.lines().count(), 6, "{exported}");
}

#[tokio::test]
async fn the_examples_of_reading_work_word_for_word() {
    let page = steps(READING);
    assert_shown(&page, 4, 3);
    let outputs = Reader::start().await.follow_both(&page).await;
    let csv = output_of(&page, &outputs, "format=csv");
    assert!(csv.starts_with("carrier,flight,dep_delay\nAA,301,-2\n"), "{csv}");
}

#[tokio::test]
async fn the_examples_of_changes_work_word_for_word() {
    let page = steps(CHANGES);
    assert_shown(&page, 4, 3);
    Reader::start().await.follow_both(&page).await;
}

#[test]
fn no_page_has_examples_that_are_not_run() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages = fs::read_dir(docs).unwrap().map(|entry| entry.unwrap());
    let with_examples = pages.filter(|entry| {
        entry.file_type().unwrap().is_file()
            && fs::read_to_string(entry.path()).unwrap().contains(RUN)
    });
    let mut names: Vec<_> = with_examples.map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, PAGES);
}
