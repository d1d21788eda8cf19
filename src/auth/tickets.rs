//! Tickets: a browser on another site cannot send a header with a WebSocket, so it fetches a ticket with its
//! credential and puts that into the address. A ticket opens one monitor, once, within [`TICKET_SECONDS`].
//!
//! Tickets live in this process only. They may end up in a proxy's log, which is why they are spent at first sight
//! and can do nothing but watch.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::auth::caller::{Caller, Via};
use crate::auth::expiring_map::ExpiringMap;
use crate::auth::scope::{Scope, ScopeSet};
use crate::auth::secret::{Secret, SecretHash};
use crate::clock::Clock;
use crate::record::UnixMicros;

/// Seconds that a ticket can be used.
pub const TICKET_SECONDS: u64 = 60;
/// Most unused tickets at a time.
pub const TICKETS_MAX: usize = 20_000;
/// Most unused tickets of one user at a time, so that nobody can take them all.
pub const TICKETS_PER_USER_MAX: usize = 1_000;

/// The unused tickets.
#[derive(Debug)]
pub struct Tickets {
    unused: Mutex<ExpiringMap<SecretHash, Caller>>,
    clock: Clock,
}

/// A new ticket.
#[derive(Debug)]
pub struct Ticket {
    pub secret: Secret,
    pub expires_at: UnixMicros,
}

impl Tickets {
    pub fn new(clock: Clock) -> Tickets {
        let lifetime = Duration::from_secs(TICKET_SECONDS);
        Tickets { unused: Mutex::new(ExpiringMap::new(TICKETS_MAX, lifetime)), clock }
    }

    /// A ticket with which `caller` may watch; None if there are too many unused ones.
    pub fn issue(&self, caller: &Caller) -> Option<Ticket> {
        let scopes = if caller.scopes.allows(Scope::Monitor) {
            ScopeSet::EMPTY.with(Scope::Monitor)
        } else {
            ScopeSet::EMPTY
        };
        let token_id = match caller.via {
            Via::Bearer { token_id } => Some(token_id),
            Via::Local | Via::Basic | Via::Session => None,
            Via::Ticket { token_id } => token_id,
        };
        let bearer = Caller { scopes, via: Via::Ticket { token_id }, ..caller.clone() };
        let secret = Secret::bare();
        let now = self.clock.now();
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = unused.living(now).filter(|other| other.user_id == caller.user_id).count();
        if of_user >= TICKETS_PER_USER_MAX || !unused.try_insert(secret.hash(), bearer, now) {
            return None;
        }
        let lifetime_micros = i64::try_from(TICKET_SECONDS * 1_000_000).unwrap_or(i64::MAX);
        Some(Ticket { secret, expires_at: UnixMicros(now.0.saturating_add(lifetime_micros)) })
    }

    /// Spends a ticket.
    pub fn redeem(&self, text: &str) -> Option<Caller> {
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        unused.take(&SecretHash::of(text), self.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scope::Role;

    fn caller(user_id: i64) -> Caller {
        Caller {
            user_id: Some(user_id),
            user_name: "ada".into(),
            role: Role::Admin,
            scopes: ScopeSet::ALL,
            streams: Some(["flights".parse().unwrap()].into()),
            via: Via::Session,
            password: None,
        }
    }

    #[test]
    fn a_ticket_opens_once_and_can_only_watch() {
        let tickets = Tickets::new(Clock::manual(UnixMicros(0)));
        let ticket = tickets.issue(&caller(1)).unwrap();
        assert_eq!(ticket.expires_at, UnixMicros(60_000_000));
        let watcher = tickets.redeem(ticket.secret.as_str()).unwrap();
        assert_eq!(watcher.scopes, ScopeSet::EMPTY.with(Scope::Monitor));
        assert_eq!((watcher.via, watcher.user_id), (Via::Ticket { token_id: None }, Some(1)));
        assert_eq!(watcher.streams, caller(1).streams, "the limits of the credential stay");
        assert_eq!(tickets.redeem(ticket.secret.as_str()), None);
        assert_eq!(tickets.redeem(""), None);
    }

    #[test]
    fn a_ticket_ends_after_a_minute() {
        let clock = Clock::manual(UnixMicros(0));
        let tickets = Tickets::new(clock.clone());
        let (early, late) =
            (tickets.issue(&caller(1)).unwrap(), tickets.issue(&caller(1)).unwrap());
        clock.set(UnixMicros(59_999_999));
        assert!(tickets.redeem(early.secret.as_str()).is_some());
        clock.set(UnixMicros(60_000_000));
        assert_eq!(tickets.redeem(late.secret.as_str()), None);
    }

    #[test]
    fn nobody_can_take_all_tickets() {
        let clock = Clock::manual(UnixMicros(0));
        let tickets = Tickets::new(clock.clone());
        for _ in 0..TICKETS_PER_USER_MAX {
            assert!(tickets.issue(&caller(1)).is_some());
        }
        assert!(tickets.issue(&caller(1)).is_none());
        assert!(tickets.issue(&caller(2)).is_some());
        clock.set(UnixMicros(60_000_000));
        assert!(tickets.issue(&caller(1)).is_some());
    }

    #[test]
    fn a_ticket_gives_no_right_that_was_not_there() {
        let tickets = Tickets::new(Clock::System);
        let via = Via::Bearer { token_id: 7 };
        let sender = Caller { scopes: ScopeSet::EMPTY.with(Scope::Ingest), via, ..caller(1) };
        let ticket = tickets.issue(&sender).unwrap();
        let watcher = tickets.redeem(ticket.secret.as_str()).unwrap();
        assert!(watcher.require(Scope::Monitor).is_err());
        assert_eq!(watcher.via, Via::Ticket { token_id: Some(7) });
    }
}
