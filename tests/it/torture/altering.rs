//! Work at the tables while everything breaks: alters, renames, drops and swaps what streams write to, and repairs it.
//!
//! What was done is noted in the database, in the transaction that did it: so it is repaired once, whatever breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use sqlx::{AssertSqlSafe, Executor, PgPool};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::alterations::Alteration;
use crate::support::{Gateway, Seed, soon};

/// What alterations are drawn for; one for each season.
const ALTERING_PURPOSE: u64 = 1 << 58;
/// Longest time for which a table stays altered, and between two alterations.
const ALTERED_MS_MAX: u64 = 700;
const PAUSE_MS_MAX: u64 = 250;
/// Pause before a table that could not be repaired is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A table that is busy for longer is left alone.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '500ms'";

/// The tables that are worked at, so that no other task takes their names away; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Taken(Arc<Mutex<BTreeSet<&'static str>>>);

/// A table that is taken until this is dropped.
#[derive(Debug)]
pub struct Hold {
    taken: Taken,
    stream: &'static str,
}

/// The work at the tables; how often each alteration was done.
pub struct Altering {
    work: JoinSet<BTreeMap<&'static str, u64>>,
    stop: CancellationToken,
}

impl Taken {
    /// None if another task works at it.
    pub fn take(&self, stream: &'static str) -> Option<Hold> {
        let is_free = self.0.lock().expect("no holder panics").insert(stream);
        is_free.then(|| Hold { taken: self.clone(), stream })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.taken.0.lock().expect("no holder panics").remove(self.stream);
    }
}

impl Altering {
    /// Makes what it needs in the database; once.
    pub async fn prepare(gateway: &Gateway) {
        gateway
            .execute(
                "create schema altered; create table altered.tables (stream text primary key, back text not null)",
            )
            .await;
    }

    pub fn start(gateway: &Gateway, seed: Seed, season: u64, taken: &Taken) -> Altering {
        let (pool, stop, taken) = (gateway.pool().clone(), CancellationToken::new(), taken.clone());
        let numbers = seed.numbers(ALTERING_PURPOSE | season);
        let mut work = JoinSet::new();
        work.spawn(alter(pool, numbers, taken, stop.clone()));
        Altering { work, stop }
    }

    /// Ends it once everything is repaired; adds to how often each alteration was done.
    pub async fn finish(self, done: &mut BTreeMap<&'static str, u64>) {
        self.stop.cancel();
        for (name, times) in self.work.join_all().await.into_iter().flatten() {
            *done.entry(name).or_default() += times;
        }
    }
}

async fn alter(
    pool: PgPool,
    mut numbers: StdRng,
    taken: Taken,
    stop: CancellationToken,
) -> BTreeMap<&'static str, u64> {
    let mut done = BTreeMap::new();
    while !stop.is_cancelled() {
        let (alteration, stream) = Alteration::draw(&mut numbers);
        if let Some(_hold) = taken.take(stream) {
            let back = alteration.back(stream).replace('\'', "''");
            let note = format!("insert into altered.tables values ('{stream}', '{back}')");
            // A table that is busy, or a server that is away.
            if run(&pool, &format!("{}; {note}", alteration.there(stream))).await.is_ok() {
                *done.entry(alteration.name).or_default() += 1;
                sleep(Duration::from_millis(numbers.random_range(1..ALTERED_MS_MAX))).await;
            }
            soon("the tables are repaired", repair_all(&pool)).await;
        }
        sleep(Duration::from_millis(numbers.random_range(1..PAUSE_MS_MAX))).await;
    }
    done
}

/// Tries until it is done: the server may be away.
async fn repair_all(pool: &PgPool) {
    while repair(pool).await.is_err() {
        sleep(RETRY_PAUSE).await;
    }
}

/// Repairs what is noted, also what is not known to be done because the answer to the commit was lost.
async fn repair(pool: &PgPool) -> Result<(), sqlx::Error> {
    let noted: Vec<(String, String)> =
        sqlx::query_as("select stream, back from altered.tables").fetch_all(pool).await?;
    for (stream, back) in noted {
        run(pool, &format!("{back}; delete from altered.tables where stream = '{stream}'")).await?;
    }
    Ok(())
}

/// All of it in one transaction.
async fn run(pool: &PgPool, sql: &str) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let sql = AssertSqlSafe(format!("{LOCK_TIMEOUT}; {sql}"));
    transaction.execute(sqlx::raw_sql(sql)).await?;
    transaction.commit().await
}
