//! Browser sessions: a row each in PostgreSQL, remembered here for [`REMEMBERED_SECONDS`], so that a page that asks a
//! lot costs few queries.
//!
//! A session that is ended on this node is over at once, and on another one when it hears of it ([`Sessions::forget`]), or
//! no longer than it remembers it. What does not exist is remembered too, because a browser repeats a dead cookie with
//! every request; apart, so that made-up ones push none out that exist.
//!
//! Lookups wait in a [`FairQueue`]: made-up cookies wait for each other, by the address that they come from, and not
//! those that are known.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_record::UnixMicros;
use tidegate_record::clock::Clock;
use tokio::time::{Instant, sleep_until};

use crate::auth::accounts::{User, moment};
use crate::auth::caller::SessionMark;
use crate::auth::expiring_map::ExpiringMap;
use crate::auth::fair_queue::{FairQueue, Flow, NoPermit, QueuePermit};
use crate::auth::homes::{Place, Standing};
use crate::auth::secret::{Secret, SecretHash};
use crate::db::sessions::{NewSession, SessionRow};
use crate::db::{self, Database, answered};

/// Seconds that the database's answer about a session is remembered.
pub const REMEMBERED_SECONDS: u64 = 5;
/// Most sessions remembered, and most that do not exist (each takes some 200 bytes).
pub const REMEMBERED_MAX: usize = 10_000;
/// How long a session that existed is looked up before those that are unknown.
const KNOWN_FOR: Duration = Duration::from_hours(24);
/// Most sessions of one user; a new one ends the oldest.
pub const SESSIONS_PER_USER_MAX: u16 = 100;
/// Most lookups in the database at a time: made-up cookies must not keep others from their connections.
pub const LOOKUPS_MAX: usize = 4;
/// Longest wait for a lookup to begin.
pub const LOOKUP_WAIT_MAX: Duration = Duration::from_secs(2);
/// A monitor was let in before: all of them are one place.
const WATCHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The sessions of all browsers.
#[derive(Debug)]
pub struct Sessions {
    // Sessions begin and end in a pool of their own: changes wait for others, and for standbys, and what waits there keeps
    // no session from being looked up.
    database: Database,
    clock: Clock,
    lifetime: Duration,
    lookups: FairQueue,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    known: ExpiringMap<SecretHash, SessionRow>,
    unknown: ExpiringMap<SecretHash, ()>,
    // Only sessions that exist get in, so made-up ones cannot crowd them out. It says nothing but which come first.
    lately: ExpiringMap<SecretHash, ()>,
    /// Counts the endings. An answer that was asked for before an ending may be wrong after it.
    endings: u64,
}

/// A session could not be looked up.
#[derive(Debug)]
pub enum LookupError {
    Busy,
    Database(db::Error),
}

impl Sessions {
    pub fn new(database: Database, clock: Clock, lifetime: Duration) -> Sessions {
        let remembered = Duration::from_secs(REMEMBERED_SECONDS);
        let memory = Memory {
            known: ExpiringMap::new(REMEMBERED_MAX, remembered),
            unknown: ExpiringMap::new(REMEMBERED_MAX, remembered),
            lately: ExpiringMap::new(REMEMBERED_MAX, KNOWN_FOR),
            endings: 0,
        };
        Sessions {
            database,
            clock,
            lifetime,
            lookups: FairQueue::new(LOOKUPS_MAX, LOOKUP_WAIT_MAX),
            memory: Mutex::new(memory),
        }
    }

    /// How long a new session lasts.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Begins a session of a user whose password was just checked; None if the user changed meanwhile.
    pub async fn begin(&self, user: &User) -> Result<Option<Secret>, db::Error> {
        let now = moment(self.clock.now());
        let keep = i64::from(SESSIONS_PER_USER_MAX) - 1;
        let sign_ins = &self.database.pools().sign_ins;
        answered(db::sessions::prune(sign_ins, user.id, keep, now)).await?;
        let secret = Secret::bare();
        let hash = secret.hash();
        let session = NewSession {
            hash: hash.as_bytes(),
            user_id: user.id,
            password_hash: &user.password_hash,
            created_at: now,
            expires_at: now.saturating_add(self.lifetime.try_into().unwrap_or(time::Duration::MAX)),
        };
        let begun = answered(db::sessions::insert(sign_ins, &session)).await?;
        if begun {
            self.lock().lately.insert(hash, (), self.clock.now());
        }
        Ok(begun.then_some(secret))
    }

    /// The user of a session, asked for from an address; None if it is unknown or over. Says nothing about whether the user
    /// is enabled.
    pub async fn find(
        &self,
        hash: &SecretHash,
        address: IpAddr,
    ) -> Result<Option<(i64, SessionMark)>, LookupError> {
        let now = self.clock.now();
        let living = |session: SessionRow| {
            let expires_at = micros(session.expires_at);
            let mark = SessionMark { hash: *hash, expires_at };
            (now < expires_at).then_some((session.user_id, mark))
        };
        if let Ok(remembered) = self.lock().remembered(hash, now) {
            return Ok(remembered.and_then(living));
        }
        let permit = self.permit(hash, address).await.map_err(|NoPermit| LookupError::Busy)?;
        // While this one waited, another asked for the same.
        let now = self.clock.now();
        let endings = match self.lock().remembered(hash, now) {
            Ok(remembered) => return Ok(remembered.and_then(living)),
            Err(NotRemembered { endings }) => endings,
        };
        let lookups = self.database.pool();
        let found = answered(db::sessions::find(lookups, hash.as_bytes(), moment(now)))
            .await
            .map_err(LookupError::Database)?;
        drop(permit);
        let mut memory = self.lock();
        if memory.endings == endings {
            memory.remember(*hash, found, now);
        }
        Ok(found.and_then(living))
    }

    async fn permit(&self, hash: &SecretHash, address: IpAddr) -> Result<QueuePermit, NoPermit> {
        let is_known = self.lock().lately.get(hash, self.clock.now()).is_some();
        let standing = if is_known { Standing::AtHome } else { Standing::New };
        let asked = Instant::now();
        let permit = self.lookups.acquire(Flow { place: Place::Address(address), standing }).await;
        if permit.is_err() {
            // A client that is told at once that the queue is full comes again at once.
            sleep_until(asked + LOOKUP_WAIT_MAX).await;
        }
        permit
    }

    /// Is a session over? One that cannot be looked up now is not: a monitor goes on while PostgreSQL is away.
    pub async fn is_over(&self, session: &SessionMark) -> bool {
        match self.find(&session.hash, WATCHERS).await {
            Ok(found) => found.is_none(),
            Err(_) => session.expires_at <= self.clock.now(),
        }
    }

    /// Ends a session, here and on other nodes.
    pub async fn end(&self, hash: &SecretHash) -> Result<(), db::Error> {
        let ended =
            answered(db::sessions::delete(&self.database.pools().sign_ins, hash.as_bytes())).await;
        self.forget(hash);
        ended
    }

    /// Forgets what is remembered of a session that was ended, here or on another node.
    pub fn forget(&self, hash: &SecretHash) {
        let mut memory = self.lock();
        let now = self.clock.now();
        memory.endings += 1;
        memory.known.take(hash, now);
        memory.unknown.take(hash, now);
        memory.lately.take(hash, now);
    }

    /// Forgets what is remembered of a user whose sessions were deleted.
    pub fn forget_user(&self, user_id: i64) {
        let mut memory = self.lock();
        memory.endings += 1;
        memory.known.retain(|session| session.user_id != user_id);
    }

    /// Forgets everything: users changed on another node, which may have ended sessions of theirs.
    pub fn forget_all(&self) {
        let mut memory = self.lock();
        memory.endings += 1;
        memory.known.retain(|_| false);
        memory.unknown.retain(|()| false);
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The database must be asked.
struct NotRemembered {
    endings: u64,
}

impl Memory {
    fn remembered(
        &self,
        hash: &SecretHash,
        now: UnixMicros,
    ) -> Result<Option<SessionRow>, NotRemembered> {
        if let Some(session) = self.known.get(hash, now) {
            return Ok(Some(*session));
        }
        let is_unknown = self.unknown.get(hash, now).is_some();
        if is_unknown { Ok(None) } else { Err(NotRemembered { endings: self.endings }) }
    }

    fn remember(&mut self, hash: SecretHash, found: Option<SessionRow>, now: UnixMicros) {
        match found {
            Some(session) => {
                self.known.insert(hash, session, now);
                self.lately.insert(hash, (), now);
            }
            None => {
                self.lately.take(&hash, now);
                self.unknown.insert(hash, (), now);
            }
        }
    }
}

fn micros(moment: time::OffsetDateTime) -> UnixMicros {
    let micros = moment.unix_timestamp_nanos() / 1_000;
    UnixMicros(i64::try_from(micros).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::FutureExt;

    use super::*;
    use crate::auth::fair_queue::WAITING_MAX;

    const SESSION: SessionRow =
        SessionRow { user_id: 1, expires_at: time::macros::datetime!(2026-01-01 00:00 UTC) };

    fn sessions() -> Sessions {
        let database = Database::new("postgres://gateway@127.0.0.1:1/nothing").unwrap();
        Sessions::new(database, Clock::manual(UnixMicros(0)), Duration::from_hours(1))
    }

    fn made_up(number: usize) -> SecretHash {
        SecretHash::of(&format!("made up {number}"))
    }

    fn address(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
    }

    #[tokio::test]
    async fn made_up_cookies_keep_no_session_from_being_looked_up() {
        let sessions = sessions();
        let [honest, new] = ["honest", "new"].map(SecretHash::of);
        sessions.lock().remember(honest, Some(SESSION), UnixMicros(0));
        let mut running = Vec::new();
        for number in 0..LOOKUPS_MAX {
            running.push(sessions.permit(&made_up(number), address(1)).await.unwrap());
        }
        let hashes: Vec<SecretHash> = (0..2 * WAITING_MAX).map(made_up).collect();
        let mut flood: Vec<_> =
            hashes.iter().map(|hash| Box::pin(sessions.permit(hash, address(1)))).collect();
        for waiting in &mut flood {
            assert!(waiting.now_or_never().is_none());
        }
        let mut honest = Box::pin(sessions.permit(&honest, address(1)));
        let mut new = Box::pin(sessions.permit(&new, address(2)));
        assert!((&mut honest).now_or_never().is_none() && (&mut new).now_or_never().is_none());
        running.pop();
        let permit = (&mut honest).now_or_never().expect("it was valid lately: it is next");
        assert!(permit.is_ok());
        drop(permit);
        assert!((&mut new).now_or_never().is_none(), "the flood came before");
        // The permits go to the flood and to the other address by turns.
        running.pop();
        assert!((&mut new).now_or_never().is_some_and(|permit| permit.is_ok()));
    }

    #[tokio::test]
    async fn made_up_cookies_push_no_session_out_of_the_memory() {
        let sessions = sessions();
        let honest = SecretHash::of("honest");
        let mut memory = sessions.lock();
        memory.remember(honest, Some(SESSION), UnixMicros(0));
        for number in 0..=REMEMBERED_MAX {
            memory.remember(made_up(number), None, UnixMicros(0));
        }
        assert!(memory.remembered(&honest, UnixMicros(0)).is_ok_and(|found| found.is_some()));
        let latest = memory.remembered(&made_up(REMEMBERED_MAX), UnixMicros(0));
        assert!(latest.is_ok_and(|found| found.is_none()));
    }
}
