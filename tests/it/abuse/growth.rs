//! Making what is never taken away: users, tokens and polling jobs without number.
//!
//! Before: an admin's token made users without end, each user 1,000 tokens and 100,000 jobs, all of which every gateway has in
//! its memory or looks at; a quarantine of any size was dropped in one statement, which ended at its timeout and dropped
//! nothing. Now each of them has a limit, of a user and in all, and is refused with words; dropping goes bit by bit.

use serde_json::json;

use crate::support::{Gateway, Metrics, eventually};

#[tokio::test]
async fn what_gateways_hold_in_memory_is_made_up_to_a_limit_and_no_further() {
    let gateway = Gateway::start().await;
    let user = |name: &str| json!({"name": name, "password": "correct horse battery"});
    let token = json!({"name": "t", "scopes": ["ingest"], "user": "ada"});
    gateway.post("/v1/users", &user("ada")).await.expect(201);
    let made = "
        insert into tidegate.users (name, password_hash, role)
        select 'user' || n, 'x', 'member' from generate_series(1, 10000) n;
        insert into tidegate.tokens (user_id, name, hash, scopes)
        select id, 't', sha256(convert_to(id || ' ' || n, 'UTF8')), array['read']
        from tidegate.users, generate_series(1, 10) n where name like 'user%';
        notify tidegate_catalog";
    gateway.execute(made).await;
    eventually("they are known", async || {
        let users = gateway.get("/v1/users").await.expect(200);
        (users["users"].as_array()?.len() > 10_000).then_some(())
    })
    .await;
    let refused = gateway.post("/v1/users", &user("bob")).await.problem(409, "too_many_users");
    assert!(refused["detail"].as_str().unwrap().contains("10000"), "{refused}");
    let refused = gateway.post("/v1/tokens", &token).await.problem(409, "too_many_tokens");
    assert!(refused["detail"].as_str().unwrap().contains("100000"), "{refused}");
    // What is there goes on, and room that is made is used.
    gateway
        .execute("delete from tidegate.users where name like 'user%'; notify tidegate_catalog")
        .await;
    eventually("there is room", async || {
        (gateway.post("/v1/tokens", &token).await.status == 201).then_some(())
    })
    .await;
    gateway.post("/v1/users", &user("bob")).await.expect(201);
    let metrics = Metrics::read(&gateway).await;
    for limit in ["users", "tokens"] {
        assert!(metrics.sum("tidegate_limit_hits_total", "limit", limit) >= 1.0, "{limit}");
    }
}

#[tokio::test]
async fn polling_jobs_of_all_users_together_have_a_limit() {
    let gateway = Gateway::start().await;
    let job = json!({"url": "https://api.example.com/x", "interval_ms": 60_000, "paused": true, "stream": "x"});
    gateway.post("/v1/polling-jobs", &job).await.expect(201);
    // As PostgreSQL would say of a million of them.
    let many =
        "update pg_class set reltuples = 1000000 where oid = 'tidegate.polling_jobs'::regclass";
    gateway.execute(many).await;
    let refused = gateway.post("/v1/polling-jobs", &job).await.problem(409, "too_many_jobs");
    assert!(refused["detail"].as_str().unwrap().contains("1000000"), "{refused}");
    gateway.execute("vacuum analyze tidegate.polling_jobs").await;
    gateway.post("/v1/polling-jobs", &job).await.expect(201);
}

#[tokio::test]
async fn a_quarantine_of_any_size_is_dropped_bit_by_bit() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "flooded"})).await;
    let rows = "insert into tidegate.quarantine (id, received_at, stream_id, source, user_name, code, message, raw, truncated)
        select gen_random_uuid(), now(), 1, 'http', 'ada', 'invalid_json', 'm', 'x', false from generate_series(1, 25001)";
    gateway.execute(rows).await;
    let counted = "create table public.statements (rows bigint);
        create function public.count_them() returns trigger language plpgsql as $$
        begin
            insert into public.statements select count(*) from gone;
            return null;
        end $$;
        create trigger count_them after delete on tidegate.quarantine
        referencing old table as gone for each statement execute function public.count_them()";
    gateway.execute(counted).await;
    let dropped = gateway.delete("/v1/quarantine?stream=flooded").await.expect(200);
    assert_eq!(dropped["dropped"], 25_001);
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await, 0);
    let statements =
        gateway.column::<i64>("select rows from public.statements order by rows").await;
    assert_eq!(statements, [5_001, 10_000, 10_000]);
}
