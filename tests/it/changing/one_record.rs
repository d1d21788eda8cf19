//! `PUT`, `PATCH` and `DELETE` of one record, by its id and by its key.

use reqwest::Method;
use serde_json::{Value, json};

use super::{documents, flights, put, tag, with_header};
use crate::support::people::{Token, add_user};
use crate::support::{Gateway, Reply};

#[tokio::test]
async fn a_record_is_replaced_altered_and_deleted_by_its_id() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&flights()).await;
    let sent = json!({"carrier": "UA", "flight": 1, "delay": 2.5, "at": "2013-01-01T05:00:00Z", "tail": "N1"});
    let id = gateway.commit("flights", &sent).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/streams/flights/records/{id}");

    let changed = gateway.patch(&path, &json!({"delay": null, "tail": "N2", "gate": "B"})).await;
    let changed = changed.expect(200);
    let data = json!({"carrier": "UA", "flight": 1, "delay": null, "at": "2013-01-01T05:00:00.000000Z",
        "tail": "N2", "gate": "B"});
    assert_eq!((&changed["id"], &changed["data"]), (&json!(id), &data));

    let changed = gateway.patch(&path, &json!({"tail": null, "gate": null})).await.expect(200);
    let extra = gateway.scalar::<bool>("select extra is null from streams.flights").await;
    assert!(extra && changed["data"].get("tail").is_none(), "{changed}");

    let whole = put(&gateway, &path, &json!({"carrier": "UA", "flight": 2})).await.expect(200);
    let data = json!({"carrier": "UA", "flight": 2, "delay": null, "at": null});
    assert_eq!((&whole["id"], &whole["data"]), (&json!(id), &data), "it may move its key");
    assert_eq!(gateway.get(&path).await.expect(200), whole);

    assert_eq!(gateway.delete(&path).await.status, 204);
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let body = json!({"carrier": "UA", "flight": 2});
        let reply = with_header(&gateway, method, &path, ("x-a", "b"), &body).await;
        reply.problem(404, "no_such_record");
    }
    gateway.get(&path).await.problem(404, "no_such_record");
    assert_eq!(gateway.rows("flights").await, 0);
}

#[tokio::test]
async fn a_record_is_made_replaced_altered_and_deleted_by_its_key() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&flights()).await;
    let path = "/v1/streams/flights/by-key/U%2CA%2F%20%C3%A9,7";
    let record = json!({"carrier": "U,A/ é", "flight": 7, "delay": 1.0});
    gateway.patch(path, &json!({"delay": 2.5})).await.problem(404, "no_such_record");
    let made = put(&gateway, path, &record).await.expect(201);
    let again = put(&gateway, path, &record).await.expect(200);
    assert_eq!((&made["id"], &made["data"]), (&again["id"], &again["data"]), "it keeps its id");
    assert_ne!(made["received_at"], again["received_at"]);
    let altered = gateway.patch(path, &json!({"delay": 2.5, "flight": 7})).await.expect(200);
    assert_eq!((&altered["id"], &altered["data"]["delay"]), (&made["id"], &json!(2.5)));
    assert_eq!(gateway.get(path).await.expect(200), altered);

    let other = json!({"carrier": "UA", "flight": 7});
    put(&gateway, path, &other).await.problem(422, "invalid_record");
    gateway.patch(path, &json!({"flight": 8})).await.problem(422, "invalid_record");
    gateway.patch(path, &json!({"flight": null})).await.problem(422, "invalid_record");
    gateway.get("/v1/streams/flights/by-key/UA").await.problem(400, "invalid_key");
    gateway.get("/v1/streams/flights/by-key/UA,1,2").await.problem(400, "invalid_key");
    gateway.get("/v1/streams/flights/by-key/UA,x").await.problem(400, "invalid_key");
    gateway.get("/v1/streams/flights/by-key/%FF,1").await.problem(400, "invalid_key");
    put(&gateway, "/v1/streams/flights/by-key/UA,x", &other).await.problem(400, "invalid_key");

    assert_eq!(gateway.delete(path).await.status, 204);
    gateway.delete(path).await.problem(404, "no_such_record");
}

#[tokio::test]
async fn documents_are_merged_member_by_member_and_keep_their_key() {
    for payload in ["jsonb", "json"] {
        let gateway = Gateway::start().await;
        gateway.create_stream(&documents(payload)).await;
        let path = "/v1/streams/docs/by-key/a";
        let record = json!({"k": {"id": "a", "more": 1}, "list": [1, 2], "deep": {"x": 1, "y": 2}});
        let made = put(&gateway, path, &record).await.expect(201);
        let patch =
            json!({"deep": {"y": null, "z": [null]}, "list": null, "k": {"more": null}, "n": 1e30});
        let altered = gateway.patch(path, &patch).await.expect(200);
        assert_eq!(
            (&altered["id"], &altered["data"]["deep"]),
            (&made["id"], &json!({"x": 1, "z": [null]}))
        );
        assert_eq!(
            (&altered["data"]["k"], altered["data"].get("list")),
            (&json!({"id": "a"}), None)
        );
        for lost in [
            json!({"k": null}),
            json!({"k": 5}),
            json!({"k": {"id": null}}),
            json!({"k": {"id": {}}}),
        ] {
            gateway.patch(path, &lost).await.problem(422, "invalid_record");
            let by_id = format!("/v1/streams/docs/records/{}", made["id"].as_str().unwrap());
            gateway.patch(&by_id, &lost).await.problem(422, "invalid_record");
        }
        gateway.patch(path, &json!({"k": {"id": "b"}})).await.problem(422, "invalid_record");
        assert_eq!(gateway.delete(path).await.status, 204);
    }
}

#[tokio::test]
async fn who_was_slower_is_told_and_changes_nothing() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&flights()).await;
    let path = "/v1/streams/flights/by-key/UA,1";
    let record = json!({"carrier": "UA", "flight": 1, "delay": 1});
    let made = put(&gateway, path, &record).await;
    let first = tag(&made);
    let read = gateway.get(path).await;
    assert_eq!(tag(&read), first, "reading shows the same tag");
    let unchanged =
        with_header(&gateway, Method::GET, path, ("if-none-match", &first), &Value::Null);
    assert_eq!(unchanged.await.status, 304);

    let altered =
        with_header(&gateway, Method::PATCH, path, ("if-match", &first), &json!({"delay": 2}))
            .await;
    let second = tag(&altered);
    altered.expect(200);
    assert_ne!(first, second);
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let reply = with_header(&gateway, method, path, ("if-match", &first), &record).await;
        reply.problem(412, "record_changed");
    }
    assert_eq!(tag(&gateway.get(path).await), second);
    with_header(&gateway, Method::PUT, path, ("if-none-match", "*"), &record)
        .await
        .problem(412, "record_changed");
    let there =
        with_header(&gateway, Method::PATCH, path, ("if-match", "*"), &json!({"delay": 3})).await;
    let third = tag(&there);
    let gone =
        with_header(&gateway, Method::DELETE, path, ("if-match", &third), &Value::Null).await;
    assert_eq!(gone.status, 204);
    for header in [("if-match", "*"), ("if-match", third.as_str())] {
        with_header(&gateway, Method::PUT, path, header, &record)
            .await
            .problem(412, "record_changed");
    }
    let made = with_header(&gateway, Method::PUT, path, ("if-none-match", "*"), &record).await;
    made.expect(201);
    // No record has such a tag: weak ones match none, and a star in quotes is a tag like others.
    let (known, other) = (tag(&gateway.get(path).await), format!("\"{}\"", "0".repeat(32)));
    for none in ["\"abc\"", &format!("W/{known}"), "\"a\", \"b\"", "\"*\"", &other] {
        with_header(&gateway, Method::PATCH, path, ("if-match", none), &json!({"delay": 9}))
            .await
            .problem(412, "record_changed");
    }
    for wrong in ["abc", "", "\"a", &format!("{known}, {other}")] {
        with_header(&gateway, Method::PATCH, path, ("if-match", wrong), &json!({"delay": 9}))
            .await
            .problem(400, "invalid_precondition");
    }
    for (method, header) in [(Method::PUT, "\"*\""), (Method::PATCH, "*"), (Method::PUT, &*known)] {
        with_header(&gateway, method, path, ("if-none-match", header), &record)
            .await
            .problem(400, "invalid_precondition");
    }
    let either = format!("\"a\", {known}, W/\"b\"");
    with_header(&gateway, Method::PATCH, path, ("if-match", &either), &json!({"delay": 9}))
        .await
        .expect(200);
}

#[tokio::test]
async fn what_postgresql_refuses_is_told_and_kept_to_be_replayed() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&flights()).await;
    gateway
        .commit("flights", &json!([{"carrier": "UA", "flight": 1}, {"carrier": "UA", "flight": 2}]))
        .await;
    gateway.execute("alter table streams.flights add constraint brief check (delay < 100)").await;
    let path = "/v1/streams/flights/by-key/UA,1";
    let problem =
        gateway.patch(path, &json!({"delay": 200.5})).await.problem(409, "refused_by_postgresql");
    assert_eq!(problem["sqlstate"], "23514", "{problem}");
    let kept = gateway.get("/v1/quarantine").await.expect(200)["records"][0].clone();
    assert_eq!(
        (&kept["id"], &kept["format"]),
        (&problem["quarantined"], &json!("change")),
        "{kept}"
    );
    let line: Value = serde_json::from_str(kept["raw"].as_str().unwrap()).unwrap();
    let expected =
        json!({"op": "patch", "key": {"carrier": "UA", "flight": 1}, "data": {"delay": 200.5}});
    assert_eq!(line, expected);

    // A key that is taken: by id it may be moved, but not onto another record.
    let id = gateway.get(path).await.expect(200)["id"].as_str().unwrap().to_owned();
    let by_id = format!("/v1/streams/flights/records/{id}");
    let problem =
        gateway.patch(&by_id, &json!({"flight": 2})).await.problem(409, "refused_by_postgresql");
    assert_eq!(problem["sqlstate"], "23505", "{problem}");

    gateway.execute("alter table streams.flights drop constraint brief").await;
    let replay = format!("/v1/quarantine/{}/replay?ack=commit", kept["id"].as_str().unwrap());
    add_user(&gateway, "ada", "member").await;
    let sender = Token::of(&gateway, "ada", &["ingest", "read"], json!({})).await;
    let sender = gateway.with_token(&sender.text).request(Method::POST, &replay);
    assert_eq!(Reply::to(sender).await.problem(403, "missing_scope")["scope"], "write");
    let replayed = gateway.post(&replay, &Value::Null).await;
    // A body is a repaired change; without one it is taken as it is.
    replayed.problem(422, "invalid_record");
    let replayed = Reply::to(gateway.request(Method::POST, &replay)).await.expect(200);
    assert_eq!(replayed["applied"], 1, "{replayed}");
    assert_eq!(gateway.get(path).await.expect(200)["data"]["delay"], 200.5);
}

#[tokio::test]
async fn changes_need_a_stream_that_takes_them_and_a_right() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&flights()).await;
    gateway.create_stream(&json!({"name": "ignoring", "key": ["/a"]})).await;
    gateway.create_stream(&json!({"name": "keyless"})).await;
    add_user(&gateway, "ada", "member").await;
    let id = "00000000-0000-7000-8000-000000000000";
    for stream in ["ignoring", "keyless"] {
        let path = format!("/v1/streams/{stream}/records/{id}");
        gateway.patch(&path, &json!({"a": 1})).await.problem(409, "stream_takes_no_changes");
    }
    let path = format!("/v1/streams/flights/records/{id}");
    for scopes in [["ingest"], ["read"]] {
        let other = gateway.with_token(&Token::of(&gateway, "ada", &scopes, json!({})).await.text);
        other.patch(&path, &json!({"delay": 1})).await.problem(403, "missing_scope");
    }
    let writer = gateway.with_token(&Token::of(&gateway, "ada", &["write"], json!({})).await.text);
    writer.patch(&path, &json!({"delay": 1})).await.problem(404, "no_such_record");
    let path = "/v1/streams/flights/by-key/UA,1";
    let made = put(&writer, path, &json!({"carrier": "UA", "flight": 1, "delay": 1})).await;
    let shown = made.expect(201);
    assert_eq!(
        shown.as_object().unwrap().len(),
        1,
        "who may not read is shown its id alone: {shown}"
    );
    let shown = writer.patch(path, &json!({})).await.expect(200);
    assert_eq!(gateway.get(path).await.expect(200)["id"], shown["id"]);
    assert_eq!(shown.as_object().unwrap().len(), 1, "{shown}");
    writer.delete("/v1/streams/nowhere/by-key/a").await.problem(404, "no_such_stream");
    gateway.delete("/v1/streams/flights/records/7").await.problem(404, "not_found");

    for (body, status, code) in [
        ("", 400, "malformed_body"),
        ("{", 400, "malformed_body"),
        ("[]", 422, "invalid_record"),
        ("7", 422, "invalid_record"),
        (r#"{"delay": 1}, "id": "x""#, 400, "malformed_body"),
        (r#"{"delay": "late"}"#, 422, "invalid_record"),
        (r#"{"delay": 1, "extra\u0000": 1}"#, 422, "invalid_record"),
    ] {
        let request = gateway.request(Method::PATCH, path);
        let request = request.header("content-type", "application/json").body(body);
        Reply::to(request).await.problem(status, code);
    }
    let request = gateway.request(Method::PATCH, path).body("{}");
    Reply::to(request).await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn the_same_change_again_is_answered_as_the_first_and_not_done_again() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&flights()).await;
    let path = "/v1/streams/flights/by-key/UA,1";
    let record = json!({"carrier": "UA", "flight": 1, "delay": 1});
    let send = async |method: Method, key: &str| {
        with_header(&gateway, method, path, ("idempotency-key", key), &record).await
    };
    send(Method::PUT, "make").await.expect(201);
    let again = send(Method::PUT, "make").await;
    assert!(again.is_replayed());
    again.expect(201);
    send(Method::DELETE, "drop").await.expect(204);
    let again = send(Method::DELETE, "drop").await;
    assert!(again.is_replayed());
    assert_eq!(again.status, 204);
    // It was made, and is gone since: that it was made stays true.
    let again = send(Method::PUT, "make").await;
    assert_eq!(again.expect(200)["applied"], 1);

    gateway.execute("alter table streams.flights add check (delay < 1)").await;
    let refused = send(Method::PUT, "refused").await.problem(409, "refused_by_postgresql");
    let kept = refused["quarantined"].as_str().unwrap();
    assert_eq!(gateway.delete(&format!("/v1/quarantine/{kept}")).await.status, 204);
    let again = send(Method::PUT, "refused").await;
    assert!(again.is_replayed());
    let again = again.problem(409, "refused_by_postgresql");
    assert!(again.get("quarantined").is_none(), "{again}");
}

#[tokio::test]
async fn a_change_that_is_not_waited_for_tells_no_id_that_is_not_its_record_s() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&flights()).await;
    let made = gateway.commit("flights", &json!({"carrier": "UA", "flight": 1})).await;
    let path = format!("/v1/streams/flights/records/{}", made["id"].as_str().unwrap());
    let taken =
        gateway.patch(&format!("{path}?ack=journal"), &json!({"delay": 4})).await.expect(202);
    assert!(taken.get("id").is_none(), "{taken}");
    let shown = gateway.get(&format!("{path}?wait={}", taken["position"].as_str().unwrap())).await;
    assert_eq!(shown.expect(200)["data"]["delay"], json!(4));
    for content_type in ["application/json; charset=iso-8859-1", "text/csv", ""] {
        let request = gateway.request(Method::PATCH, &path).header("content-type", content_type);
        Reply::to(request.body("{}")).await.problem(415, "unsupported_media_type");
    }
    let request = gateway.request(Method::PATCH, &path);
    let request = request.header("content-type", "application/merge-patch+json; charset=utf-8");
    Reply::to(request.body("{}")).await.expect(200);
}
