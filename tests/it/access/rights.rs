//! Who may do what: users and their roles, tokens with their scopes and streams, and what happens to them when they
//! are wrong, expired, revoked or disabled. Browsers' sessions are in [`crate::access::sessions`].

use std::os::unix::fs::PermissionsExt;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::command::{Serve, working_directory};
use crate::support::people::{Outsider, PASSWORD, Token, add_user};
use crate::support::watcher::Watcher;
use crate::support::{Client, Gateway, OwnCluster, Reply, TestDatabase, eventually};

const SCOPES: [&str; 7] = ["ingest", "write", "read", "monitor", "streams:write", "jobs", "admin"];

/// One request for each scope that something is asked of, in an order in which all of them succeed.
async fn ask(client: &Client, scope: &str) -> Reply {
    match scope {
        "ingest" => client.records("open").json(&json!({"n": 1})).send().await,
        "write" => {
            Reply::to(
                client.request(Method::PUT, "/v1/streams/changing/by-key/1").json(&json!({"n": 1})),
            )
            .await
        }
        "read" => client.get("/v1/streams/open").await,
        "monitor" => client.post("/v1/monitor/tickets", &json!({})).await,
        "streams:write" => client.patch("/v1/streams/open", &json!({})).await,
        "admin" => client.get("/v1/users").await,
        other => panic!("nothing needs {other}"),
    }
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say_and_nothing_else() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "open"})).await;
    let changing = json!({"name": "changing", "key": ["/n"], "on_duplicate": "replace"});
    gateway.create_stream(&changing).await;
    add_user(&gateway, "grace", "admin").await;
    for granted in SCOPES {
        let token = Token::of(&gateway, "grace", &[granted], json!({})).await;
        let who = Outsider::of(&gateway).who_by_token(&token.text).await.expect(200);
        assert_eq!((&who["user"]["name"], &who["streams"]), (&json!("grace"), &Value::Null));
        let client = gateway.with_token(&token.text);
        for asked in SCOPES.into_iter().filter(|&asked| asked != "jobs") {
            let reply = ask(&client, asked).await;
            if granted == asked || granted == "admin" {
                assert!(
                    (200..300).contains(&reply.status),
                    "{granted} for {asked}: {}",
                    reply.body
                );
            } else {
                assert_eq!(reply.problem(403, "missing_scope")["scope"], asked, "{granted}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_for_some_streams_touches_no_others() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    for name in ["mine", "other"] {
        gateway.create_stream(&json!({"name": name})).await;
    }
    let scopes = ["ingest", "read", "monitor", "streams:write"];
    let token = Token::of(&gateway, "ada", &scopes, json!({"streams": ["mine", "to_come"]})).await;
    let client = gateway.with_token(&token.text);
    let record = json!({"n": 1});
    client.commit("mine", &record).await;
    let listed = client.get("/v1/streams").await.expect(200);
    let names: Vec<&Value> =
        listed["streams"].as_array().unwrap().iter().map(|stream| &stream["name"]).collect();
    assert_eq!(names, ["mine"]);
    let status = client.get("/v1/status").await.expect(200);
    assert_eq!(status["streams"].as_object().unwrap().keys().collect::<Vec<_>>(), ["mine"]);

    client.records("other").json(&record).send().await.problem(403, "stream_not_allowed");
    client.records("nowhere").json(&record).send().await.problem(403, "stream_not_allowed");
    client.get("/v1/streams/other").await.problem(403, "stream_not_allowed");
    client.patch("/v1/streams/other", &json!({})).await.problem(403, "stream_not_allowed");
    client.delete("/v1/streams/other").await.problem(403, "stream_not_allowed");
    client
        .post("/v1/streams", &json!({"name": "nowhere"}))
        .await
        .problem(403, "stream_not_allowed");
    assert_eq!(Watcher::refused(&gateway, &token.text, "streams=mine,other").await.status, 403);
    assert_eq!(gateway.rows("other").await, 0);
    // A stream of the list that does not exist yet is made by its first record.
    client.records("to_come").json(&record).send().await.expect(202);
}

#[tokio::test]
async fn a_token_ends_when_it_expires_or_is_revoked() {
    let gateway = Gateway::start().await;
    add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let short = Token::of(&gateway, "ada", &["read"], json!({"expires_in_seconds": 2})).await;
    let long = Token::of(&gateway, "ada", &["read"], json!({"expires_in_seconds": 3_600})).await;
    outsider.who_by_token(&short.text).await.expect(200);
    eventually("the token expires", async || {
        let reply = outsider.who_by_token(&short.text).await;
        (reply.status != 200).then(|| reply.problem(401, "invalid_token"))
    })
    .await;
    outsider.who_by_token(&long.text).await.expect(200);

    gateway.delete(&format!("/v1/tokens/{}", long.id)).await.expect(204);
    outsider.who_by_token(&long.text).await.problem(401, "invalid_token");
    gateway.delete(&format!("/v1/tokens/{}", long.id)).await.problem(404, "unknown_token");
    gateway.delete("/v1/tokens/x").await.problem(404, "not_found");
    // Only hashes are kept.
    let kept: bool = gateway
        .scalar(format!(
            "select exists (select from tidegate.tokens t where t::text like '%{}%')",
            short.text
        ))
        .await;
    assert!(!kept);
}

#[tokio::test]
async fn credentials_that_mean_nothing_are_refused() {
    let gateway = Gateway::start().await;
    let outsider = Outsider::of(&gateway);
    let anonymous = Reply::to(outsider.request(Method::GET, "/v1/streams")).await;
    assert_eq!(anonymous.headers["www-authenticate"], "Bearer realm=\"tidegate\"");
    anonymous.problem(401, "missing_credentials");
    let unknown = format!("Bearer tg_{}", "A".repeat(43));
    let almost = format!("Bearer {}x", gateway.token());
    for text in [unknown.as_str(), almost.as_str(), "bearer tg_"] {
        outsider.get_with("/v1/streams", "authorization", text).await.problem(401, "invalid_token");
    }
    let long = format!("Bearer {}", "a".repeat(5_000));
    for text in [
        "Bearer",
        "Bearer ",
        "Bearer a b",
        "Bearer \"",
        &long,
        "Basic !!!",
        "Basic YWRh",
        "Digest x",
        "",
        "x",
    ] {
        let reply = outsider.get_with("/v1/streams", "authorization", text).await;
        reply.problem(401, "malformed_credentials");
    }
    // Two credentials are none, even if one of them is good.
    let good = format!("Bearer {}", gateway.token());
    let request = outsider.request(Method::GET, "/v1/streams").header("authorization", &good);
    Reply::to(request.header("authorization", &unknown)).await.problem(400, "repeated_header");
}

#[tokio::test]
async fn a_password_opens_with_http_basic() {
    let gateway = Gateway::start().await;
    let id = add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let who = outsider.who_by_password("ada", PASSWORD).await.expect(200);
    assert_eq!(who["user"], json!({"id": id, "name": "ada", "email": null, "role": "member"}));
    let mut scopes: Vec<&str> =
        who["scopes"].as_array().unwrap().iter().map(|scope| scope.as_str().unwrap()).collect();
    scopes.sort_unstable();
    assert_eq!(scopes, ["ingest", "jobs", "monitor", "read", "streams:write", "write"]);
    let wrong = outsider
        .who_by_password("ada", "correct horse batterY")
        .await
        .problem(401, "invalid_password");
    let unknown = outsider.who_by_password("eve", PASSWORD).await.problem(401, "invalid_password");
    assert_eq!(wrong, unknown, "who exists is not told");
    outsider.who_by_password("ada", "").await.problem(401, "invalid_password");
    // A colon belongs to the password.
    let body = json!({"name": "colon", "password": "a:b:c:d:e"});
    gateway.post("/v1/users", &body).await.expect(201);
    outsider.who_by_password("colon", "a:b:c:d:e").await.expect(200);
}

#[tokio::test]
async fn a_disabled_user_is_out_everywhere_at_once() {
    let gateway = Gateway::start().await;
    let id = add_user(&gateway, "ada", "member").await;
    let outsider = Outsider::of(&gateway);
    let token = Token::of(&gateway, "ada", &["read"], json!({})).await;
    let cookie = outsider.cookie_of("ada").await;
    outsider.who_by_token(&token.text).await.expect(200);
    outsider.who_by_cookie(&cookie).await.expect(200);
    outsider.who_by_password("ada", PASSWORD).await.expect(200);

    let user =
        gateway.patch(&format!("/v1/users/{id}"), &json!({"disabled": true})).await.expect(200);
    assert_eq!(user["disabled"], true);
    outsider.who_by_token(&token.text).await.problem(401, "invalid_token");
    outsider.who_by_cookie(&cookie).await.problem(401, "invalid_session");
    outsider.who_by_password("ada", PASSWORD).await.problem(401, "invalid_password");
    outsider.sign_in("ada", PASSWORD).await.problem(401, "invalid_password");

    gateway.patch(&format!("/v1/users/{id}"), &json!({"disabled": false})).await.expect(200);
    outsider.who_by_token(&token.text).await.expect(200);
    outsider.who_by_password("ada", PASSWORD).await.expect(200);
    outsider.who_by_cookie(&cookie).await.problem(401, "invalid_session");
}

#[tokio::test]
async fn a_member_manages_only_themselves() {
    let gateway = Gateway::start().await;
    let ada = add_user(&gateway, "ada", "member").await;
    let eve = add_user(&gateway, "eve", "member").await;
    let others = Token::of(&gateway, "eve", &["read"], json!({})).await;
    let outsider = Outsider::of(&gateway);
    let request = |method, path: &str, body: Value| {
        outsider.request(method, path).basic_auth("ada", Some(PASSWORD)).json(&body)
    };
    Reply::to(request(Method::GET, "/v1/users", json!({}))).await.problem(403, "missing_scope");
    let new = json!({"name": "mallory", "password": PASSWORD});
    Reply::to(request(Method::POST, "/v1/users", new)).await.problem(403, "missing_scope");
    for (id, change) in [
        (eve, json!({"password": "another password"})),
        (ada, json!({"role": "admin"})),
        (ada, json!({"disabled": false})),
    ] {
        Reply::to(request(Method::PATCH, &format!("/v1/users/{id}"), change))
            .await
            .problem(403, "missing_scope");
    }

    let grant = json!({"name": "root", "scopes": ["admin"]});
    Reply::to(request(Method::POST, "/v1/tokens", grant)).await.problem(403, "missing_scope");
    let for_eve = json!({"name": "x", "scopes": ["read"], "user": "eve"});
    Reply::to(request(Method::POST, "/v1/tokens", for_eve)).await.problem(403, "missing_scope");
    let own = json!({"name": "own", "scopes": ["read", "ingest"], "streams": ["a"], "expires_in_seconds": 60});
    let own = Token::from(&Reply::to(request(Method::POST, "/v1/tokens", own)).await.expect(201));
    let listed = Reply::to(request(Method::GET, "/v1/tokens", json!({}))).await.expect(200);
    let [listed] = listed["tokens"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!(
        (&listed["id"], &listed["user"], &listed["streams"]),
        (&json!(own.id), &json!("ada"), &json!(["a"]))
    );
    assert!(!listed.to_string().contains(&own.text));
    let foreign = format!("/v1/tokens/{}", others.id);
    Reply::to(request(Method::DELETE, &foreign, json!({}))).await.problem(404, "unknown_token");
    let all = gateway.get("/v1/tokens").await.expect(200);
    assert_eq!(all["tokens"].as_array().unwrap().len(), 2, "an admin sees everybody's: {all}");

    // A token can neither take the account over nor outlive its revocation; it can end itself.
    let by_token = gateway.with_token(&own.text);
    let password = json!({"password": "another password"});
    by_token.patch(&format!("/v1/users/{ada}"), &password).await.problem(403, "password_needed");
    by_token
        .post("/v1/tokens", &json!({"name": "x", "scopes": ["read"]}))
        .await
        .problem(403, "password_needed");
    by_token.delete(&format!("/v1/tokens/{}", own.id)).await.expect(204);
    outsider.who_by_token(&own.text).await.problem(401, "invalid_token");

    let change = json!({"password": "another password", "email": "ada@example.com"});
    let changed =
        Reply::to(request(Method::PATCH, &format!("/v1/users/{ada}"), change)).await.expect(200);
    assert_eq!(changed["email"], "ada@example.com");
    outsider.who_by_password("ada", PASSWORD).await.problem(401, "invalid_password");
    outsider.who_by_password("ada", "another password").await.expect(200);
}

/// It listed all tokens of its user, told which numbers were theirs, and the user's e-mail address.
#[tokio::test]
async fn a_small_token_sees_nothing_of_its_user_but_itself() {
    let gateway = Gateway::start().await;
    let id = add_user(&gateway, "ada", "member").await;
    let email = json!({"email": "ada@example.com"});
    gateway.patch(&format!("/v1/users/{id}"), &email).await.expect(200);
    let small = Token::of(&gateway, "ada", &["ingest", "read"], json!({})).await;
    let sibling = Token::of(&gateway, "ada", &["read"], json!({})).await;
    let client = gateway.with_token(&small.text);
    let listed = client.get("/v1/tokens").await.expect(200);
    let ids: Vec<&Value> =
        listed["tokens"].as_array().unwrap().iter().map(|token| &token["id"]).collect();
    assert_eq!(ids, [&json!(small.id)]);
    let who = client.get("/v1/sessions").await.expect(200);
    assert_eq!((&who["user"]["name"], &who["user"]["email"]), (&json!("ada"), &Value::Null));
    for other in [sibling.id, 999_999] {
        client.delete(&format!("/v1/tokens/{other}")).await.problem(403, "password_needed");
    }
    // Ada herself sees both.
    let outsider = Outsider::of(&gateway);
    let own = outsider.request(Method::GET, "/v1/tokens").basic_auth("ada", Some(PASSWORD));
    assert_eq!(Reply::to(own).await.expect(200)["tokens"].as_array().unwrap().len(), 2);
    let who = outsider.who_by_password("ada", PASSWORD).await.expect(200);
    assert_eq!(who["user"]["email"], "ada@example.com");
}

#[tokio::test]
async fn the_last_admin_stays() {
    let gateway = Gateway::start().await;
    let users = gateway.get("/v1/users").await.expect(200);
    let [admin] = users["users"].as_array().unwrap().as_slice() else { panic!("{users}") };
    assert_eq!((&admin["name"], &admin["role"]), (&json!("admin"), &json!("admin")));
    let path = format!("/v1/users/{}", admin["id"]);
    let second = add_user(&gateway, "grace", "admin").await;
    gateway.patch(&format!("/v1/users/{second}"), &json!({"disabled": true})).await.expect(200);
    for change in [json!({"disabled": true}), json!({"role": "member"})] {
        gateway.patch(&path, &change).await.problem(409, "last_admin");
    }
    gateway.patch(&format!("/v1/users/{second}"), &json!({"disabled": false})).await.expect(200);
    gateway.patch(&path, &json!({"role": "member"})).await.expect(200);
    gateway
        .patch(&format!("/v1/users/{second}"), &json!({"disabled": true}))
        .await
        .problem(409, "last_admin");
}

#[tokio::test]
async fn what_a_user_or_token_cannot_be_is_named() {
    let gateway = Gateway::start().await;
    let ada = add_user(&gateway, "ada", "member").await;
    gateway
        .post("/v1/users", &json!({"name": "ada", "password": PASSWORD}))
        .await
        .problem(409, "already_exists");
    for (body, field) in [
        (json!({"name": "a:b", "password": PASSWORD}), "name"),
        (json!({"name": "", "password": PASSWORD}), "name"),
        (json!({"name": "x".repeat(201), "password": PASSWORD}), "name"),
        (json!({"name": "bob", "password": "short"}), "password"),
        (json!({"name": "bob", "password": "x".repeat(1_001)}), "password"),
        (json!({"name": "bob", "password": PASSWORD, "email": "nowhere"}), "email"),
    ] {
        assert_eq!(
            gateway.post("/v1/users", &body).await.problem(422, "invalid_field")["field"],
            field,
            "{body}"
        );
    }
    let typo = json!({"name": "bob", "password": PASSWORD, "rule": "admin"});
    let problem = gateway.post("/v1/users", &typo).await.problem(422, "invalid_body");
    assert!(problem["detail"].as_str().unwrap().contains("rule"), "{problem}");
    gateway.patch("/v1/users/999999", &json!({"email": null})).await.problem(404, "unknown_user");
    let path = format!("/v1/users/{ada}");
    gateway.patch(&path, &json!({"email": "ada@example.com"})).await.expect(200);
    assert_eq!(
        gateway.patch(&path, &json!({"email": null})).await.expect(200)["email"],
        Value::Null
    );

    let token = |member: &str, value: Value| {
        let mut body = json!({"name": "t", "user": "ada", "scopes": ["read"]});
        body[member] = value;
        body
    };
    for (body, code) in [
        (token("name", json!(" ")), "invalid_field"),
        (token("user", json!("eve")), "invalid_field"),
        (token("user", json!(null)), "invalid_field"),
        (token("scopes", json!([])), "invalid_field"),
        (token("scopes", json!(["root"])), "invalid_body"),
        (token("streams", json!(["No Stream"])), "invalid_body"),
        (token("expires_in_seconds", json!(0)), "invalid_field"),
        (token("expires_in_seconds", json!(u64::MAX)), "invalid_field"),
        (token("scope", json!(["read"])), "invalid_body"),
    ] {
        gateway.post("/v1/tokens", &body).await.problem(422, code);
    }
}

#[tokio::test]
async fn the_local_token_opens_everything_and_is_its_owner_s_alone() {
    let mut gateway = Gateway::start().await;
    let outsider = Outsider::of(&gateway);
    let who = outsider.who_by_token(gateway.token()).await.expect(200);
    assert_eq!(who["user"], json!({"id": null, "name": "local", "email": null, "role": "admin"}));
    add_user(&gateway, "ada", "member").await;
    gateway.create_stream(&json!({"name": "kept"})).await;
    eventually("the mirrors are written", async || {
        let accounts = std::fs::read_to_string(gateway.data_dir().join("accounts.json")).ok()?;
        let streams = std::fs::read_to_string(gateway.data_dir().join("streams.json")).ok()?;
        (accounts.contains("ada") && streams.contains("kept")).then_some(())
    })
    .await;
    let mode = |name: &str| {
        std::fs::metadata(gateway.data_dir().join(name)).unwrap().permissions().mode() & 0o777
    };
    for file in ["local-token", "accounts.json", "streams.json", "admin-password"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    assert_eq!(mode("") & 0o066, 0, "the data directory");

    let old = gateway.token().to_owned();
    gateway.terminate().await;
    gateway.restart().await;
    Outsider::of(&gateway).who_by_token(&old).await.problem(401, "invalid_token");
    gateway.get("/v1/users").await.expect(200);
}

#[tokio::test]
async fn the_first_admin_comes_from_the_environment() {
    let database = TestDatabase::create().await;
    let directory = working_directory();
    let environment = |name| {
        [
            ("DATABASE_URL", database.url()),
            ("TIDEGATE_ADMIN_USER", name),
            ("TIDEGATE_ADMIN_PASSWORD", PASSWORD),
        ]
    };
    let mut gateway = Serve::start(directory.path(), &[], &environment("grace")).await;
    assert!(gateway.printed().contains("user grace"), "{}", gateway.printed());
    assert!(!gateway.printed().contains(PASSWORD), "it is known already");
    assert!(!gateway.data_dir().join("admin-password").exists());
    let who = Outsider::at(gateway.address()).who_by_password("grace", PASSWORD).await.expect(200);
    assert_eq!(who["user"]["role"], "admin");
    assert_eq!(gateway.terminate().await, 0);

    // Later starts change no user.
    let gateway = Serve::start(directory.path(), &[], &environment("mallory")).await;
    let outsider = Outsider::at(gateway.address());
    outsider.who_by_password("mallory", PASSWORD).await.problem(401, "invalid_password");
    outsider.who_by_password("grace", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn a_generated_password_is_shown_once_and_kept_in_a_private_file() {
    let database = TestDatabase::create().await;
    let directory = working_directory();
    let environment = [("DATABASE_URL", database.url())];
    let mut gateway = Serve::start(directory.path(), &[], &environment).await;
    let file = gateway.data_dir().join("admin-password");
    let password = std::fs::read_to_string(&file).unwrap().trim_end().to_owned();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(password.len() >= 20, "{} characters", password.len());
    assert!(gateway.printed().contains(&password), "{}", gateway.printed());
    Outsider::at(gateway.address()).who_by_password("admin", &password).await.expect(200);
    assert_eq!(gateway.terminate().await, 0);

    let mut gateway = Serve::start(directory.path(), &[], &environment).await;
    assert!(!gateway.printed().contains(&password), "shown again");
    Outsider::at(gateway.address()).who_by_password("admin", &password).await.expect(200);
    assert_eq!(gateway.terminate().await, 0);
    assert!(!gateway.log().contains(&password), "logs hold no secrets");
}

#[tokio::test]
async fn tokens_and_passwords_work_while_postgresql_is_away() {
    let mut cluster = OwnCluster::start().await;
    let mut gateway = Gateway::on(cluster.url(), &[]).await;
    add_user(&gateway, "ada", "member").await;
    let token = Token::of(&gateway, "ada", &["ingest"], json!({"streams": ["mine"]})).await;
    let revoked = Token::of(&gateway, "ada", &["ingest"], json!({"name": "revoked token"})).await;
    gateway.delete(&format!("/v1/tokens/{}", revoked.id)).await.expect(204);
    gateway.create_stream(&json!({"name": "mine"})).await;
    let mirror = gateway.data_dir().join("accounts.json");
    eventually("the mirror knows the token, and of no other", async || {
        let text = std::fs::read_to_string(&mirror).ok()?;
        (text.contains("\"test\"") && !text.contains("revoked token")).then_some(())
    })
    .await;
    assert_eq!(gateway.terminate().await, 0);
    cluster.stop().await;
    gateway.restart().await;

    let outsider = Outsider::of(&gateway);
    outsider.who_by_token(&token.text).await.expect(200);
    outsider.who_by_token(&revoked.text).await.problem(401, "invalid_token");
    outsider.who_by_password("ada", PASSWORD).await.expect(200);
    outsider.who_by_password("ada", "another password").await.problem(401, "invalid_password");
    // A user who may have been added meanwhile is not told that they are unknown.
    for (name, password) in [("ada", PASSWORD), ("ada", "a guess at it"), ("eve", PASSWORD)] {
        let refused = outsider.sign_in(name, password).await;
        assert!(refused.retry_after_seconds() >= 1);
        refused.problem(503, "database_unavailable");
    }
    let sender = gateway.with_token(&token.text);
    sender.records("mine").json(&json!({"n": 1})).send().await.expect(202);
    sender.records("other").json(&json!({"n": 1})).send().await.problem(403, "stream_not_allowed");
    // What must be written says that it cannot be.
    let new = json!({"name": "eve", "password": PASSWORD});
    let refused = gateway.post("/v1/users", &new).await;
    assert!(refused.retry_after_seconds() >= 1);
    refused.problem(503, "database_unavailable");

    cluster.start_again().await;
    gateway.wait_all_committed().await;
    assert_eq!(gateway.rows("mine").await, 1);
    gateway.post("/v1/users", &new).await.expect(201);
}
