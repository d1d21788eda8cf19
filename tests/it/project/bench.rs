//! `tidegate-bench` with next to nothing to measure: every group runs to its end and writes its figures and goals. What
//! they say means nothing here.

use serde_json::Value;

use crate::support::command::{Output, program, run, working_directory, workspace_binary};

/// Of every group but those with a list of their own at least one figure.
const FIGURES: [&str; 16] = [
    "L1: psql \\copy of the records as documents, records/s",
    "L2: psql \\copy of the records as binary tuples, typed, records/s",
    "L4: append and fdatasync of the records' bytes, records/s",
    "weather as NDJSON, typed: acknowledged records/s",
    "weather as CSV, documents: committed records/s",
    "10000-byte records as NDJSON, documents: committed records/s",
    "L3: bare handler, 256 connections: requests/s",
    "single records, 1 connections: durable requests/s",
    "backlog, typed: drained records/s",
    "backlog, documents: drained records/s",
    "resident memory, idle",
    "resident memory at full load, the peak",
    "all records into one stream: committed records/s",
    "the same spread over many streams: committed records/s",
    "typed, into a table of many rows: committed records/s",
    "documents, writers: 4: committed records/s",
];

/// Their goals.
const GOALS: [&str; 11] = [
    "typed, committed ÷ L1",
    "typed, committed ÷ L2",
    "documents, committed ÷ L1",
    "bulk acknowledged, typed ÷ L1",
    "backlog drain, typed ÷ L2",
    "backlog drain, documents ÷ L1",
    "single records ÷ L3, 64 connections",
    "many streams ÷ one",
    "large table ÷ empty",
    "resident memory, idle",
    "resident memory at full load, the peak",
];

const POLLING_FIGURES: [&str; 2] = [
    "polling, many jobs: from due to begun, p99",
    "polling, a tenth of the jobs: processor time of a run",
];
const POLLING_GOALS: [&str; 2] =
    ["polling, many jobs: from due to begun, p99", "polling, many jobs: resident memory, the peak"];

const INSTEAD_FIGURES: [&str; 5] = [
    "instead: a record a request, FastAPI + asyncpg: requests/s",
    "instead: a record a request, ack=journal: p50",
    "instead: a record a request, ack=commit: p99",
    "instead: many records a request, FastAPI + asyncpg: records/s",
    "instead: many records a request, ack=journal, until committed: records/s",
];
const INSTEAD_GOALS: [&str; 5] = [
    "a record a request: ack=journal ÷ FastAPI",
    "a record a request: ack=commit ÷ FastAPI",
    "its p99: ack=journal ÷ FastAPI",
    "many records a request: ack=journal ÷ FastAPI",
    "many records a request: ack=commit ÷ FastAPI",
];

#[tokio::test]
async fn every_group_of_the_benchmark_writes_its_figures_and_goals() {
    let groups = "bulk,keyed,single,latency,fanout,backlog,growth,memory";
    measure(&["--only", groups], &FIGURES, &GOALS).await;
}

#[tokio::test]
async fn the_benchmark_of_polling_jobs_writes_its_figures_and_goals() {
    measure(&["--only", "polling"], &POLLING_FIGURES, &POLLING_GOALS).await;
}

/// The service's packages are where `scripts/test.sh` puts them, if this machine could have them.
#[tokio::test]
async fn the_benchmark_beside_what_people_write_instead_writes_its_figures_and_goals() {
    let binary = workspace_binary("tidegate-bench");
    let installed = binary.ancestors().nth(2).unwrap().join("instead-python");
    let python = installed.join("bin/python");
    if installed.join("complete").exists() {
        let arguments = ["--only", "instead", "--python", python.to_str().unwrap()];
        measure(&arguments, &INSTEAD_FIGURES, &INSTEAD_GOALS).await;
    } else {
        eprintln!("not tried: there is no {}", python.display());
    }
}

#[tokio::test]
async fn without_a_service_the_group_instead_is_left_out_with_the_reason() {
    for (python, reason) in [
        (&[][..], "it needs --python"),
        (&["--python", "missing"], "the service ended with exit status: 127"),
    ] {
        let output = measure(&[&["--only", "instead"], python].concat(), &[], &[]).await;
        let expected = format!("`instead` is left out: {reason}");
        assert!(output.stderr.contains(&expected), "{}", output.stderr);
        assert!(!output.stdout.contains("FastAPI"), "{}", output.stdout);
    }
}

async fn measure(arguments: &[&str], figures: &[&str], goals: &[&str]) -> Output {
    let directory = working_directory();
    let mut command = program(workspace_binary("tidegate-bench"), directory.path());
    command.args(["--smoke", "--out", "out"]).args(arguments);
    let output = run(&mut command).await;
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    let out = directory.path().join("out");
    let report: Value =
        serde_json::from_slice(&std::fs::read(out.join("bench.json")).unwrap()).unwrap();
    for name in figures {
        let median = &report["figures"][name]["median"];
        assert!(median.as_f64().is_some_and(|median| median >= 0.0), "{name}: {median}");
        assert!(output.stdout.contains(name), "{name} is not in the table");
    }
    let targets: Vec<&str> = report["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| target["name"].as_str().unwrap())
        .collect();
    let plot = std::fs::read_to_string(out.join("bench.svg")).unwrap();
    for name in goals {
        assert!(targets.contains(name), "{name} is not in {targets:?}");
        assert!(plot.contains(&format!(">{name}</text>")), "{name} is not in the plot");
    }
    let left = std::fs::read_dir(&out).unwrap().map(|file| file.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["bench.json", "bench.svg"], "it leaves nothing else behind");
    output
}
