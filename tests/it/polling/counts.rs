//! What a run counts is what became of its items: what PostgreSQL refused is not new, and what waits for a table is told.

use serde_json::{Value, json};

use crate::polling::jobs::{make, run, runs};
use crate::support::{ALLOW_LOOPBACK, Gateway, ItemsApi, Stall, eventually};

/// New, changed, refused, parked.
fn counts(run: &Value) -> [i64; 4] {
    ["new", "changed", "refused", "parked"].map(|name| run[name].as_i64().unwrap())
}

/// A gateway with a table that takes no numbers from 13 to 19, and an API for a job that feeds it.
async fn choosy(flags: &[&str]) -> (Gateway, ItemsApi, String) {
    let flags = [&ALLOW_LOOPBACK[..], flags].concat();
    let (gateway, api) = (Gateway::with(&flags).await, ItemsApi::start().await);
    let columns = json!([{"name": "number", "type": "integer"}, {"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "x", "columns": columns})).await;
    gateway.execute("alter table streams.x add check (n not between 13 and 19)").await;
    api.serve("/x", numbers(&[(1, 1), (2, 2)]));
    let id = make(&gateway, &api, "/x", json!({"key": ["/number"]})).await;
    (gateway, api, id)
}

fn numbers(items: &[(i64, i64)]) -> Value {
    items.iter().map(|(number, n)| json!({"number": number, "n": n})).collect()
}

#[tokio::test]
async fn what_is_refused_is_neither_new_nor_changed() {
    let (gateway, api, id) = choosy(&[]).await;
    // One and three are refused by PostgreSQL, a changed one and a new one; the last already at the edge.
    let mut items = numbers(&[(1, 13), (2, 3), (3, 14), (4, 5)]);
    items.as_array_mut().unwrap().push(json!("no object"));
    api.serve("/x", items);
    let mixed = run(&gateway, &id).await;
    assert_eq!(counts(&mixed), [1, 1, 3, 0], "{mixed}");
    assert_eq!((&mixed["status"], &mixed["note"]), (&json!("success"), &json!(null)), "{mixed}");
    let again = run(&gateway, &id).await;
    assert_eq!((counts(&again), &again["duplicates"]), ([0; 4], &json!(5)), "{again}");
    // Many, of which the refused ones are anywhere in their entries.
    let many: Vec<(i64, i64)> = (10..2_510).map(|number| (number, number % 20)).collect();
    api.serve("/x", numbers(&many));
    let refused = many.iter().filter(|(_, n)| (13..=19).contains(n)).count();
    let (refused, all) = (i64::try_from(refused).unwrap(), i64::try_from(many.len()).unwrap());
    assert_eq!(counts(&run(&gateway, &id).await), [all - refused, 0, refused, 0]);
    let counted = "select sum(new + changed)::bigint from tidegate.polling_runs";
    assert_eq!(gateway.scalar::<i64>(counted).await, gateway.rows("x").await);
    let quarantined = "select (select count(*) from tidegate.quarantine) - sum(refused)::bigint
        from tidegate.polling_runs";
    assert_eq!(gateway.scalar::<i64>(quarantined).await, 0);
}

#[tokio::test]
async fn what_is_parked_is_told_and_counted_again_when_it_follows() {
    let (gateway, api, id) = choosy(&["--lock-timeout-ms=300"]).await;
    let lock = Stall::of_all_of_table(gateway.pool(), "x").await;
    api.serve("/x", numbers(&[(1, 13), (2, 3), (3, 14), (4, 5)]));
    let parked = run(&gateway, &id).await;
    assert_eq!((&parked["status"], counts(&parked)), (&json!("success"), [2, 2, 0, 4]), "{parked}");
    let note = parked["note"].as_str().expect("it is told");
    assert!(note.contains("4 items wait") && note.contains("/v1/status"), "{note}");
    let job = gateway.get(&format!("/v1/polling-jobs/{id}")).await.expect(200);
    assert_eq!(job["last_run"]["parked"], 4, "{job}");
    lock.release().await;
    gateway.wait_nothing_parked().await;
    let followed = eventually("the run counts what followed", async || {
        let latest = runs(&gateway, &id).await.remove(0);
        (latest["parked"] == 0).then_some(latest)
    })
    .await;
    assert_eq!((counts(&followed), &followed["note"]), ([1, 1, 2, 0], &json!(null)), "{followed}");
    let counted = "select sum(new + changed)::bigint from tidegate.polling_runs";
    assert_eq!(gateway.scalar::<i64>(counted).await, gateway.rows("x").await);
}
