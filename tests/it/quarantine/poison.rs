//! Records that are valid but that PostgreSQL refuses: what users' own constraints, triggers and changes of a table bring.
//! The good ones are committed, the bad ones kept in the quarantine, and no other sender notices.

use serde_json::{Value, json};

use crate::support::{Gateway, Metrics, eventually};

/// Records of a batch; those whose number ends in 7 are what the table refuses.
const RECORDS: i64 = 500;
const BAD: i64 = 50;

/// A change of the table `streams.poisoned` after which records ending in 7 are refused, and with which SQLSTATE.
struct Poison {
    name: &'static str,
    ddl: &'static str,
    sqlstate: &'static str,
}

const POISONS: [Poison; 8] = [
    Poison {
        name: "a check constraint",
        ddl: "alter table streams.poisoned add check (n % 10 <> 7)",
        sqlstate: "23514",
    },
    Poison {
        name: "a unique index",
        ddl: "create unique index on streams.poisoned ((case when n % 10 = 7 then 7 end))",
        sqlstate: "23505",
    },
    Poison {
        name: "a unique constraint that waits for the commit",
        ddl: "alter table streams.poisoned add column same integer
                  generated always as (case when n % 10 = 7 then 7 end) stored;
              alter table streams.poisoned add unique (same) deferrable initially deferred",
        sqlstate: "23505",
    },
    Poison {
        name: "a trigger",
        ddl: "create function refuse() returns trigger language plpgsql as $$
              begin
                  if new.n % 10 = 7 then raise exception 'sevens are refused'; end if;
                  return new;
              end $$;
              create trigger refuse before insert on streams.poisoned for each row execute function refuse()",
        sqlstate: "P0001",
    },
    Poison {
        name: "a trigger with a code of its own that waits for the commit",
        ddl: "create function refuse() returns trigger language plpgsql as $$
              begin
                  if new.n % 10 = 7 then raise exception 'sevens are refused' using errcode = 'TG007'; end if;
                  return null;
              end $$;
              create constraint trigger refuse after insert on streams.poisoned
                  deferrable initially deferred for each row execute function refuse()",
        sqlstate: "TG007",
    },
    Poison {
        name: "a column that must not be null",
        ddl: "alter table streams.poisoned alter column word set not null",
        sqlstate: "23502",
    },
    Poison {
        name: "a foreign key",
        ddl: "create table public.allowed (n bigint primary key);
              insert into public.allowed select n from generate_series(0, 10000) n where n % 10 <> 7;
              alter table streams.poisoned add foreign key (n) references public.allowed",
        sqlstate: "23503",
    },
    Poison {
        name: "an index row that is too large",
        ddl: "create index on streams.poisoned (word)",
        sqlstate: "54000",
    },
];

fn definition(key: &Value) -> Value {
    json!({"name": "poisoned", "key": key, "columns": [
        {"name": "n", "type": "bigint"},
        {"name": "word", "type": "text"},
    ]})
}

/// Every kind of poison is in the records ending in 7. Noise, so that PostgreSQL cannot compress the long word.
fn record(n: i64) -> Value {
    let bad = n % 10 == 7;
    let noise: String = (0..4_000_u32)
        .map(|i| {
            let mixed = i.wrapping_mul(2_654_435_761).rotate_left(13) ^ i.wrapping_mul(40_503);
            char::from(b'!' + u8::try_from(mixed % 90).unwrap())
        })
        .collect();
    json!({"n": n, "word": if bad { Value::Null } else { json!("w") },
           "noise": if bad { noise } else { String::new() }})
}

async fn poisoned_batch(gateway: &Gateway, poison: &Poison) {
    gateway.execute(poison.ddl).await;
    let mut records: Vec<Value> = (0..RECORDS).map(record).collect();
    if poison.sqlstate == "54000" {
        for record in records.iter_mut().filter(|record| record["word"].is_null()) {
            record["word"] = record["noise"].take();
        }
    }
    // Of a unique index the first stays.
    let bad = if poison.sqlstate == "23505" { BAD - 1 } else { BAD };
    // A neighbour in the same batch: it waits longer than its sender.
    let neighbour = gateway.records("neighbour").json(&json!([{"n": 1}, {"n": 2}]));
    neighbour.send().await.expect(202);
    let reply = gateway.records("poisoned").json(&Value::Array(records)).query("ack", "commit");
    let reply = reply.send().await.expect(201);
    assert_eq!(reply["committed"], RECORDS - bad, "{}: {reply}", poison.name);
    assert_eq!((&reply["quarantined"], &reply["duplicates"]), (&json!(bad), &json!(0)), "{reply}");

    let bad_or_first =
        if poison.sqlstate == "23505" { "n % 10 = 7 and n <> 7" } else { "n % 10 = 7" };
    let wrong = format!("select count(*) from streams.poisoned where {bad_or_first}");
    assert_eq!(gateway.scalar::<i64>(wrong).await, 0, "{}", poison.name);
    assert_eq!(gateway.rows("poisoned").await, RECORDS - bad, "{}", poison.name);
    assert_eq!(gateway.rows("neighbour").await, 2, "{}", poison.name);
    let kept: Vec<String> = gateway
        .column(
            "select distinct code || ' ' || sqlstate || ' ' || truncated || ' ' || (position is not null) || ' '
                 || source || ' ' || user_name || ' ' || (message <> '')
             from tidegate.quarantine",
        )
        .await;
    let expected = format!("refused_by_postgresql {} false true http local true", poison.sqlstate);
    assert_eq!(kept, [expected], "{}", poison.name);
    // The record as JSON, so that it can be corrected.
    let numbers: Vec<i64> = gateway
        .column("select (convert_from(raw, 'UTF8')::jsonb->>'n')::bigint from tidegate.quarantine order by 1")
        .await;
    let expected: Vec<i64> =
        (0..RECORDS).filter(|n| n % 10 == 7).skip(usize::try_from(BAD - bad).unwrap()).collect();
    assert_eq!(numbers, expected, "{}", poison.name);
    assert_eq!(gateway.total("poisoned", "accepted").await, RECORDS.unsigned_abs());
    assert_eq!(gateway.total("poisoned", "refused").await, bad.unsigned_abs());
    assert_eq!(gateway.total("poisoned", "quarantined").await, bad.unsigned_abs());
    let metrics = Metrics::read(gateway).await;
    let refused = metrics.sum("tidegate_records_refused_total", "stream", "poisoned");
    assert_eq!(refused.to_string(), bad.to_string());
}

#[tokio::test]
async fn the_good_records_of_a_batch_are_committed_and_the_bad_ones_kept() {
    for poison in &POISONS {
        let gateway = Gateway::with(&["--batch-interval-ms=1000"]).await;
        gateway.create_stream(&definition(&Value::Null)).await;
        poisoned_batch(&gateway, poison).await;
    }
}

#[tokio::test]
async fn keyed_streams_lose_no_good_record_to_a_bad_one_either() {
    let is_wanted = |poison: &&Poison| ["23514", "23505", "P0001"].contains(&poison.sqlstate);
    for poison in POISONS.iter().filter(is_wanted) {
        let gateway = Gateway::with(&["--batch-interval-ms=1000"]).await;
        gateway.create_stream(&definition(&json!(["n"]))).await;
        poisoned_batch(&gateway, poison).await;
        // Again: what is there is a duplicate now, what was refused is refused again.
        let records: Vec<Value> = (0..RECORDS).map(record).collect();
        let reply = gateway.commit("poisoned", &Value::Array(records)).await;
        let bad = if poison.sqlstate == "23505" { BAD - 1 } else { BAD };
        assert_eq!(
            (&reply["committed"], &reply["duplicates"], &reply["quarantined"]),
            (&json!(0), &json!(RECORDS - bad), &json!(bad)),
            "{}: {reply}",
            poison.name
        );
    }
}

#[tokio::test]
async fn of_equal_keys_the_last_good_one_stays() {
    let gateway = Gateway::with(&["--batch-interval-ms=1000"]).await;
    let columns = json!([{"name": "k", "type": "integer"}, {"name": "v", "type": "integer"}]);
    let stream =
        json!({"name": "last", "columns": columns, "key": ["k"], "on_duplicate": "replace"});
    gateway.create_stream(&stream).await;
    gateway.execute("alter table streams.last add check (v <> 13)").await;
    let records: Vec<Value> = (0..40).map(|n| json!({"k": n % 4, "v": n / 4 + 4})).collect();
    // Versions 4 to 13 of each key; the last is refused.
    let reply = gateway.commit("last", &Value::Array(records)).await;
    assert_eq!(reply["quarantined"], 4, "{reply}");
    assert_eq!(gateway.column::<i32>("select v from streams.last").await, [12; 4]);
}

#[tokio::test]
async fn a_batch_of_nothing_but_bad_records_holds_up_no_other_stream() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "hopeless"})).await;
    gateway.execute("alter table streams.hopeless add check (false)").await;
    let records: Vec<Value> = (0..2_000).map(|n| json!({"n": n})).collect();
    let reply = gateway.commit("hopeless", &Value::Array(records)).await;
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(0), &json!(2_000)), "{reply}");
    gateway.commit("others", &json!({"n": 1})).await;
    assert_eq!(gateway.rows("others").await, 1);
}

/// No record is to blame for it, and an hour of good ones in the quarantine is of no use.
#[tokio::test]
async fn records_for_a_column_that_was_dropped_wait_for_it() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}, {"name": "gone", "type": "text"}]);
    gateway.create_stream(&json!({"name": "dropped", "columns": columns})).await;
    gateway.commit("dropped", &json!({"n": 1, "gone": "a"})).await;
    gateway.execute("alter table streams.dropped drop column gone").await;
    let records = json!([{"n": 2, "gone": "b"}, {"n": 3}]);
    gateway.records("dropped").json(&records).send().await.expect(202);
    let reason = eventually("the records are parked", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        status["parked"]["dropped"]["reason"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(
        reason,
        "the table has no column gone, the stream says text; alter it back, or change the stream"
    );
    gateway.execute("alter table streams.dropped add column gone text").await;
    gateway.commit("dropped", &json!({"n": 4, "gone": "c"})).await;
    let rows: Vec<String> =
        gateway.column("select concat_ws(' ', n, gone) from streams.dropped order by id").await;
    assert_eq!(rows, ["1", "2 b", "3", "4 c"]);
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await, 0);
}

/// A constraint that waits for the commit is checked as soon as a stream of the batch is cared for, and whose rows it is
/// about is not said.
#[tokio::test]
async fn what_waits_for_the_commit_is_blamed_on_its_own_stream() {
    let gateway = Gateway::with(&["--batch-interval-ms=1000"]).await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    for (first, second) in [("waits", "checked"), ("checked_", "waits_")] {
        for stream in [first, second] {
            gateway.create_stream(&json!({"name": stream, "columns": columns})).await;
        }
        let [waits, checked] = if first == "waits" { [first, second] } else { [second, first] };
        gateway
            .execute(&format!(
                "create function refuse_{waits}() returns trigger language plpgsql as $$
                 begin if new.n = 7 then raise exception 'sevens are refused'; end if; return null; end $$;
                 create constraint trigger refuse after insert on streams.{waits}
                     deferrable initially deferred for each row execute function refuse_{waits}();
                 alter table streams.{checked} add check (n <> 3)"
            ))
            .await;
        let records: Vec<Value> = (0..10).map(|n| json!({"n": n})).collect();
        gateway.records(first).json(&Value::Array(records.clone())).send().await.expect(202);
        let reply = gateway.commit(second, &Value::Array(records)).await;
        assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(9), &json!(1)), "{reply}");
        for (stream, refused) in [(waits, 7), (checked, 3)] {
            let numbers: Vec<i32> =
                gateway.column(format!("select n from streams.{stream} order by n")).await;
            let expected: Vec<i32> = (0..10).filter(|n| *n != refused).collect();
            assert_eq!(numbers, expected, "{stream}");
        }
    }
}

#[tokio::test]
async fn partitioned_streams_are_cared_for_too() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "daily", "columns": columns, "retention_days": 3})).await;
    gateway.execute("alter table streams.daily add check (n <> 3)").await;
    let records: Vec<Value> = (0..10).map(|n| json!({"n": n})).collect();
    let reply = gateway.commit("daily", &Value::Array(records)).await;
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(9), &json!(1)), "{reply}");
}

#[tokio::test]
async fn good_and_bad_in_turns_do_not_use_up_what_postgresql_has() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "turns", "columns": columns, "key": ["n"]})).await;
    gateway.execute("alter table streams.turns add check (n % 2 = 0)").await;
    let records: Vec<Value> = (0..6_000).map(|n| json!({"n": n})).collect();
    let reply = gateway.commit("turns", &Value::Array(records)).await;
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(3_000), &json!(3_000)));
}

#[tokio::test]
async fn a_trigger_that_gives_other_ids_stops_no_commit() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "renamed", "key": ["/k"]})).await;
    gateway
        .execute(
            "create function rename() returns trigger language plpgsql as $$
             begin new.id := '00000000-0000-0000-0000-000000000001'; return new; end $$;
             create trigger rename before insert on streams.renamed for each row execute function rename()",
        )
        .await;
    gateway.records("renamed").json(&json!({"k": 1})).send().await.expect(202);
    gateway.commit("others", &json!({"n": 1})).await;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("renamed").await, 1);
}
