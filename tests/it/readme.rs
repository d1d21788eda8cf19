//! The README's walk with curl, run word for word: only the address is another, because ports are not fixed in tests.
//! The replies that it shows are held against those that come.

use serde_json::{Deserializer, Value, json};

use crate::command::{Serve, program, run, working_directory};

const README: &str = include_str!("../../README.md");
/// The address in the README.
const ADDRESS: &str = "127.0.0.1:8000";
/// What the README writes for what it does not show.
const ELLIPSIS: &str = "…";

/// A piece of shell and the reply that the README shows for it.
#[derive(Debug)]
struct Step {
    script: String,
    shown: Vec<Value>,
}

fn steps() -> Vec<Step> {
    let begin = README.find("\n## A walk with curl\n").expect("the walk");
    let walk = &README[begin + 1..];
    let walk = &walk[..walk.find("\n## ").expect("what comes after")];
    let mut steps: Vec<Step> = Vec::new();
    for block in walk.split("```").skip(1).step_by(2) {
        let (language, text) = block.split_once('\n').expect("a line with the language");
        match language {
            "sh" => steps.push(Step { script: text.to_owned(), shown: Vec::new() }),
            "json" => {
                let shown: Result<Vec<Value>, _> =
                    Deserializer::from_str(text).into_iter().collect();
                steps.last_mut().expect("a reply to something").shown.extend(shown.expect("JSON"));
            }
            // How to set up the shell, which this test does in its own way.
            "bash" => {}
            other => panic!("who runs {other}?"),
        }
    }
    steps
}

/// The JSON in an output, be it a document, lines, or events.
fn values(output: &str) -> Vec<Value> {
    let documents: Result<Vec<Value>, _> = Deserializer::from_str(output).into_iter().collect();
    let events = || {
        output.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
    };
    documents.unwrap_or_else(|_| events().collect())
}

/// Whether a value is what the README shows, as far as it shows it.
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

#[tokio::test]
async fn the_walk_with_curl_works_word_for_word() {
    let directory = working_directory();
    let gateway = Serve::start(directory.path(), &[], &[]).await;
    let steps = steps();
    let mut outputs = Vec::new();
    for Step { script, shown } in &steps {
        let mut shell = program("sh", directory.path());
        let output = run(shell.args(["-c", &script.replace(ADDRESS, gateway.address())])).await;
        assert_eq!(output.code, 0, "{script}\n{}\n{}", output.stdout, output.stderr);
        let found = if script.contains("> sensor-token") {
            // The reply goes into a file, cut down to the token.
            let token = std::fs::read_to_string(directory.path().join("sensor-token")).unwrap();
            vec![json!({"id": 1, "token": token.trim_end()})]
        } else {
            values(&output.stdout)
        };
        for shown in shown {
            let fitting = found.iter().any(|found| fits(shown, found));
            assert!(fitting, "{script}\nshall answer\n{shown}\nand answers\n{}", output.stdout);
        }
        outputs.push(output.stdout);
    }
    assert!(steps.len() >= 14, "{} steps", steps.len());
    assert!(steps.iter().filter(|step| !step.shown.is_empty()).count() >= 9);

    let output_of = |part: &str| {
        let index = steps
            .iter()
            .position(|step| step.script.contains(part))
            .unwrap_or_else(|| panic!("{part}"));
        outputs[index].as_str()
    };
    assert!(output_of("grep '^tidegate_records'").contains("tidegate_records_accepted_total{"));
    let flights = output_of("from streams.flights");
    for carrier in ["AA", "B6", "DL", "EV", "MQ", "UA"] {
        assert!(flights.contains(&format!(" {carrier} ")), "{carrier}: {flights}");
    }
    let quarantine = output_of("from tidegate.quarantine");
    assert!(
        quarantine.contains("dep_delay") && quarantine.contains("invalid_type"),
        "{quarantine}"
    );
    assert!(quarantine.contains("(1 row)"), "{quarantine}");
}
