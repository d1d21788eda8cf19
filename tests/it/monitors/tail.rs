//! `tidegate tail`: what it prints, that it stays through a restart, and when it gives up.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::support::command::{Serve, program, run, tidegate, working_directory};
use crate::support::people::Outsider;
use crate::support::{Gateway, Reply, TestDatabase, eventually, soon};

/// A tail whose output is read.
struct Tail {
    lines: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Tail {
    fn start(mut command: tokio::process::Command) -> Tail {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Tail { lines, child }
    }

    async fn line(&mut self) -> String {
        let line = soon("a line", self.lines.next_line()).await.unwrap();
        line.expect("tail goes on")
    }
}

fn of_gateway(gateway: &Gateway, arguments: &[&str]) -> tokio::process::Command {
    let mut command = tidegate(gateway.data_dir(), &["tail"]);
    command.args(arguments).args(["--url", &format!("http://{}", gateway.address())]);
    command.arg("--data-dir").arg(gateway.data_dir());
    command
}

async fn watched(gateway: &Gateway, monitors: u64) {
    eventually("the tail watches", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        (status["monitors"] == monitors).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_record_is_a_line() {
    let gateway = Gateway::start().await;
    for name in ["flights", "other"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    let mut plain = Tail::start(of_gateway(&gateway, &["flights"]));
    let mut exact = Tail::start(of_gateway(&gateway, &["--json"]));
    watched(&gateway, 2).await;
    gateway.records("other").json(&json!({"n": 0})).send().await.expect(202);
    let message: Value = serde_json::from_str(&exact.line().await).unwrap();
    assert_eq!(
        (&message["stream"], &message["records"][0]["data"]),
        (&json!("other"), &json!({"n": 0}))
    );
    let hostile = json!({"text": "\u{1b}[31mred\u{7}\n", "ü": 1});
    gateway.records("flights").json(&hostile).send().await.expect(202);
    let line = plain.line().await;
    let (time, rest) = line.split_once(' ').unwrap();
    let (stream, data) = rest.split_once(' ').unwrap();
    assert_eq!((time.len(), stream), (12, "flights"), "{line}");
    assert!(
        !line.contains(char::is_control),
        "a pipe gets no colours, and a terminal nothing to obey: {line:?}"
    );
    assert_eq!(serde_json::from_str::<Value>(data).unwrap(), hostile);
    let message: Value = serde_json::from_str(&exact.line().await).unwrap();
    assert_eq!(message["records"][0]["data"], hostile);

    // From a cursor on, it shows what came before.
    let since = message["cursor"].as_str().unwrap().to_owned();
    gateway.records("flights").json(&json!([{"n": 1}, {"n": 2}])).send().await.expect(202);
    let mut late = Tail::start(of_gateway(&gateway, &["flights", "--since", &since]));
    assert!(late.line().await.ends_with("flights {\"n\":1}"));
    assert!(late.line().await.ends_with("flights {\"n\":2}"));
    // A reader that has enough is no failure.
    let Tail { lines, mut child } = plain;
    drop(lines);
    let ended = eventually("it notices at its next line", async || {
        gateway.records("flights").json(&json!({"n": 3})).send().await.expect(202);
        child.try_wait().unwrap()
    })
    .await;
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn a_tail_stays_through_a_restart_and_misses_nothing() {
    let database = TestDatabase::create().await;
    let directory = working_directory();
    let environment = [("DATABASE_URL", database.url())];
    let mut gateway = Serve::start(directory.path(), &[], &environment).await;
    let address = gateway.address().to_owned();
    let send = async |gateway: &Serve, n: i64| {
        let outsider = Outsider::at(gateway.address());
        let request = outsider.request(reqwest::Method::POST, "/v1/streams/flights/records");
        Reply::to(request.bearer_auth(gateway.token()).json(&json!({"n": n}))).await.expect(202);
    };
    send(&gateway, 0).await;
    let tail =
        tidegate(directory.path(), &["tail", "flights", "--url", &format!("http://{address}")]);
    let mut tail = Tail::start(tail);
    eventually("the tail watches", async || {
        let request = Outsider::at(&address).request(reqwest::Method::GET, "/v1/status");
        let status = Reply::to(request.bearer_auth(gateway.token())).await.expect(200);
        (status["monitors"] == 1).then_some(())
    })
    .await;
    let mut next = 1;
    for graceful in [true, false] {
        send(&gateway, next).await;
        assert!(tail.line().await.ends_with(&format!("flights {{\"n\":{next}}}")), "{next}");
        if graceful {
            assert_eq!(gateway.terminate().await, 0);
        } else {
            gateway.kill9().await;
        }
        gateway = Serve::start(directory.path(), &["--listen", &address], &environment).await;
        send(&gateway, next + 1).await;
        assert!(
            tail.line().await.ends_with(&format!("flights {{\"n\":{}}}", next + 1)),
            "after the restart"
        );
        next += 2;
    }
    assert!(tail.child.try_wait().unwrap().is_none(), "it stays");
}

#[tokio::test]
async fn a_tail_that_may_not_watch_says_why() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "flights"})).await;
    for (arguments, word) in [
        (&["nowhere"][..], "nowhere"),
        (&["flights", "--token", "tg_wrong"], "--token"),
        (&["flights", "--since", "yesterday"], "since"),
    ] {
        let complaint = run(&mut of_gateway(&gateway, arguments)).await.complained(1);
        assert!(complaint.contains(word), "{arguments:?}: {complaint}");
    }
    let complaint = run(&mut of_gateway(&gateway, &["No Stream"])).await.complained(2);
    assert!(complaint.contains("lower-case"), "{complaint}");
    let elsewhere = working_directory();
    let url = format!("http://{}", gateway.address());
    let complaint =
        run(&mut tidegate(elsewhere.path(), &["tail", "--url", &url])).await.complained(1);
    assert!(complaint.contains("--token") && complaint.contains("--data-dir"), "{complaint}");
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let arguments = ["tail", "--token", "tg_x", "--url", &format!("http://{unused}")];
    let complaint = run(&mut tidegate(elsewhere.path(), &arguments)).await.complained(1);
    assert!(complaint.contains(&unused.to_string()), "{complaint}");
}

#[tokio::test]
async fn a_tail_in_a_pipe_ends_with_its_reader() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "flights"})).await;
    let mut shell = program("sh", gateway.data_dir());
    let script = format!(
        "tidegate tail flights --url http://{} --data-dir . | head -n 1",
        gateway.address()
    );
    shell.args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = shell.spawn().unwrap();
    watched(&gateway, 1).await;
    let mut output = Box::pin(child.wait_with_output());
    let mut n = 0;
    let output = soon("the pipe ends", async {
        loop {
            gateway.records("flights").json(&json!({"n": n})).send().await.expect(202);
            n += 1;
            if let Ok(output) =
                tokio::time::timeout(std::time::Duration::from_millis(50), &mut output).await
            {
                return output.unwrap();
            }
        }
    })
    .await;
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("flights {\"n\":0}\n"), "{text}");
}
