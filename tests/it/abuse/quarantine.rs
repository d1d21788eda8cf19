//! Filling the quarantine: it had neither cap nor age.
//!
//! Before: one request of 1,005 bytes (500,000 lines `{`, compressed) became 500,000 rows, 98 MB of table and 84 MB of
//! journal; a token with a rate of 10 records a second could send it as well, and nothing ever left the quarantine, not even
//! with its stream. Now: the same request becomes 10,000 rows, 2.3 MB of table and 1.9 MB of journal, and its sender is
//! told of the 490,000 that are not kept; a stream and all streams together have limits, and what is kept has an age.
//!
//! Then: requests that hung up half way, twenty in five seconds, took room for records that were nowhere, and honest senders were
//! told `stream_full`; bodies that did not end for two seconds had theirs forgotten, and came past the limit. Now: a record has
//! its room from the moment it is met until it is measured in the table, or its request is over without it.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::abuse::slow_peers::{ATTACKER, answer, connect_from};
use crate::polling::jobs::{make, run, runs};
use crate::support::people::{Token, add_user};
use crate::support::{
    ALLOW_LOOPBACK, Answer, Client, Compression, Gateway, ItemsApi, Metrics, Records, Reply, Stall,
    compressed, eventually,
};

const IN_ALL: &str = "select count(*) from tidegate.quarantine";
/// What the triggers count, and what is there.
const LEVELS_ARE_RIGHT: &str = "select not exists (
    select stream_id, sqlstate is not null, count(*), sum(tidegate.quarantine_row_bytes(raw, csv_header, message))
    from tidegate.quarantine group by 1, 2
    except select stream_id, accepted, sum(records), sum(bytes) from tidegate.quarantine_levels group by 1, 2)
    and (select count(*) from tidegate.quarantine)
        = (select coalesce(sum(records), 0) from tidegate.quarantine_levels)";

fn bad(lines: usize) -> String {
    "{\n".repeat(lines)
}

/// How many records a reply says were quarantined and not kept; and why not, the first reason.
fn told(body: &Value) -> (u64, u64, Option<&str>) {
    let because = body["not_kept_because"].as_array();
    let reasons: u64 =
        because.into_iter().flatten().filter_map(|why| why["records"].as_u64()).sum();
    let not_kept = body["not_kept"].as_u64().unwrap_or_default();
    assert_eq!(reasons, not_kept, "{body}");
    for why in because.into_iter().flatten() {
        assert!(why["message"].as_str().is_some_and(|message| message.len() > 40), "{body}");
    }
    let first = because.and_then(|because| because[0]["code"].as_str());
    (body["quarantined"].as_u64().unwrap(), not_kept, first)
}

async fn room(client: &Client) -> Value {
    client.get("/v1/quarantine/summary").await.expect(200)["room"].clone()
}

/// Waits until the gateway has measured so many records in the quarantine.
async fn measured(gateway: &Gateway, records: u64) {
    gateway.wait_all_committed().await;
    room_is(gateway, "records", records).await;
}

async fn room_is(gateway: &Gateway, what: &str, number: u64) {
    eventually(&format!("the room's {what} are {number}"), async || {
        (room(gateway).await[what] == number).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_kilobyte_of_gzip_is_no_half_a_million_rows() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "flooded"})).await;
    let flood = compressed(Compression::Gzip, bad(500_000).as_bytes()).await;
    assert!(flood.len() < 4_000, "{} bytes", flood.len());
    let request = gateway.records("flooded").ndjson(flood).encoding("gzip");
    let body = request.send().await.expect(202);
    assert_eq!(told(&body), (10_000, 490_000, Some("request_limit")), "{body}");
    assert_eq!((&body["accepted"], &body["errors_omitted"]), (&json!(0), &json!(499_900)));
    assert_eq!(body["errors"].as_array().unwrap().len(), 100);
    gateway.wait_all_committed().await;
    assert_eq!(gateway.scalar::<i64>(IN_ALL).await, 10_000);
    let table = "select pg_total_relation_size('tidegate.quarantine')";
    let table_bytes: i64 = gateway.scalar(table).await;
    assert!(table_bytes < 10_000_000, "{table_bytes} bytes of table");
    let journal = &gateway.get("/v1/status").await.expect(200)["journal"];
    let end = crate::support::parse_position(&journal["synced"]);
    assert!(end.0 < 4_000_000, "{journal}");

    // Everybody can see it, and the counts are those of the body.
    let totals = gateway.get("/v1/status").await.expect(200)["streams"]["flooded"].clone();
    assert_eq!((&totals["quarantined"], &totals["not_kept"]), (&json!(10_000), &json!(490_000)));
    let metrics = Metrics::read(&gateway).await;
    let not_kept = metrics.sum("tidegate_records_not_kept_total", "stream", "flooded");
    let hits = metrics.sum("tidegate_limit_hits_total", "limit", "quarantine_request");
    assert_eq!(format!("{not_kept} {hits}"), "490000 490000");
    assert!(gateway.log().contains("TIDEGATE_QUARANTINE_REQUEST_RECORDS_MAX"));
    measured(&gateway, 10_000).await;
    let metrics = Metrics::read(&gateway).await;
    assert_eq!(metrics.of("tidegate_quarantine_records").to_string(), "10000");
}

/// Bodies of nothing but invalid records, in every format.
fn bodies(records: usize) -> [(&'static str, String); 3] {
    let lines = |line: &str| line.repeat(records);
    [
        ("application/x-ndjson", lines("{\"n\":\"x\"}\n")),
        ("application/json", format!("[{}]", vec!["[]"; records].join(","))),
        ("text/csv", format!("n\n{}", lines("noon\n"))),
    ]
}

#[tokio::test]
async fn of_a_request_so_much_is_kept_and_the_rest_is_told_in_every_format() {
    let flags = ["--quarantine-request-records-max=10", "--quarantine-request-bytes-max=5000"];
    let gateway = Gateway::with(&flags).await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    let mut kept = 0;
    for (number, (format, body)) in bodies(25).into_iter().enumerate() {
        for way in ["plain", "commit", "key", "again"] {
            let mut request = gateway.records("typed").body(format, body.clone());
            request = match way {
                "commit" => request.query("ack", "commit"),
                "key" | "again" => request.key(&format!("key {number}")),
                _ => request,
            };
            let reply = request.send().await;
            assert_eq!(reply.is_replayed(), way == "again");
            let body = reply.expect(if way == "commit" { 201 } else { 202 });
            assert_eq!(told(&body), (10, 15, Some("request_limit")), "{format} {way}: {body}");
            assert_eq!(body["errors"].as_array().unwrap().len(), 25);
            kept += if way == "again" { 0 } else { 10 };
        }
    }
    // By bytes: 200 for the row, and what is sent and said.
    let long = format!("{{\"n\":\"{}\"}}\n", "x".repeat(1_000)).repeat(4);
    let body = gateway.records("typed").ndjson(long + &bad(2)).send().await.expect(202);
    let (quarantined, not_kept, why) = told(&body);
    assert_eq!((quarantined + not_kept, why), (6, Some("request_limit")), "{body}");
    assert!((3..6).contains(&quarantined), "{body}");
    kept += quarantined;
    // Good records among them are taken as ever, and a body that breaks off tells of both.
    let mixed = "{\"n\":1}\n".to_owned() + &bad(12) + "{\"n\":2}\n";
    let body = gateway.records("typed").ndjson(mixed).send().await.expect(202);
    assert_eq!((told(&body), &body["accepted"]), ((10, 2, Some("request_limit")), &json!(2)));
    // A sender that asks for all or nothing gets nothing.
    let request = gateway.records("typed").ndjson(bad(25)).query("on_error", "reject");
    let body = request.send().await.problem(422, "rejected");
    assert_eq!(told(&body), (0, 0, None), "{body}");
    kept += 10;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.scalar::<i64>(IN_ALL).await, i64::try_from(kept).unwrap());
    assert!(gateway.scalar::<bool>(LEVELS_ARE_RIGHT).await);
    let totals = gateway.get("/v1/status").await.expect(200)["streams"]["typed"].clone();
    assert_eq!(totals["quarantined"], kept, "{totals}");
    assert_eq!(totals["not_kept"].as_u64().unwrap(), 9 * 15 + not_kept + 2, "{totals}");
}

#[tokio::test]
async fn a_full_quarantine_keeps_what_it_has_and_says_what_it_does_not_keep() {
    let flags = ["--quarantine-stream-records-max=25", "--quarantine-records-max=40"];
    let mut gateway = Gateway::with(&flags).await;
    for stream in ["first", "second", "third"] {
        gateway.create_stream(&json!({"name": stream})).await;
    }
    let send = async |client: &Client, stream: &str, lines: String| -> Reply {
        client.records(stream).ndjson(lines).send().await
    };
    let body = send(&gateway, "first", bad(20)).await.expect(202);
    assert_eq!(told(&body), (20, 0, None));
    let body = send(&gateway, "first", bad(20) + "{}\n").await.expect(202);
    assert_eq!((told(&body), &body["accepted"]), ((5, 15, Some("stream_full")), &json!(1)));
    // A request of which nothing is kept is refused, not taken.
    let body = send(&gateway, "first", bad(3)).await.problem(422, "not_kept");
    assert_eq!(told(&body), (0, 3, Some("stream_full")));
    assert!(body["detail"].as_str().unwrap().contains("TIDEGATE_QUARANTINE_STREAM_RECORDS_MAX"));
    let keyed = gateway.records("first").ndjson(bad(3)).key("key");
    keyed.send().await.problem(422, "not_kept");
    let single = gateway.records("first").body("application/json", "{\"n\":\"\\u0000\"}");
    let body = single.send().await.problem(422, "invalid_record");
    assert_eq!(told(&body), (0, 1, Some("stream_full")));
    assert!(body["detail"].as_str().unwrap().contains("it is not kept"), "{body}");
    // Another stream has its own share, until all of them together have theirs.
    let body = send(&gateway, "second", bad(20)).await.expect(202);
    assert_eq!(told(&body), (15, 5, Some("quarantine_full")));
    send(&gateway, "third", bad(1)).await.problem(422, "not_kept");

    // What is in the table is known after a restart, and room that is made is found.
    measured(&gateway, 40).await;
    gateway.restart().await;
    measured(&gateway, 40).await;
    send(&gateway, "third", bad(1)).await.problem(422, "not_kept");
    let dropped = gateway.delete("/v1/quarantine?stream=second").await.expect(200);
    assert_eq!(dropped["dropped"], 15);
    measured(&gateway, 25).await;
    let body = send(&gateway, "third", bad(20)).await.expect(202);
    assert_eq!(told(&body), (15, 5, Some("quarantine_full")));
    send(&gateway, "first", bad(1)).await.problem(422, "not_kept");
    gateway.wait_all_committed().await;
    gateway.execute("delete from tidegate.quarantine where stream_id = 1").await;
    assert!(gateway.scalar::<bool>(LEVELS_ARE_RIGHT).await);
    gateway.execute("truncate tidegate.quarantine").await;
    assert!(gateway.scalar::<bool>(LEVELS_ARE_RIGHT).await);
}

/// A keyed stream whose table refuses the number 13, with one such record in the quarantine, which was accepted.
async fn with_an_accepted_one(gateway: &Gateway) {
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    gateway.execute("alter table streams.typed add check (n <> 13)").await;
    let reply = gateway.records("typed").json(&json!([{"n": 13}])).query("ack", "commit").send();
    assert_eq!(told(&reply.await.expect(201)), (1, 0, None));
}

const ACCEPTED: &str = "select count(*) from tidegate.quarantine where sqlstate is not null";

#[tokio::test]
async fn where_the_oldest_make_room_they_do_and_accepted_ones_stay() {
    let flags = ["--quarantine-stream-records-max=40", "--quarantine-full=drop_oldest"];
    let gateway = Gateway::with(&flags).await;
    with_an_accepted_one(&gateway).await;
    let mut not_kept = 0;
    for round in 0..6 {
        let lines = format!("{{\"n\":\"x{round}\"}}\n").repeat(10);
        let body = gateway.records("typed").ndjson(lines).query("ack", "commit").send().await;
        let (quarantined, refused, _) = told(&body.body);
        assert_eq!(quarantined + refused, 10);
        not_kept += refused;
        measured(&gateway, 40.min((round + 1) * 10)).await;
    }
    assert_eq!(not_kept, 0, "there was time to make room");
    let left = "select distinct encode(raw, 'escape') from tidegate.quarantine where sqlstate is null order by 1";
    assert_eq!(
        gateway.column::<String>(left).await,
        (2..6).map(|round| format!("{{\"n\":\"x{round}\"}}")).collect::<Vec<_>>()
    );
    assert_eq!(gateway.scalar::<i64>(ACCEPTED).await, 1);
    let room = room(&gateway).await;
    assert_eq!((&room["dropped_oldest"], &room["accepted_records"]), (&json!(20), &json!(1)));
    let metrics = Metrics::read(&gateway).await;
    let hits = metrics.sum("tidegate_limit_hits_total", "limit", "quarantine_oldest");
    assert_eq!(hits.to_string(), "20");
    // A flood has no more room than a little over the limit.
    let body = gateway.records("typed").ndjson(bad(1_000)).send().await;
    let (quarantined, refused, _) = told(&body.body);
    assert!(quarantined <= 50 && quarantined + refused == 1_000, "{}", body.body);
    measured(&gateway, 40).await;
    assert_eq!(gateway.scalar::<i64>(ACCEPTED).await, 1);
}

#[tokio::test]
async fn what_is_old_leaves_and_accepted_ones_only_where_that_was_asked_for() {
    let gateway = Gateway::with(&["--quarantine-days=0"]).await;
    with_an_accepted_one(&gateway).await;
    gateway.records("typed").ndjson(bad(3)).query("ack", "commit").send().await.expect(201);
    gateway.wait_all_committed().await;
    // All but one of the invalid ones are from 2023: an id begins with its time.
    let age = "update tidegate.quarantine q set received_at = '2023-07-01',
            id = overlay(q.id::text placing '01890000-0000' from 1 for 13)::uuid
        where q.id <> (select max(id::text)::uuid from tidegate.quarantine where sqlstate is null)";
    gateway.execute(age).await;
    let kept = async |gateway: &Gateway, rows: i64| {
        eventually(&format!("{rows} are left"), async || {
            (gateway.scalar::<i64>(IN_ALL).await == rows).then_some(())
        })
        .await;
    };
    let url = gateway.database_url();
    let never = Gateway::on(url, &["--quarantine-days=0"]).await;
    measured(&never, 3).await;
    let days = Gateway::on(url, &[]).await;
    kept(&days, 2).await;
    measured(&days, 1).await;
    assert_eq!(gateway.scalar::<i64>(ACCEPTED).await, 1, "it was acknowledged");
    assert_eq!(room(&days).await["dropped_for_age"], 2);
    let accepted = Gateway::on(url, &["--quarantine-accepted-days=1"]).await;
    kept(&accepted, 1).await;
    assert_eq!(gateway.scalar::<i64>(ACCEPTED).await, 0);
    assert!(gateway.scalar::<bool>(LEVELS_ARE_RIGHT).await);
}

#[tokio::test]
async fn what_a_stream_refused_leaves_with_it() {
    let gateway = Gateway::start().await;
    with_an_accepted_one(&gateway).await;
    gateway.create_stream(&json!({"name": "other"})).await;
    for stream in ["typed", "other"] {
        gateway.records(stream).ndjson(bad(3)).query("ack", "commit").send().await.expect(201);
    }
    // What is parked of it is let go as well.
    gateway.execute("alter table streams.typed rename to away").await;
    gateway.records("typed").json(&json!([{"n": 1}])).send().await.expect(202);
    eventually("it is parked", async || {
        (gateway.scalar::<i64>("select count(*) from tidegate.parked").await == 1).then_some(())
    })
    .await;
    assert_eq!(gateway.delete("/v1/streams/typed").await.status, 204);
    eventually("only the other stream's are left", async || {
        (gateway.scalar::<i64>(IN_ALL).await == 3).then_some(())
    })
    .await;
    gateway.wait_nothing_parked().await;
    measured(&gateway, 3).await;
    assert!(gateway.scalar::<bool>(LEVELS_ARE_RIGHT).await);
}

/// A request that has sent so many invalid lines, and not its end.
async fn half_sent(gateway: &Gateway, stream: &str, lines: usize) -> TcpStream {
    let (mut peer, body) = (connect_from(gateway, ATTACKER).await, bad(lines));
    let request = format!(
        "POST /v1/streams/{stream}/records HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
        gateway.token(),
        body.len()
    );
    peer.write_all(request.as_bytes()).await.unwrap();
    room_is(gateway, "records", lines as u64).await;
    peer
}

#[tokio::test]
async fn a_request_has_its_room_while_it_is_under_way_and_no_longer() {
    let flags = ["--quarantine-stream-records-max=100", "--body-idle-seconds=120"];
    let gateway = Gateway::with(&flags).await;
    gateway.create_stream(&json!({"name": "shared"})).await;
    let honest = async || gateway.records("shared").ndjson(bad(1)).send().await;
    // No measurement helps.
    let stall = Stall::of_quarantine_levels(gateway.pool()).await;
    for _ in 0..3 {
        let peer = half_sent(&gateway, "shared", 100).await;
        honest().await.problem(422, "not_kept");
        drop(peer);
        room_is(&gateway, "records", 0).await;
    }
    let broken = format!("[{}]]", vec!["[]"; 100].join(","));
    let broken = gateway.records("shared").body("application/json", broken).send().await;
    assert_eq!((broken.status, room(&gateway).await["records"].as_u64()), (400, Some(0)));
    stall.release().await;

    // A slow sender does not come past the limit, however often it is measured.
    let mut slow = half_sent(&gateway, "shared", 99).await;
    assert_eq!(told(&honest().await.expect(202)), (1, 0, None));
    for accepted in 1..4 {
        let count = "insert into tidegate.quarantine_levels (stream_id, accepted, records, bytes) values (1, true, 1, 1)";
        gateway.execute(count).await;
        room_is(&gateway, "accepted_records", accepted).await;
    }
    measured(&gateway, 100).await;
    honest().await.problem(422, "not_kept");
    slow.write_all(b"0\r\n\r\n").await.unwrap();
    let (status, reply) = answer(&mut slow).await;
    assert_eq!((status, told(&reply)), (202, (99, 0, None)));
    measured(&gateway, 100).await;
    assert_eq!(gateway.scalar::<i64>(IN_ALL).await, 100);
}

/// What is counted is not always there: the triggers may have been switched off.
#[tokio::test]
async fn a_count_that_is_wrong_keeps_nothing_else_from_leaving() {
    let flags = ["--quarantine-days=0", "--quarantine-full=drop_oldest"];
    let gateway = Gateway::with(&flags).await;
    for stream in ["deleted", "flooded", "kept"] {
        gateway.create_stream(&json!({"name": stream})).await;
    }
    assert_eq!(gateway.delete("/v1/streams/deleted").await.status, 204);
    gateway.records("kept").ndjson(bad(3)).query("ack", "commit").send().await.expect(201);
    gateway.wait_all_committed().await;
    let wrong = "insert into tidegate.quarantine_levels (stream_id, accepted, records, bytes)
        values (1, false, 5, 500), (2, false, 50, 5000)";
    gateway.execute(wrong).await;
    let age = "update tidegate.quarantine q set received_at = '2023-07-01',
            id = overlay(q.id::text placing '01890000-0000' from 1 for 13)::uuid";
    gateway.execute(age).await;
    let flags = ["--quarantine-stream-records-max=40", "--quarantine-full=drop_oldest"];
    let _days = Gateway::on(gateway.database_url(), &flags).await;
    eventually("what is old has left", async || {
        (gateway.scalar::<i64>(IN_ALL).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_token_s_rate_covers_its_invalid_records_before_they_are_kept() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    gateway.create_stream(&json!({"name": "metered"})).await;
    let rate = json!({"records_per_second": 10});
    let client = gateway.with_token(&Token::of(&gateway, "ada", &["ingest"], rate).await.text);
    let flood = |lines| -> Records { client.records("metered").ndjson(bad(lines)) };
    // A minute's worth, of several requests at once together.
    let requests = (0..5).map(|_| flood(20_000).send());
    let replies = futures::future::join_all(requests).await;
    let mut kept = 0;
    for reply in replies {
        if reply.status == 429 {
            continue;
        }
        let (quarantined, not_kept, why) = told(&reply.body);
        assert_eq!((quarantined + not_kept, why), (20_000, Some("quota")), "{}", reply.body);
        kept += quarantined;
    }
    // What comes in while they are read is no more than a second's worth for each second.
    assert!((600..1_200).contains(&kept), "{kept}");
    gateway.wait_all_committed().await;
    assert_eq!(gateway.scalar::<i64>(IN_ALL).await, i64::try_from(kept).unwrap());
    let refused = flood(1).send().await;
    assert!(refused.retry_after_seconds() > 30, "what is kept is paid for");
    refused.problem(429, "quota_exceeded");
}

#[tokio::test]
async fn items_that_are_not_kept_come_again_and_harm_no_other() {
    let flags = [&ALLOW_LOOPBACK[..], &["--quarantine-stream-records-max=2"]].concat();
    let (gateway, api) = (Gateway::with(&flags).await, ItemsApi::start().await);
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    api.serve("/x", json!([{"n": "a"}, {"n": 1}, {"n": "b"}, {"n": "c"}, {"n": 2}]));
    api.tag("/x", "\"one\"");
    let id = make(&gateway, &api, "/x", json!({"stream": "typed"})).await;
    let first = runs(&gateway, &id).await.remove(0);
    assert_eq!((&first["status"], &first["new"]), (&json!("failed"), &json!(2)), "{first}");
    let error = first["error"].as_str().unwrap();
    assert!(error.contains("1 because the quarantine is full of this stream"), "{error}");
    assert_eq!(gateway.column::<i32>("select n from streams.typed order by n").await, [1, 2]);
    assert_eq!(gateway.scalar::<i64>(IN_ALL).await, 2);
    let totals = gateway.get("/v1/status").await.expect(200)["streams"]["typed"].clone();
    assert_eq!((&totals["quarantined"], &totals["not_kept"]), (&json!(2), &json!(1)), "{totals}");

    // With room it is kept: the answer is asked for once more, for all that it says that nothing has changed.
    gateway.delete("/v1/quarantine?stream=typed").await.expect(200);
    measured(&gateway, 0).await;
    let second = run(&gateway, &id).await;
    assert_eq!((&second["status"], &second["new"]), (&json!("success"), &json!(0)), "{second}");
    assert_eq!((&second["duplicates"], &second["refused"]), (&json!(4), &json!(1)), "{second}");
    let kept = "select encode(raw, 'escape') from tidegate.quarantine";
    assert_eq!(gateway.column::<String>(kept).await, ["{\"n\":\"c\"}"]);
    assert_eq!(run(&gateway, &id).await["status"], "not_modified");
}

/// An API of these items, two a page, that takes `after`.
fn ascending(api: &ItemsApi, path: &str, items: Vec<Value>) {
    api.on(path, move |asked| {
        let number = |name: &str| asked.query(name).and_then(|number| number.parse::<i64>().ok());
        let after = number("after").unwrap_or_default();
        let skipped = usize::try_from(number("page").unwrap_or(1) - 1).unwrap() * 2;
        let left = items.iter().filter(|item| item["n"].as_i64() > Some(after)).skip(skipped);
        Answer::json(&left.take(2).cloned().collect())
    });
}

#[tokio::test]
async fn a_run_that_does_not_come_to_its_end_moves_over_no_item_that_is_not_kept() {
    let flags = [&ALLOW_LOOPBACK[..], &["--quarantine-stream-records-max=1"]].concat();
    let (gateway, api) = (Gateway::with(&flags).await, ItemsApi::start().await);
    let columns = json!([{"name": "n", "type": "integer"}, {"name": "v", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns})).await;
    let bad = (1..3).map(|n| json!({"n": n, "v": format!("bad {n}")}));
    let good = (3..7).map(|n| json!({"n": n, "v": n}));
    ascending(&api, "/x", bad.chain(good).collect());
    let since = json!({"parameter": "after", "field": "/n", "format": "integer", "overlap": 0});
    let job = json!({"stream": "typed", "key": ["/n"], "pagination": {"by": "page"}, "pages_max": 2, "since": since});
    let id = make(&gateway, &api, "/x", job).await;
    let first = runs(&gateway, &id).await.pop().unwrap();
    assert_eq!((&first["status"], &first["new"]), (&json!("failed"), &json!(2)), "{first}");
    let error = first["error"].as_str().unwrap();
    assert!(error.contains("1 because the quarantine is full of this stream"), "{error}");
    assert!(error.contains("begins where this one began"), "{error}");

    gateway.delete("/v1/quarantine?stream=typed").await.expect(200);
    measured(&gateway, 0).await;
    let second = run(&gateway, &id).await;
    assert_eq!((&second["status"], &second["refused"]), (&json!("partial"), &json!(1)), "{second}");
    let kept = "select convert_from(raw, 'utf8')::json ->> 'v' from tidegate.quarantine";
    assert_eq!(gateway.column::<String>(kept).await, ["bad 2"]);
    // By itself, although its interval is a year.
    eventually("the last page is read", async || {
        (runs(&gateway, &id).await[0]["status"] == "success").then_some(())
    })
    .await;
    assert_eq!(gateway.rows("typed").await, 4);
}
