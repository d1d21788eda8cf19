//! Polling jobs from the command line, while the gateway runs.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::polling::jobs::finished;
use crate::support::command::{Output, run, tidegate, working_directory};
use crate::support::people::add_user;
use crate::support::{ALLOW_LOOPBACK, Gateway, ItemsApi};

async fn job(gateway: &Gateway, directory: &TempDir, arguments: &[&str]) -> Output {
    let data_dir = gateway.data_dir().to_str().unwrap();
    let place = ["--database-url", gateway.database_url(), "--data-dir", data_dir];
    let arguments = [&["job"][..], arguments, &place].concat();
    run(&mut tidegate(directory.path(), &arguments)).await
}

#[tokio::test]
async fn jobs_are_added_listed_run_paused_and_removed() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let directory = working_directory();
    add_user(&gateway, "ada", "member").await;
    api.serve("/x", json!({"data": [{"id": 1}]}));
    let url = api.url("/x");
    let secret = "Authorization: Bearer hunter2";
    let mut add = vec!["add", &url, "--interval-ms", "600000", "--items", "/data", "--key", "/id"];
    add.extend(["--user", "ada", "--secret-header", secret, "--more", r#"{"timeout_ms":5000}"#]);
    let printed = job(&gateway, &directory, &add).await.printed();
    assert!(!printed.contains("hunter2"), "{printed}");
    let made: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&made["owner"], &made["timeout_ms"]), (&json!("ada"), &json!(5_000)));
    let id = made["id"].as_str().unwrap();
    assert_eq!(finished(&gateway, id, 0).await["new"], 1, "the gateway noticed by itself");
    assert_eq!(api.header("/x", "authorization").as_deref(), Some("Bearer hunter2"));

    let list = job(&gateway, &directory, &["list"]).await.printed();
    let line = list.lines().nth(1).unwrap();
    for word in [id, "ada", "600000 ms", "success"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let as_json = job(&gateway, &directory, &["list", "--json", "--user", "ada"]).await.printed();
    let shown: Value = serde_json::from_str(as_json.trim_end()).unwrap();
    assert_eq!(shown, gateway.get(&format!("/v1/polling-jobs/{id}")).await.expect(200));
    gateway.execute("update tidegate.polling_jobs set unfinished = 'it cannot'").await;
    let list = job(&gateway, &directory, &["list"]).await.printed();
    assert!(list.contains("unfinished"), "{list}");
    job(&gateway, &directory, &["run", id]).await.printed();
    assert_eq!(finished(&gateway, id, 1).await["duplicates"], 1);

    job(&gateway, &directory, &["pause", id]).await.printed();
    let complaint = job(&gateway, &directory, &["run", id]).await.complained(1);
    assert!(complaint.contains("paused"), "{complaint}");
    job(&gateway, &directory, &["resume", id]).await.printed();
    job(&gateway, &directory, &["rm", id]).await.printed();
    let complaint = job(&gateway, &directory, &["rm", id]).await.complained(1);
    assert!(complaint.contains("no polling job"), "{complaint}");
    let wrong = ["add", &url, "--cron", "at noon"];
    let complaint = job(&gateway, &directory, &wrong).await.complained(1);
    assert!(complaint.contains("/cron"), "{complaint}");
    let wrong = ["add", &url, "--interval-ms", "5000", "--secret-header", "hunter2"];
    let complaint = job(&gateway, &directory, &wrong).await.complained(1);
    assert!(complaint.contains("Name: value") && !complaint.contains("hunter2"), "{complaint}");
}
