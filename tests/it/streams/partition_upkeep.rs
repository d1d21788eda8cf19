//! Partitions are made and dropped beside readers and writers, each stream by itself; and a table that another session
//! holds is a refusal that names it.

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor, PgPool, Postgres, Transaction};
use tidegate::db::Database;
use tidegate::db::partitions::maintain;
use tidegate::db::streams::TableError;
use tidegate_codec::Stream;
use tokio::task::JoinSet;

use crate::support::{Gateway, Metrics, Stall, eventually, soon};

/// A day with a boundary of months before it.
const TODAY: &str = "2026-03-05";
/// The advisory lock under which streams get their numbers, and under which partitions were once made.
const SCHEMA_LOCK: i64 = 0x7469_6465;

async fn stream(gateway: &Gateway, name: &str) -> Stream {
    let all = tidegate::db::streams::list(&gateway.pool().clone().into()).await.unwrap();
    all.into_iter().find(|stream| stream.name.as_str() == name).unwrap()
}

fn day(text: &str) -> time::Date {
    let mut parts = text.split('-').map(|part| part.parse::<u16>().unwrap());
    let (year, month, day) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let month = time::Month::try_from(u8::try_from(month).unwrap()).unwrap();
    time::Date::from_calendar_date(year.into(), month, u8::try_from(day).unwrap()).unwrap()
}

/// The days that a stream has partitions for, as `YYYYMMDD`.
async fn days(gateway: &Gateway, stream: &str) -> Vec<String> {
    gateway
        .column(format!(
            "select right(relname::text, 8) from pg_inherits join pg_class on pg_class.oid = inhrelid
             where inhparent = 'streams.{stream}'::regclass order by 1"
        ))
        .await
}

async fn drop_partitions(gateway: &Gateway, stream: &str) {
    let names: Vec<String> = gateway
        .column(format!(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'streams.{stream}'::regclass"
        ))
        .await;
    assert!(!names.is_empty());
    gateway.execute(&format!("drop table {}", names.join(", "))).await;
}

/// A partition for a day that is long over, with a row in it.
async fn make_old_partition(gateway: &Gateway, stream: &Stream, day: &str) {
    let (name, id, digits) = (&stream.name, stream.id.0, day.replace('-', ""));
    gateway
        .execute(&format!(
            "create table stream_partitions.s{id}_{digits} partition of streams.{name}
               for values from ('{day}') to ('{day}'::date + 1);
             insert into streams.{name} values (gen_random_uuid(), '{day} 23:59:59.999999', '{{}}')"
        ))
        .await;
}

/// A transaction that has done this, and stays open.
async fn holding(pool: &PgPool, sql: &str) -> (Transaction<'static, Postgres>, i32) {
    let mut transaction = pool.begin().await.unwrap();
    let pid = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *transaction).await;
    transaction.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    (transaction, pid.unwrap())
}

#[tokio::test]
async fn a_day_is_kept_until_its_last_record_is_as_old_as_promised() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "aging", "retention_days": 7})).await;
    let aging = stream(&gateway, "aging").await;
    drop_partitions(&gateway, "aging").await;
    for day in ["2026-02-25", "2026-02-26", "2026-02-27"] {
        make_old_partition(&gateway, &aging, day).await;
    }
    let database = Database::new(gateway.database_url()).unwrap();
    let dropped = maintain(&database.pools().schema, &aging, day(TODAY)).await.unwrap();
    assert_eq!(dropped, 1, "of the 26th the last moment is not yet seven days ago");
    let expected = ["20260226", "20260227", "20260305", "20260306", "20260307", "20260308"];
    assert_eq!(days(&gateway, "aging").await, expected);
    let left: i64 = gateway
        .scalar("select count(*) from pg_class where relnamespace = 'stream_partitions'::regnamespace and relkind = 'r'")
        .await;
    assert_eq!(left, 6, "what was detached is dropped, too");
    assert_eq!(gateway.rows("aging").await, 2);
}

#[tokio::test]
async fn upkeep_waits_for_no_reader_and_no_writer_and_no_session_waits_for_it() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "busy", "retention_days": 7})).await;
    let busy = stream(&gateway, "busy").await;
    drop_partitions(&gateway, "busy").await;
    make_old_partition(&gateway, &busy, "2026-02-01").await;
    make_old_partition(&gateway, &busy, TODAY).await;
    let record =
        format!("insert into streams.busy values (gen_random_uuid(), '{TODAY} 12:00', '{{}}')");
    let (reader, pid) = holding(gateway.pool(), "select * from streams.busy").await;
    let (writer, _) = holding(gateway.pool(), &record).await;

    let database = Database::new(gateway.database_url()).unwrap();
    let (pool, stream) = (database.pools().schema.clone(), busy.clone());
    let mut upkeep = JoinSet::new();
    upkeep.spawn(async move { maintain(&pool, &stream, day(TODAY)).await });
    // While it waits for the readers of what it drops, others read and write.
    eventually("it detaches", async || {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database()
            and query like 'alter table streams.% detach partition %'";
        (gateway.scalar::<i64>(waiting).await > 0).then_some(())
    })
    .await;
    gateway
        .execute(&format!("set lock_timeout = 100; {record}; select count(*) from streams.busy; reset lock_timeout"))
        .await;
    let failed = upkeep.join_next().await.unwrap().unwrap().unwrap_err();
    let TableError::Locked(locked) = failed else { panic!("{failed}") };
    assert!(locked.holders.iter().any(|holder| holder.pid == pid), "{locked}");
    let made = ["20260305", "20260306", "20260307", "20260308"];
    assert!(days(&gateway, "busy").await.ends_with(&made.map(str::to_owned)), "made beside them");

    // A partition that was detached to be kept is not the upkeep's.
    let own = format!("stream_partitions.s{}_20260115", busy.id.0);
    gateway.execute(&format!("create table {own} (n integer)")).await;
    reader.rollback().await.unwrap();
    writer.rollback().await.unwrap();
    let dropped = maintain(&database.pools().schema, &busy, day(TODAY)).await.unwrap();
    assert_eq!(dropped, 1, "what was left half detached is finished");
    assert_eq!(days(&gateway, "busy").await, made);
    assert_eq!(
        gateway.scalar::<Option<String>>(format!("select to_regclass('{own}')::text")).await,
        Some(own)
    );
}

#[tokio::test]
async fn a_stream_that_is_locked_ends_the_upkeep_of_no_other() {
    let mut gateway = Gateway::start().await;
    for name in ["a_locked", "other"] {
        gateway.create_stream(&json!({"name": name, "retention_days": 7})).await;
        drop_partitions(&gateway, name).await;
    }
    let lock = Stall::of_all_of_table(gateway.pool(), "a_locked").await;
    gateway.restart().await;
    eventually("the other stream has its partitions", async || {
        (days(&gateway, "other").await.len() == 4).then_some(())
    })
    .await;
    let reason = eventually("it is told which stream has none", async || {
        let status = gateway.get("/v1/status").await.expect(200);
        status["partitions_behind"]["a_locked"]["reason"].as_str().map(str::to_owned)
    })
    .await;
    assert!(reason.contains("is locked by process"), "{reason}");
    let status = gateway.get("/v1/status").await.expect(200);
    assert_eq!(status["partitions_behind"].as_object().unwrap().len(), 1, "{status}");
    let metrics = Metrics::read(&gateway).await;
    assert_eq!(metrics.of("tidegate_partitions_behind_streams").to_string(), "1");
    // Meanwhile streams are made as ever.
    gateway.create_stream(&json!({"name": "new", "retention_days": 7})).await;
    lock.release().await;
    gateway.restart().await;
    eventually("the stream has its partitions", async || {
        (days(&gateway, "a_locked").await.len() == 4).then_some(())
    })
    .await;
}

/// What a batch needs is made although one session reads the stream's table, and another makes a stream and does not
/// come to an end.
#[tokio::test]
async fn a_partition_that_a_batch_needs_waits_for_no_other_session() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "daily", "retention_days": 7})).await;
    drop_partitions(&gateway, "daily").await;
    let sql = format!("select * from streams.daily; select pg_advisory_xact_lock({SCHEMA_LOCK})");
    let (other, _) = holding(gateway.pool(), &sql).await;
    let reply = gateway.commit("daily", &json!([{"n": 1}, {"n": 2}])).await;
    assert_eq!(reply["committed"], 2, "{reply}");
    assert!(!gateway.log().contains("parked until it can"), "{}", gateway.log());
    other.rollback().await.unwrap();
    assert_eq!(gateway.rows("daily").await, 2);
}

#[tokio::test]
async fn a_change_of_a_table_that_another_session_holds_is_refused_with_its_name() {
    let gateway = Gateway::start().await;
    let columns = json!([{"name": "n", "type": "integer"}]);
    gateway.create_stream(&json!({"name": "held", "columns": columns})).await;
    let (reader, pid) = holding(gateway.pool(), "select * from streams.held").await;
    let more =
        json!({"columns": [{"name": "n", "type": "integer"}, {"name": "m", "type": "text"}]});
    let mut refused = vec![gateway.patch("/v1/streams/held", &more).await];
    refused.push(gateway.delete("/v1/streams/held").await);
    for reply in refused {
        assert!(reply.retry_after_seconds() > 0);
        let problem = reply.problem(503, "table_locked");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("streams.held is locked by process {pid} (")), "{detail}");
        assert!(detail.contains("idle in transaction"), "{detail}");
    }
    // Nothing was changed, and no session had to wait for long: the writers neither.
    assert_eq!(gateway.commit("held", &json!({"n": 1})).await["committed"], 1);
    reader.rollback().await.unwrap();
    let changed = gateway.patch("/v1/streams/held", &more).await.expect(200);
    assert_eq!(changed["columns"].as_array().unwrap().len(), 2);

    // Who makes a stream waits for another who does, and not for long either.
    let lock = format!("select pg_advisory_xact_lock({SCHEMA_LOCK})");
    let (maker, _) = holding(gateway.pool(), &lock).await;
    let late = json!({"name": "late"});
    let create = gateway.post("/v1/streams", &late);
    soon("it is refused", create).await.problem(503, "streams_busy");
    // A request that changes a stream does not wait for that one.
    gateway.patch("/v1/streams/held", &json!({"unknown": "drop"})).await.expect(200);
    maker.rollback().await.unwrap();
    gateway.create_stream(&late).await;
}

/// Before: a host whose clock was a month ahead dropped a month of every stream with retention.
#[tokio::test]
async fn a_gateway_whose_clock_is_ahead_drops_nothing_that_is_to_be_kept() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": "kept", "retention_days": 7})).await;
    gateway.commit("kept", &json!({"n": 1})).await;
    let stream = stream(&gateway, "kept").await;
    make_old_partition(&gateway, &stream, "2020-02-29").await;
    let today: time::Date = gateway.scalar("select (now() at time zone 'UTC')::date").await;
    let ahead = today + time::Duration::days(60);
    let dropped = maintain(&gateway.pool().clone().into(), &stream, ahead).await.unwrap();
    assert_eq!((dropped, gateway.rows("kept").await), (1, 1), "what is over by both clocks went");
}
