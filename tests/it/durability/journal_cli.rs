//! `tidegate journal`: what an operator sees of the journal of a gateway that runs, that is stopped, and that is damaged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::command::{Output, run, tidegate, working_directory};
use crate::support::{Gateway, Oracle, Stall};

const SMALL_SEGMENTS: [&str; 2] = ["--journal-segment-bytes=262144", "--batch-interval-ms=20"];
/// Exit codes of `verify`.
const DAMAGED: i32 = 1;
const UNREADABLE: i32 = 2;

async fn journal(data_dir: &Path, arguments: &[&str]) -> Output {
    let directory = working_directory();
    let mut command = tidegate(directory.path(), &["journal"]);
    run(command.args(arguments).arg("--data-dir").arg(data_dir)).await
}

/// The lines of an export that must succeed, and what it complained about.
async fn export(data_dir: &Path, arguments: &[&str]) -> (Vec<Value>, String) {
    let output = journal(data_dir, &[&["export"], arguments].concat()).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    (output.stdout.lines().map(line).collect(), output.stderr)
}

async fn inspect(data_dir: &Path) -> Value {
    let printed = journal(data_dir, &["inspect", "--json"]).await.printed();
    serde_json::from_str(&printed).unwrap()
}

/// Every file of the journal with its bytes and the time of its last change.
fn everything(data_dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let files = fs::read_dir(data_dir.join("journal")).unwrap().map(|file| file.unwrap().path());
    let read = |path: PathBuf| {
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        (path.clone(), (fs::read(path).unwrap_or_default(), changed))
    };
    files.map(read).collect()
}

fn copy_journal(data_dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("journal")).unwrap();
    for (path, (bytes, _)) in everything(data_dir) {
        fs::write(copy.path().join("journal").join(path.file_name().unwrap()), bytes).unwrap();
    }
    copy
}

#[tokio::test]
async fn a_journal_is_read_while_the_gateway_runs_and_changed_by_nothing() {
    let mut gateway = Gateway::with(&SMALL_SEGMENTS).await;
    let columns = json!([{"name": "n", "type": "integer"}, {"name": "at", "type": "timestamptz"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    let body =
        "{\"n\":1,\"at\":\"2013-01-01T05:17:00Z\",\"more\":[1, 2]}\n{\"n\":\"one\"}\n{\"n\":3}\n";
    let reply =
        gateway.records("typed").ndjson(body).query("ack", "commit").send().await.expect(201);
    assert_eq!(reply["quarantined"], 1);
    gateway.commit("documents", &json!([{"a": "ä\n"}, {"b": {"c": null}}])).await;
    gateway.wait_all_committed().await;
    let status = gateway.get("/v1/status").await.expect(200);

    let inspected = inspect(gateway.data_dir()).await;
    assert_eq!(inspected["id"], status["journal"]["id"]);
    assert_eq!(inspected["first"], status["journal"]["first"]);
    assert_eq!(inspected["last"], status["journal"]["synced"]);
    assert_eq!(inspected["damages"], json!([]));
    assert_eq!(inspected["streams"]["typed"]["records"], 2);
    assert_eq!(inspected["streams"]["typed"]["quarantined"], 1);
    assert_eq!(inspected["streams"]["documents"]["records"], 2);
    assert_eq!(inspected["contents"]["records"], 4);
    let text = journal(gateway.data_dir(), &["inspect"]).await.printed();
    let words =
        [status["journal"]["id"].as_str().unwrap(), "documents", "typed", "damage     none"];
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    let verified = journal(gateway.data_dir(), &["verify"]).await.printed();
    assert!(verified.ends_with("sound\n"), "{verified}");

    let (lines, complaints) = export(gateway.data_dir(), &[]).await;
    assert_eq!((lines.len(), complaints.as_str()), (5, ""));
    let (documents, _) = export(gateway.data_dir(), &["--stream", "documents"]).await;
    let data: Vec<Value> = documents.iter().map(|line| line["data"].clone()).collect();
    assert_eq!(data, gateway.payloads("documents").await);
    let ids: Vec<String> =
        gateway.column("select id::text from streams.documents order by id").await;
    for (line, id) in documents.iter().zip(ids) {
        assert_eq!((&line["id"], &line["source"]), (&json!(id), &json!("http")));
        assert!(line["user"].is_string() && line["received_at"].as_str().unwrap().ends_with('Z'));
    }
    let quarantined = lines.iter().find(|line| line["quarantine"] == true).unwrap();
    assert_eq!(quarantined["stream"], "typed");
    assert_eq!((&quarantined["line"], &quarantined["column"]), (&json!(2), &json!("n")));
    assert_eq!(quarantined["raw"], "{\"n\":\"one\"}");
    let typed = lines.iter().find(|line| line["data"]["n"] == 1).unwrap();
    assert_eq!(typed["data"]["more"], json!([1, 2]));
    // Only from a position on, only up to it.
    let position = documents[0]["position"].as_str().unwrap();
    assert_eq!(export(gateway.data_dir(), &["--from", position]).await.0.len(), 2);
    assert_eq!(export(gateway.data_dir(), &["--to", position]).await.0.len(), 3);

    gateway.kill9().await;
    let before = everything(gateway.data_dir());
    for arguments in [&["inspect"][..], &["verify"], &["export"]] {
        journal(gateway.data_dir(), arguments).await.printed();
    }
    assert_eq!(everything(gateway.data_dir()), before, "to look changes nothing");
}

#[tokio::test]
async fn a_journal_that_is_being_written_is_never_called_damaged() {
    const LOOKS: usize = 6;
    let gateway = Gateway::with(&SMALL_SEGMENTS).await;
    let mut oracle = Oracle::prepare(&gateway).await;
    let load = oracle.load(&gateway);
    for _ in 0..LOOKS {
        load.acknowledges(200).await;
        // So that segments end meanwhile.
        let padding = json!({"text": "x".repeat(100_000)});
        gateway.records("padding").json(&padding).send().await.expect(202);
        let verified = journal(gateway.data_dir(), &["verify"]).await.printed();
        assert!(verified.ends_with("sound\n"), "{verified}");
        let (lines, _) = export(gateway.data_dir(), &["--stream", "typed"]).await;
        let whole = |line: &Value| line["quarantine"] == true || line["data"]["version"].is_i64();
        assert!(lines.iter().all(whole));
    }
    load.finish(&mut oracle).await;
    gateway.wait_all_committed().await;
    oracle.verify(&gateway).await;
    let (lines, complaints) = export(gateway.data_dir(), &["--stream", "typed"]).await;
    assert_eq!(complaints, "");
    let records = lines.iter().filter(|line| line["quarantine"] != true);
    let mut exported: Vec<i64> =
        records.map(|line| line["data"]["version"].as_i64().unwrap()).collect();
    exported.sort_unstable();
    let sql = "select version from streams.typed order by 1";
    assert_eq!(exported, gateway.column::<i64>(sql).await);
    assert!(inspect(gateway.data_dir()).await["segments"].as_array().unwrap().len() > 1);
}

#[tokio::test]
async fn damage_is_told_by_file_byte_and_position_and_everything_else_comes_out() {
    let mut gateway = Gateway::with(&SMALL_SEGMENTS).await;
    gateway.create_stream(&json!({"name": "waiting"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    for n in 0..20 {
        let record = json!({"n": n, "text": "x".repeat(40_000)});
        gateway.records("waiting").json(&record).send().await.expect(202);
    }
    gateway.kill9().await;
    let data_dir = gateway.data_dir().to_owned();
    let (sound, _) = export(&data_dir, &[]).await;
    assert_eq!(sound.len(), 20);
    let segments = inspect(&data_dir).await["segments"].clone();
    let file = segments[1]["file"].as_str().unwrap();
    let path = data_dir.join("journal").join(file);
    // In the first entry of the second segment.
    File::options().write(true).open(&path).unwrap().write_all_at(&[0xA5; 8], 5_000).unwrap();
    let first = u64::from_str_radix(segments[1]["first"].as_str().unwrap(), 16).unwrap();
    let position = format!("{:016x}", first + 64);

    let verified = journal(&data_dir, &["verify"]).await;
    assert_eq!(verified.code, DAMAGED, "{}", verified.stderr);
    for words in [file, &position, "at byte 64 of", "checksum", "DAMAGED in 1 place"] {
        assert!(verified.stdout.contains(words), "{words}: {}", verified.stdout);
    }
    let inspected = inspect(&data_dir).await;
    assert_eq!(inspected["damages"][0]["from"], position.as_str());
    assert_eq!(inspected["damages"][0]["offset"], 64);
    let (lines, complaints) = export(&data_dir, &[]).await;
    assert_eq!(lines.len(), 20, "a line for each, one of them of bytes");
    assert!(complaints.contains(&position), "{complaints}");
    let damaged = lines.iter().find(|line| line.get("damaged").is_some()).unwrap();
    let bytes = BASE64.decode(damaged["base64"].as_str().unwrap()).unwrap();
    assert_eq!(fs::read(&path).unwrap()[64..64 + bytes.len()], bytes);
    assert!(!data_dir.join("journal/damaged").exists(), "to look sets nothing aside");

    // The start does; then the part comes out of the file that it was put into.
    stall.release().await;
    gateway.restart().await;
    gateway.wait_all_committed().await;
    let status = gateway.get("/v1/status").await.expect(200);
    let set_aside = status["journal"]["damages"][0]["set_aside"].as_str().unwrap();
    let (lines, complaints) = export(&data_dir, &["--file", set_aside]).await;
    assert_eq!(lines.len(), 1);
    assert!(complaints.contains(&position), "{complaints}");
    assert_eq!(BASE64.decode(lines[0]["base64"].as_str().unwrap()).unwrap(), bytes);
    assert_eq!(journal(&data_dir, &["verify", "--file", set_aside]).await.code, DAMAGED);
    let verified = journal(&data_dir, &["verify"]).await;
    assert!(verified.stdout.contains(set_aside), "{}", verified.stdout);
}

#[tokio::test]
async fn without_the_names_of_streams_records_come_out_as_bytes() {
    let mut gateway = Gateway::with(&SMALL_SEGMENTS).await;
    gateway.commit("unnamed", &json!([{"n": 1}, {"n": 2}])).await;
    gateway.kill9().await;
    let copy = copy_journal(gateway.data_dir());
    let (lines, complaints) = export(copy.path(), &[]).await;
    assert!(complaints.contains("streams.json"), "{complaints}");
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["rows"], &lines[0]["row"]), (&json!(2), &json!(0)));
    let bytes = BASE64.decode(lines[0]["base64"].as_str().unwrap()).unwrap();
    for text in [b"{\"n\":1}", b"{\"n\":2}"] {
        assert!(bytes.windows(text.len()).any(|window| window == text), "the tuples are whole");
    }
    // A segment that was put elsewhere tells by itself where it belongs.
    let segment = copy.path().join("journal/0000000000000000.segment");
    let moved = copy.path().join("a copy");
    fs::rename(segment, &moved).unwrap();
    let arguments = ["--file", moved.to_str().unwrap(), "--stream", "unnamed"];
    let (lines, _) = export(gateway.data_dir(), &arguments).await;
    let data: Vec<&Value> = lines.iter().map(|line| &line["data"]).collect();
    assert_eq!(data, [&json!({"n": 1}), &json!({"n": 2})]);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_and_nothing_is_overwritten() {
    let empty = working_directory();
    for arguments in [&["inspect"][..], &["export"]] {
        let told = journal(empty.path(), arguments).await.complained(1);
        assert!(told.contains("journal"), "{told}");
    }
    journal(empty.path(), &["verify"]).await.complained(UNREADABLE);
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "nothing was made");

    let gateway = Gateway::start().await;
    gateway.commit("kept", &json!({"n": 1})).await;
    let output = empty.path().join("export.ndjson");
    let arguments = ["export", "--output", output.to_str().unwrap()];
    assert_eq!(journal(gateway.data_dir(), &arguments).await.printed(), "");
    let written = fs::read_to_string(&output).unwrap();
    assert_eq!(written.lines().count(), 1, "{written}");
    gateway.commit("kept", &json!({"n": 2})).await;
    journal(gateway.data_dir(), &arguments).await.complained(1);
    assert_eq!(fs::read_to_string(&output).unwrap(), written);
    let told = journal(gateway.data_dir(), &["export", "--from", "xyz"]).await.complained(2);
    assert!(told.contains("hexadecimal"), "{told}");
}
