//! What the dashboard is made of, and what it asks for: pages, settings, sizes of tables, newest records.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Gateway, OwnCluster, Reply, eventually};

async fn page(gateway: &Gateway, path: &str) -> reqwest::Response {
    let address = format!("http://{}{path}", gateway.address());
    reqwest::Client::new().get(address).header("Accept", "text/html,*/*").send().await.unwrap()
}

async fn token(gateway: &Gateway, scopes: &[&str]) -> String {
    let asked = json!({"name": "t", "scopes": scopes, "user": "admin"});
    let made = gateway.post("/v1/tokens", &asked).await.expect(201);
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_path_of_a_browser_is_the_page_and_it_runs_nothing_foreign() {
    let gateway = Gateway::start().await;
    for path in ["/", "/streams/flights", "/quarantine"] {
        let response = page(&gateway, path).await;
        assert_eq!(response.status(), 200, "{path}");
        let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert!(response.text().await.unwrap().contains("<title>Tidegate"), "{path}");
    }
    assert_eq!(page(&gateway, "/v1/nothing").await.status(), 404);
    assert_eq!(page(&gateway, "/assets/nothing.js").await.status(), 404);
    gateway.get("/streams/flights").await.problem(404, "no_such_route");
}

#[tokio::test]
async fn admins_see_the_settings_and_no_reply_shows_a_secret() {
    let gateway = Gateway::with(&["--batch-rows=77", "--admin-password=correct horse"]).await;
    let shown = gateway.get("/v1/configuration").await.expect(200);
    let of = |name: &str| {
        let settings = shown["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["name"] == name).unwrap().clone()
    };
    let rows = of("TIDEGATE_BATCH_ROWS");
    assert_eq!((&rows["value"], &rows["default"]), (&json!("77"), &json!("20000")));
    assert_eq!(of("DATABASE_URL")["value"], "(set)");
    assert_eq!(of("TIDEGATE_ADMIN_PASSWORD")["secret"], true);
    assert!(
        !shown.to_string().contains("correct horse") && !shown.to_string().contains("postgres://")
    );
    let reader = gateway.with_token(&token(&gateway, &["read"]).await);
    reader.get("/v1/configuration").await.problem(403, "missing_scope");
}

#[tokio::test]
async fn the_newest_records_come_first_as_their_table_has_them() {
    let gateway = Gateway::start().await;
    let columns = json!([
        {"name": "zone", "type": "text"}, {"name": "a \"b\"", "type": "numeric"},
    ]);
    for (name, more) in
        [("typed", json!({"columns": columns})), ("daily", json!({"retention_days": 3}))]
    {
        let mut definition = more;
        definition["name"] = json!(name);
        gateway.create_stream(&definition).await;
    }
    gateway
        .commit(
            "typed",
            &json!([{"zone": "x", "a \"b\"": 1.50}, {"zone": null, "more": [1, {"é": "\""}]}]),
        )
        .await;
    let typed = gateway.get("/v1/streams/typed/records").await.expect(200);
    let data = |reply: &Value| -> Vec<Value> {
        reply["records"].as_array().unwrap().iter().map(|record| record["data"].clone()).collect()
    };
    let second = json!({"zone": null, "a \"b\"": null, "more": [1, {"é": "\""}]});
    assert_eq!(data(&typed), [second, json!({"zone": "x", "a \"b\"": 1.5})]);
    assert!(typed["records"][0]["received_at"].as_str().unwrap().ends_with('Z'), "{typed}");

    for n in 1..=3 {
        gateway.commit("daily", &json!({"n": n})).await;
    }
    let daily = gateway.get("/v1/streams/daily/records?limit=2").await.expect(200);
    assert_eq!(data(&daily), [json!({"n": 3}), json!({"n": 2})]);

    let id = gateway.commit("large", &json!({"text": "x".repeat(100_000)})).await["id"].clone();
    let large = gateway.get("/v1/streams/large/records").await.expect(200);
    let text = large["records"][0]["data"]["text"].as_str().unwrap();
    assert_eq!((&large["records"][0]["id"], text.len()), (&id, 100_000));
    for limit in ["0", "10001"] {
        gateway
            .get(&format!("/v1/streams/daily/records?limit={limit}"))
            .await
            .problem(400, "invalid_limit");
    }
    gateway.get("/v1/streams/nowhere/records").await.problem(404, "no_such_stream");
    let sender = gateway.with_token(&token(&gateway, &["ingest"]).await);
    sender.get("/v1/streams/daily/records").await.problem(403, "missing_scope");
}

#[tokio::test]
async fn sizes_are_told_of_tables_with_their_partitions_and_only_when_asked_for() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "daily", "retention_days": 3})).await;
    for stream in ["daily", "plain"] {
        let records: Vec<Value> = (0..100).map(|n| json!({"n": n})).collect();
        gateway.commit(stream, &json!(records)).await;
    }
    // PostgreSQL's statistics come a moment later.
    eventually("the rows are counted", async || {
        let listed = gateway.get("/v1/streams?sizes=true").await.expect(200);
        let streams = listed["streams"].as_array().unwrap().clone();
        assert_eq!(streams.len(), 2);
        let counted = streams.iter().all(|stream| {
            assert!(stream["size"]["bytes"].as_i64().unwrap() > 8_000, "{stream}");
            stream["size"]["rows"] == 100
        });
        counted.then_some(())
    })
    .await;
    let listed = gateway.get("/v1/streams").await.expect(200);
    assert!(listed["streams"][0].get("size").is_none(), "{listed}");
}

#[tokio::test]
async fn streams_are_listed_without_sizes_while_postgresql_is_away() {
    let mut cluster = OwnCluster::start().await;
    let gateway = Gateway::on(cluster.url(), &[]).await;
    gateway.commit("kept", &json!({"n": 1})).await;
    let status = gateway.get("/v1/status").await.expect(200);
    let version = status["database"]["version"].as_str().unwrap();
    assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{version}");
    cluster.stop().await;
    let request = gateway.request(Method::GET, "/v1/streams?sizes=true");
    let listed = Reply::to(request).await.expect(200);
    assert_eq!(
        (&listed["streams"][0]["name"], &listed["streams"][0]["size"]),
        (&json!("kept"), &Value::Null)
    );
    assert_eq!(gateway.get("/v1/streams/kept/records").await.status, 503);
}

#[tokio::test]
async fn a_table_that_was_altered_says_so_instead_of_its_records() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "altered", "columns": columns})).await;
    for ddl in ["alter table streams.altered rename column n to m", "drop table streams.altered"] {
        gateway.commit("altered", &json!({"n": 1})).await;
        gateway.execute(ddl).await;
        let answer = gateway.get("/v1/streams/altered/records").await;
        let problem = answer.problem(409, "table_changed");
        assert!(problem["detail"].as_str().unwrap().contains("streams.altered"), "{problem}");
        gateway.execute("drop table if exists streams.altered").await;
        gateway
            .execute("create table streams.altered (id uuid primary key, received_at timestamptz, extra jsonb, n integer)")
            .await;
    }
}
