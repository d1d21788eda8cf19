//! Replies that are kept: the same as made anew, never older than a commit, and for whoever may read them alone.

use serde_json::{Value, json};

use crate::support::people::{Token, add_user};
use crate::support::{Client, Gateway, Metrics, Reply};

const PATH: &str = "/v1/streams/events/records?count=exact";

async fn found(gateway: &Gateway) -> f64 {
    Metrics::read(gateway).await.sum("tidegate_read_replies_total", "from", "cache")
}

async fn conditional(client: &Client, path: &str, tags: &str) -> Reply {
    let request = client.request(reqwest::Method::GET, path).header("if-none-match", tags);
    Reply::to(request).await
}

#[tokio::test]
async fn a_kept_reply_is_the_same_and_ends_with_the_next_commit() {
    let gateway = Gateway::start().await;
    gateway.commit("events", &json!({"n": 1})).await;
    let first = gateway.get(PATH).await;
    let before = found(&gateway).await;
    let again = gateway.get(PATH).await;
    assert!(found(&gateway).await > before);
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!((again.headers["etag"].to_str().unwrap(), &again.body), (&*tag, &first.body));
    assert_eq!(first.headers["cache-control"], "private, no-cache");
    for tags in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let unchanged = conditional(&gateway, PATH, &tags).await;
        assert_eq!((unchanged.status, &unchanged.body), (304, &Value::from("")), "{tags}");
        assert_eq!(unchanged.headers["etag"].to_str().unwrap(), tag);
    }
    assert_eq!(conditional(&gateway, PATH, "\"other\"").await.status, 200);
    for n in 2..30 {
        gateway.commit("events", &json!({"n": n})).await;
        let reply = conditional(&gateway, PATH, &tag).await.expect(200);
        assert_eq!((&reply["count"], &reply["records"][0]["data"]["n"]), (&json!(n), &json!(n)));
    }
}

#[tokio::test]
async fn a_kept_reply_is_shown_to_no_caller_who_may_not_read_the_stream() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    gateway.create_stream(&json!({"name": "other"})).await;
    gateway.commit("events", &json!({"n": 1})).await;
    let reply = gateway.get(PATH).await;
    let tag = reply.headers["etag"].to_str().unwrap();
    let limited = Token::of(&gateway, "ada", &["read"], json!({"streams": ["other"]})).await;
    let limited = gateway.with_token(&limited.text);
    conditional(&limited, PATH, tag).await.problem(403, "stream_not_allowed");
    let sender = Token::of(&gateway, "ada", &["ingest"], json!({})).await;
    conditional(&gateway.with_token(&sender.text), PATH, "*").await.problem(403, "missing_scope");
}

#[tokio::test]
async fn a_change_of_a_record_ends_what_is_kept() {
    let gateway = Gateway::start().await;
    let stream = json!({"name": "events", "key": ["/n"], "on_duplicate": "replace"});
    gateway.create_stream(&stream).await;
    gateway.commit("events", &json!({"n": 1, "m": 1})).await;
    assert_eq!(gateway.get(PATH).await.expect(200)["count"], 1);
    gateway.patch("/v1/streams/events/by-key/1", &json!({"m": 2})).await.expect(200);
    assert_eq!(gateway.get(PATH).await.expect(200)["records"][0]["data"]["m"], 2);
    assert_eq!(gateway.delete("/v1/streams/events/by-key/1").await.status, 204);
    assert_eq!(gateway.get(PATH).await.expect(200)["count"], 0);
}

#[tokio::test]
async fn nothing_is_kept_where_that_is_said() {
    let gateway = Gateway::with(&["--read-cache-seconds=0"]).await;
    gateway.commit("events", &json!({"n": 1})).await;
    let first = gateway.get(PATH).await;
    gateway.execute("insert into streams.events select gen_random_uuid(), now(), '{}'").await;
    assert_eq!(gateway.get(PATH).await.expect(200)["count"], 2);
    let tag = first.headers["etag"].to_str().unwrap();
    assert_eq!(conditional(&gateway, PATH, tag).await.status, 200);
}
