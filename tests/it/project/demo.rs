//! `tidegate-demo` against a gateway: it finds that all is well, and it finds what is missing.

use serde_json::json;
use tokio::process::Command;

use crate::support::command::{Output, run, working_directory, workspace_binary};
use crate::support::{ALLOW_LOOPBACK, Gateway};

/// How most tests let it send.
const BATCHES: [&str; 10] = [
    "--duration",
    "1s",
    "--rate",
    "4000",
    "--burst",
    "400",
    "--batch",
    "100",
    "--connections",
    "4",
];

async fn demo(gateway: &Gateway, arguments: &[&str]) -> Output {
    let arguments: Vec<&str> = BATCHES.iter().chain(arguments).copied().collect();
    demo_sending(gateway, &arguments).await
}

/// With only these arguments about how to send.
async fn demo_sending(gateway: &Gateway, arguments: &[&str]) -> Output {
    let directory = working_directory();
    let mut command = Command::new(workspace_binary("tidegate-demo"));
    command
        .env_clear()
        .current_dir(directory.path())
        .args(["--url", &format!("http://{}", gateway.address())])
        .args(["--database-url", gateway.database_url()])
        .arg("--data-dir")
        .arg(gateway.data_dir())
        .args(arguments)
        .kill_on_drop(true);
    run(&mut command).await
}

#[tokio::test]
async fn the_demo_finds_that_all_is_well() {
    let gateway = Gateway::start().await;
    let output = demo(&gateway, &[]).await;
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    assert!(
        output.stdout.contains("OK: every acknowledged record is in its table exactly once"),
        "{}",
        output.stdout
    );
    assert!(!output.stdout.contains("WRONG"), "{}", output.stdout);
    for stream in ["weather", "movies"] {
        let committed = gateway.total(stream, "committed").await;
        assert!(committed > 100, "{committed} in {stream}");
        assert_eq!(gateway.rows(stream).await.to_string(), committed.to_string());
    }
    for word in ["acknowledged", "committed", "p50", "p99"] {
        assert!(output.stdout.to_lowercase().contains(word), "{word}: {}", output.stdout);
    }
    // It can be run again on the same streams, in every way of sending.
    for arguments in [
        &["--format", "csv", "--ack", "commit"][..],
        &["--single", "--rate", "200", "--burst", "20"],
    ] {
        let shared = ["--duration", "500ms", "--connections", "2", "--prefix", "again_"];
        let arguments: Vec<&str> = arguments.iter().chain(&shared).copied().collect();
        let output = demo_sending(&gateway, &arguments).await;
        assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    }
}

#[tokio::test]
async fn the_demo_finds_what_is_missing() {
    let gateway = Gateway::start().await;
    // Makes the streams, so that a trigger can be set that loses one of the records to come.
    assert_eq!(demo(&gateway, &[]).await.code, 0);
    gateway
        .execute(
            "create function lose_one() returns trigger language plpgsql as $$
             begin
                 if new.demo_seq % 1000 = 7 then return null; end if;
                 return new;
             end $$;
             create trigger lose_one before insert on streams.weather for each row execute function lose_one()",
        )
        .await;
    let output = demo(&gateway, &["--movies", "0", "--settle", "5s"]).await;
    assert_eq!(output.code, 1, "{}{}", output.stdout, output.stderr);
    let wrong: Vec<&str> = output.stdout.lines().filter(|line| line.contains("WRONG")).collect();
    assert!(
        wrong.iter().any(|line| line.contains("weather") && line.contains("missing in the table")),
        "{wrong:?}"
    );
    assert!(!output.stdout.contains("OK:"), "{}", output.stdout);
}

#[tokio::test]
async fn the_demo_makes_no_verdict_of_what_it_cannot_check() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "weather"})).await;
    let output = demo(&gateway, &[]).await;
    assert_eq!(output.code, 2, "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains("weather"), "{}", output.stderr);
    let output = demo(&gateway, &["--token", "tg_wrong", "--prefix", "other_"]).await;
    assert_eq!(output.code, 2, "{}{}", output.stdout, output.stderr);
    let output = demo(&gateway, &["--prefix", "No"]).await;
    assert_eq!(output.code, 2, "{}{}", output.stdout, output.stderr);
}

#[tokio::test]
async fn the_demo_finds_that_polling_jobs_bring_exactly_what_changed() {
    let gateway = Gateway::with(&ALLOW_LOOPBACK).await;
    let output = demo_sending(&gateway, &["--jobs"]).await;
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    assert!(
        output.stdout.contains("OK: exactly the items that changed arrived"),
        "{}",
        output.stdout
    );
    let jobs = gateway.get("/v1/polling-jobs").await.expect(200);
    assert_eq!(jobs["jobs"], json!([]), "its jobs went with its API");
}
