//! What monitors are told: every record once, exact counts, and a gap for all that was left out; and how they resume.
//! Who is let in and how a connection ends is in [`crate::monitors::watching`].

use reqwest::Method;
use serde_json::{Value, json};

use crate::monitors::events::Events;
use crate::support::Gateway;
use crate::support::people::{Token, add_user};
use crate::support::watcher::{Watcher, cursor_of};

/// Sends records with these numbers, one request each.
async fn send_each(gateway: &Gateway, stream: &str, numbers: impl IntoIterator<Item = i64>) {
    for n in numbers {
        gateway.records(stream).json(&json!({"n": n})).send().await.expect(202);
    }
}

/// Sends records with these numbers in one request.
async fn send_all(gateway: &Gateway, stream: &str, numbers: impl IntoIterator<Item = i64>) {
    let lines: Vec<String> = numbers.into_iter().map(|n| format!("{{\"n\":{n}}}\n")).collect();
    gateway.records(stream).ndjson(lines.concat()).send().await.expect(202);
}

fn numbers(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

#[tokio::test]
async fn a_monitor_is_greeted_and_sees_records_as_they_were_sent() {
    let gateway = Gateway::with(&["--node-name=lighthouse"]).await;
    gateway.create_stream(&json!({"name": "documents"})).await;
    let columns = json!([
        {"name": "n", "type": "integer"}, {"name": "at", "type": "timestamptz"},
        {"name": "big", "type": "numeric"}, {"name": "missing", "type": "text"},
    ]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    add_user(&gateway, "ada", "member").await;
    let token = Token::of(&gateway, "ada", &["ingest"], json!({})).await;
    let ada = gateway.with_token(&token.text);

    let mut watcher = Watcher::local(&gateway, "streams=typed,documents").await;
    let hello = &watcher.messages[0];
    let streams = ["documents", "typed"];
    assert_eq!(hello["streams"], json!(streams));
    assert_eq!((&hello["mode"], &hello["node"]), (&json!("full"), &json!("lighthouse")));
    assert_eq!(hello.as_object().unwrap().len(), 5, "{hello}");

    let document = json!({"z": 1, "a": [null, true, {"ü": "\"\n"}], "n": 1.50});
    let document_id =
        ada.records("documents").json(&document).send().await.expect(202)["id"].clone();
    let typed = json!({"n": 7, "at": "2013-01-01T05:17:00-05:00", "big": 12.345, "more": [1]});
    let typed_id = gateway.records("typed").json(&typed).send().await.expect(202)["id"].clone();
    watcher
        .until("both records", |it| streams.iter().all(|stream| it.records(stream).len() == 1))
        .await;

    let seen = watcher.records("documents")[0];
    assert_eq!(
        (&seen["id"], &seen["source"], &seen["user"]),
        (&document_id, &json!("http"), &json!("ada"))
    );
    assert_eq!(seen["data"], document);
    assert_eq!(seen.as_object().unwrap().len(), 5, "{seen}");
    gateway.wait_all_committed().await;
    let received_at: String = gateway
        .scalar("select to_char(received_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from streams.documents")
        .await;
    assert_eq!(seen["received_at"], received_at);
    let seen = watcher.records("typed")[0];
    assert_eq!((&seen["id"], &seen["user"]), (&typed_id, &json!("local")));
    let data = &seen["data"];
    assert_eq!(
        (&data["n"], &data["missing"], &data["big"]),
        (&json!(7), &Value::Null, &json!(12.345))
    );
    assert!(data["at"].as_str().unwrap().starts_with("2013-01-01T10:17:00"), "{data}");
    assert!(data.to_string().contains("\"more\":[1]"), "{data}");
}

#[tokio::test]
async fn every_record_is_seen_once_and_the_counts_are_exact() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "plain"})).await;
    let key = json!({"name": "keyed", "columns": [{"name": "n", "type": "bigint"}], "key": ["n"]});
    gateway.create_stream(&key).await;
    let mut watcher = Watcher::local(&gateway, "").await;
    let sending = async {
        for part in 0..10 {
            send_all(&gateway, "plain", part * 300..(part + 1) * 300).await;
            // Every number comes twice, and one in each part is none.
            send_all(&gateway, "keyed", part * 50..part * 50 + 100).await;
            let bad = json!([{"n": "none"}]);
            gateway.records("keyed").json(&bad).send().await.expect(202);
        }
        send_each(&gateway, "plain", 3_000..3_020).await;
    };
    let expected = |accepted: u64, committed: u64, quarantined: u64| {
        move |totals: &Value| {
            totals["accepted"] == accepted
                && totals["committed"] == committed
                && totals["duplicates"] == accepted - committed
                && totals["quarantined"] == quarantined
                && totals["bytes"].as_u64().is_some_and(|bytes| bytes > 20 * accepted)
        }
    };
    let (plain, keyed) = (expected(3_020, 3_020, 0), expected(1_000, 550, 10));
    let watching = watcher.until("all records, and statistics of all of them", |it| {
        let stats = it.of_type("stats").last();
        let exact = stats
            .is_some_and(|it| plain(&it["streams"]["plain"]) && keyed(&it["streams"]["keyed"]));
        exact && it.records("plain").len() >= 3_020 && it.records("keyed").len() >= 1_000
    });
    tokio::join!(sending, watching);

    assert_eq!(watcher.data("plain", "n"), numbers(0..3_020), "in order, each once");
    let mut keyed = watcher.data("keyed", "n");
    keyed.sort_unstable();
    let mut twice: Vec<i64> = (0..10).flat_map(|part| part * 50..part * 50 + 100).collect();
    twice.sort_unstable();
    assert_eq!(keyed, twice, "what is a duplicate is known later; it arrived all the same");
    assert_eq!(watcher.of_type("gap").count(), 0);
    let cursors: Vec<&str> = watcher.of_type("records").filter_map(cursor_of).collect();
    assert!(cursors.len() < 1_000, "records are gathered into frames: {}", cursors.len());
    let stats = watcher.of_type("stats").last().unwrap();
    assert_eq!(stats["node"]["monitors"], 1);
    assert!(
        stats["node"]["backlog_bytes"].is_u64() && stats["node"]["commit_lag_seconds"].is_number(),
        "{stats}"
    );
    assert!(stats["at"].as_str().unwrap().ends_with('Z'), "{stats}");
}

#[tokio::test]
async fn a_sample_and_its_gaps_add_up() {
    let gateway = Gateway::with(&["--monitor-sample-rate=10"]).await;
    gateway.create_stream(&json!({"name": "many"})).await;
    let mut sample = Watcher::local(&gateway, "mode=sample").await;
    let mut full = Watcher::local(&gateway, "mode=full").await;
    assert_eq!(sample.messages[0]["mode"], "sample");
    let sending = async {
        for part in 0..4 {
            send_all(&gateway, "many", part * 500..(part + 1) * 500).await;
        }
    };
    let sampling = sample.until("all records are seen or told of", |it| {
        it.records("many").len() as u64 + it.missed("many") >= 2_000
    });
    let watching = full.until("all records", |it| it.records("many").len() >= 2_000);
    tokio::join!(sending, sampling, watching);
    let seen = sample.data("many", "n");
    assert_eq!(seen.len() as u64 + sample.missed("many"), 2_000);
    // A second's worth at once, and ten for each second that the sending took.
    assert!((1..=1_000).contains(&seen.len()), "{} of 2,000 is no sample", seen.len());
    assert!(seen.is_sorted_by(|left, right| left < right), "honest rows in their order: {seen:?}");
    assert_eq!(full.data("many", "n"), numbers(0..2_000), "the full view loses nothing by it");
    let gap = sample.of_type("gap").next().unwrap();
    assert!(
        gap["from"].is_string() && gap["to"].is_string() && gap.as_object().unwrap().len() == 5,
        "{gap}"
    );
}

#[tokio::test]
async fn every_cursor_resumes_exactly_where_it_was_given() {
    let gateway = Gateway::start().await;
    for name in ["one", "two"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    let mut watcher = Watcher::local(&gateway, "streams=one,two").await;
    for part in 0..6 {
        tokio::join!(
            send_all(&gateway, "one", part * 10..(part + 1) * 10),
            send_all(&gateway, "two", part * 10..(part + 1) * 10),
        );
        let so_far = usize::try_from(part + 1).unwrap() * 10;
        watcher
            .until("this part", |it| {
                it.records("one").len() >= so_far && it.records("two").len() >= so_far
            })
            .await;
    }
    for (index, message) in watcher.messages.iter().enumerate() {
        let Some(cursor) = cursor_of(message) else { continue };
        let before = |stream: &str| {
            let frames = watcher.messages[..=index]
                .iter()
                .filter(|it| it["type"] == "records" && it["stream"] == stream);
            frames
                .map(|frame| i64::try_from(frame["records"].as_array().unwrap().len()).unwrap())
                .sum::<i64>()
        };
        let (one, two) = (before("one"), before("two"));
        let mut resumed =
            Watcher::local(&gateway, &format!("streams=one,two&since={cursor}")).await;
        assert_eq!(cursor_of(&resumed.messages[0]), Some(cursor));
        let rest = |seen: i64| usize::try_from(60 - seen).unwrap();
        resumed
            .until("the rest", |it| {
                it.records("one").len() >= rest(one) && it.records("two").len() >= rest(two)
            })
            .await;
        assert_eq!(resumed.data("one", "n"), numbers(one..60), "after message {index}");
        assert_eq!(resumed.data("two", "n"), numbers(two..60), "after message {index}");
        assert_eq!(resumed.of_type("gap").count(), 0);
    }
}

#[tokio::test]
async fn a_monitor_that_comes_and_goes_misses_nothing_while_records_arrive() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "river"})).await;
    let first = Watcher::local(&gateway, "").await;
    let sending = async {
        for part in 0..40 {
            send_all(&gateway, "river", part * 25..(part + 1) * 25).await;
        }
    };
    let watching = async {
        let (mut seen, mut cursor) = (Vec::new(), first.cursor());
        drop(first);
        while seen.len() < 1_000 {
            let mut watcher = Watcher::local(&gateway, &format!("since={cursor}")).await;
            watcher.until("at least a frame", |it| it.of_type("records").count() > 0).await;
            seen.extend(watcher.data("river", "n"));
            cursor = watcher.cursor();
        }
        assert_eq!(seen, numbers(0..1_000), "nothing lost, nothing repeated");
    };
    tokio::join!(sending, watching);
}

#[tokio::test]
async fn a_cursor_outlives_the_gateway() {
    let mut gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "lasting"})).await;
    let mut watcher = Watcher::local(&gateway, "").await;
    send_all(&gateway, "lasting", 0..10).await;
    watcher.until("the first records", |it| it.records("lasting").len() == 10).await;
    let mut cursor = watcher.cursor();
    drop(watcher);
    let mut next = 10;
    for graceful in [true, false] {
        send_each(&gateway, "lasting", next..next + 5).await;
        if graceful {
            assert_eq!(gateway.terminate().await, 0);
        } else {
            gateway.kill9().await;
        }
        gateway.restart().await;
        send_each(&gateway, "lasting", next + 5..next + 10).await;
        let mut watcher = Watcher::local(&gateway, &format!("since={cursor}")).await;
        watcher.until("what was missed", |it| it.records("lasting").len() >= 10).await;
        send_each(&gateway, "lasting", [next + 10]).await;
        watcher.until("what comes next", |it| it.records("lasting").len() >= 11).await;
        assert_eq!(watcher.data("lasting", "n"), numbers(next..next + 11), "graceful: {graceful}");
        assert_eq!(watcher.of_type("gap").count(), 0);
        cursor = watcher.cursor();
        next += 11;
    }
}

#[tokio::test]
async fn a_cursor_of_another_journal_is_a_gap_of_unknown_size() {
    let gateway = Gateway::start().await;
    for name in ["one", "two"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    send_each(&gateway, "one", 0..2).await;
    let since = "00000000.80";
    let mut watcher = Watcher::local(&gateway, &format!("since={since}")).await;
    watcher.until("a gap for each stream", |it| it.of_type("gap").count() == 2).await;
    let gaps: Vec<&Value> = watcher.of_type("gap").collect();
    assert_eq!((&gaps[0]["stream"], &gaps[1]["stream"]), (&json!("one"), &json!("two")));
    assert!(gaps.iter().all(|gap| gap["count"].is_null() && gap["from"] == since), "{gaps:?}");
    send_each(&gateway, "one", 2..4).await;
    watcher.until("what comes now", |it| it.records("one").len() >= 2).await;
    assert_eq!(watcher.data("one", "n"), [2, 3]);
}

#[tokio::test]
async fn events_are_the_same_messages_and_resume_by_their_id() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "stream"})).await;
    let mut watcher = Watcher::local(&gateway, "streams=stream").await;
    let mut events = Events::open(&gateway, "streams=stream").await;
    assert!(events.until("hello", |it| !it.messages.is_empty()).await);
    assert_eq!(events.messages[0]["type"], "hello");
    for n in 0..5 {
        send_each(&gateway, "stream", [n]).await;
        let so_far = usize::try_from(n + 1).unwrap();
        watcher.until("the record", |it| it.records("stream").len() == so_far).await;
        assert!(events.until("the record", |it| it.numbers("stream").len() == so_far).await);
    }
    assert!(
        events
            .until("statistics", |it| it.messages.iter().any(|message| message["type"] == "stats"))
            .await
    );
    let same: Vec<&str> =
        events.texts.iter().map(String::as_str).filter(|it| it.contains("\"records\",")).collect();
    assert_eq!(watcher.words("records"), same, "word for word");
    for (id, message) in events.ids.iter().zip(&events.messages) {
        assert_eq!(cursor_of(message).unwrap_or_default(), id, "{message}");
    }

    // A browser that reconnects sends the address it began with and the id of what it saw last; the id counts.
    let begun = events.ids[0].clone();
    let third = events.messages.iter().position(|it| it["records"][0]["data"]["n"] == 2).unwrap();
    let query = format!("streams=stream&since={begun}");
    let mut again = Events::resume(&gateway, &query, &events.ids[third]).await;
    assert!(again.until("the rest", |it| it.numbers("stream").len() >= 2).await);
    assert_eq!(again.numbers("stream"), [3, 4]);
    let mut since = Events::open(&gateway, &query).await;
    assert!(since.until("all", |it| it.numbers("stream").len() >= 5).await);
    assert_eq!(since.numbers("stream"), numbers(0..5));

    gateway.ask_to_end();
    assert!(!events.until("the end", |_| false).await);
    let last = events.messages.last().unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("shutting_down")));
}

#[tokio::test]
async fn a_last_event_id_from_elsewhere_is_a_gap_of_unknown_size() {
    let gateway = Gateway::start().await;
    for name in ["one", "two"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    send_each(&gateway, "one", [0]).await;
    // As other servers number events, as a broken reader sends it back, and what is no text.
    for (id, n) in [(&b"1699999999000"[..], 1), (b"undefined", 2), (b"0000000a.", 3), (b"\xff", 4)]
    {
        let request = gateway.request(Method::GET, "/v1/monitor/events");
        let mut events = Events::of(request.header("last-event-id", id)).await;
        let gaps = |it: &Events| it.of_type("gap").cloned().collect::<Vec<Value>>();
        assert!(events.until("a gap for each stream", |it| gaps(it).len() == 2).await);
        let gaps = gaps(&events);
        assert_eq!((&gaps[0]["stream"], &gaps[1]["stream"]), (&json!("one"), &json!("two")));
        assert!(gaps.iter().all(|gap| gap["count"].is_null()), "{gaps:?}");
        send_each(&gateway, "one", [n]).await;
        assert!(events.until("what comes now", |it| !it.numbers("one").is_empty()).await);
        assert_eq!(events.numbers("one"), [n]);
        // What it was told last resumes like any other.
        let last = events.last_id().to_owned();
        drop(events);
        let mut again = Events::resume(&gateway, "", &last).await;
        assert!(again.until("hello", |it| !it.messages.is_empty()).await);
        assert_eq!(again.messages[0]["cursor"], last);
    }
    // A cursor in the address is a person's, who is told of a mistake.
    gateway.get("/v1/monitor/events?since=undefined").await.problem(400, "invalid_monitor_request");
}

#[tokio::test]
async fn a_monitor_sees_the_streams_it_asked_for_and_may_see() {
    let gateway = Gateway::start().await;
    for name in ["mine", "other"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    add_user(&gateway, "ada", "member").await;
    let token =
        Token::of(&gateway, "ada", &["monitor"], json!({"streams": ["mine", "to_come"]})).await;
    let mut asked = Watcher::local(&gateway, "streams=other").await;
    let mut limited = Watcher::with_token(&gateway, &token.text, "").await;
    let mut all = Watcher::local(&gateway, "").await;
    assert_eq!(asked.messages[0]["streams"], json!(["other"]));
    assert_eq!(limited.messages[0]["streams"], json!(["mine"]));
    for name in ["other", "mine", "other"] {
        send_each(&gateway, name, [1]).await;
    }
    // Streams that are made later are seen by those who see all, or were allowed to.
    send_each(&gateway, "to_come", [2]).await;
    send_each(&gateway, "secret", [3]).await;
    for name in ["mine", "other"] {
        send_each(&gateway, name, [9]).await;
    }
    all.until("everything", |it| {
        it.data("other", "n").contains(&9) && it.records("secret").len() == 1
    })
    .await;
    limited
        .until("what it may see", |it| {
            it.data("mine", "n").contains(&9) && !it.records("to_come").is_empty()
        })
        .await;
    asked.until("what it asked for", |it| it.data("other", "n").contains(&9)).await;
    let seen = |watcher: &Watcher| {
        ["mine", "other", "to_come", "secret"].map(|stream| watcher.data(stream, "n"))
    };
    assert_eq!(seen(&all), [vec![1, 9], vec![1, 1, 9], vec![2], vec![3]]);
    assert_eq!(seen(&limited), [vec![1, 9], vec![], vec![2], vec![]]);
    assert_eq!(seen(&asked), [vec![], vec![1, 1, 9], vec![], vec![]]);
    let with_totals = |it: &Watcher| {
        it.of_type("stats").last().is_some_and(|stats| stats["streams"]["mine"]["accepted"] == 2)
    };
    limited.until("statistics", with_totals).await;
    let stats = limited.of_type("stats").last().unwrap();
    assert_eq!(
        stats["streams"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["mine", "to_come"],
        "{stats}"
    );
}

#[tokio::test]
async fn two_monitors_get_identical_frames() {
    let gateway = Gateway::start().await;
    for name in ["one", "two"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    let mut first = Watcher::local(&gateway, "").await;
    let mut second = Watcher::local(&gateway, "streams=one,two").await;
    let sending = async {
        for part in 0..10 {
            send_all(&gateway, "one", part * 50..(part + 1) * 50).await;
            send_each(&gateway, "two", [part]).await;
        }
    };
    let enough = |it: &Watcher| it.records("one").len() == 500 && it.records("two").len() == 10;
    tokio::join!(sending, first.until("all", enough), second.until("all", enough));
    assert_eq!(first.words("records"), second.words("records"));
}
