//! Browser sessions: a row each in PostgreSQL, remembered here for [`REMEMBERED_SECONDS`], so that a page that asks a
//! lot costs few queries.
//!
//! A session that is ended on this node is over at once, and on another one when it hears of it ([`Sessions::forget`]), or
//! no longer than it remembers it. What does not exist is remembered too, because a browser repeats a dead cookie with
//! every request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Semaphore;

use crate::auth::accounts::{User, moment};
use crate::auth::caller::SessionMark;
use crate::auth::expiring_map::ExpiringMap;
use crate::auth::secret::{Secret, SecretHash};
use crate::clock::Clock;
use crate::db::sessions::{NewSession, SessionRow};
use crate::db::{self, answered};
use crate::record::UnixMicros;

/// Seconds that the database's answer about a session is remembered.
pub const REMEMBERED_SECONDS: u64 = 5;
/// Most sessions remembered (each takes some 200 bytes).
pub const REMEMBERED_MAX: usize = 10_000;
/// Most sessions of one user; a new one ends the oldest.
pub const SESSIONS_PER_USER_MAX: u16 = 100;
/// Most lookups in the database at a time: made-up cookies must not keep others from their connections.
pub const LOOKUPS_MAX: usize = 4;
/// Longest wait for a lookup to begin.
pub const LOOKUP_WAIT_MAX: Duration = Duration::from_secs(2);

/// The sessions of all browsers.
#[derive(Debug)]
pub struct Sessions {
    pool: PgPool,
    /// Changes wait for others, and for standbys. What waits here keeps no session from being looked up.
    sign_ins: PgPool,
    clock: Clock,
    lifetime: Duration,
    lookups: Semaphore,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    known: ExpiringMap<SecretHash, Option<SessionRow>>,
    /// Counts the endings. An answer that was asked for before an ending may be wrong after it.
    endings: u64,
}

/// A session could not be looked up.
#[derive(Debug)]
pub enum LookupError {
    Busy,
    Database(sqlx::Error),
}

impl Sessions {
    pub fn new(pool: PgPool, sign_ins: PgPool, clock: Clock, lifetime: Duration) -> Sessions {
        let remembered = Duration::from_secs(REMEMBERED_SECONDS);
        let known = ExpiringMap::new(REMEMBERED_MAX, remembered);
        Sessions {
            pool,
            sign_ins,
            clock,
            lifetime,
            lookups: Semaphore::new(LOOKUPS_MAX),
            memory: Mutex::new(Memory { known, endings: 0 }),
        }
    }

    /// How long a new session lasts.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Begins a session of a user whose password was just checked; None if the user changed meanwhile.
    pub async fn begin(&self, user: &User) -> Result<Option<Secret>, sqlx::Error> {
        let now = moment(self.clock.now());
        let keep = i64::from(SESSIONS_PER_USER_MAX) - 1;
        answered(db::sessions::prune(&self.sign_ins, user.id, keep, now)).await?;
        let secret = Secret::bare();
        let hash = secret.hash();
        let session = NewSession {
            hash: hash.as_bytes(),
            user_id: user.id,
            password_hash: &user.password_hash,
            created_at: now,
            expires_at: now.saturating_add(self.lifetime.try_into().unwrap_or(time::Duration::MAX)),
        };
        let begun = answered(db::sessions::insert(&self.sign_ins, &session)).await?;
        Ok(begun.then_some(secret))
    }

    /// The user of a session; None if it is unknown or over. Says nothing about whether the user is enabled.
    pub async fn find(&self, hash: &SecretHash) -> Result<Option<(i64, SessionMark)>, LookupError> {
        let now = self.clock.now();
        let living = |session: SessionRow| {
            let expires_at = micros(session.expires_at);
            let mark = SessionMark { hash: *hash, expires_at };
            (now < expires_at).then_some((session.user_id, mark))
        };
        let endings = {
            let memory = self.lock();
            if let Some(known) = memory.known.get(hash, now) {
                return Ok(known.and_then(living));
            }
            memory.endings
        };
        let turn = tokio::time::timeout(LOOKUP_WAIT_MAX, self.lookups.acquire())
            .await
            .map_err(|_| LookupError::Busy)?;
        let found = answered(db::sessions::find(&self.pool, hash.as_bytes(), moment(now)))
            .await
            .map_err(LookupError::Database)?;
        drop(turn);
        let mut memory = self.lock();
        if memory.endings == endings {
            memory.known.insert(*hash, found, now);
        }
        Ok(found.and_then(living))
    }

    /// Is a session over? One that cannot be looked up now is not: who watches goes on while PostgreSQL is away.
    pub async fn is_over(&self, session: &SessionMark) -> bool {
        match self.find(&session.hash).await {
            Ok(found) => found.is_none(),
            Err(_) => session.expires_at <= self.clock.now(),
        }
    }

    /// Ends a session, here and on other nodes.
    pub async fn end(&self, hash: &SecretHash) -> Result<(), sqlx::Error> {
        let ended = answered(db::sessions::delete(&self.sign_ins, hash.as_bytes())).await;
        self.forget(hash);
        ended
    }

    /// Forgets what is remembered of a session that was ended, here or on another node.
    pub fn forget(&self, hash: &SecretHash) {
        let mut memory = self.lock();
        memory.endings += 1;
        memory.known.take(hash, self.clock.now());
    }

    /// Forgets what is remembered of a user whose sessions were deleted.
    pub fn forget_user(&self, user_id: i64) {
        let mut memory = self.lock();
        memory.endings += 1;
        memory.known.retain(|known| known.is_none_or(|session| session.user_id != user_id));
    }

    /// Forgets everything: users changed on another node, which may have ended sessions of theirs.
    pub fn forget_all(&self) {
        let mut memory = self.lock();
        memory.endings += 1;
        memory.known.retain(|_| false);
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(moment: time::OffsetDateTime) -> UnixMicros {
    let micros = moment.unix_timestamp_nanos() / 1_000;
    UnixMicros(i64::try_from(micros).unwrap_or(i64::MAX))
}
