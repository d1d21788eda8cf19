//! A journal that was put back from an older copy is refused: its positions were used once, and what is written there now
//! would be taken for what PostgreSQL has already.

use std::path::Path;

use serde_json::json;

use crate::support::{Gateway, OwnCluster, eventually};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

async fn wait_refused(gateway: &Gateway) {
    eventually("it is said", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        let error = status["database"]["last_error"].as_str()?.to_owned();
        error.contains("an older copy of the journal was put back").then_some(())
    })
    .await;
    assert_eq!(gateway.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn an_older_copy_of_the_journal_is_refused_however_much_comes_meanwhile() {
    let mut cluster = OwnCluster::start().await;
    let mut gateway = Gateway::on(cluster.url(), &[]).await;
    gateway.commit("kept", &json!({"n": 0})).await;
    gateway.terminate().await;
    let at = |name: &str| gateway.data_dir().join(name);
    let [journal, older, newer] = ["journal", "older", "newer"].map(at);
    copy(&journal, &older);
    gateway.restart().await;
    gateway.commit("kept", &json!({"n": 1})).await;
    gateway.terminate().await;
    std::fs::rename(&journal, &newer).unwrap();
    std::fs::rename(&older, &journal).unwrap();

    // More than the newer one had: PostgreSQL has everything up to a position that would be reached again.
    let large = json!({"n": 2, "text": "x".repeat(100_000)});
    for _ in 0..2 {
        gateway.restart().await;
        wait_refused(&gateway).await;
        let refused = gateway.records("kept").json(&large).send().await;
        assert_eq!(refused.retry_after_seconds(), 60);
        refused.problem(503, "older_journal");
        assert_eq!(gateway.rows("kept").await, 2);
    }
    // Before PostgreSQL can be asked, the gateway does not know.
    gateway.kill9().await;
    cluster.stop().await;
    gateway.restart().await;
    gateway.records("kept").json(&large).send().await.expect(202);
    cluster.start_again().await;
    wait_refused(&gateway).await;
    gateway.records("kept").json(&large).send().await.problem(503, "older_journal");
    assert_eq!(gateway.rows("kept").await, 2);
    gateway.kill9().await;

    std::fs::remove_dir_all(&journal).unwrap();
    std::fs::rename(&newer, &journal).unwrap();
    gateway.restart().await;
    gateway.commit("kept", &json!({"n": 3})).await;
    assert_eq!(gateway.rows("kept").await, 3);
}
