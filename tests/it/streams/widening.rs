//! A declared column gets a type that holds more: table and stream together, in plain, keyed and partitioned tables.
//! What was sent before stays right wherever it is read, and what cannot be done without loss is told.

use serde_json::{Value, json};

use crate::support::command::{run, tidegate, working_directory};
use crate::support::watcher::Watcher;
use crate::support::{Gateway, Reply, eventually};

const COLUMNS: [(&str, &str); 8] = [
    ("k", "integer"),
    ("i", "smallint"),
    ("r", "real"),
    ("d", "integer"),
    ("z", "timestamptz"),
    ("o", "boolean"),
    ("j", "jsonb"),
    ("u", "uuid"),
];
const UUID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// The columns, some of them with other types; `d` has a default.
fn columns(wider: &[(&str, &str)]) -> Value {
    let column = |&(name, kind): &(&str, &str)| {
        let kind = wider.iter().find(|(other, _)| *other == name).map_or(kind, |(_, kind)| kind);
        let mut column = json!({"name": name, "type": kind});
        if name == "d" {
            column["default"] = json!(5);
        }
        column
    };
    COLUMNS.iter().map(column).collect()
}

async fn widen(gateway: &Gateway, stream: &str, wider: &[(&str, &str)]) -> Reply {
    let change = json!({"columns": columns(wider)});
    gateway.patch(&format!("/v1/streams/{stream}"), &change).await
}

/// The table's rows as PostgreSQL shows them.
async fn rows(gateway: &Gateway, stream: &str) -> Vec<String> {
    let sql = format!(
        "select concat_ws('|', k, i, r, d, z, o, j, u, extra) from streams.{stream} order by k::numeric"
    );
    gateway.column(sql).await
}

async fn types(gateway: &Gateway, stream: &str) -> String {
    let sql = format!(
        "select string_agg(format_type(atttypid, atttypmod), ' ' order by attnum) from pg_attribute
         where attrelid = 'streams.{stream}'::regclass and attnum > 3 and not attisdropped"
    );
    gateway.scalar(sql).await
}

const STREAMS: [(&str, &str); 3] = [
    ("plain", "{}"),
    ("keyed", r#"{"key":["k"],"on_duplicate":"replace"}"#),
    ("kept", r#"{"retention_days":30}"#),
];

#[tokio::test]
async fn what_was_sent_before_and_after_is_there_as_it_was_sent() {
    let gateway = Gateway::start().await;
    for (stream, more) in STREAMS {
        let mut definition: Value = serde_json::from_str(more).unwrap();
        definition["name"] = json!(stream);
        definition["columns"] = columns(&[]);
        gateway.create_stream(&definition).await;
        let begun = Watcher::local(&gateway, &format!("streams={stream}")).await.cursor();

        let first = json!({"k": 1, "i": 7, "r": 0.5, "z": "2013-01-01T06:00+01", "o": true, "j": {"x": 1}, "u": UUID, "x": 1});
        gateway.commit(stream, &first).await;
        widen(&gateway, stream, &[("i", "integer")]).await.expect(200);
        gateway.commit(stream, &json!({"k": 2, "i": 70_000})).await;
        let wider = [
            ("k", "bigint"),
            ("i", "numeric"),
            ("r", "double precision"),
            ("d", "text"),
            ("z", "text"),
            ("o", "text"),
            ("j", "text"),
            ("u", "text"),
        ];
        let shown = widen(&gateway, stream, &wider).await.expect(200);
        assert_eq!(shown["columns"][3], json!({"name": "d", "type": "text", "default": "5"}));
        assert_eq!(widen(&gateway, stream, &wider).await.expect(200), shown, "once more");
        let third = json!({"k": 3_000_000_000_i64, "i": "1.50", "r": 1e300, "z": "noon", "o": false, "j": {"y":2}, "u": "none"});
        gateway.commit(stream, &third).await;

        assert_eq!(
            types(&gateway, stream).await,
            "bigint numeric double precision text text text text text"
        );
        let expected = [
            format!("1|7|0.5|5|2013-01-01 05:00:00+00|true|{{\"x\": 1}}|{UUID}|{{\"x\": 1}}"),
            "2|70000|5".to_owned(),
            "3000000000|1.50|1e+300|5|noon|false|{\"y\":2}|none".to_owned(),
        ];
        assert_eq!(rows(&gateway, stream).await, expected, "{stream}");
        // The table's own default, for other programs that write into it and for tuples without the column.
        let default = format!(
            "select column_default from information_schema.columns
             where table_schema = 'streams' and table_name = '{stream}' and column_name = 'd'"
        );
        assert_eq!(gateway.scalar::<String>(default).await, "'5'::text");
        if stream == "keyed" {
            let reply = gateway.commit(stream, &json!({"k": 1, "i": 8})).await;
            assert_eq!(reply["duplicates"], 1, "the key is the same number: {reply}");
            assert_eq!(rows(&gateway, stream).await[0], "1|8|5");
        }
        assert_read_as_sent(&gateway, stream, &begun).await;
    }
}

/// The journal has tuples of three sets of types, and each is read by its own.
async fn assert_read_as_sent(gateway: &Gateway, stream: &str, begun: &str) {
    let mut watcher = Watcher::local(gateway, &format!("streams={stream}&since={begun}")).await;
    watcher.until("all of it", |it| it.records(stream).len() >= 3).await;
    let seen: Vec<Value> =
        watcher.records(stream).iter().map(|record| record["data"].clone()).collect();
    let directory = working_directory();
    let mut export = tidegate(directory.path(), &["journal", "export", "--stream", stream]);
    let exported = run(export.arg("--data-dir").arg(gateway.data_dir())).await.printed();
    let exported: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"].clone())
        .collect();
    let expected = [
        json!({"k": 1, "i": 7, "r": 0.5, "d": 5, "z": "2013-01-01T05:00:00.000000Z", "o": true, "j": {"x": 1}, "u": UUID, "x": 1}),
        json!({"k": 2, "i": 70_000, "r": null, "d": 5, "z": null, "o": null, "j": null, "u": null}),
        json!({"k": 3_000_000_000_i64, "i": 1.50, "r": 1e300, "d": "5", "z": "noon", "o": "false", "j": "{\"y\":2}", "u": "none"}),
    ];
    assert_eq!(seen[..3], expected, "{stream}, watched");
    assert_eq!(exported[..3], expected, "{stream}, exported");
}

/// The definition outlives the process, with PostgreSQL and without.
#[tokio::test]
async fn a_restart_knows_what_was_widened() {
    let mut gateway = Gateway::start().await;
    let columns = |kind| json!([{"name": "n", "type": kind}]);
    gateway.create_stream(&json!({"name": "s", "columns": columns("integer")})).await;
    gateway.commit("s", &json!({"n": 1})).await;
    gateway.patch("/v1/streams/s", &json!({"columns": columns("text")})).await.expect(200);
    gateway.restart().await;
    gateway.commit("s", &json!([{"n": 2}, {"n": "three"}])).await;
    let found: Vec<String> = gateway.column("select n from streams.s order by id").await;
    assert_eq!(found, ["1", "2", "three"]);
    let mirror = std::fs::read_to_string(gateway.data_dir().join("streams.json")).unwrap();
    let mirror: Value = serde_json::from_str(&mirror).unwrap();
    let widened = &mirror[0]["shape"]["typed"]["widened"];
    assert_eq!(*widened, json!([{"column": 0, "from": "integer"}]), "{mirror}");
}

/// PostgreSQL checks every row again when it rewrites a table, so a check that sleeps stands for a large one.
#[tokio::test]
async fn a_table_that_takes_too_long_stays_as_it_is_and_the_statement_is_told() {
    let gateway = Gateway::start().await;
    let columns = |kind| json!({"columns": [{"name": "n", "type": kind}]});
    let mut stream = columns("integer");
    stream["name"] = json!("large");
    let made = gateway.create_stream(&stream).await;
    gateway.commit("large", &json!({"n": 1})).await;
    gateway
        .execute(
            "create function slow(n bigint) returns boolean language plpgsql as $$
             begin perform pg_sleep(60); return true; end $$;
             alter table streams.large add check (slow(n)) not valid;
             update pg_constraint set convalidated = true where conrelid = 'streams.large'::regclass",
        )
        .await;
    let change = columns("bigint");
    let (reply, ()) = futures::join!(gateway.patch("/v1/streams/large", &change), async {
        // What the limit on a statement's time does, only sooner.
        let cancel = "select pg_cancel_backend(pid) from pg_stat_activity
                      where wait_event = 'PgSleep' and query like 'alter table%'
                          and datname = current_database()";
        eventually("it is at it", async || {
            (!gateway.column::<bool>(cancel).await.is_empty()).then_some(())
        })
        .await;
    });
    let problem = reply.problem(409, "table_too_large");
    let statement = r#"alter table streams."large" alter column "n" type bigint using "n"::bigint"#;
    assert!(problem["detail"].as_str().unwrap().contains(statement), "{problem}");
    assert_eq!(gateway.get("/v1/streams/large").await.expect(200), made);
    // An operator runs it, and the stream follows.
    gateway.execute("alter table streams.large drop constraint large_n_check").await;
    gateway.execute(statement).await;
    gateway.patch("/v1/streams/large", &change).await.expect(200);
    gateway.commit("large", &json!({"n": 3_000_000_000_i64})).await;
    let found: Vec<i64> = gateway.column("select n from streams.large order by n").await;
    assert_eq!(found, [1, 3_000_000_000]);
}

/// A database may be set up to write times and numbers in other ways; what becomes text is text for ever.
#[tokio::test]
async fn the_text_of_a_value_is_the_same_however_the_database_is_set_up() {
    let mut gateway = Gateway::start().await;
    let settings = "do $$ begin
            execute format('alter database %I set datestyle = ''German''', current_database());
            execute format('alter database %I set extra_float_digits = -15', current_database());
            execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database());
        end $$";
    gateway.execute(settings).await;
    gateway.restart().await;
    let columns = |kinds: [&str; 3]| {
        let column = |(name, kind)| json!({"name": name, "type": kind});
        ["z", "a", "d"].into_iter().zip(kinds).map(column).collect::<Value>()
    };
    let declared = columns(["timestamptz", "date", "double precision"]);
    gateway.create_stream(&json!({"name": "s", "columns": declared})).await;
    let record = json!({"z": "2013-02-01T06:00:00.5Z", "a": "2013-02-01", "d": 0.123_456_789_1});
    gateway.commit("s", &record).await;
    let change = json!({"columns": columns(["text"; 3])});
    gateway.patch("/v1/streams/s", &change).await.expect(200);
    let found: String = gateway.scalar("select concat_ws('|', z, a, d) from streams.s").await;
    assert_eq!(found, "2013-02-01 06:00:00.5+00|2013-02-01|0.1234567891");
}

/// What PostgreSQL refused while the column was a number is sent again as it was, now that it is text.
#[tokio::test]
async fn what_was_kept_aside_before_can_be_replayed_after() {
    let gateway = Gateway::start().await;
    let columns = |kind| json!({"columns": [{"name": "n", "type": kind}]});
    let mut stream = columns("integer");
    stream["name"] = json!("s");
    gateway.create_stream(&stream).await;
    gateway.execute("alter table streams.s add constraint no_nine check (n <> 9)").await;
    let request = gateway.records("s").json(&json!([{"n": 8}, {"n": 9}])).query("ack", "commit");
    assert_eq!(request.send().await.expect(201)["committed"], 1);
    gateway.execute("alter table streams.s drop constraint no_nine").await;
    gateway.patch("/v1/streams/s", &columns("text")).await.expect(200);
    let kept = gateway.get("/v1/quarantine?stream=s").await.expect(200);
    let (id, raw) = (&kept["records"][0]["id"], &kept["records"][0]["raw"]);
    assert_eq!(raw, r#"{"n":9}"#, "{kept}");
    let path = format!("/v1/quarantine/{}/replay?ack=commit", id.as_str().unwrap());
    let request = gateway.request(reqwest::Method::POST, &path);
    assert_eq!(Reply::to(request).await.expect(201)["committed"], 1);
    let found: Vec<String> = gateway.column("select n from streams.s order by n").await;
    assert_eq!(found, ["8", "9"]);
}

#[tokio::test]
async fn what_a_column_cannot_become_is_told_with_what_it_can() {
    let gateway = Gateway::start().await;
    let columns = |n: &str, k: &str| json!([{"name": "n", "type": n}, {"name": "k", "type": k}]);
    let stream = json!({"name": "s", "columns": columns("bigint", "real"), "key": ["k"]});
    let made = gateway.create_stream(&stream).await;
    for (change, place, words) in [
        (columns("integer", "real"), "columns[0].type", "only: numeric, text"),
        (columns("double precision", "real"), "columns[0].type", "only: numeric, text"),
        (columns("bigint", "double precision"), "columns[1].type", "in the key"),
        (json!([{"name": "n", "type": "text"}]), "columns", "columns only grow"),
        (
            json!([{"name": "m", "type": "text"}, {"name": "k", "type": "real"}]),
            "columns",
            "columns only grow",
        ),
    ] {
        let reply = gateway.patch("/v1/streams/s", &json!({"columns": change})).await;
        let problem = reply.problem(422, "invalid_stream");
        let detail = problem["detail"].as_str().unwrap();
        assert!(problem["place"] == place && detail.contains(words), "{problem}");
    }
    assert_eq!(gateway.get("/v1/streams/s").await.expect(200), made, "nothing changed");
}

/// The table was altered; the stream follows where nothing is lost, and says what is wrong where something would be.
#[tokio::test]
async fn a_table_that_is_not_what_the_stream_says_loses_nothing() {
    let gateway = Gateway::start().await;
    let columns = |kind: &str| json!([{"name": "n", "type": kind}]);
    let stream = |name: &str| json!({"name": name, "columns": columns("integer")});
    for (name, ddl, code, words) in [
        (
            "altered",
            "alter table streams.altered alter n type double precision",
            "column_differs",
            "\"n\" is double precision",
        ),
        (
            "domain",
            "create domain public.few as bigint check (value < 99); alter table streams.domain alter n type public.few",
            "column_differs",
            "\"n\" is few",
        ),
        ("renamed", "alter table streams.renamed rename n to m", "column_gone", "no column \"n\""),
        ("dropped", "alter table streams.dropped drop n", "column_gone", "no column \"n\""),
        (
            "viewed",
            "create view public.shows as select n from streams.viewed",
            "table_refused",
            "view shows depends on column",
        ),
        ("moved", "alter table streams.moved rename to elsewhere", "table_gone", "streams.moved"),
        (
            "replaced",
            "alter table streams.replaced rename to elsewhere2; create view streams.replaced as select * from streams.elsewhere2",
            "table_refused",
            "\"replaced\"",
        ),
    ] {
        let made = gateway.create_stream(&stream(name)).await;
        gateway.commit(name, &json!({"n": 40})).await;
        gateway.execute(ddl).await;
        let path = format!("/v1/streams/{name}");
        let problem = gateway.patch(&path, &json!({"columns": columns("bigint")})).await;
        let problem = problem.problem(409, code);
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
        assert_eq!(gateway.get(&path).await.expect(200), made, "the stream is as it was");
    }
    // Wide enough already, by hand: there is nothing left to do, which is the way for tables that take long to rewrite.
    for (name, kind) in [("done", "bigint"), ("more", "numeric")] {
        gateway.create_stream(&stream(name)).await;
        gateway.execute(&format!("alter table streams.{name} alter n type {kind}")).await;
        let change = json!({"columns": columns("bigint")});
        gateway.patch(&format!("/v1/streams/{name}"), &change).await.expect(200);
        let found = format!(
            "select pg_typeof(n)::text from (values (1)) one(x) left join streams.{name} on true"
        );
        assert_eq!(gateway.scalar::<String>(found).await, kind, "it keeps what it has");
    }
    gateway.commit("done", &json!({"n": 3_000_000_000_i64})).await;
    assert_eq!(gateway.column::<i64>("select n from streams.done").await, [3_000_000_000]);
}
