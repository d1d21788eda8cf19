//! The pools: one for each kind of work, so that statements that hang in one take no connection from the others.
//!
//! Writers are not among them: each owns its connection. Nothing is connected before it is needed.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::db::connection_check::{Timeouts, check};
use crate::db::pool::PgPool;

/// Longest wait for a connection of a pool.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for one statement of a pool, in milliseconds.
const STATEMENT_TIMEOUT_MS: u64 = 15_000;
/// The same for reading records, whose sizes their senders chose.
pub const RECORDS_TIMEOUT_MS: u64 = 5_000;
/// Connections that read what is in the gateway's own tables.
pub const READING_CONNECTIONS_MAX: u32 = 4;
/// Connections that read records.
pub const RECORDS_CONNECTIONS_MAX: u32 = 4;
/// Connections that read records for replies of any length.
pub const EXPORTS_CONNECTIONS_MAX: u32 = 4;

/// A pool's size, the longest time for one statement, and its longest wait for a lock in milliseconds (0: as long as a
/// statement may take).
struct Kind {
    connections_max: u32,
    statement_timeout_ms: u64,
    lock_timeout_ms: u64,
}

impl Kind {
    const fn new(connections_max: u32, lock_timeout_ms: u64) -> Kind {
        Kind { connections_max, statement_timeout_ms: STATEMENT_TIMEOUT_MS, lock_timeout_ms }
    }
}

const LOOKUPS: Kind = Kind::new(8, 2_000);
const SIGN_INS: Kind = Kind::new(3, 2_000);
const CHANGES: Kind = Kind::new(4, 5_000);
/// While a change of a table waits for its lock, every other statement waits behind it: shorter than a writer waits by default.
const SCHEMA: Kind = Kind::new(3, 1_000);
const READING: Kind = Kind::new(READING_CONNECTIONS_MAX, 2_000);
const RECORDS: Kind = Kind {
    connections_max: RECORDS_CONNECTIONS_MAX,
    statement_timeout_ms: RECORDS_TIMEOUT_MS,
    lock_timeout_ms: 2_000,
};
/// An export has its own limit for the whole of it.
const EXPORTS: Kind = Kind { connections_max: EXPORTS_CONNECTIONS_MAX, ..RECORDS };
/// The end of a run waits for batches that have its job's row, however long these take.
const POLLING: Kind = Kind::new(8, 0);

/// All of them. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Pools {
    /// What everything leans on: the catalog, users and tokens, who is signed in, word of changes.
    pub lookups: PgPool,
    /// Signing in and out.
    pub sign_ins: PgPool,
    /// Changes that people ask for: users, tokens, the quarantine, polling jobs.
    pub changes: PgPool,
    /// Making, changing and dropping streams' tables and their partitions.
    pub schema: PgPool,
    /// Lists of what is in the gateway's own tables: the quarantine, sizes of streams.
    pub reading: PgPool,
    /// Reading streams' records, which may take all of its connections and none of the other pools.
    pub records: PgPool,
    /// The same for replies of any length, which take no connection from pages.
    pub exports: PgPool,
    /// Claims and ends of polling runs.
    pub polling: PgPool,
}

impl Pools {
    pub(super) fn new(options: &PgConnectOptions) -> Pools {
        let make = |kind| pool(options, &kind);
        Pools {
            lookups: make(LOOKUPS),
            sign_ins: make(SIGN_INS),
            changes: make(CHANGES),
            schema: make(SCHEMA),
            reading: make(READING),
            records: make(RECORDS),
            exports: make(EXPORTS),
            polling: make(POLLING),
        }
    }

    /// Closes all of them.
    pub async fn close(&self) {
        let Pools { lookups, sign_ins, changes, schema, reading, records, exports, polling } = self;
        for pool in [lookups, sign_ins, changes, schema, reading, records, exports, polling] {
            pool.close().await;
        }
    }
}

fn pool(options: &PgConnectOptions, kind: &Kind) -> PgPool {
    let asked = Timeouts { statement_ms: kind.statement_timeout_ms, lock_ms: kind.lock_timeout_ms };
    let options = asked.options(options.clone());
    PgPool::from(checked(asked).max_connections(kind.connections_max).connect_lazy_with(options))
}

/// A pool that gives out no connection which is not what it asked for. A caller that waits for one is told that there is
/// none; the preparation of the database and the writers tell the reason.
pub(super) fn checked(asked: Timeouts) -> PgPoolOptions {
    let options = PgPoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
    // In place of the pool's own question whether the line is there: one that only reads was made while the server did.
    let options = options.test_before_acquire(false).before_acquire(|connection, _metadata| {
        let is_writable = "select current_setting('transaction_read_only') = 'off'";
        Box::pin(sqlx::query_scalar(is_writable).fetch_one(connection))
    });
    options.after_connect(move |connection, _metadata| {
        Box::pin(async move {
            match check(connection, asked).await {
                Ok(_writable) => Ok(()),
                Err(error) => Err(sqlx::Error::Configuration(error.into())),
            }
        })
    })
}

impl Timeouts {
    /// The options with these limits.
    pub(super) fn options(self, options: PgConnectOptions) -> PgConnectOptions {
        options.options([
            ("statement_timeout", self.statement_ms.to_string()),
            ("lock_timeout", self.lock_ms.to_string()),
        ])
    }
}
