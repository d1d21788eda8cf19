//! What streams refused can be looked at, dropped, corrected and taken once more, exactly once.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::command::{run, run_with_input, tidegate, working_directory};
use crate::support::{Client, Gateway, Reply, Stall, eventually};

/// A gateway with a typed stream that refused records in every format.
async fn with_refused() -> Gateway {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "typed", "columns": columns, "unknown": "reject"})).await;
    gateway.create_stream(&json!({"name": "other"})).await;
    gateway
        .records("typed")
        .json(&json!([{"n": "one"}, {"n": 1, "m": 2}]))
        .send()
        .await
        .expect(202);
    gateway.records("typed").ndjson("{\"n\":\"two\"}\n").send().await.expect(202);
    gateway.records("typed").csv("n\n\"th\"\"ree\"\n").query("null", "NA").send().await.expect(202);
    gateway.records("other").ndjson(&b"\xff\n"[..]).send().await.expect(202);
    gateway.wait_all_committed().await;
    gateway
}

async fn list(client: &Client, query: &str) -> Vec<Value> {
    let page = client.get(&format!("/v1/quarantine{query}")).await.expect(200);
    page["records"].as_array().unwrap().clone()
}

/// The id of the one record that was sent like this.
async fn one(gateway: &Gateway, raw: &str) -> String {
    let records = list(gateway, "").await;
    let found: Vec<&Value> = records.iter().filter(|kept| kept["raw"] == raw).collect();
    assert_eq!(found.len(), 1, "{raw} in {records:?}");
    found[0]["id"].as_str().unwrap().to_owned()
}

/// Lets records have come in an hour apart, from midnight on, so that each is at a time that can be asked for.
async fn an_hour_apart(gateway: &Gateway) {
    gateway
        .execute(
            "update tidegate.quarantine q set received_at = '2026-03-01T00:00:00Z'::timestamptz + n * interval '1 hour'
             from (select id, row_number() over (order by id) - 1 as n from tidegate.quarantine) numbered
             where numbered.id = q.id",
        )
        .await;
}

fn replay(id: &str) -> String {
    format!("/v1/quarantine/{id}/replay")
}

/// Sends a replay without a body.
async fn replay_as_it_is(client: &Client, id: &str) -> Reply {
    Reply::to(client.request(reqwest::Method::POST, &replay(id))).await
}

#[tokio::test]
async fn what_was_refused_is_listed_counted_and_shown() {
    let gateway = with_refused().await;
    let all = list(&gateway, "").await;
    assert_eq!(all.len(), 5);
    let ids: Vec<&str> = all.iter().map(|kept| kept["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "the newest first: {ids:?}");
    let other = all.iter().find(|kept| kept["stream"] == "other").unwrap();
    assert_eq!((&other["raw_base64"], &other["raw"]), (&json!("/w=="), &json!(null)));
    let row = all.iter().find(|kept| kept["format"] == "csv").unwrap();
    assert_eq!((&row["raw"], &row["line"]), (&json!("\"th\"\"ree\""), &json!(2)));
    assert_eq!((&row["column"], &row["code"]), (&json!("n"), &json!("invalid_type")));
    assert_eq!((&row["user"], &row["source"]), (&json!("local"), &json!("http")));
    let shown = gateway.get(&format!("/v1/quarantine/{}", row["id"].as_str().unwrap())).await;
    assert_eq!(shown.expect(200)["csv_header"], "n");

    // Pages of two.
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = gateway.get(&format!("/v1/quarantine?limit=2{after}")).await.expect(200);
        paged.extend(page["records"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(paged, all);

    assert_eq!(list(&gateway, "?stream=typed").await.len(), 4);
    assert_eq!(list(&gateway, "?code=unknown_key").await.len(), 1);
    assert_eq!(list(&gateway, "?stream=other&code=unknown_key").await.len(), 0);
    assert_eq!(list(&gateway, "?from=2020-01-01T00:00:00Z").await.len(), 5);
    assert_eq!(list(&gateway, "?until=2020-01-01T00:00:00Z").await.len(), 0);
    let summary = gateway.get("/v1/quarantine/summary?stream=typed").await.expect(200);
    let counts = summary["counts"].as_array().unwrap();
    let counts: Vec<(&Value, &Value)> =
        counts.iter().map(|it| (&it["code"], &it["count"])).collect();
    assert_eq!(counts, [(&json!("invalid_type"), &json!(3)), (&json!("unknown_key"), &json!(1))]);

    for query in ["?limit=0", "?limit=501", "?after=x", "?from=noon", "?unknown=1"] {
        gateway.get(&format!("/v1/quarantine{query}")).await.problem(400, "invalid_query");
    }
    gateway.get("/v1/quarantine?stream=nowhere").await.problem(404, "no_such_stream");
    let unknown = format!("/v1/quarantine/{}", uuid::Uuid::nil());
    gateway.get(&unknown).await.problem(404, "not_in_quarantine");
}

#[tokio::test]
async fn everybody_sees_what_their_streams_refused_and_does_what_their_scopes_say() {
    let gateway = with_refused().await;
    let token = async |scopes: Value, streams: Value| {
        let asked = json!({"name": "t", "scopes": scopes, "streams": streams, "user": "ada"});
        let made = gateway.post("/v1/tokens", &asked).await.expect(201);
        gateway.with_token(made["token"].as_str().unwrap())
    };
    let ada = json!({"name": "ada", "password": "correct horse battery"});
    gateway.post("/v1/users", &ada).await.expect(201);
    let reader = token(json!(["read"]), json!(["other"])).await;
    assert_eq!(list(&reader, "").await.len(), 1);
    let summary = reader.get("/v1/quarantine/summary").await.expect(200);
    assert_eq!(summary["counts"].as_array().unwrap().len(), 1, "{summary}");
    let others = one(&gateway, "{\"n\":\"two\"}").await;
    reader.get(&format!("/v1/quarantine/{others}")).await.problem(404, "not_in_quarantine");
    reader.get("/v1/quarantine?stream=typed").await.problem(403, "stream_not_allowed");
    let number = gateway.get("/v1/streams/typed").await.expect(200)["id"].clone();
    assert_eq!(list(&reader, &format!("?stream={number}")).await.len(), 0);
    replay_as_it_is(&reader, &others).await.problem(403, "missing_scope");
    reader.delete(&format!("/v1/quarantine/{others}")).await.problem(403, "missing_scope");
    reader.delete("/v1/quarantine?stream=other").await.problem(403, "missing_scope");
    let sender = token(json!(["ingest"]), json!(null)).await;
    sender.get("/v1/quarantine").await.problem(403, "missing_scope");
    replay_as_it_is(&sender, &others).await.problem(403, "missing_scope");
    let owner = token(json!(["read", "ingest", "streams:write"]), json!(["other"])).await;
    replay_as_it_is(&owner, &others).await.problem(404, "not_in_quarantine");
    owner.delete(&format!("/v1/quarantine/{others}")).await.problem(404, "not_in_quarantine");
    let dropped = owner.delete("/v1/quarantine?until=2100-01-01T00:00:00Z").await.expect(200);
    assert_eq!(dropped["dropped"], 1, "of the own stream alone");

    // What a deleted stream refused is for admins, until it is gone as well.
    let member = token(json!(["read"]), json!(null)).await;
    assert_eq!(list(&member, "").await.len(), 4);
    assert_eq!(gateway.delete("/v1/streams/typed").await.status, 204);
    assert_eq!(list(&member, "").await.len(), 0);
    if let Some(left) = list(&gateway, &format!("?stream={number}")).await.first() {
        assert_eq!(left["stream"], json!(null));
    }
    let refused = replay_as_it_is(&gateway, &others).await;
    assert!(matches!(refused.status, 404 | 422), "{}", refused.body);
}

#[tokio::test]
async fn dropped_is_dropped() {
    let gateway = with_refused().await;
    gateway.delete("/v1/quarantine").await.problem(400, "invalid_query");
    gateway.delete("/v1/quarantine?limit=1").await.problem(400, "invalid_query");
    let id = one(&gateway, "{\"n\":\"two\"}").await;
    let path = format!("/v1/quarantine/{id}");
    // A replay that came to nothing is none.
    replay_as_it_is(&gateway, &id).await.problem(422, "invalid_record");
    assert_eq!(gateway.delete(&path).await.status, 204);
    gateway.delete(&path).await.problem(404, "not_in_quarantine");
    replay_as_it_is(&gateway, &id).await.problem(404, "not_in_quarantine");
    let dropped = gateway.delete("/v1/quarantine?stream=typed&code=invalid_type").await.expect(200);
    assert_eq!(dropped["dropped"], 2);
    assert_eq!(list(&gateway, "").await.len(), 2);
}

/// Looking, counting and dropping are three statements with the same conditions.
#[tokio::test]
async fn what_is_listed_is_what_is_counted_and_what_is_dropped() {
    let gateway = with_refused().await;
    an_hour_apart(&gateway).await;
    gateway.execute("create table public.all_of_them as table tidegate.quarantine").await;
    let at = |hour: &str| format!("2026-03-01T{hour}Z");
    let (from, until) = (|hour| format!("from={}", at(hour)), |hour| format!("until={}", at(hour)));
    let between = |first, last| format!("{}&{}", from(first), until(last));
    for (query, expected) in [
        (from("00:00:00"), 5),
        (from("00:00:00.000001"), 4),
        (until("04:00:00"), 4),
        (until("04:00:00.000001"), 5),
        (between("01:00:00", "03:00:00"), 2),
        (between("01:00:00", "01:00:00"), 0),
        (between("03:00:00", "01:00:00"), 0),
        (format!("stream=typed&{}", until("04:00:00")), 4),
        (format!("stream=other&{}", until("04:00:00")), 0),
        (format!("stream=other&{}", from("04:00:00")), 1),
        (format!("code=invalid_type&{}", between("00:00:00", "02:00:00")), 1),
        ("stream=typed&code=unknown_key".to_owned(), 1),
    ] {
        assert_eq!(list(&gateway, &format!("?{query}")).await.len(), expected, "{query}");
        let summary = gateway.get(&format!("/v1/quarantine/summary?{query}")).await.expect(200);
        let counts = summary["counts"].as_array().unwrap().iter().map(|it| it["count"].as_u64());
        let count: u64 = counts.map(Option::unwrap).sum();
        assert_eq!(count, expected as u64, "{query}");
        let dropped = gateway.delete(&format!("/v1/quarantine?{query}")).await.expect(200);
        assert_eq!(dropped["dropped"], expected, "{query}");
        assert_eq!(list(&gateway, "").await.len(), 5 - expected, "{query}");
        gateway
            .execute(
                "insert into tidegate.quarantine table public.all_of_them on conflict do nothing",
            )
            .await;
    }
}

#[tokio::test]
async fn a_record_is_corrected_and_leaves_the_quarantine_when_it_is_committed() {
    let gateway = with_refused().await;
    let id = one(&gateway, "{\"n\":\"two\"}").await;
    // Still invalid, or no record at all: it stays.
    let problem = replay_as_it_is(&gateway, &id).await.problem(422, "invalid_record");
    assert_eq!(problem["errors"][0]["column"], "n");
    gateway.post(&replay(&id), &json!({"n": 2.5})).await.problem(422, "invalid_record");
    gateway.post(&replay(&id), &json!([{"n": 2}, {"n": 3}])).await.problem(422, "not_one_record");
    let broken = gateway.request(reqwest::Method::POST, &replay(&id)).body("{\"n\":");
    Reply::to(broken).await.problem(422, "invalid_record");
    let text =
        gateway.request(reqwest::Method::POST, &replay(&id)).header("content-type", "text/csv");
    Reply::to(text.body("n\n2\n")).await.problem(415, "unsupported_media_type");
    assert_eq!((gateway.rows("typed").await, list(&gateway, "").await.len()), (0, 5));

    let stall = Stall::of_writers(gateway.pool()).await;
    let first = gateway.post(&replay(&id), &json!({"n": 2})).await;
    assert!(!first.is_replayed());
    let first = first.expect(202);
    assert_eq!((&first["accepted"], &first["quarantined"]), (&json!(1), &json!(0)));
    let again = gateway.post(&replay(&id), &json!({"n": 2})).await;
    assert!(again.is_replayed());
    assert_eq!(again.expect(202), first);
    gateway.post(&replay(&id), &json!({"n": 3})).await.problem(409, "replayed_otherwise");
    let dropped = gateway.delete(&format!("/v1/quarantine/{id}")).await;
    dropped.problem(409, "replay_under_way");
    assert_eq!(list(&gateway, "").await.len(), 5, "it is not committed yet");
    stall.release().await;
    gateway.wait_all_committed().await;
    assert_eq!(list(&gateway, "").await.len(), 4);
    let found: i64 = gateway
        .scalar(format!(
            "select count(*) from streams.typed where n = 2 and id = '{}'",
            first["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(found, 1);
    gateway.post(&replay(&id), &json!({"n": 2})).await.problem(404, "not_in_quarantine");

    // As it is, once the stream takes it.
    let id = one(&gateway, "{\"n\":1,\"m\":2}").await;
    gateway.patch("/v1/streams/typed", &json!({"unknown": "extra"})).await.expect(200);
    let request = gateway.request(reqwest::Method::POST, &format!("{}?ack=commit", replay(&id)));
    let reply = Reply::to(request).await.expect(201);
    assert_eq!((&reply["committed"], &reply["duplicates"]), (&json!(1), &json!(0)));
    assert_eq!(
        gateway.scalar::<Value>("select extra from streams.typed where n = 1").await,
        json!({"m": 2})
    );
    assert_eq!(list(&gateway, "").await.len(), 3);
}

#[tokio::test]
async fn a_csv_row_is_read_with_the_header_of_its_file() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "rows"})).await;
    let csv = "a,\"b \"\"c\"\"\"\n1,2\nNA,2,3\n";
    gateway
        .records("rows")
        .csv(csv)
        .query("null", "NA")
        .query("ack", "commit")
        .send()
        .await
        .expect(201);
    gateway.wait_all_committed().await;
    let id = one(&gateway, "NA,2,3").await;
    replay_as_it_is(&gateway, &id).await.problem(422, "invalid_record");
    gateway.execute("update tidegate.quarantine set raw = 'NA,\"2\n3\"'").await;
    replay_as_it_is(&gateway, &id).await.expect(202);
    gateway.wait_all_committed().await;
    let expected = [json!({"a": "1", "b \"c\"": "2"}), json!({"a": null, "b \"c\"": "2\n3"})];
    assert_eq!(gateway.payloads("rows").await, expected);
    assert_eq!(list(&gateway, "").await.len(), 0);
}

#[tokio::test]
async fn what_postgresql_refused_is_replayed_when_it_takes_it() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "checked", "columns": columns})).await;
    gateway.execute("alter table streams.checked add constraint small check (n < 10)").await;
    let sent = json!([{"n": 1}, {"n": 10, "more": "x"}, {"n": 20}]);
    let request = || gateway.records("checked").json(&sent).query("ack", "commit").key("k");
    let first = request().send().await.expect(201);
    assert_eq!((&first["committed"], &first["quarantined"]), (&json!(1), &json!(2)));
    let again = request().send().await;
    assert!(again.is_replayed());
    assert_eq!(again.expect(201), first);

    let refused = list(&gateway, "?stream=checked").await;
    assert_eq!((refused.len(), &refused[0]["sqlstate"]), (2, &json!("23514")));
    let id = refused.iter().find(|kept| kept["raw"].as_str().unwrap().contains("more")).unwrap();
    let id = id["id"].as_str().unwrap();
    // PostgreSQL still refuses: the record stays in the quarantine, under the id of its replay.
    let path = format!("{}?ack=commit", replay(id));
    let reply = Reply::to(gateway.request(reqwest::Method::POST, &path)).await.expect(201);
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(0), &json!(1)));
    replay_as_it_is(&gateway, id).await.problem(404, "not_in_quarantine");
    assert_eq!(list(&gateway, "?stream=checked").await.len(), 2);
    let id = reply["id"].as_str().unwrap();

    gateway.execute("alter table streams.checked drop constraint small").await;
    replay_as_it_is(&gateway, id).await.expect(202);
    gateway.wait_all_committed().await;
    let extra = "select extra from streams.checked where n = 10";
    assert_eq!(gateway.scalar::<Value>(extra).await, json!({"more": "x"}));
    assert_eq!(list(&gateway, "?stream=checked").await.len(), 1);
}

#[tokio::test]
async fn a_replay_that_is_parked_has_left_the_quarantine() {
    let gateway = with_refused().await;
    let id = one(&gateway, "{\"n\":\"two\"}").await;
    gateway.execute("alter table streams.typed rename to hidden").await;
    gateway.post(&replay(&id), &json!({"n": 2})).await.expect(202);
    gateway.wait_all_committed().await;
    gateway.post(&replay(&id), &json!({"n": 2})).await.problem(404, "not_in_quarantine");
    gateway.execute("alter table streams.hidden rename to typed").await;
    eventually("it follows", async || (gateway.rows("typed").await == 1).then_some(())).await;
    assert_eq!(list(&gateway, "?stream=typed").await.len(), 3);
}

#[tokio::test]
async fn what_was_not_kept_whole_must_be_sent() {
    let gateway = Gateway::with(&["--entry-bytes-max=100000"]).await;
    gateway.create_stream(&json!({"name": "long"})).await;
    let line = format!("{{\"text\":\"{}\"}}\n", "é".repeat(60_000));
    gateway.records("long").ndjson(line).send().await.expect(202);
    gateway.wait_all_committed().await;
    let records = list(&gateway, "").await;
    assert_eq!(
        (&records[0]["truncated"], &records[0]["raw_bytes"]),
        (&json!(true), &json!(65_536))
    );
    assert!(
        records[0]["raw"].as_str().is_some_and(|raw| raw.len() <= 4_096),
        "a list shows the beginning"
    );
    let id = records[0]["id"].as_str().unwrap();
    let shown = gateway.get(&format!("/v1/quarantine/{id}")).await.expect(200);
    assert!(shown["raw"].as_str().is_some_and(|raw| raw.len() > 60_000));
    replay_as_it_is(&gateway, id).await.problem(422, "not_replayable");
    let large = json!({"text": "x".repeat(120_000)});
    gateway.post(&replay(id), &large).await.problem(413, "too_large_for_key");
    gateway.post(&replay(id), &json!({"text": "short"})).await.expect(202);
    gateway.wait_all_committed().await;
    assert_eq!(gateway.payloads("long").await, [json!({"text": "short"})]);
}

#[tokio::test]
async fn a_replay_is_once_over_crowds_and_crashes() {
    let mut gateway = with_refused().await;
    let id = one(&gateway, "{\"n\":\"two\"}").await;
    let stall = Stall::of_writers(gateway.pool()).await;
    let mut crowd = JoinSet::new();
    for _ in 0..30 {
        let (client, path) = (Client::clone(&gateway), replay(&id));
        crowd.spawn(async move { client.post(&path, &json!({"n": 2})).await });
    }
    let replies = crowd.join_all().await;
    assert_eq!(replies.iter().filter(|reply| !reply.is_replayed()).count(), 1);
    let first = replies[0].body.clone();
    for reply in replies {
        assert_eq!(reply.expect(202), first);
    }
    gateway.kill9().await;
    stall.release().await;
    let stall = Stall::of_writers(gateway.pool()).await;
    gateway.restart().await;
    let again = gateway.post(&replay(&id), &json!({"n": 2})).await;
    assert!(again.is_replayed());
    assert_eq!(again.expect(202), first);
    // Who drops it meanwhile comes too late, and is told.
    let dropped = gateway.delete(&format!("/v1/quarantine/{id}")).await;
    dropped.problem(409, "replay_under_way");
    stall.release().await;
    gateway.wait_all_committed().await;
    gateway.post(&replay(&id), &json!({"n": 2})).await.problem(404, "not_in_quarantine");
    assert_eq!((gateway.rows("typed").await, list(&gateway, "").await.len()), (1, 4));

    // Two gateways on one database.
    let id = one(&gateway, "{\"n\":\"one\"}").await;
    let other = "update tidegate.quarantine set replaying_journal = gen_random_uuid()";
    gateway.execute(other).await;
    gateway.post(&replay(&id), &json!({"n": 1})).await.problem(409, "replayed_elsewhere");
    assert_eq!(list(&gateway, "").await.len(), 4);
}

#[tokio::test]
async fn the_command_line_lists_shows_replays_and_drops() {
    let gateway = with_refused().await;
    let directory = working_directory();
    let command = |arguments: &str| {
        let arguments: Vec<&str> =
            std::iter::once("quarantine").chain(arguments.split(' ')).collect();
        let mut command = tidegate(directory.path(), &arguments);
        command
            .env("DATABASE_URL", gateway.database_url())
            .env("TIDEGATE_DATA_DIR", gateway.data_dir())
            .env("TIDEGATE_URL", format!("http://{}", gateway.address()));
        command
    };
    let run = async |arguments: &str| run(&mut command(arguments)).await;
    let table = run("list --stream typed --code invalid_type").await.printed();
    assert_eq!(table.lines().count(), 4, "{table}");
    let id = one(&gateway, "{\"n\":\"two\"}").await;
    let line = table.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.contains("typed") && line.contains("line 1") && line.contains("expected integer"));
    let lines = run("list --json --limit 2").await.printed();
    let newest: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(newest, list(&gateway, "?limit=2").await);
    let shown = run(&format!("show {id}")).await.printed();
    assert!(
        shown.contains("invalid_type: expected integer") && shown.ends_with("{\"n\":\"two\"}\n")
    );
    let shown: Value =
        serde_json::from_str(&run(&format!("show {id} --json")).await.printed()).unwrap();
    assert_eq!(shown, gateway.get(&format!("/v1/quarantine/{id}")).await.expect(200));

    let told = run(&format!("replay {id}")).await.complained(1);
    assert!(told.contains("is invalid and stays"), "{told}");
    let mut corrected = command(&format!("replay {id} --record -"));
    let told = run_with_input(&mut corrected, "{\"n\":2}\n").await.printed();
    assert!(told.starts_with(&format!("{id} is replayed as ")), "{told}");
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("typed").await, 1);

    assert!(run("drop").await.complained(1).contains("say which"));
    assert!(run("drop --stream nowhere").await.complained(1).contains("no stream"));
    assert!(run(&format!("drop {id} --stream other")).await.complained(1).contains("either ids"));
    an_hour_apart(&gateway).await;
    let at = |hour: u32| format!("2026-03-01T0{hour}:00:00Z");
    let between = format!("list --json --from {} --until {}", at(1), at(3));
    assert_eq!(run(&between).await.printed().lines().count(), 2);
    let dropped = run(&format!("drop --stream other --from {}", at(3))).await;
    assert_eq!(dropped.printed(), "dropped 1\n");
    assert_eq!(run(&format!("drop --until {}", at(1))).await.printed(), "dropped 1\n");
    let rest: Vec<String> = list(&gateway, "")
        .await
        .iter()
        .map(|kept| kept["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(run(&format!("drop {}", rest.join(" "))).await.printed(), "dropped 2\n");
    assert_eq!(list(&gateway, "").await, Vec::<Value>::new());
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_can_be_corrected_from_the_best_guess() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "name", "type": "text"}, {"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "people", "columns": columns})).await;
    let lines = b"{\"name\":\"M\xfcller \x80\",\"n\":1}\n{\"name\":\"caf\xc3\xa9 \xfc\",\"n\":2}\n";
    gateway.records("people").ndjson(&lines[..]).send().await.expect(202);
    gateway.wait_all_committed().await;
    let texts = ["{\"name\":\"Müller €\",\"n\":1}", "{\"name\":\"café ü\",\"n\":2}"];
    let mut kept = list(&gateway, "?code=invalid_utf8").await;
    kept.sort_by_key(|kept| kept["record"].as_i64());
    for (kept, text) in kept.iter().zip(texts) {
        assert_eq!(kept["raw_guess"], json!({"encoding": "windows-1252", "text": text}));
        let id = kept["id"].as_str().unwrap();
        assert_eq!(
            gateway.get(&format!("/v1/quarantine/{id}")).await.expect(200)["raw_guess"]["text"],
            text
        );
        let corrected: Value = serde_json::from_str(text).unwrap();
        gateway.post(&format!("{}?ack=commit", replay(id)), &corrected).await.expect(201);
    }
    let names: Vec<String> = gateway.column("select name from streams.people order by n").await;
    assert_eq!(names, ["Müller €", "café ü"]);
    // What is UTF-8 needs no guess.
    gateway.records("people").json(&json!({"n": "ü"})).send().await.problem(422, "invalid_record");
    gateway.wait_all_committed().await;
    assert_eq!(list(&gateway, "").await[0].get("raw_guess"), None);
}
