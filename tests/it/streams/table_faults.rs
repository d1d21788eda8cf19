//! Faults of which it is not plain whose they are: the table's, a record's, another stream's, or only found at the commit.

use serde_json::{Value, json};

use crate::streams::altered_tables::wait_parked_with;
use crate::support::Gateway;

const FLAGS: [&str; 2] = ["--batch-interval-ms=20", "--lock-timeout-ms=2000"];

async fn create(gateway: &Gateway, stream: &str) {
    let columns = json!([{"name": "n", "type": "integer"}, {"name": "t", "type": "text"}]);
    gateway.create_stream(&json!({"name": stream, "columns": columns})).await;
}

async fn send(gateway: &Gateway, stream: &str, records: &Value) {
    gateway.records(stream).json(records).send().await.expect(202);
}

async fn numbers(gateway: &Gateway, stream: &str) -> Vec<i32> {
    gateway.column(format!("select n from streams.{stream} order by n")).await
}

/// Constraints are checked at once under care, but a trigger may put them off again.
#[tokio::test]
async fn what_fails_at_the_commit_with_care_as_well_parks_its_own_stream() {
    let gateway = Gateway::with(&FLAGS).await;
    for stream in ["late", "beside"] {
        create(&gateway, stream).await;
    }
    gateway
        .execute(
            "create table public.parents (n integer primary key);
             create table public.log (n integer references public.parents deferrable initially deferred);
             create function put_off() returns trigger language plpgsql as $$
             begin set constraints all deferred; insert into public.log values (new.n); return null; end $$;
             create constraint trigger put_off after insert on streams.late
                 deferrable initially deferred for each row execute function put_off()",
        )
        .await;
    for n in 0..3 {
        send(&gateway, "late", &json!({"n": n})).await;
        send(&gateway, "beside", &json!({"n": n})).await;
    }
    wait_parked_with(&gateway, "late", &["violates foreign key constraint"]).await;
    let reply = gateway.commit("beside", &json!({"n": 3})).await;
    assert_eq!(reply["committed"], 1, "{reply}");
    gateway.wait_all_committed().await;
    gateway.execute("insert into public.parents select generate_series(0, 9)").await;
    gateway.wait_nothing_parked().await;
    assert_eq!(numbers(&gateway, "late").await, [0, 1, 2]);
    assert_eq!(numbers(&gateway, "beside").await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_null_that_a_trigger_puts_elsewhere_is_its_record_s_fault() {
    let gateway = Gateway::with(&FLAGS).await;
    create(&gateway, "audited").await;
    gateway
        .execute(
            "create table public.audit (who text not null);
             create function audit() returns trigger language plpgsql as $$
             begin insert into public.audit values (new.t); return null; end $$;
             create trigger audit after insert on streams.audited for each row execute function audit()",
        )
        .await;
    let records = json!([{"n": 1, "t": "a"}, {"n": 2}, {"n": 3, "t": "c"}]);
    let reply = gateway.commit("audited", &records).await;
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(2), &json!(1)), "{reply}");
    assert_eq!(numbers(&gateway, "audited").await, [1, 3]);
}

/// A text that is no query is refused with the code of SQL that is none.
#[tokio::test]
async fn a_text_that_a_generated_column_cannot_read_harms_no_other() {
    let gateway = Gateway::with(&FLAGS).await;
    create(&gateway, "queries").await;
    gateway
        .execute(
            "alter table streams.queries add q tsquery generated always as (t::tsquery) stored",
        )
        .await;
    let records = json!([{"n": 1, "t": "a & b"}, {"n": 2, "t": "a & "}, {"n": 3, "t": "c"}]);
    let reply = gateway.commit("queries", &records).await;
    assert_eq!((&reply["committed"], &reply["quarantined"]), (&json!(2), &json!(1)), "{reply}");
}

#[tokio::test]
async fn what_no_record_can_help_parks() {
    let gateway = Gateway::with(&FLAGS).await;
    let cases = [
        (
            "without_return",
            "create function silent() returns trigger language plpgsql as $$ begin end $$;
             create trigger silent before insert on streams.{x} for each row execute function silent()",
            "drop trigger silent on streams.{x}",
            "RETURN",
        ),
        (
            "at_its_end",
            "create sequence public.few maxvalue 2; select nextval('public.few'), nextval('public.few');
             alter table streams.{x} add small bigint;
             alter table streams.{x} alter small set default nextval('public.few')",
            "alter table streams.{x} alter small drop default",
            "few",
        ),
        (
            "vacuumed",
            "create function clean() returns trigger language plpgsql as $$ begin execute 'vacuum'; return new; end $$;
             create trigger clean before insert on streams.{x} for each row execute function clean()",
            "drop trigger clean on streams.{x}",
            "VACUUM",
        ),
        (
            "with_a_rule",
            "alter table streams.{x} alter n type bigint;
             create rule away as on insert to streams.{x} do instead nothing",
            "drop rule away on streams.{x}",
            "rules",
        ),
    ];
    for (stream, fault, _, _) in cases {
        create(&gateway, stream).await;
        gateway.execute(&fault.replace("{x}", stream)).await;
        send(&gateway, stream, &json!([{"n": 1}, {"n": 2}])).await;
    }
    create(&gateway, "beside").await;
    for (stream, _, repair, word) in cases {
        wait_parked_with(&gateway, stream, &[word]).await;
        gateway.commit("beside", &json!({"n": 1})).await;
        gateway.execute(&repair.replace("{x}", stream)).await;
    }
    gateway.wait_nothing_parked().await;
    for (stream, ..) in cases {
        assert_eq!(gateway.rows(stream).await, 2, "{stream}");
    }
    assert_eq!(gateway.scalar::<i64>("select count(*) from tidegate.quarantine").await, 0);
}

/// What a trigger sets stays set for the connection that wrote the row.
#[tokio::test]
async fn what_a_trigger_sets_changes_no_other_stream_s_values() {
    let gateway = Gateway::with(&["--batch-interval-ms=20", "--writers=1"]).await;
    create(&gateway, "setting").await;
    let columns =
        json!([{"name": "d", "type": "double precision"}, {"name": "at", "type": "timestamptz"}]);
    gateway.create_stream(&json!({"name": "texts", "columns": columns})).await;
    gateway
        .execute(
            "create function change() returns trigger language plpgsql as $$
             begin set extra_float_digits = -12; set datestyle = 'SQL, MDY'; set timezone = 'Asia/Tokyo'; return new; end $$;
             create trigger change before insert on streams.setting for each row execute function change();
             alter table streams.texts alter d type text, alter at type text",
        )
        .await;
    for _ in 0..2 {
        gateway.commit("setting", &json!({"n": 1})).await;
        let record = json!({"d": 0.123_456_789_012_345, "at": "2026-02-03T00:00:00Z"});
        gateway.commit("texts", &record).await;
    }
    let texts: Vec<String> =
        gateway.column("select distinct d || ' ' || at from streams.texts").await;
    assert_eq!(texts, ["0.123456789012345 2026-02-03 00:00:00+00"]);
}

/// Before: it was told as the gateway's own failure.
#[tokio::test]
async fn a_stream_whose_table_something_depends_on_is_not_dropped_and_says_why() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "watched"})).await;
    gateway.execute("create view public.on_watched as select * from streams.watched").await;
    let problem = gateway.delete("/v1/streams/watched").await.problem(409, "table_refused");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("on_watched") && detail.contains("streams.watched"), "{detail}");
    gateway.commit("watched", &json!({"n": 1})).await;
    gateway.execute("drop view public.on_watched").await;
    gateway.delete("/v1/streams/watched").await.expect(204);
}

/// Before: it was told that its own table, which was still to be made, was locked by a session that had let go of it.
#[tokio::test]
async fn a_stream_that_waits_for_others_to_be_made_is_told_so() {
    let gateway = Gateway::start().await;
    let mut held = gateway.pool().begin().await.unwrap();
    // The gateway's lock for that: "tide" in ASCII.
    sqlx::query("select pg_advisory_xact_lock(x'74696465'::bigint)")
        .execute(&mut *held)
        .await
        .unwrap();
    let reply = gateway.post("/v1/streams", &json!({"name": "late"})).await;
    assert!(reply.retry_after_seconds() >= 1);
    reply.problem(503, "streams_busy");
    held.rollback().await.unwrap();
    gateway.create_stream(&json!({"name": "late"})).await;
}
