//! `tidegate serve` on a fresh machine: no database is given, so it runs its own, and keeps it in order through stops,
//! kills and mistakes. As root, too: PostgreSQL itself refuses to run as root.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::command::{Serve, program, run, tidegate, working_directory};
use crate::support::people::Outsider;
use crate::support::{Reply, eventually, soon};

async fn commit(gateway: &Serve, record: Value) {
    let outsider = Outsider::at(gateway.address());
    let request = outsider.request(Method::POST, "/v1/streams/hello/records?ack=commit");
    Reply::to(request.bearer_auth(gateway.token()).json(&record)).await.expect(201);
}

/// How many records are in the table; `None` while PostgreSQL is not there to tell.
async fn count(gateway: &Serve) -> Option<u64> {
    let directory = gateway.data_dir();
    let url = run(&mut tidegate(&directory, &["db-url", "--data-dir", "."])).await.printed();
    let mut psql = program("psql", &directory);
    psql.args(["-XAtq", "-d", url.trim_end(), "-c", "select count(*) from streams.hello"]);
    let output = run(&mut psql).await;
    (output.code == 0).then(|| output.stdout.trim_end().parse().unwrap())
}

#[tokio::test]
async fn one_command_is_enough_and_its_curl_line_works_as_it_stands() {
    let directory = working_directory();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    let printed = gateway.printed().to_owned();
    assert!(printed.contains(&format!("http://{}/\n", gateway.address())), "{printed}");
    for word in ["Look:", "Database:", "Sign in:", "Send a record"] {
        assert!(printed.contains(word), "{word} in {printed}");
    }
    let curl = printed[printed.find("curl ").expect("a curl line")..].trim_end();
    let elsewhere = working_directory();
    let mut shell = program("sh", elsewhere.path());
    let reply = run(shell.args(["-c", curl])).await.printed();
    let reply: Value = serde_json::from_str(&reply).unwrap_or_else(|_| panic!("{reply}"));
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(1), &json!(0)), "{reply}");
    let page = Outsider::at(gateway.address()).request(Method::GET, "/").send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    eventually("it is in its table", async || (count(&gateway).await == Some(1)).then_some(()))
        .await;

    let postgres = gateway.postgres().expect("PostgreSQL runs");
    let owner = std::fs::metadata(gateway.data_dir().join("postgres/data")).unwrap();
    if nix::unistd::geteuid().is_root() {
        assert_ne!(std::os::unix::fs::MetadataExt::uid(&owner), 0, "not as root");
    }
    assert_eq!(gateway.terminate().await, 0);
    assert_eq!(gateway.postgres(), None, "PostgreSQL is stopped with its gateway");
    assert!(kill(postgres, None).is_err(), "and gone");

    // A command for which no gateway runs starts PostgreSQL for itself, and stops it again.
    let users = run(&mut tidegate(directory.path(), &["user", "list"])).await.printed();
    assert!(users.contains("admin"), "{users}");
    assert_eq!(gateway.postgres(), None);
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    assert!(!gateway.printed().contains("Sign in:"), "the password is shown once");
    assert_eq!(count(&gateway).await, Some(1));
    assert_eq!(gateway.terminate().await, 0);
}

#[tokio::test]
async fn a_killed_gateway_finds_its_postgresql_again() {
    let directory = working_directory();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    commit(&gateway, json!({"n": 1})).await;
    let postgres = gateway.postgres().expect("PostgreSQL runs");
    gateway.kill9().await;
    assert_eq!(gateway.postgres(), Some(postgres), "it runs on");

    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    assert_eq!(gateway.postgres(), Some(postgres), "the same one");
    commit(&gateway, json!({"n": 2})).await;
    assert_eq!(count(&gateway).await, Some(2));
    assert_eq!(gateway.terminate().await, 0);
    assert_eq!(gateway.postgres(), None, "an adopted one is stopped too");
}

#[tokio::test]
async fn a_power_cut_leaves_nothing_that_stands_in_the_way() {
    let directory = working_directory();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    commit(&gateway, json!({"n": 1})).await;
    let postgres = gateway.postgres().expect("PostgreSQL runs");
    gateway.kill9().await;
    kill(postgres, nix::sys::signal::Signal::SIGKILL).unwrap();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    assert_ne!(gateway.postgres(), Some(postgres));
    assert_eq!(count(&gateway).await, Some(1));
    assert_eq!(gateway.terminate().await, 0);
}

#[tokio::test]
async fn a_postgresql_that_dies_is_started_again() {
    let directory = working_directory();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    commit(&gateway, json!({"n": 1})).await;
    let postgres = gateway.postgres().expect("PostgreSQL runs");
    kill(postgres, nix::sys::signal::Signal::SIGKILL).unwrap();
    let outsider = Outsider::at(gateway.address());
    let request = outsider.request(Method::POST, "/v1/streams/hello/records");
    let request = request.bearer_auth(gateway.token()).json(&json!({"n": 2}));
    Reply::to(request).await.expect(202);
    eventually("another one runs", async || gateway.postgres().filter(|pid| *pid != postgres))
        .await;
    eventually("both are in the table", async || (count(&gateway).await == Some(2)).then_some(()))
        .await;
    eventually("it is ready again", async || {
        let reply = Reply::to(outsider.request(Method::GET, "/readyz")).await;
        (reply.status == 200).then_some(())
    })
    .await;
    assert_eq!(gateway.terminate().await, 0);
}

#[tokio::test]
async fn two_gateways_do_not_share_a_directory() {
    let directory = working_directory();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    let mut second = tidegate(directory.path(), &["serve", "--listen", "127.0.0.1:0"]);
    let complaint = run(&mut second).await.complained(1);
    assert!(
        complaint.contains("another gateway") && complaint.contains("--data-dir"),
        "{complaint}"
    );
    commit(&gateway, json!({"n": 1})).await;
    assert_eq!(gateway.terminate().await, 0);
}

#[tokio::test]
async fn missing_programs_are_told_with_what_to_do() {
    let directory = working_directory();
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let mut command =
        tidegate(directory.path(), &["serve", "--listen", "127.0.0.1:0", "--postgres-bin"]);
    let complaint = run(command.arg(&empty)).await.complained(1);
    assert!(complaint.contains(empty.to_str().unwrap()), "where it looked: {complaint}");
    assert!(complaint.contains("apt-get install postgresql"), "how to install: {complaint}");
    assert!(
        complaint.contains("DATABASE_URL") && complaint.contains("--database-url"),
        "how to do without: {complaint}"
    );
    let mut command = tidegate(
        directory.path(),
        &["serve", "--listen", "127.0.0.1:0", "--postgres-user", "nobody-at-all"],
    );
    if nix::unistd::geteuid().is_root() {
        let complaint = run(&mut command).await.complained(1);
        assert!(complaint.contains("nobody-at-all"), "{complaint}");
    }
}

/// Starts `serve`, which must not come up, and looks whether its PostgreSQL is gone with it.
async fn fails_late(directory: &Path, stopped: &Serve, word: &str) {
    let mut command = tidegate(directory, &["serve", "--listen", "127.0.0.1:0"]);
    let complaint = run(&mut command).await.complained(1);
    assert!(complaint.contains(word), "{word}: {complaint}");
    assert!(complaint.contains("the private PostgreSQL is ready"), "it was late: {complaint}");
    assert_eq!(stopped.postgres(), None, "{word}: PostgreSQL was left behind");
}

#[tokio::test]
async fn a_start_that_fails_late_leaves_no_postgresql_behind() {
    let directory = working_directory();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    commit(&gateway, json!({"n": 1})).await;
    assert_eq!(gateway.terminate().await, 0);
    let key = gateway.data_dir().join("secret-key");
    let sound = std::fs::read(&key).unwrap();
    std::fs::write(&key, "no key").unwrap();
    fails_late(directory.path(), &gateway, "secret-key").await;
    std::fs::write(&key, sound).unwrap();
    let token = gateway.data_dir().join("local-token");
    std::fs::remove_file(&token).unwrap();
    std::fs::create_dir(&token).unwrap();
    fails_late(directory.path(), &gateway, "local token").await;
    std::fs::remove_dir(&token).unwrap();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    assert_eq!(count(&gateway).await, Some(1), "it was stopped in order");
    assert_eq!(gateway.terminate().await, 0);
}

#[tokio::test]
async fn a_start_that_is_interrupted_leaves_no_postgresql_behind() {
    let directory = working_directory();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    assert_eq!(gateway.terminate().await, 0);
    let note = gateway.data_dir().join("postgres/data/postmaster.pid");
    // As soon as there is a server, and as soon as it is ready.
    for word in ["", "ready"] {
        let mut child = tidegate(directory.path(), &["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("PostgreSQL is there", async || {
            std::fs::read_to_string(&note)
                .ok()
                .filter(|text| !text.is_empty() && text.contains(word))
        })
        .await;
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let status = soon("it ends", child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "{word:?}");
        eventually("PostgreSQL is gone", async || gateway.postgres().is_none().then_some(())).await;
    }
}

#[tokio::test]
async fn a_command_that_is_interrupted_leaves_no_postgresql_behind() {
    let directory = working_directory();
    let mut gateway = Serve::start(directory.path(), &[], &[]).await;
    assert_eq!(gateway.terminate().await, 0);
    let note = gateway.data_dir().join("postgres/data/postmaster.pid");
    // It waits for a password that does not come.
    let mut child = tidegate(directory.path(), &["user", "passwd", "admin", "--password-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _open = child.stdin.take().unwrap();
    eventually("PostgreSQL is ready", async || {
        std::fs::read_to_string(&note).ok().filter(|text| text.contains("ready"))
    })
    .await;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let status = soon("it ends", child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(130));
    eventually("PostgreSQL is gone", async || gateway.postgres().is_none().then_some(())).await;
}
