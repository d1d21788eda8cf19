//! Users and tokens that were changed a moment ago, elsewhere: no caller is refused before word of it has come.

use serde_json::json;

use crate::support::people::{Outsider, PASSWORD, Token, add_user};
use crate::support::{Gateway, Metrics, eventually};

/// They were unknown until word came of the change. Here none ever comes.
#[tokio::test]
async fn no_caller_is_refused_for_a_change_that_is_on_its_way() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let token = Token::of(&gateway, "ada", &["ingest", "streams:write"], json!({})).await;
    let shut_out = async || {
        let change = "update tidegate.users set disabled = true where name = 'ada'";
        gateway.execute(&format!("{change}; notify tidegate_catalog")).await;
        eventually("word came", async || {
            (outsider.who_by_token(&token.text).await.status == 401).then_some(())
        })
        .await;
    };
    let let_in = "update tidegate.users set disabled = false where name = 'ada'";
    shut_out().await;
    gateway.execute(let_in).await;
    let sender = gateway.with_token(&token.text);
    sender.records("open").json(&json!({"n": 1})).send().await.expect(202);
    shut_out().await;
    gateway.execute(let_in).await;
    outsider.who_by_password("ada", PASSWORD).await.expect(200);
    gateway.execute("update tidegate.users set name = 'lovelace' where name = 'ada'").await;
    outsider.sign_in("lovelace", PASSWORD).await.expect(201);
    outsider.who_by_token(&format!("tg_{}", "A".repeat(43))).await.problem(401, "invalid_token");
}

/// It was told as wrong, and used up a guess.
#[tokio::test]
async fn a_password_that_was_set_a_moment_ago_is_not_told_as_wrong() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let grace = add_user(&gateway, "grace", "member").await;
    let another = json!({"password": "another password"});
    gateway.patch(&format!("/v1/users/{grace}"), &another).await.expect(200);
    let outsider = Outsider::of(&gateway);
    outsider.who_by_password("ada", PASSWORD).await.expect(200);
    // As from the command line; here no word of it comes.
    let set = "update tidegate.users set password_hash = (select password_hash from tidegate.users where name = 'grace')
               where name = 'ada'";
    gateway.execute(set).await;
    outsider.sign_in("ada", "another password").await.expect(201);
    let wrong = async || {
        let metrics = Metrics::read(&gateway).await;
        metrics.sum("tidegate_password_checks_total", "outcome", "wrong")
    };
    assert!(wrong().await < 0.5);
    outsider.sign_in("ada", PASSWORD).await.problem(401, "invalid_password");
    assert!((0.5..1.5).contains(&wrong().await));
}
