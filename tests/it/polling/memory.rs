//! What polling jobs remember of their items: for how long, and which version.

use serde_json::{Value, json};
use tidegate::db::polled_items::SeenRow;
use tidegate_record::{ItemHash, Position};
use uuid::Uuid;

use crate::polling::exactness::batch_line;
use crate::polling::jobs::{make, run};
use crate::support::{ALLOW_LOOPBACK, Gateway, ItemsApi};

const WEEK: [&str; 3] = [ALLOW_LOOPBACK[0], ALLOW_LOOPBACK[1], "--polling-memory-days=7"];

/// As if days had passed since everything that is remembered.
async fn let_days_pass(gateway: &Gateway, days: i32) {
    let sql = format!(
        "update tidegate.polled_items set seen_on = seen_on - {days};
         update tidegate.polling_jobs set pruned_on = pruned_on - {days}"
    );
    gateway.execute(&sql).await;
}

async fn remembered(gateway: &Gateway) -> i64 {
    gateway.scalar("select count(*) from tidegate.polled_items").await
}

#[tokio::test]
async fn an_item_that_no_answer_has_is_forgotten_in_time_and_the_others_are_not() {
    let (gateway, api) = (Gateway::with(&WEEK).await, ItemsApi::start().await);
    api.serve("/x", (0..5).map(|id| json!({"id": id})).collect());
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"]})).await;
    api.serve("/x", (0..3).map(|id| json!({"id": id})).collect());
    let_days_pass(&gateway, 7).await;
    assert_eq!(run(&gateway, &id).await["duplicates"], 3);
    assert_eq!(remembered(&gateway).await, 5, "seven days are within the memory");
    let_days_pass(&gateway, 1).await;
    run(&gateway, &id).await;
    assert_eq!(remembered(&gateway).await, 3);
    // A failed run does not tell what the API has.
    let_days_pass(&gateway, 400).await;
    api.fail("/x", 500, "later");
    assert_eq!(run(&gateway, &id).await["status"], "failed");
    assert_eq!(remembered(&gateway).await, 3);
    // Those that are still there were not seen for a year either, but are now.
    api.serve("/x", (0..5).map(|id| json!({"id": id})).collect());
    let back = run(&gateway, &id).await;
    assert_eq!((&back["new"], &back["duplicates"]), (&json!(2), &json!(3)));
    assert_eq!(gateway.rows("x").await, 7);
}

#[tokio::test]
async fn an_api_that_says_for_a_year_that_nothing_changed_finds_its_items_remembered() {
    let (gateway, api) = (Gateway::with(&WEEK).await, ItemsApi::start().await);
    api.serve("/x", json!([{"id": 1}, {"id": 2}]));
    api.tag("/x", "\"a\"");
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"]})).await;
    let_days_pass(&gateway, 400).await;
    assert_eq!(run(&gateway, &id).await["status"], "not_modified");
    api.serve("/x", json!([{"id": 1}, {"id": 2}, {"id": 3}]));
    api.tag("/x", "\"b\"");
    let changed = run(&gateway, &id).await;
    assert_eq!((&changed["new"], &changed["duplicates"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn old_items_are_forgotten_however_many_they_are() {
    let (gateway, api) = (Gateway::with(&WEEK).await, ItemsApi::start().await);
    api.serve("/x", json!([{"id": 1}]));
    let id = make(&gateway, &api, "/x", json!({"key": ["/id"]})).await;
    let others = "insert into tidegate.polled_items (job_id, fence, position, key, content)
        select job_id, 0, 0, decode(md5(n::text), 'hex'), content
        from tidegate.polled_items, generate_series(1, 25000) n";
    gateway.execute(others).await;
    let_days_pass(&gateway, 8).await;
    run(&gateway, &id).await;
    assert_eq!(remembered(&gateway).await, 1);
}

/// Pages that were turned while the API changed; batches are small, and written side by side.
#[tokio::test]
async fn of_the_versions_in_one_run_the_last_is_remembered() {
    const ITEMS: u64 = 1_000;
    let flags = [&ALLOW_LOOPBACK[..], &["--writers=4", "--batch-rows=100"]].concat();
    let (gateway, api) = (Gateway::with(&flags).await, ItemsApi::start().await);
    let version = |v: u64| (0..ITEMS).map(|id| json!({"id": id, "v": v})).collect::<Value>();
    api.serve_pages("/x", (1..=5).map(version).collect());
    let job = json!({"key": ["/id"], "pagination": {"by": "page"}});
    let id = make(&gateway, &api, "/x", job).await;
    assert_eq!(gateway.rows("x").await, 5_000, "each version is a record");
    api.serve_pages("/x", vec![version(5)]);
    assert_eq!(run(&gateway, &id).await["duplicates"], ITEMS);
}

/// Refused items go to the journal apart from the others.
#[tokio::test]
async fn of_a_version_and_one_that_is_refused_the_last_is_remembered() {
    let (gateway, api) = (Gateway::with(&ALLOW_LOOPBACK).await, ItemsApi::start().await);
    let (good, refused) = (json!([{"id": 1, "v": "a"}]), json!([{"id": 1, "v": "\u{0}"}]));
    for (path, first, last) in [("/x", &good, &refused), ("/y", &refused, &good)] {
        api.serve_pages(path, vec![first.clone(), last.clone()]);
        let job = json!({"key": ["/id"], "pagination": {"by": "page"}});
        let id = make(&gateway, &api, path, job).await;
        api.serve_pages(path, vec![last.clone()]);
        assert_eq!(run(&gateway, &id).await["duplicates"], 1, "{path}");
    }
    let refused: i64 = gateway.scalar("select count(*) from tidegate.quarantine").await;
    assert_eq!((gateway.rows("x").await, gateway.rows("y").await, refused), (1, 1, 2));
}

/// After a database was set back the journal is written again, by several writers side by side.
#[tokio::test]
async fn of_two_versions_the_later_is_remembered_whichever_is_committed_first() {
    let gateway = Gateway::with(&["--polling-runs-max=0"]).await;
    let (mut batch, journal, epoch) = batch_line(&gateway).await;
    let row = |fence, position, content| SeenRow {
        job: Uuid::nil(),
        key: ItemHash([7; 16]),
        content: ItemHash([content; 16]),
        fence,
        position: Position(position),
    };
    for (fence, position, content, expected) in
        [(2, 900, 2, 2_u8), (2, 100, 1, 2), (1, 950, 9, 2), (2, 901, 3, 3), (3, 0, 4, 4)]
    {
        batch.begin(journal, epoch).await.unwrap();
        batch.remember_items(&[row(fence, position, content)]).await.unwrap();
        batch.commit_drained().await.unwrap();
        let remembered: Vec<u8> = gateway.scalar("select content from tidegate.polled_items").await;
        assert_eq!(remembered, [expected; 16], "{fence} {position}");
    }
    batch.close().await;
}
