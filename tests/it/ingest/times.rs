//! Times: every text that is taken is what PostgreSQL makes of it, also where it is a number, and also when it comes
//! back.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::watcher::Watcher;
use crate::support::{Gateway, Reply};

/// A column for each unit.
fn columns() -> Value {
    let column =
        |name: &str, unit: &str| json!({"name": name, "type": "timestamptz", "epoch": unit});
    json!([
        {"name": "n", "type": "integer"}, column("s", "s"), column("ms", "ms"), column("us", "us"), column("ns", "ns"),
    ])
}

/// The same moment in each unit, as it would be sent.
fn record(n: usize, micros: i64) -> String {
    let (whole, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    // Below zero the fraction counts the other way.
    let s = if micros < 0 && fraction > 0 {
        format!("-{}.{:06}", -(whole + 1), 1_000_000 - fraction)
    } else {
        format!("{whole}.{fraction:06}")
    };
    let ms = micros / 1_000;
    format!("{{\"n\":{n},\"s\":{s},\"ms\":{ms},\"us\":{micros},\"ns\":\"{micros}000\"}}")
}

#[tokio::test]
async fn numbers_are_the_times_that_postgresql_makes_of_them() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "moments", "columns": columns()})).await;
    let mut watcher = Watcher::local(&gateway, "streams=moments").await;
    let moments: Vec<i64> = vec![
        0,
        1,
        -1,
        -1_500_000,
        1_357_020_000_123_456,
        -62_135_596_800_000_000,
        253_402_300_799_999_999,
        946_684_800_000_000,
        -2_208_988_800_500_000,
    ];
    let lines: Vec<String> =
        moments.iter().enumerate().map(|(n, &micros)| record(n, micros)).collect();
    gateway.records("moments").ndjson(lines.join("\n")).send().await.expect(202);
    let rows: Vec<String> = moments
        .iter()
        .enumerate()
        .map(|(n, micros)| format!("{},\"{}\",,{micros},", n + moments.len(), micros / 1_000_000))
        .collect();
    let csv = format!("n,s,ms,us,ns\n{}\n", rows.join("\n"));
    gateway.records("moments").csv(csv).query("ack", "commit").send().await.expect(201);
    gateway.wait_all_committed().await;

    let listed: Vec<String> = moments.iter().map(i64::to_string).collect();
    // Whole seconds and whole microseconds apart, because PostgreSQL has no exact function of both.
    let compared = format!(
        "with sent as (select number - 1 as n, micros, to_timestamp(micros / 1000000) \
             + (micros % 1000000) * interval '1 microsecond' as at \
           from unnest(array[{}]::bigint[]) with ordinality as list (micros, number)) \
         select count(*) from sent join streams.moments m on m.n % {} = sent.n \
         where m.us = at and (m.n >= {1} or (m.s = at and m.ns = at and m.ms = at - (micros % 1000) * interval '1 microsecond')) \
           and (m.n < {1} or m.s = to_timestamp(micros / 1000000))",
        listed.join(","),
        moments.len()
    );
    let same: i64 = gateway.scalar(compared).await;
    assert_eq!(usize::try_from(same), Ok(2 * moments.len()));

    watcher.until("all records", |watcher| watcher.records("moments").len() == 18).await;
    let shown = watcher.records("moments");
    assert_eq!(shown[4]["data"]["us"], "2013-01-01T06:00:00.123456Z", "a time is shown as one");
}

#[tokio::test]
async fn a_time_that_came_as_a_number_comes_back_to_the_same() {
    let gateway = Gateway::start().await;
    let definition = json!({"name": "kept", "columns": columns(), "key": ["n", "ns"]});
    gateway.create_stream(&definition).await;
    gateway.execute("alter table streams.kept add check (n <> 1)").await;
    let lines = [record(1, 1_357_020_000_123_456), record(2, 1_357_020_000_123_456)];
    let reply = gateway.records("kept").ndjson(lines.join("\n")).query("ack", "commit");
    let reply = reply.send().await.expect(201);
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(1), &json!(1)));
    gateway.execute("alter table streams.kept drop constraint kept_n_check").await;
    let page = gateway.get("/v1/quarantine").await.expect(200);
    let id = page["records"][0]["id"].as_str().unwrap();
    let path = format!("/v1/quarantine/{id}/replay?ack=commit");
    let replayed = Reply::to(gateway.request(Method::POST, &path)).await.expect(201);
    assert_eq!(replayed["committed"], 1, "{replayed}");
    let equal = "select count(distinct (s, ms, us, ns)) from streams.kept having count(*) = 2";
    assert_eq!(gateway.scalar::<i64>(equal).await, 1);
    // The key is the time, however it is written.
    let again = json!({"n": 2, "ns": "2013-01-01T06:00:00.123456Z"});
    assert_eq!(gateway.commit("kept", &again).await["duplicates"], 1);
}

#[tokio::test]
async fn a_definition_says_what_numbers_count_and_no_other_column_takes_them() {
    let gateway = Gateway::start().await;
    let with = |column: Value| json!({"name": "refused", "columns": [column]});
    for (column, detail) in [
        (json!({"name": "a", "type": "bigint", "epoch": "ms"}), "timestamptz"),
        (json!({"name": "a", "type": "timestamptz", "epoch": "minutes"}), "minutes"),
        (json!({"name": "a", "type": "timestamptz", "epoch": "s", "default": "noon"}), "noon"),
    ] {
        let reply = gateway.post("/v1/streams", &with(column.clone())).await;
        assert!([400, 422].contains(&reply.status), "{column}: {}", reply.body);
        assert!(reply.body["detail"].as_str().unwrap().contains(detail), "{}", reply.body);
    }
    let columns = json!([
        {"name": "plain", "type": "timestamptz"},
        {"name": "s", "type": "timestamptz", "epoch": "s", "default": 86_400},
    ]);
    let made = gateway.create_stream(&json!({"name": "times", "columns": columns})).await;
    assert_eq!(made["columns"], columns);
    gateway.commit("times", &json!({"plain": "2013-01-01"})).await;
    let default = "select s = '1970-01-02 00:00:00Z' from streams.times";
    assert!(gateway.scalar::<bool>(default).await);
    for (record, code) in [
        (json!({"plain": 1_357_020_000}), "invalid_type"),
        (json!({"plain": "1357020000"}), "invalid_type"),
        (json!({"s": true}), "invalid_type"),
        (json!({"s": [1]}), "invalid_type"),
        (json!({"s": 1e15}), "out_of_range"),
        (json!({"s": "-1e300"}), "out_of_range"),
    ] {
        let reply = gateway.records("times").json(&record).send().await;
        let error = reply.problem(422, "invalid_record")["errors"][0].clone();
        assert_eq!(error["code"], code, "{record}: {error}");
        let message = error["message"].as_str().unwrap();
        let forms = ["2013-01-01T06:00:00Z", "UTC", "GMT", "+02:30", "epoch"];
        assert!(
            code != "invalid_type" || forms.iter().all(|form| message.contains(form)),
            "{message}"
        );
    }
    // A column that is added later, and the same after a start.
    let added =
        json!([columns[0], columns[1], {"name": "ms", "type": "timestamptz", "epoch": "ms"}]);
    gateway.patch("/v1/streams/times", &json!({"columns": added})).await.expect(200);
    gateway.commit("times", &json!({"ms": 1_357_020_000_000_i64})).await;
    let stored = "select count(*) from streams.times where ms = '2013-01-01 06:00Z'";
    assert_eq!(gateway.scalar::<i64>(stored).await, 1);
}
