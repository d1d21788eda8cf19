//! Records that were taken before their columns got wider, and reach their table after: out of the journal and out of
//! `tidegate.parked`, each as it was sent.

use serde_json::{Value, json};

use crate::support::{Gateway, Stall, eventually};

/// The columns, as they are declared at the beginning and at the end.
const COLUMNS: [(&str, &str, &str); 8] = [
    ("k", "integer", "bigint"),
    ("i", "smallint", "numeric"),
    ("r", "real", "double precision"),
    ("d", "integer", "text"),
    ("z", "timestamptz", "text"),
    ("o", "boolean", "text"),
    ("j", "jsonb", "text"),
    ("b", "bigint", "text"),
];

/// The first so many columns have their last type; `d` has a default.
fn columns(wide: usize) -> Value {
    let column = |(index, &(name, narrow, wider)): (usize, &(&str, &str, &str))| {
        let mut column = json!({"name": name, "type": if index < wide { wider } else { narrow }});
        if name == "d" {
            column["default"] = json!(5);
        }
        column
    };
    COLUMNS.iter().enumerate().map(column).collect()
}

/// What there may be beside the columns.
const FORMS: [(&str, &str); 3] = [
    ("plain", "{}"),
    ("keyed", r#"{"key":["k"],"on_duplicate":"replace"}"#),
    ("kept", r#"{"retention_days":30}"#),
];

async fn create(gateway: &Gateway, stream: &str, form: &str) {
    let mut definition: Value = serde_json::from_str(form).unwrap();
    definition["name"] = json!(stream);
    definition["columns"] = columns(0);
    gateway.create_stream(&definition).await;
}

/// Sends records and widens columns in turn; nothing of it can reach the table meanwhile.
async fn send_and_widen(gateway: &Gateway, stream: &str) {
    let path = format!("/v1/streams/{stream}");
    let first = json!({"k": 1, "i": 7, "r": 0.5, "z": "2013-01-01T06:00+01", "o": true, "j": {"x": [1]}, "b": 9_007_199_254_740_993_i64, "x": 1});
    let again = json!({"k": 2, "i": 8, "r": 0.25, "d": 6});
    for (wide, record) in [
        (0, json!([first, again])),
        (2, json!({"k": 3_000_000_000_i64, "i": "1.50", "r": "NaN", "d": 7, "o": false})),
        (5, json!({"k": 2, "i": -1, "r": 1e300, "d": "none", "z": "noon", "j": "text"})),
        (8, json!({"k": 4, "o": "perhaps", "j": {"y": 2}, "b": "many"})),
    ] {
        if wide > 0 {
            gateway.patch(&path, &json!({"columns": columns(wide)})).await.expect(200);
        }
        gateway.records(stream).json(&record).send().await.expect(202);
    }
}

async fn assert_arrived(gateway: &Gateway, stream: &str) {
    let sql = format!(
        "select concat_ws('|', k, i, r, d, z, o, j, b, extra) from streams.{stream} order by k, id"
    );
    let found: Vec<String> = gateway.column(sql).await;
    let mut expected = vec![
        r#"1|7|0.5|5|2013-01-01 05:00:00+00|true|{"x": [1]}|9007199254740993|{"x": 1}"#,
        "2|8|0.25|6",
        r#"2|-1|1e+300|none|noon|"text""#,
        r#"4|5|perhaps|{"y":2}|many"#,
        "3000000000|1.50|NaN|7|false",
    ];
    if stream.ends_with("keyed") {
        expected.remove(1);
    }
    assert_eq!(found, expected, "{stream}");
    let kept = gateway.get(&format!("/v1/quarantine?stream={stream}")).await.expect(200);
    assert_eq!(kept["records"], json!([]), "{stream}");
}

#[tokio::test]
async fn what_waits_in_the_journal_is_written_as_it_was_sent() {
    let mut gateway = Gateway::start().await;
    for (stream, form) in FORMS {
        create(&gateway, stream, form).await;
    }
    let stall = Stall::of_writers(gateway.pool()).await;
    for (stream, _) in FORMS {
        send_and_widen(&gateway, stream).await;
    }
    // All of it is read from the disk again, by a process that has the definitions from PostgreSQL.
    gateway.kill9().await;
    stall.release().await;
    gateway.restart().await;
    gateway.wait_all_committed().await;
    for (stream, _) in FORMS {
        assert_arrived(&gateway, stream).await;
    }
}

#[tokio::test]
async fn what_is_parked_is_written_as_it_was_sent() {
    let gateway = Gateway::with(&["--lock-timeout-ms=100", "--batch-interval-ms=20"]).await;
    gateway
        .execute(
            "create function closed() returns trigger language plpgsql as $$
             begin raise exception 'closed' using errcode = '55000'; end $$",
        )
        .await;
    for (form, more) in FORMS {
        let stream = format!("parked_{form}");
        create(&gateway, &stream, more).await;
        let close = format!(
            "create trigger closed before insert on streams.{stream} for each row execute function closed()"
        );
        gateway.execute(&close).await;
        send_and_widen(&gateway, &stream).await;
        eventually("all of it is parked", async || {
            let status = gateway.get("/v1/status").await.expect(200);
            (status["parked"][&stream]["records"] == 5).then_some(())
        })
        .await;
        gateway.execute(&format!("drop trigger closed on streams.{stream}")).await;
    }
    gateway.wait_nothing_parked().await;
    for (form, _) in FORMS {
        assert_arrived(&gateway, &format!("parked_{form}")).await;
    }
}
