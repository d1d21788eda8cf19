//! A replica of the database that takes reads of records, as long as it is there and near enough to the primary.
//!
//! Nothing but reading of records goes there, and whoever needs to see a commit says up to which place of the primary's log
//! the replica must have come. A look each second says how far it is: a replica is as far behind as the latest place of the
//! primary that it has replayed is old, so a primary that writes nothing makes none late.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::db::Database;
use crate::db::answer::{answered, within};
use crate::db::pool::PgPool;
use crate::db::pools::{ACQUIRE_TIMEOUT, EXPORTS_CONNECTIONS_MAX, RECORDS_CONNECTIONS_MAX};
use crate::telemetry::metrics;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest time for a look's connection, and for its answer.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Longest wait of a reader for the replica; the primary has what it waits for already.
const REACHED_MAX: Duration = Duration::from_secs(10);
/// Time between two questions whether the replica has come far enough.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Most places of the primary that are remembered, each of another second.
const PLACES_MAX: usize = 4_096;

/// A place in the primary's log, in bytes from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace(i64);

/// Why the replica takes no reads now; the words are labels of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// It was not looked at yet.
    Unseen,
    Unreachable,
    /// It replays too slowly, or not at all.
    Behind,
    /// It is no replica, or one of another database.
    Foreign,
}

impl Away {
    pub fn as_str(self) -> &'static str {
        match self {
            Away::Unseen => "unseen",
            Away::Unreachable => "unreachable",
            Away::Behind => "behind",
            Away::Foreign => "foreign",
        }
    }
}

/// The replica; clones are the same.
#[derive(Debug, Clone)]
pub struct Replica(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    records: PgPool,
    exports: PgPool,
    lag_max: Duration,
    standing: watch::Sender<Result<(), Away>>,
    /// Of the primary, the oldest first.
    places: Mutex<VecDeque<(Instant, LogPlace)>>,
}

/// What a look found.
#[derive(Debug, sqlx::FromRow)]
struct Look {
    is_replica: bool,
    replayed: i64,
    installation: Uuid,
}

impl Replica {
    /// Reads a PostgreSQL URL; connects to nothing. `lag_max`: how far behind it may be.
    ///
    /// # Errors
    /// The URL is not one of PostgreSQL.
    pub fn new(url: &str, lag_max: Duration) -> Result<Replica, sqlx::Error> {
        let options = Database::options(PgConnectOptions::from_str(url)?);
        let pool = |connections_max| {
            let pool = PgPoolOptions::new()
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .max_connections(connections_max)
                .connect_lazy_with(options.clone());
            PgPool::from(pool)
        };
        Ok(Replica(Arc::new(Shared {
            records: pool(RECORDS_CONNECTIONS_MAX),
            exports: pool(EXPORTS_CONNECTIONS_MAX),
            options,
            lag_max,
            standing: watch::channel(Err(Away::Unseen)).0,
            places: Mutex::default(),
        })))
    }

    /// For pages and trends.
    pub fn records(&self) -> &PgPool {
        &self.0.records
    }

    /// For replies of any length.
    pub fn exports(&self) -> &PgPool {
        &self.0.exports
    }

    /// Why it takes no reads now; Ok: it does.
    pub fn standing(&self) -> Result<(), Away> {
        *self.0.standing.borrow()
    }

    /// Waits until the replica has replayed the primary's log up to this place. False: it does not come that far in the time
    /// that it may be behind, at most [`REACHED_MAX`], or is not there.
    pub async fn reaches(&self, place: LogPlace) -> bool {
        let asking = async {
            loop {
                let question = sqlx::query_scalar::<_, bool>(
                    "select coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') >= $1, false)",
                );
                match answered(question.bind(place.0).fetch_one(self.records())).await {
                    Ok(true) => return true,
                    Ok(false) => sleep(ASK_AGAIN).await,
                    Err(_) => return false,
                }
            }
        };
        timeout(self.0.lag_max.min(REACHED_MAX), asking).await.unwrap_or(false)
    }

    /// A read failed there: nothing more is read there before the next look.
    pub fn failed(&self) {
        self.set_standing(Err(Away::Unreachable), None);
    }

    /// Looks after the replica, for as long as it is polled.
    pub async fn watch(self, primary: Database) {
        let mut connection = None;
        loop {
            // First the primary: a replica that keeps up has its place by the time it is asked.
            if let Ok(place) = primary.log_place().await {
                self.note(place);
            }
            let looked = within(LOOK_MAX, self.look(&mut connection)).await;
            let (standing, reason) = match looked {
                Err(error) => {
                    connection = None;
                    (Err(Away::Unreachable), Some(error.to_string()))
                }
                Ok(look) => {
                    let installation = primary.installation().await.ok();
                    (self.judge(&look, installation), None)
                }
            };
            self.set_standing(standing, reason.as_deref());
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, connection: &mut Option<PgConnection>) -> Result<Look, sqlx::Error> {
        let connection = match connection {
            Some(connection) => connection,
            none => none.insert(PgConnection::connect_with(&self.0.options).await?),
        };
        sqlx::query_as(
            "select pg_is_in_recovery() as is_replica,
                 coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0)::bigint as replayed,
                 (select id from tidegate.installation) as installation",
        )
        .fetch_one(connection)
        .await
    }

    fn note(&self, place: LogPlace) {
        let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= PLACES_MAX {
            places.pop_front();
        }
        places.push_back((Instant::now(), place));
    }

    fn judge(&self, look: &Look, installation: Option<Uuid>) -> Result<(), Away> {
        if !look.is_replica || installation.is_some_and(|own| own != look.installation) {
            return Err(Away::Foreign);
        }
        let lag = self.lag(LogPlace(look.replayed));
        metrics::set_replica_lag(lag);
        if lag > self.0.lag_max { Err(Away::Behind) } else { Ok(()) }
    }

    /// How old the latest place is that the replica has replayed. Older ones are forgotten.
    fn lag(&self, replayed: LogPlace) -> Duration {
        let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some((latest, _)), Some((oldest, _))) = (places.back(), places.front()) else {
            // The primary is away, so nothing is newer than what is here.
            return Duration::ZERO;
        };
        let (latest, oldest) = (*latest, *oldest);
        let behind = places.iter().position(|(_, place)| *place > replayed);
        match behind {
            None => {
                let older = places.len() - 1;
                places.drain(..older);
                Duration::ZERO
            }
            Some(0) => latest - oldest,
            Some(first) => {
                let (reached, _) = places[first - 1];
                places.drain(..first - 1);
                latest - reached
            }
        }
    }

    fn set_standing(&self, standing: Result<(), Away>, reason: Option<&str>) {
        let changed = self.0.standing.send_if_modified(|before| {
            let changed = *before != standing;
            *before = standing;
            changed
        });
        if !changed {
            return;
        }
        match standing {
            Ok(()) => tracing::info!("records are read from the replica"),
            Err(away) => tracing::warn!(
                why = away.as_str(),
                reason,
                "records are read from the primary, not from the replica"
            ),
        }
    }
}

impl Database {
    /// How far the primary's log goes.
    pub async fn log_place(&self) -> Result<LogPlace, sqlx::Error> {
        let question =
            sqlx::query_scalar("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint");
        Ok(LogPlace(answered(question.fetch_one(self.pool())).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica() -> Replica {
        Replica::new("postgres://127.0.0.1:1/x", Duration::from_secs(5)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_is_as_far_behind_as_the_latest_place_that_it_replayed_is_old() {
        let replica = replica();
        assert_eq!(replica.lag(LogPlace(0)), Duration::ZERO, "nothing is known of the primary");
        for second in 0..10 {
            replica.note(LogPlace(100 * second));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(replica.lag(LogPlace(900)), Duration::ZERO);
        for second in 10..20 {
            replica.note(LogPlace(100 * second));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(replica.lag(LogPlace(1_550)), Duration::from_secs(4));
        assert_eq!(replica.lag(LogPlace(1_550)), Duration::from_secs(4), "it is remembered");
        assert_eq!(replica.lag(LogPlace(1_899)), Duration::from_secs(1));
        assert_eq!(replica.lag(LogPlace(5_000)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_that_writes_nothing_makes_no_replica_late() {
        let replica = replica();
        for _ in 0..PLACES_MAX + 10 {
            replica.note(LogPlace(7));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(replica.lag(LogPlace(7)), Duration::ZERO);
        assert!(replica.lag(LogPlace(6)) == Duration::ZERO, "one place alone has no age");
    }
}
