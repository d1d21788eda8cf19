//! The same `Idempotency-Key` again gives the first answer and adds nothing, whatever happens in between.

use std::os::unix::fs::FileExt;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    Client, Compression, Gateway, Reply, Stall, compressed, eventually, parse_position,
};

/// The rows of the quarantine.
async fn kept(gateway: &Gateway) -> i64 {
    gateway.scalar("select count(*) from tidegate.quarantine").await
}

/// A repeat of what was answered with `first`.
#[track_caller]
fn expect_repeat(reply: Reply, first: &Value) {
    assert!(reply.is_replayed(), "{}", reply.body);
    assert_eq!(&reply.expect(202), first);
}

#[tokio::test]
async fn the_same_key_again_gives_the_same_answer_and_adds_nothing() {
    let gateway = Gateway::start().await;
    gateway
        .create_stream(&json!({"name": "typed", "columns": [{"name": "n", "type": "integer"}]}))
        .await;
    let lines = "{\"n\":1}\n{\"n\":\"two\"}\n{\"n\":3}\nbroken\n";
    let requests = || {
        [
            gateway.records("typed").json(&json!({"n": 1})).key("single"),
            gateway
                .records("typed")
                .json(&json!([{"n": 1}, {"n": 2}]))
                .query("return", "ids")
                .key("list"),
            gateway.records("typed").ndjson(lines).key("some are invalid"),
            gateway.records("typed").csv("n,m\n4,x\nfive,y\n").key("csv"),
            gateway.records("typed").ndjson("broken\n").key("all are invalid"),
        ]
    };
    let mut answers = Vec::new();
    for request in requests() {
        let reply = request.send().await;
        assert!(!reply.is_replayed());
        answers.push(reply.expect(202));
    }
    assert_eq!(answers[2]["errors"].as_array().unwrap().len(), 2);
    for round in 0..3 {
        for (request, first) in requests().into_iter().zip(&answers) {
            expect_repeat(request.send().await, first);
        }
        if round == 0 {
            gateway.wait_all_committed().await;
        }
    }
    // A single record that is invalid is refused the same way again.
    let refused =
        async || gateway.records("typed").json(&json!({"n": "one"})).key("refused").send().await;
    let first = refused().await;
    assert!(!first.is_replayed());
    let first = first.problem(422, "invalid_record");
    let again = refused().await;
    assert!(again.is_replayed());
    assert_eq!(again.problem(422, "invalid_record"), first);

    gateway.wait_all_committed().await;
    assert_eq!((gateway.rows("typed").await, kept(&gateway).await), (1 + 2 + 2 + 1, 2 + 1 + 1 + 1));
    assert_eq!(gateway.total("typed", "accepted").await, 6, "a repeat is not counted as accepted");
}

#[tokio::test]
async fn it_holds_over_kill_9_and_restarts() {
    let mut gateway = Gateway::with(&["--journal-segment-bytes=65536"]).await;
    gateway.create_stream(&json!({"name": "kept"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let text = "x".repeat(20_000);
    let body = |n: u32| format!("{{\"n\":{n},\"text\":\"{text}\"}}\nbroken {n}\n");
    let mut answers = Vec::new();
    for n in 0..20 {
        let request = gateway.records("kept").ndjson(body(n)).key(&format!("key {n}"));
        answers.push(request.send().await.expect(202));
    }
    gateway.kill9().await;
    stall.release().await;
    for round in 0..3 {
        gateway.restart().await;
        for (n, first) in (0..).zip(&answers) {
            let request = gateway.records("kept").ndjson(body(n)).key(&format!("key {n}"));
            expect_repeat(request.send().await, first);
        }
        let other = gateway.records("kept").ndjson("{\"n\":99}\n").key("key 7").send().await;
        other.problem(422, "idempotency_key_reused");
        gateway.wait_all_committed().await;
        assert_eq!((gateway.rows("kept").await, kept(&gateway).await), (20, 20), "round {round}");
        if round == 1 {
            assert_eq!(gateway.terminate().await, 0);
        }
    }
}

#[tokio::test]
async fn what_a_crash_cut_in_half_is_made_whole() {
    let mut gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "torn"})).await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let send = |gateway: &Gateway| {
        gateway.records("torn").ndjson("{\"n\":1}\nbroken\n{\"n\":2}\n").key("k")
    };
    let first = send(&gateway).send().await.expect(202);
    gateway.kill9().await;
    // As if the power had gone before the last sector was written: the records' entry is the last.
    let segment = gateway.data_dir().join("journal/0000000000000000.segment");
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    let end = parse_position(&first["position"]).0;
    file.write_all_at(&[0; 16], end - 24).unwrap();
    stall.release().await;
    gateway.restart().await;
    gateway.wait_all_committed().await;
    assert_eq!((gateway.rows("torn").await, kept(&gateway).await), (0, 1));

    let other = gateway.records("torn").ndjson("{\"n\":3}\n").key("k").send().await;
    other.problem(422, "idempotency_key_reused");
    let second = send(&gateway).send().await;
    assert!(!second.is_replayed());
    let second = second.expect(202);
    assert_eq!((&second["accepted"], &second["quarantined"]), (&json!(2), &json!(1)));
    expect_repeat(send(&gateway).send().await, &second);
    gateway.restart().await;
    expect_repeat(send(&gateway).send().await, &second);
    gateway.wait_all_committed().await;
    assert_eq!((gateway.rows("torn").await, kept(&gateway).await), (2, 1));
}

/// Senders repeat each request until it is answered, while the gateway is killed again and again.
#[tokio::test]
async fn kill_9_between_request_and_reply_makes_no_copies() {
    const SENDERS: u32 = 4;
    const KILLS: usize = 4;
    let mut gateway =
        Gateway::with(&["--batch-interval-ms=10", "--journal-segment-bytes=65536"]).await;
    gateway.create_stream(&json!({"name": "once"})).await;
    let mut unanswered: Vec<(u32, u32)> = Vec::new();
    let mut sent = 0;
    for _ in 0..KILLS {
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let client = gateway.clone();
            let from = sent;
            senders.spawn(async move {
                for n in from.. {
                    let lines = format!("{{\"sender\":{sender},\"n\":{n}}}\nbroken {sender} {n}\n");
                    let key = format!("{sender} {n}");
                    let request = client.records("once").ndjson(lines).key(&key);
                    match request.try_send().await {
                        Ok(reply) => drop(reply.expect(202)),
                        Err(_) => return (sender, n),
                    }
                }
                unreachable!("numbers do not end")
            });
        }
        eventually("records are accepted", async || {
            (gateway.total("once", "accepted").await >= 100).then_some(())
        })
        .await;
        gateway.kill9().await;
        let ended = senders.join_all().await;
        gateway.restart().await;
        for (sender, n) in &ended {
            let lines = format!("{{\"sender\":{sender},\"n\":{n}}}\nbroken {sender} {n}\n");
            let key = format!("{sender} {n}");
            let request = gateway.records("once").ndjson(lines).key(&key);
            request.send().await.expect(202);
        }
        sent = ended.iter().map(|(_, n)| n + 1).max().unwrap();
        unanswered.extend(ended);
    }
    gateway.wait_all_committed().await;
    let copies: Vec<i64> =
        gateway.column("select distinct count(*) from streams.once group by payload").await;
    assert_eq!(copies, [1]);
    let copies: Vec<i64> =
        gateway.column("select distinct count(*) from tidegate.quarantine group by raw").await;
    assert_eq!(copies, [1]);
    for (sender, n) in unanswered {
        let found = format!(
            "select count(*) from streams.once where payload = '{{\"sender\":{sender},\"n\":{n}}}'"
        );
        assert_eq!(gateway.scalar::<i64>(found).await, 1);
    }
}

#[tokio::test]
async fn fifty_at_once_make_one_copy_and_get_one_answer() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "crowd"})).await;
    for round in 0..5 {
        let mut crowd = JoinSet::new();
        for _ in 0..50 {
            let lines = format!("{{\"round\":{round}}}\nbroken {round}\n");
            let request = gateway.records("crowd").ndjson(lines).key(&format!("round {round}"));
            crowd.spawn(request.send());
        }
        let replies = crowd.join_all().await;
        let firsts = replies.iter().filter(|reply| !reply.is_replayed()).count();
        assert_eq!(firsts, 1);
        let first = replies[0].body.clone();
        for reply in replies {
            assert_eq!(reply.expect(202), first);
        }
    }
    gateway.wait_all_committed().await;
    assert_eq!((gateway.rows("crowd").await, kept(&gateway).await), (5, 5));
}

#[tokio::test]
async fn another_body_with_the_same_key_is_refused() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "one"})).await;
    gateway.create_stream(&json!({"name": "two"})).await;
    let csv = || gateway.records("one").csv("n\n1\n").key("k");
    let first = csv().send().await.expect(202);
    let others = [
        gateway.records("one").csv("n\n2\n").key("k"),
        gateway.records("one").csv("n\n1\n").query("null", "NA").key("k"),
        gateway.records("one").csv("n\n1\n").query("on_error", "reject").key("k"),
        gateway.records("one").ndjson("{\"n\":1}\n").key("k"),
        gateway.records("one").json(&json!({"n": 1})).key("k"),
    ];
    for other in others {
        other.send().await.problem(422, "idempotency_key_reused");
    }
    // What does not change what is taken does not matter, nor does the compression.
    expect_repeat(csv().query("ack", "journal").send().await, &first);
    let gzip = compressed(Compression::Gzip, b"n\n1\n").await;
    expect_repeat(gateway.records("one").csv(gzip).encoding("gzip").key("k").send().await, &first);
    let with_ids = csv().query("return", "ids").send().await;
    assert!(with_ids.is_replayed());
    assert_eq!(with_ids.expect(202)["ids"].as_array().unwrap().len(), 1);

    // Another stream, another user, other keys.
    let elsewhere = gateway.records("two").csv("n\n2\n").key("k").send().await;
    assert!(!elsewhere.is_replayed());
    elsewhere.expect(202);
    let ada = json!({"name": "ada", "password": "correct horse battery"});
    gateway.post("/v1/users", &ada).await.expect(201);
    let token = gateway
        .post("/v1/tokens", &json!({"name": "t", "scopes": ["ingest"], "user": "ada"}))
        .await
        .expect(201);
    let ada = gateway.with_token(token["token"].as_str().unwrap());
    let hers = ada.records("one").csv("n\n3\n").key("k").send().await;
    assert!(!hers.is_replayed());
    hers.expect(202);
    gateway.records("one").csv("n\n1\n").key("K").send().await.expect(202);
    gateway.wait_all_committed().await;
    assert_eq!((gateway.rows("one").await, gateway.rows("two").await), (3, 1));
}

#[tokio::test]
async fn a_key_is_1_to_255_printable_characters_and_comes_once() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "named"})).await;
    let record = || gateway.records("named").json(&json!({"n": 1}));
    for key in ["", "a\tb", "é", &"k".repeat(256)] {
        record().key(key).send().await.problem(400, "invalid_idempotency_key");
    }
    record().key("a").key("b").send().await.problem(400, "invalid_idempotency_key");
    for key in ["a", "a b", "\"quoted\"; ~", &"k".repeat(255)] {
        record().key(key).send().await.expect(202);
        assert!(record().key(key).send().await.is_replayed(), "{key}");
    }
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("named").await, 4);
}

#[tokio::test]
async fn what_took_nothing_leaves_its_key_free() {
    let gateway = Gateway::with(&["--entry-bytes-max=100000"]).await;
    gateway.create_stream(&json!({"name": "free"})).await;
    let send = |lines: String| gateway.records("free").ndjson(lines).key("k");
    let rejected = send("{\"n\":1}\nbroken\n".to_owned()).query("on_error", "reject").send().await;
    rejected.problem(422, "rejected");
    gateway
        .records("free")
        .body("application/json", "[{\"n\":1}")
        .key("k")
        .send()
        .await
        .problem(400, "truncated_body");
    send("{\"n\":1}\n".repeat(20_000)).send().await.problem(413, "too_large_for_key");
    // Few bytes, and far more as rows of the quarantine.
    send("x\n".repeat(40_000)).send().await.problem(413, "too_large_for_key");
    send("{\"n\":1}\n".repeat(2)).query("ack", "commit").send().await.expect(201);
    assert!(send("{\"n\":1}\n".repeat(2)).send().await.is_replayed());
    assert_eq!((gateway.rows("free").await, kept(&gateway).await), (2, 0));
}

#[tokio::test]
async fn a_repeat_can_wait_for_the_commit() {
    let mut gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "keyed", "key": ["/n"]})).await;
    let body = json!([{"n": 1}, {"n": 1}, {"n": 2}]);
    let request =
        |gateway: &Gateway| gateway.records("keyed").json(&body).query("ack", "commit").key("k");
    let counts = |body: &Value| (body["committed"].clone(), body["duplicates"].clone());

    // Both wait for the same commit, and one of them gives up.
    let stall = Stall::of_writers(gateway.pool()).await;
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        waiting.spawn(request(&gateway).send());
    }
    eventually("it is durable", async || {
        (gateway.total("keyed", "accepted").await == 3).then_some(())
    })
    .await;
    stall.release().await;
    for reply in waiting.join_all().await {
        assert_eq!(counts(&reply.expect(201)), (json!(2), json!(1)));
    }
    // Long after it.
    let later = request(&gateway).send().await;
    assert!(later.is_replayed());
    assert_eq!(counts(&later.expect(201)), (json!(2), json!(1)));
    gateway.commit("keyed", &json!({"n": 3})).await;

    // Another process knows that it is durable, and no more.
    gateway.wait_all_committed().await;
    gateway.restart().await;
    gateway.wait_all_committed().await;
    let reply = request(&gateway).send().await;
    assert!(reply.is_replayed());
    assert_eq!(reply.expect(202)["accepted"], 3);

    // Unless the commit is its own doing.
    let stall = Stall::of_writers(gateway.pool()).await;
    let other = |gateway: &Gateway| {
        gateway.records("keyed").json(&json!([{"n": 3}, {"n": 4}])).key("other")
    };
    other(&gateway).send().await.expect(202);
    gateway.kill9().await;
    stall.release().await;
    gateway.restart().await;
    gateway.wait_all_committed().await;
    let reply = other(&gateway).query("ack", "commit").send().await;
    assert!(reply.is_replayed());
    assert_eq!(counts(&reply.expect(201)), (json!(1), json!(1)));
    assert_eq!(gateway.rows("keyed").await, 4);
}

#[tokio::test]
async fn keys_go_with_the_journal_and_never_before() {
    let flags = [
        "--journal-segment-bytes=8192",
        "--journal-retention-seconds=0",
        "--idempotency-keys-max=3",
    ];
    let gateway = Gateway::with(&flags).await;
    gateway.create_stream(&json!({"name": "passing"})).await;
    let send =
        |n: u32| gateway.records("passing").json(&json!({"n": n})).key(&format!("{n}")).send();
    let stall = Stall::of_writers(gateway.pool()).await;
    for n in 0..3 {
        send(n).await.expect(202);
    }
    let full = send(3).await;
    assert!(full.retry_after_seconds() >= 1);
    full.problem(503, "idempotency_keys_full");
    assert!(send(0).await.is_replayed(), "what is known is answered at the limit");
    gateway.records("passing").json(&json!({"n": 9})).send().await.expect(202);
    stall.release().await;
    gateway.wait_all_committed().await;
    // New segments let the first ones go.
    let filler = json!({"text": "x".repeat(9_000)});
    eventually("the first key is forgotten", async || {
        gateway.commit("passing", &filler).await;
        let reply = send(0).await;
        reply.status.eq(&202).then_some(reply).filter(|reply| !reply.is_replayed())
    })
    .await;
    gateway.wait_all_committed().await;
    let copies = "select count(*) from streams.passing where payload = '{\"n\": 0}'";
    assert_eq!(gateway.scalar::<i64>(copies).await, 2);
}

/// Sends 2,000 records with a key each: how many had been taken before.
async fn send_all(gateway: &Gateway) -> usize {
    let mut senders = JoinSet::new();
    for sender in 0..8 {
        let client = Client::clone(gateway);
        senders.spawn(async move {
            let mut replayed = 0;
            for n in 0..250 {
                let record = json!({"sender": sender, "n": n});
                let request = client.records("many").json(&record).key(&format!("{sender}-{n}"));
                let reply = request.send().await;
                replayed += usize::from(reply.is_replayed());
                reply.expect(202);
            }
            replayed
        });
    }
    senders.join_all().await.into_iter().sum()
}

#[tokio::test]
async fn many_keys_are_all_remembered() {
    let mut gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "many"})).await;
    assert_eq!(send_all(&gateway).await, 0);
    gateway.restart().await;
    assert_eq!(send_all(&gateway).await, 2_000);
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("many").await, 2_000);
}
