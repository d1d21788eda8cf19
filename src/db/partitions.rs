//! Daily partitions of streams with retention: made ahead, and dropped when their days are over.
//!
//! No request waits for it. A partition is made as a table of its own and then attached; a constraint in place says that its
//! rows fit, so nothing is read, and the parent is locked so that others read and write it all the while. One that is over
//! is detached before it is dropped. What does not get its lock within the connection's `lock_timeout` fails, and is tried
//! again later.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tidegate_codec::Stream;
use tidegate_record::StreamId;

use crate::db::answered;
use crate::db::pool::PgPool;
use crate::db::sql::{quoted, table};
use crate::db::table_error::TableError;

/// Days of partitions that are made ahead.
const AHEAD_DAYS: i64 = 3;
/// First of the two keys of the advisory locks under which a stream's partitions are made ("part" in ASCII); the second is
/// the stream's number.
const PARTITIONS_LOCK: i32 = 0x7061_7274;
/// The comment on a partition that was found to be over. What else is detached is a user's own, and stays.
const OVER: &str = "tidegate: its day is over, to be dropped";
/// The first PostgreSQL that detaches without waiting for those who read the parent.
const DETACHES_CONCURRENTLY: i32 = 140_000;

/// A partition as the catalog has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Attached,
    /// A detaching was begun, and a transaction still reads it.
    Detaching,
    Detached,
}

/// Makes the partition for one day of a stream with retention, unless it is there. It becomes part of the transaction, if
/// there is one.
pub(super) async fn ensure(
    connection: &mut PgConnection,
    stream: &Stream,
    day: time::Date,
) -> Result<(), sqlx::Error> {
    let (parent, child) = (table(stream), partition(stream.id, day));
    let exists: bool = sqlx::query_scalar(
        "select exists (select from pg_inherits where inhparent = to_regclass($1) and inhrelid = to_regclass($2))",
    )
    .bind(&parent)
    .bind(&child)
    .fetch_one(&mut *connection)
    .await?;
    let Some(next) = day.next_day().filter(|_| !exists) else {
        return Ok(());
    };
    // One message is one transaction. Another one that makes partitions of this stream is waited for, and then found to have
    // done it.
    let sql = format!(
        "select pg_advisory_xact_lock({PARTITIONS_LOCK}, {id});
         do $partition$ begin
           if not exists (select from pg_inherits
               where inhparent = to_regclass('{parent}') and inhrelid = to_regclass('{child}')) then
             create table {child} (like {parent}
                 including defaults including constraints including generated including storage,
               constraint tidegate_day check (received_at is not null
                 and received_at >= '{day} 00:00:00+00' and received_at < '{next} 00:00:00+00'));
             alter table {parent} attach partition {child}
               for values from ('{day} 00:00:00+00') to ('{next} 00:00:00+00');
             alter table {child} drop constraint tidegate_day;
           end if;
         end $partition$",
        id = stream.id.0,
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
}

/// Makes the partitions from `today` on.
pub(super) async fn make_ahead(
    connection: &mut PgConnection,
    stream: &Stream,
    today: time::Date,
) -> Result<(), sqlx::Error> {
    for ahead in 0..=AHEAD_DAYS {
        if let Some(day) = today.checked_add(time::Duration::days(ahead)) {
            ensure(connection, stream, day).await?;
        }
    }
    Ok(())
}

/// Makes the partitions of the next days and drops those whose days are over; returns the number dropped. `today` is that of
/// this gateway's clock, by which rows have their days. Dropping goes by PostgreSQL's clock as well, and by the earlier of
/// the two: a clock that is set wrong must not cost what is to be kept.
///
/// # Errors
/// The first thing that could not be done; what came before it is done.
pub async fn maintain(
    pool: &PgPool,
    stream: &Stream,
    today: time::Date,
) -> Result<usize, TableError> {
    let Some(retention_days) = stream.retention_days else {
        return Ok(0);
    };
    let maintained = async {
        let mut connection = pool.acquire().await?;
        answered(make_ahead(&mut connection, stream, today)).await?;
        drop_over(&mut connection, stream, today, retention_days).await
    };
    match maintained.await {
        Ok(dropped) => Ok(dropped),
        Err(error) => Err(TableError::from(error).naming_holders(pool, &stream.name).await),
    }
}

async fn drop_over(
    connection: &mut PgConnection,
    stream: &Stream,
    today: time::Date,
    retention_days: u16,
) -> Result<usize, sqlx::Error> {
    let (version, their_today): (i32, time::Date) = sqlx::query_as(
        "select current_setting('server_version_num')::int, (now() at time zone 'UTC')::date",
    )
    .fetch_one(&mut *connection)
    .await?;
    let today = today.min(their_today);
    let concurrently = version >= DETACHES_CONCURRENTLY;
    let found = found(connection, stream, concurrently).await?;
    let over = found.into_iter().filter(|(name, _)| {
        day_of(stream.id, name).is_some_and(|day| is_over(day, today, retention_days))
    });
    let parent = table(stream);
    let mut dropped = 0;
    // What is being detached already comes first: only one can be at a time.
    let mut over: Vec<(String, State)> = over.collect();
    over.sort_by_key(|(_, state)| *state != State::Detaching);
    for (name, state) in over {
        let child = format!("stream_partitions.{}", quoted(&name));
        let detach = format!("alter table {parent} detach partition {child}");
        match state {
            State::Attached => {
                run(connection, format!("comment on table {child} is '{OVER}'")).await?;
                let how = if concurrently && !has_default(connection, &parent).await? {
                    " concurrently"
                } else {
                    ""
                };
                run(connection, detach + how).await?;
            }
            State::Detaching => run(connection, detach + " finalize").await?,
            State::Detached => {}
        }
        run(connection, format!("drop table {child}")).await?;
        dropped += 1;
    }
    Ok(dropped)
}

/// The stream's partitions, and those of its tables that wait to be dropped.
async fn found(
    connection: &mut PgConnection,
    stream: &Stream,
    concurrently: bool,
) -> Result<BTreeMap<String, State>, sqlx::Error> {
    let detaching = if concurrently { "inhdetachpending" } else { "false" };
    let sql = format!(
        "select relname::text, inhrelid is not null, coalesce({detaching}, false)
         from pg_class left join pg_inherits on inhrelid = pg_class.oid
         where relnamespace = 'stream_partitions'::regnamespace and relkind in ('r', 'p', 'f')
           and (inhparent = to_regclass($1)
             or inhrelid is null and starts_with(relname::text, $2) and obj_description(pg_class.oid, 'pg_class') = '{OVER}')"
    );
    let rows: Vec<(String, bool, bool)> = sqlx::query_as(AssertSqlSafe(sql))
        .persistent(false)
        .bind(table(stream))
        .bind(format!("s{}_", stream.id.0))
        .fetch_all(connection)
        .await?;
    let state = |(name, is_attached, is_detaching)| {
        let state = match (is_attached, is_detaching) {
            (true, true) => State::Detaching,
            (true, false) => State::Attached,
            (false, _) => State::Detached,
        };
        (name, state)
    };
    Ok(rows.into_iter().map(state).collect())
}

/// With a partition for everything else, none can be detached without locking the parent.
async fn has_default(connection: &mut PgConnection, parent: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from pg_partitioned_table where partrelid = to_regclass($1) and partdefid <> 0)",
    )
    .bind(parent)
    .fetch_one(connection)
    .await
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    answered(connection.execute(sqlx::raw_sql(AssertSqlSafe(sql)))).await.map(drop)
}

/// Has the last moment of the day been kept for as many whole days as the stream says?
fn is_over(day: time::Date, today: time::Date, retention_days: u16) -> bool {
    today - day > time::Duration::days(i64::from(retention_days))
}

fn partition(stream: StreamId, day: time::Date) -> String {
    let number =
        day.year() * 10_000 + i32::from(u8::from(day.month())) * 100 + i32::from(day.day());
    format!("stream_partitions.s{}_{number:08}", stream.0)
}

/// The day that a partition made by [`ensure`] holds.
fn day_of(stream: StreamId, name: &str) -> Option<time::Date> {
    let digits = name.strip_prefix(&format!("s{}_", stream.0))?;
    if digits.len() != 8 {
        return None;
    }
    let year = digits.get(..4)?.parse().ok()?;
    let month: u8 = digits.get(4..6)?.parse().ok()?;
    let day = digits.get(6..)?.parse().ok()?;
    time::Date::from_calendar_date(year, time::Month::try_from(month).ok()?, day).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: u8) -> time::Date {
        time::Date::from_calendar_date(2026, time::Month::March, day).unwrap()
    }

    #[test]
    fn partitions_tell_their_day() {
        assert_eq!(partition(StreamId(12), day(7)), "stream_partitions.s12_20260307");
        assert_eq!(day_of(StreamId(12), "s12_20260307"), Some(day(7)));
        for foreign in ["s1_20260307", "s12_20261307", "s12_2026030", "archive"] {
            assert_eq!(day_of(StreamId(12), foreign), None, "{foreign}");
        }
    }

    /// A record of the evening of the 7th is kept until the evening of the 8th: not all of its day is over before the 9th.
    #[test]
    fn a_day_is_over_when_its_last_record_is() {
        for (today, expected) in [(6, false), (7, false), (8, false), (9, true), (10, true)] {
            assert_eq!(is_over(day(7), day(today), 1), expected, "on the {today}th");
        }
        assert!(!is_over(day(1), day(31), 30) && is_over(day(1), day(31), 29));
    }
}
