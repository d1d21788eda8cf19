//! `tidegate query`: records in a terminal.

use serde_json::{Value, json};

use crate::support::Gateway;
use crate::support::command::{run_with_input, tidegate};

async fn query(gateway: &Gateway, more: &[&str]) -> (i32, String, String) {
    let url = format!("http://{}", gateway.address());
    let data_dir = gateway.data_dir().display().to_string();
    let mut arguments = vec!["query", "flights", "--url", &url, "--data-dir", &data_dir];
    arguments.extend(more);
    let output = run_with_input(&mut tidegate(gateway.data_dir(), &arguments), "").await;
    (output.code, output.stdout, output.stderr)
}

async fn flights() -> Gateway {
    let gateway = Gateway::start().await;
    let columns =
        json!([{"name": "carrier", "type": "text"}, {"name": "delay", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "flights", "columns": columns})).await;
    let flights: Vec<Value> =
        (0..60).map(|n| json!({"carrier": format!("C{:02}", n), "delay": n})).collect();
    gateway.commit("flights", &json!(flights)).await;
    gateway
}

#[tokio::test]
async fn records_are_shown_as_a_table_and_copied_as_csv_and_ndjson() {
    let gateway = flights().await;
    let asked = ["delay=gt.55", "--select", "carrier,late:delay", "--order", "delay"];
    let (code, table, _) = query(&gateway, &asked).await;
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!((code, rows.len()), (0, 5), "{table}");
    assert!(rows[0].contains("carrier") && rows[0].contains("late"), "{table}");
    assert!(rows[1].contains("C56") && rows[4].contains("C59"), "{table}");

    let (code, csv, _) = query(&gateway, &[&asked[..], &["--format", "csv"]].concat()).await;
    assert_eq!((code, &*csv), (0, "carrier,late\nC56,56\nC57,57\nC58,58\nC59,59\n"));
    let (code, lines, _) = query(&gateway, &["--format", "ndjson"]).await;
    assert_eq!((code, lines.lines().count()), (0, 60), "all of them");
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["data"]["carrier"].is_string(), "{line}");
    }
    let (code, table, told) = query(&gateway, &[]).await;
    assert_eq!((code, table.lines().count()), (0, 51), "{table}");
    assert!(told.contains("--limit") || table.contains("--limit"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_told_with_what_helps() {
    let gateway = flights().await;
    for (more, words) in [
        (vec!["dalay=gt.5"], "delay"),
        (vec!["delay=over.5"], "over"),
        (vec!["delay"], "="),
        (vec!["--order", "delay.down"], "down"),
    ] {
        let (code, out, told) = query(&gateway, &more).await;
        assert!(
            code != 0 && out.is_empty() && told.contains(words),
            "{more:?}: {code} {out} {told}"
        );
    }
}
