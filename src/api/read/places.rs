//! Where a question about records is asked: of the replica while it is near enough, else of the primary.

use futures::future::BoxFuture;

use crate::api::AppState;
use crate::api::bodies::{Holder, MemoryPermit};
use crate::api::read::own_writes::Freshness;
use crate::db::Pool;
use crate::db::query::ReadError;
use crate::db::replica::Replica;
use crate::telemetry::metrics;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Something that is over soon: a page, a trend, one record.
    Page,
    /// A reply of any length.
    Export,
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Primary,
    /// It may be older than the last commit.
    Replica,
}

/// Asks, and where the replica fails, asks the primary.
pub async fn ask<'a, T>(
    state: &'a AppState,
    asked: Asked,
    freshness: Freshness,
    question: impl Fn(Pool) -> BoxFuture<'a, Result<T, ReadError>> + Send + Sync,
) -> Result<(T, Place), ReadError> {
    if let Some(replica) = usable(state, freshness).await {
        let pool = match asked {
            Asked::Page => replica.records(),
            Asked::Export => replica.exports(),
        };
        match question(pool.clone()).await {
            Ok(answer) => {
                metrics::count_read("replica");
                return Ok((answer, Place::Replica));
            }
            Err(error) if error.is_of_place() => {
                if error.is_of_line() {
                    replica.failed();
                }
                metrics::count_replica_fallback("failed");
            }
            Err(error) => return Err(error),
        }
    }
    let pools = state.database.pools();
    let pool = match asked {
        Asked::Page => &pools.records,
        Asked::Export => &pools.exports,
    };
    let answer = question(pool.clone()).await?;
    metrics::count_read("primary");
    Ok((answer, Place::Primary))
}

/// Room for what making an answer holds.
pub fn hold(state: &AppState, bytes: usize) -> Result<MemoryPermit, ReadError> {
    state.memory_budget.hold(Holder::Known, bytes).map_err(|_full| ReadError::NoRoom)
}

/// The replica, if there is one that is near enough.
async fn usable(state: &AppState, freshness: Freshness) -> Option<&Replica> {
    let replica = state.replica.as_ref().filter(|_| freshness != Freshness::Primary)?;
    if let Err(away) = replica.standing() {
        metrics::count_replica_fallback(away.as_str());
        return None;
    }
    match freshness {
        Freshness::Any => Some(replica),
        Freshness::Of(place) if replica.reaches(place).await => Some(replica),
        Freshness::Of(_) => {
            metrics::count_replica_fallback("behind");
            None
        }
        Freshness::Primary => None,
    }
}
