//! The command line: help, users, tokens, streams, settings and mistakes. `tail` has [`crate::monitors::tail`].

use std::path::Path;

use clap::CommandFactory;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::cli::Cli;
use tokio::process::Command;

use crate::support::command::{
    Output, Serve, program, run, run_with_input, tidegate, working_directory,
};
use crate::support::people::{Outsider, PASSWORD};
use crate::support::{Gateway, TestDatabase, eventually};

/// A gateway, and commands that work on its database.
struct Desk {
    gateway: Gateway,
    directory: TempDir,
}

impl Desk {
    async fn open() -> Desk {
        Desk { gateway: Gateway::start().await, directory: working_directory() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tidegate(self.directory.path(), arguments);
        command.env("DATABASE_URL", self.gateway.database_url());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments)).await
    }

    async fn with_input(&self, arguments: &[&str], input: &str) -> Output {
        run_with_input(&mut self.command(arguments), input).await
    }

    async fn add_user(&self, name: &str, role: &str) {
        let arguments = ["user", "add", name, "--role", role, "--password-stdin"];
        self.with_input(&arguments, &format!("{PASSWORD}\n")).await.printed();
    }
}

/// Every command with its subcommands, as arguments.
fn commands(
    command: &clap::Command,
    path: &[String],
    found: &mut Vec<(Vec<String>, clap::Command)>,
) {
    found.push((path.to_vec(), command.clone()));
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        let path: Vec<String> = path.iter().cloned().chain([inner.get_name().to_owned()]).collect();
        commands(inner, &path, found);
    }
}

fn all_commands() -> Vec<(Vec<String>, clap::Command)> {
    let mut tree = Cli::command();
    tree.build();
    let mut found = Vec::new();
    commands(&tree, &[], &mut found);
    found
}

/// A line of a table, its cells.
fn cells<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.split_whitespace().any(|cell| cell == first));
    line.unwrap_or_else(|| panic!("{first} in {table}")).split_whitespace().collect()
}

#[tokio::test]
async fn every_command_explains_itself() {
    let directory = working_directory();
    let commands = all_commands();
    assert!(commands.len() > 15, "{}", commands.len());
    for (path, command) in commands {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = run(&mut tidegate(directory.path(), &arguments)).await.printed();
        let usage = format!(
            "Usage: tidegate{}",
            path.iter().map(|word| format!(" {word}")).collect::<String>()
        );
        assert!(help.contains(&usage), "{help}");
        let about = command
            .get_about()
            .unwrap_or_else(|| panic!("{path:?} says nothing of itself"))
            .to_string();
        let first_words: Vec<&str> = about.split_whitespace().take(3).collect();
        assert!(
            help.split_whitespace().collect::<Vec<_>>().join(" ").contains(&first_words.join(" ")),
            "{help}"
        );
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{path:?}: {} is not explained",
                argument.get_id()
            );
        }
    }
}

#[test]
fn every_flag_has_an_environment_variable() {
    let mut without = Vec::new();
    for (path, command) in all_commands() {
        let flags = command.get_arguments().filter(|argument| argument.get_long().is_some());
        for flag in flags.filter(|flag| !["help", "version"].contains(&flag.get_id().as_str())) {
            if flag.get_env().is_none() {
                without.push(format!("{} --{}", path.join(" "), flag.get_long().unwrap()));
            }
        }
    }
    without.sort_unstable();
    assert_eq!(without, Vec::<String>::new());
}

#[tokio::test]
async fn users_are_managed_while_the_gateway_runs() {
    let desk = Desk::open().await;
    let outsider = Outsider::of(&desk.gateway);
    let may_come_in = async |password: &str, expected: u16| {
        eventually("the gateway has heard of it", async || {
            (outsider.who_by_password("ada", password).await.status == expected).then_some(())
        })
        .await;
    };
    let add = ["user", "add", "ada", "--email", "ada@example.com", "--password-stdin"];
    let printed = desk.with_input(&add, &format!("{PASSWORD}\n")).await.printed();
    assert!(printed.contains("ada") && printed.contains("member"), "{printed}");
    may_come_in(PASSWORD, 200).await;
    desk.add_user("grace", "admin").await;
    let table = desk.run(&["user", "list"]).await.printed();
    assert_eq!(cells(&table, "ada")[1..5], ["ada", "member", "enabled", "ada@example.com"]);
    assert_eq!(cells(&table, "grace")[1..5], ["grace", "admin", "enabled", "-"]);

    desk.with_input(&["user", "passwd", "ada", "--password-stdin"], "another password")
        .await
        .printed();
    may_come_in("another password", 200).await;
    outsider.who_by_password("ada", PASSWORD).await.problem(401, "invalid_password");
    let sensor = ["token", "create", "--user", "ada", "--name", "sensor", "--scope", "read"];
    desk.run(&sensor).await.printed();
    let passwd = ["user", "passwd", "ada", "--password-stdin"];
    desk.with_input(&passwd, "a third password").await.printed();
    let tokens = ["token", "list", "--user", "ada"];
    assert!(desk.run(&tokens).await.printed().contains("sensor"), "tokens go on");
    let passwd = ["user", "passwd", "ada", "--revoke-tokens", "--password-stdin"];
    desk.with_input(&passwd, "another password").await.printed();
    assert!(!desk.run(&tokens).await.printed().contains("sensor"));
    may_come_in("another password", 200).await;
    desk.run(&["user", "disable", "ada"]).await.printed();
    may_come_in("another password", 401).await;
    assert_eq!(cells(&desk.run(&["user", "list"]).await.printed(), "ada")[3], "disabled");
    desk.run(&["user", "enable", "ada"]).await.printed();
    may_come_in("another password", 200).await;

    for (arguments, input, word) in [
        (&["user", "add", "ada", "--password-stdin"][..], PASSWORD, "already"),
        (&["user", "add", "bob", "--password-stdin"], "short", "8 characters"),
        (&["user", "add", "bob", "--password-stdin"], "two lines\nof a password\n", "one line"),
        (&["user", "passwd", "eve", "--password-stdin"], PASSWORD, "no user eve"),
        (&["user", "disable", "eve"], "", "no user eve"),
        (&["user", "add", "bob"], "", "--password-stdin"),
    ] {
        let complaint = desk.with_input(arguments, input).await.complained(1);
        assert!(complaint.contains(word), "{arguments:?}: {complaint}");
    }
    let complaint =
        desk.with_input(&["user", "add", "a:b", "--password-stdin"], PASSWORD).await.complained(2);
    assert!(complaint.contains("colon"), "{complaint}");
    desk.run(&["user", "disable", "grace"]).await.printed();
    let complaint = desk.run(&["user", "disable", "admin"]).await.complained(1);
    assert!(complaint.contains("last enabled admin"), "{complaint}");
}

#[tokio::test]
async fn a_token_works_as_it_is_printed_until_it_is_revoked() {
    let desk = Desk::open().await;
    desk.add_user("ada", "member").await;
    let create = [
        "token",
        "create",
        "--user",
        "ada",
        "--name",
        "sensor",
        "--scope",
        "ingest,read",
        "--stream",
        "mine",
        "--expires-in-days",
        "30",
        "--rate",
        "500",
    ];
    let created = desk.run(&create).await;
    assert!(created.stderr.contains("once"), "{}", created.stderr);
    let printed = created.printed();
    let token = printed.strip_suffix('\n').unwrap();
    assert!(
        token.starts_with("tg_") && token.len() > 40 && !token.contains(char::is_whitespace),
        "{printed:?}"
    );
    let client = desk.gateway.with_token(token);
    eventually("the gateway has heard of it", async || {
        let reply = client.records("mine").json(&json!({"n": 1})).send().await;
        // The stream is not there, and this token may not make it; but the gateway knows who asks.
        (reply.status != 401).then(|| reply.problem(404, "no_such_stream"))
    })
    .await;
    desk.gateway.create_stream(&json!({"name": "mine"})).await;
    client.commit("mine", &json!({"n": 1})).await;
    client.records("other").json(&json!({"n": 1})).send().await.problem(403, "stream_not_allowed");

    let table = desk.run(&["token", "list"]).await.printed();
    let line = cells(&table, "sensor");
    assert_eq!(line[1..6], ["ada", "sensor", "ingest,read", "mine", "500/s"]);
    assert!(!table.contains(token));
    let id = line[0];
    let none = desk.run(&["token", "list", "--user", "admin"]).await.printed();
    assert!(!none.contains("sensor"), "{none}");
    desk.run(&["token", "revoke", id]).await.printed();
    eventually("the gateway has heard of it", async || {
        (client.get("/v1/streams").await.status == 401).then_some(())
    })
    .await;
    for (arguments, code, word) in [
        (&["token", "revoke", id][..], 1, "no token"),
        (&["token", "create", "--user", "eve", "--scope", "read"], 1, "no user eve"),
        (&["token", "create", "--user", "ada", "--scope", "admin"], 1, "admin"),
        (&["token", "create", "--user", "ada", "--scope", "root"], 2, "root"),
        (&["token", "create", "--user", "ada"], 2, "--scope"),
        (&["token", "create", "--user", "ada", "--scope", "read", "--stream", "No"], 2, "No"),
        (&["token", "list", "--user", "eve"], 1, "no user eve"),
    ] {
        let complaint = desk.run(arguments).await.complained(code);
        assert!(complaint.contains(word), "{arguments:?}: {complaint}");
    }
}

#[tokio::test]
async fn streams_are_made_and_shown() {
    let desk = Desk::open().await;
    let list = desk.run(&["stream", "list"]).await.printed();
    assert_eq!(list.lines().count(), 1, "only the heading: {list}");
    let create = [
        "stream",
        "create",
        "flights",
        "--column",
        "carrier:text=??",
        "--column",
        "delay:double precision",
        "--column",
        "n:integer=5",
        "--column",
        "id_:bigint",
        "--from",
        "id_=id",
        "--unknown",
        "drop",
        "--key",
        "n",
        "--on-duplicate",
        "replace",
    ];
    let printed = desk.run(&create).await.printed();
    let stream: Value =
        serde_json::from_str(&printed).unwrap_or_else(|_| panic!("JSON: {printed}"));
    assert_eq!(stream["name"], "flights");
    desk.run(&["stream", "create", "documents", "--payload", "json", "--retention-days", "7"])
        .await
        .printed();
    let shown = eventually("the gateway has heard of it", async || {
        let reply = desk.gateway.get("/v1/streams/flights").await;
        desk.gateway.get("/v1/streams/documents").await.body.get("kind")?;
        (reply.status == 200).then_some(reply.body)
    })
    .await;
    assert_eq!(
        (&shown["unknown"], &shown["key"], &shown["on_duplicate"]),
        (&json!("drop"), &json!(["n"]), &json!("replace"))
    );
    assert_eq!(shown["columns"][0], json!({"name": "carrier", "type": "text", "default": "??"}));
    assert_eq!(shown["columns"][2], json!({"name": "n", "type": "integer", "default": 5}));
    assert_eq!(shown["columns"][3], json!({"name": "id_", "type": "bigint", "from": "id"}));
    desk.gateway.commit("flights", &json!({"delay": 1.5, "id": 7})).await;
    let sum = "select n + id_ from streams.flights";
    assert_eq!(desk.gateway.column::<i64>(sum).await, [12]);

    let list = desk.run(&["stream", "list"]).await.printed();
    assert_eq!(cells(&list, "flights"), ["flights", "typed", "4", "replace", "-"]);
    assert_eq!(cells(&list, "documents"), ["documents", "document", "0", "-", "7", "days"]);

    for (arguments, code, word) in [
        (&["stream", "create", "flights"][..], 1, "already"),
        (&["stream", "create", "No"], 2, "lower-case"),
        (&["stream", "create", "a", "--column", "n"], 1, "NAME:TYPE"),
        (&["stream", "create", "a", "--column", "n:float"], 1, "float"),
        (&["stream", "create", "a", "--column", "id:text"], 1, "id"),
        (&["stream", "create", "a", "--column", "n:text", "--from", "n"], 1, "NAME=KEY"),
        (&["stream", "create", "a", "--column", "n:text", "--from", "m=k"], 1, "--column m"),
        (&["stream", "create", "a", "--unknown", "keep"], 1, "--unknown"),
        (&["stream", "create", "a", "--key", "/a", "--retention-days", "3"], 1, "retention_days"),
        (&["stream", "show", "nowhere"], 1, "nowhere"),
    ] {
        let complaint = desk.run(arguments).await.complained(code);
        assert!(complaint.contains(word), "{arguments:?}: {complaint}");
    }
}

#[tokio::test]
async fn a_column_can_take_times_as_numbers() {
    let desk = Desk::open().await;
    let create = ["stream", "create", "timed", "--column", "at:timestamptz", "--epoch", "at=ms"];
    let printed = desk.run(&create).await.printed();
    let stream: Value = serde_json::from_str(&printed).unwrap();
    let expected = json!({"name": "at", "type": "timestamptz", "epoch": "ms"});
    assert_eq!(stream["columns"][0], expected);
    eventually("the gateway has heard of it", async || {
        (desk.gateway.get("/v1/streams/timed").await.status == 200).then_some(())
    })
    .await;
    desk.gateway.commit("timed", &json!({"at": 86_400_000})).await;
    let day = "select at = '1970-01-02 00:00:00Z' from streams.timed";
    assert_eq!(desk.gateway.column::<bool>(day).await, [true]);
    for (arguments, word) in [
        (["n:text", "--epoch", "n=ms"], "timestamptz"),
        (["n:timestamptz", "--epoch", "n=m"], "--epoch"),
        (["n:timestamptz", "--epoch", "n"], "NAME=s|ms|us|ns"),
        (["n:timestamptz", "--epoch", "m=s"], "--column m"),
    ] {
        let arguments = [&["stream", "create", "a", "--column"], &arguments[..]].concat();
        let complaint = desk.run(&arguments).await.complained(1);
        assert!(complaint.contains(word), "{arguments:?}: {complaint}");
    }
}

#[tokio::test]
async fn a_stream_is_shown_as_the_api_shows_it() {
    let desk = Desk::open().await;
    let definition = json!({
        "name": "flights", "columns": [{"name": "n", "type": "integer"}], "key": ["n"],
    });
    let shown = desk.gateway.create_stream(&definition).await;
    let printed = desk.run(&["stream", "show", "flights"]).await.printed();
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), shown);
}

#[tokio::test]
async fn columns_are_proposed_without_a_database() {
    let directory = working_directory();
    let infer = async |arguments: &[&str]| {
        let arguments: Vec<&str> = ["stream", "infer"].iter().chain(arguments).copied().collect();
        run(&mut tidegate(directory.path(), &arguments)).await
    };
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("sample.csv", "origin,temp\nEWR,39.02\nJFK,NA\n");
    write("sample.ndjson", "{\"n\":1}\n{\"n\":2}\n");
    write("sample.data", "[{\"ok\":true}]");
    write("broken.json", "[{\"ok\":");
    let proposed: Value =
        serde_json::from_str(&infer(&["sample.csv", "--null", "NA"]).await.printed()).unwrap();
    assert_eq!(proposed["records"], 2);
    assert_eq!(
        (&proposed["columns"][0]["name"], &proposed["columns"][0]["type"]),
        (&json!("origin"), &json!("text"))
    );
    assert_eq!(
        (&proposed["columns"][1]["type"], &proposed["columns"][1]["nulls"]),
        (&json!("double precision"), &json!(1))
    );
    let proposed: Value = serde_json::from_str(&infer(&["sample.ndjson"]).await.printed()).unwrap();
    assert_eq!((&proposed["columns"][0]["name"], &proposed["records"]), (&json!("n"), &json!(2)));
    let proposed: Value =
        serde_json::from_str(&infer(&["sample.data", "--format", "json"]).await.printed()).unwrap();
    assert_eq!(proposed["columns"][0]["type"], "boolean");
    for (arguments, word) in [
        (&["sample.data"][..], "--format"),
        (&["nowhere.csv"], "nowhere.csv"),
        (&["broken.json"], "broken.json"),
    ] {
        let complaint = infer(arguments).await.complained(1);
        assert!(complaint.contains(word), "{complaint}");
    }
}

#[tokio::test]
async fn the_database_s_url_opens_it() {
    let directory = working_directory();
    let complaint = run(&mut tidegate(directory.path(), &["db-url"])).await.complained(1);
    assert!(complaint.contains("tidegate serve"), "{complaint}");
    let complaint = run(&mut tidegate(directory.path(), &["user", "list"])).await.complained(1);
    assert!(complaint.contains("--database-url"), "{complaint}");
    assert!(!directory.path().join("tidegate-data").exists(), "a question makes nothing");

    let _gateway = Serve::start(directory.path(), &[], &[]).await;
    let url = run(&mut tidegate(directory.path(), &["db-url"])).await.printed();
    let psql = |sql: &str| {
        let mut command = program("psql", directory.path());
        command.args(["-XAtq", "-d", url.trim_end(), "-c", sql]);
        command
    };
    assert_eq!(run(&mut psql("select name from tidegate.users")).await.printed(), "admin\n");
    // Commands find the same database.
    let users = run(&mut tidegate(directory.path(), &["user", "list"])).await.printed();
    assert_eq!(cells(&users, "admin")[1], "admin");
    let elsewhere = working_directory();
    let data = directory.path().join("tidegate-data");
    let arguments = ["db-url", "--data-dir", data.to_str().unwrap()];
    assert_eq!(run(&mut tidegate(elsewhere.path(), &arguments)).await.printed(), url);
}

#[tokio::test]
async fn a_wrong_flag_or_setting_is_named() {
    let directory = working_directory();
    for (arguments, environment, word) in [
        (&["serve", "--lisen", "127.0.0.1:0"][..], None, "--listen"),
        (&["serve", "--listen", "here"], None, "--listen"),
        (&["serve", "--writers", "0"], None, "--writers"),
        (&["serve", "--batch-rows", "many"], None, "--batch-rows"),
        (&["serve", "--log-format", "xml"], None, "json"),
        (&["serve"], Some(("TIDEGATE_WRITERS", "65")), "writers"),
        (&["serve"], Some(("TIDEGATE_INTAKE_WAIT_MS", "-1")), "intake-wait-ms"),
        (&["serve", "--entry-bytes-max", "90000000"], None, "--intake-bytes-max"),
        (&["serv"], None, "serve"),
        (&["user"], None, "Usage"),
        (&[], None, "Usage"),
    ] {
        let mut command = tidegate(directory.path(), arguments);
        let complaint = run(command.envs(environment)).await.complained(2);
        assert!(complaint.contains(word), "{arguments:?}: {complaint}");
    }
    let database = TestDatabase::create().await;
    let serve = async |arguments: &[&str]| {
        let arguments: Vec<&str> =
            ["serve", "--listen", "127.0.0.1:0"].iter().chain(arguments).copied().collect();
        let mut command = tidegate(directory.path(), &arguments);
        run(command.env("DATABASE_URL", database.url())).await.complained(1)
    };
    assert!(serve(&["--log", "a=b=c"]).await.contains("--log"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let holder = std::net::TcpListener::bind(taken).unwrap();
    let mut command = tidegate(directory.path(), &["serve", "--listen", &taken.to_string()]);
    let complaint = run(command.env("DATABASE_URL", database.url())).await.complained(1);
    assert!(complaint.contains(&taken.to_string()), "{complaint}");
    drop(holder);
}

#[tokio::test]
async fn a_url_that_is_not_postgresql_s_is_refused_at_the_start() {
    let directory = working_directory();
    for url in [
        "mysql://user:hunter2hunter2@127.0.0.1/x",
        "127.0.0.1:5432",
        "postgres://user:hunter2hunter2@127.0.0.1:port/x",
    ] {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--database-url", url];
        let complaint = run(&mut tidegate(directory.path(), &arguments)).await.complained(1);
        assert!(complaint.contains("URL"), "{url}: {complaint}");
        assert!(!complaint.contains("hunter2"), "{complaint}");
    }
}

#[tokio::test]
async fn a_first_password_that_cannot_be_is_told_at_the_start() {
    let directory = working_directory();
    let database = TestDatabase::create().await;
    let mut command = tidegate(directory.path(), &["serve", "--listen", "127.0.0.1:0"]);
    command.env("DATABASE_URL", database.url()).env("TIDEGATE_ADMIN_PASSWORD", "short");
    let complaint = run(&mut command).await.complained(1);
    assert!(complaint.contains("TIDEGATE_ADMIN_PASSWORD"), "{complaint}");
}

#[tokio::test]
async fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let directory = working_directory();
    let inner = directory.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let named = async |directory: &Path, arguments: &[&str], environment: Option<(&str, &str)>| {
        let arguments: Vec<&str> = ["db-url"].iter().chain(arguments).copied().collect();
        let mut command = tidegate(directory, &arguments);
        run(command.envs(environment)).await.complained(1)
    };
    assert!(named(directory.path(), &[], None).await.contains("./tidegate-data"));
    std::fs::write(
        directory.path().join(".env"),
        "# a comment\nTIDEGATE_DATA_DIR=\"./from file\"\n",
    )
    .unwrap();
    assert!(named(directory.path(), &[], None).await.contains("./from file"));
    let variable = Some(("TIDEGATE_DATA_DIR", "./from-variable"));
    assert!(named(directory.path(), &[], variable).await.contains("./from-variable"));
    assert!(
        named(directory.path(), &["--data-dir", "./from-flag"], variable)
            .await
            .contains("./from-flag")
    );
    std::fs::write(inner.join(".env"), "TIDEGATE_DATA_DIR\n").unwrap();
    let complaint = named(&inner, &[], None).await;
    assert!(complaint.contains(".env"), "{complaint}");
}
