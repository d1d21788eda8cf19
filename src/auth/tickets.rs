//! Tickets: a browser on another site cannot send a header with a WebSocket or an `EventSource`, so it fetches a ticket with
//! its credential and puts that into the address. A ticket opens one monitor, once, within [`TICKET_SECONDS`]; a request
//! that is refused does not use it up.
//!
//! An `EventSource` connects again by itself, to the address that it was given. So a ticket that an event stream was opened
//! with stays good for going on with that stream: for the same view, with the id of the last event, within
//! [`RESUME_SECONDS`] of the stream's last sign of life and [`RESUME_HOURS_MAX`] of its beginning. A request that
//! goes on with a stream ends the connection that had it.
//!
//! Tickets live in this process only. They may end up in a proxy's log, which is why they can do nothing but watch.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidegate_record::UnixMicros;
use tidegate_record::clock::Clock;

use crate::auth::caller::{Caller, Via};
use crate::auth::expiring_map::ExpiringMap;
use crate::auth::scope::{Scope, ScopeSet};
use crate::auth::secret::{Secret, SecretHash};

/// Seconds that a ticket can be used.
pub const TICKET_SECONDS: u64 = 60;
/// Seconds after its last sign of life that an event stream can be resumed with its ticket: about as long as the journal
/// keeps what it missed.
pub const RESUME_SECONDS: u64 = 900;
/// Hours after its beginning that an event stream can be resumed with its ticket.
pub const RESUME_HOURS_MAX: u64 = 24;
/// Most unused tickets at a time, and most event streams that can be resumed with theirs.
pub const TICKETS_MAX: usize = 20_000;
/// The same of one user, so that no user can take them all.
pub const TICKETS_PER_USER_MAX: usize = 1_000;

const MICROS: u64 = 1_000_000;

/// Tickets that are good for something.
#[derive(Debug)]
pub struct Tickets {
    good: Mutex<Good>,
    clock: Clock,
}

// Invariant: a ticket is in one of the two maps, or in none.
#[derive(Debug)]
struct Good {
    unused: ExpiringMap<SecretHash, Caller>,
    streams: ExpiringMap<SecretHash, EventStream>,
    next_opening: u64,
}

/// What a ticket was used for.
#[derive(Debug, Clone)]
struct EventStream {
    caller: Caller,
    view: View,
    began_at: UnixMicros,
    /// Of the connection that has it; each has another number.
    opening: u64,
}

/// A new ticket.
#[derive(Debug)]
pub struct Ticket {
    pub secret: Secret,
    pub expires_at: UnixMicros,
}

/// A ticket that a request brought, and that is good for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented(SecretHash);

/// What an event stream shows, as a hash of the words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View([u8; 32]);

impl View {
    pub fn of(words: &str) -> View {
        View(Sha256::digest(words.as_bytes()).into())
    }
}

/// A connection that has the event stream of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    ticket: SecretHash,
    opening: u64,
}

impl Tickets {
    pub fn new(clock: Clock) -> Tickets {
        let map_of = Duration::from_secs;
        let good = Good {
            unused: ExpiringMap::new(TICKETS_MAX, map_of(TICKET_SECONDS)),
            streams: ExpiringMap::new(TICKETS_MAX, map_of(RESUME_SECONDS)),
            next_opening: 0,
        };
        Tickets { good: Mutex::new(good), clock }
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
        let unused = &mut self.lock().unused;
        let of_user = unused.living(now).filter(|other| other.user_id == caller.user_id).count();
        if of_user >= TICKETS_PER_USER_MAX || !unused.try_insert(secret.hash(), bearer, now) {
            return None;
        }
        Some(Ticket { secret, expires_at: after(now, TICKET_SECONDS) })
    }

    /// Whose ticket it is, if it is good for anything. Uses nothing up.
    pub fn find(&self, text: &str) -> Option<(Presented, Caller)> {
        let (hash, now) = (SecretHash::of(text), self.clock.now());
        let good = self.lock();
        let of_stream = || good.streams.get(&hash, now).map(|stream| &stream.caller);
        let caller = good.unused.get(&hash, now).or_else(of_stream)?;
        Some((Presented(hash), caller.clone()))
    }

    /// Uses a ticket up; false if it was used.
    pub fn spend(&self, Presented(ticket): Presented) -> bool {
        self.lock().unused.take(&ticket, self.clock.now()).is_some()
    }

    /// Opens an event stream with an unused ticket, or, if `resumes`, goes on with the one that it opened. None: the ticket
    /// is good for neither.
    pub fn hold(&self, Presented(ticket): Presented, view: View, resumes: bool) -> Option<Holding> {
        let now = self.clock.now();
        let mut good = self.lock();
        let opening = good.next_opening;
        let stream = match good.unused.take(&ticket, now) {
            Some(caller) => {
                let of_user = |other: &&EventStream| other.caller.user_id == caller.user_id;
                let is_one_too_many =
                    good.streams.living(now).filter(of_user).count() >= TICKETS_PER_USER_MAX;
                if is_one_too_many {
                    // It can be watched, and not be resumed.
                    return Some(Holding { ticket, opening });
                }
                EventStream { caller, view, began_at: now, opening }
            }
            None => {
                let stream = good.streams.get(&ticket, now).filter(|_| resumes)?;
                let is_over = now >= after(stream.began_at, RESUME_HOURS_MAX * 3_600);
                if stream.view != view || is_over {
                    return None;
                }
                EventStream { opening, ..stream.clone() }
            }
        };
        good.next_opening += 1;
        good.streams.insert(ticket, stream, now);
        Some(Holding { ticket, opening })
    }

    /// A sign of life of a connection. False if another one has its stream now.
    pub fn still_holds(&self, holding: &Holding) -> bool {
        let now = self.clock.now();
        let mut good = self.lock();
        let Some(stream) = good.streams.get(&holding.ticket, now) else { return true };
        if stream.opening != holding.opening {
            return false;
        }
        let stream = stream.clone();
        good.streams.insert(holding.ticket, stream, now);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Good> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn after(moment: UnixMicros, seconds: u64) -> UnixMicros {
    UnixMicros(moment.0.saturating_add(i64::try_from(seconds * MICROS).unwrap_or(i64::MAX)))
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
            session: None,
        }
    }

    #[test]
    fn a_ticket_opens_once_and_can_only_watch() {
        let tickets = Tickets::new(Clock::manual(UnixMicros(0)));
        let ticket = tickets.issue(&caller(1)).unwrap();
        assert_eq!(ticket.expires_at, UnixMicros(60_000_000));
        let (presented, watcher) = tickets.find(ticket.secret.as_str()).unwrap();
        assert_eq!(watcher.scopes, ScopeSet::EMPTY.with(Scope::Monitor));
        assert_eq!((watcher.via, watcher.user_id), (Via::Ticket { token_id: None }, Some(1)));
        assert_eq!(watcher.streams, caller(1).streams, "the limits of the credential stay");
        assert!(tickets.find(ticket.secret.as_str()).is_some(), "looking uses nothing up");
        assert!(tickets.spend(presented));
        assert!(!tickets.spend(presented), "of two that come at once, one is let in");
        assert_eq!(tickets.find(ticket.secret.as_str()), None);
        assert_eq!(tickets.hold(presented, View::of("all"), true), None);
        assert_eq!(tickets.find(""), None);
    }

    #[test]
    fn a_ticket_ends_after_a_minute() {
        let clock = Clock::manual(UnixMicros(0));
        let tickets = Tickets::new(clock.clone());
        let (early, late) =
            (tickets.issue(&caller(1)).unwrap(), tickets.issue(&caller(1)).unwrap());
        clock.set(UnixMicros(59_999_999));
        let (presented, _) = tickets.find(late.secret.as_str()).unwrap();
        assert!(tickets.find(early.secret.as_str()).is_some());
        clock.set(UnixMicros(60_000_000));
        assert_eq!(tickets.find(late.secret.as_str()), None);
        assert!(!tickets.spend(presented));
        assert_eq!(tickets.hold(presented, View::of("all"), true), None);
    }

    #[test]
    fn no_user_can_take_all_tickets() {
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
        let (_, watcher) = tickets.find(ticket.secret.as_str()).unwrap();
        assert!(watcher.require(Scope::Monitor).is_err());
        assert_eq!(watcher.via, Via::Ticket { token_id: Some(7) });
    }

    /// Tickets, their clock, and one that opened an event stream.
    fn with_stream() -> (Tickets, Clock, Presented, Holding) {
        let clock = Clock::manual(UnixMicros(0));
        let tickets = Tickets::new(clock.clone());
        let ticket = tickets.issue(&caller(1)).unwrap();
        let (presented, _) = tickets.find(ticket.secret.as_str()).unwrap();
        let holding = tickets.hold(presented, View::of("flights"), false).unwrap();
        (tickets, clock, presented, holding)
    }

    #[test]
    fn the_ticket_of_an_event_stream_resumes_that_one_and_opens_nothing() {
        let (tickets, _, presented, first) = with_stream();
        assert!(!tickets.spend(presented), "it opens no WebSocket any more");
        assert_eq!(tickets.hold(presented, View::of("flights"), false), None);
        assert_eq!(tickets.hold(presented, View::of("all"), true), None);
        assert!(tickets.still_holds(&first), "what was refused takes nothing away");
        let second = tickets.hold(presented, View::of("flights"), true).unwrap();
        assert!(!tickets.still_holds(&first), "one connection at a time");
        assert!(tickets.still_holds(&second));
        assert!(tickets.hold(presented, View::of("flights"), true).is_some());
    }

    #[test]
    fn an_event_stream_can_be_resumed_for_a_while_after_its_last_sign_of_life() {
        let (tickets, clock, presented, holding) = with_stream();
        let (view, wait) = (View::of("flights"), i64::try_from(RESUME_SECONDS * MICROS).unwrap());
        clock.set(UnixMicros(wait - 1));
        assert!(tickets.still_holds(&holding));
        clock.set(UnixMicros(2 * wait - 2));
        let holding = tickets.hold(presented, view, true).unwrap();
        clock.set(UnixMicros(3 * wait - 2));
        assert_eq!(tickets.hold(presented, view, true), None);
        assert!(tickets.still_holds(&holding), "who watches goes on");
    }

    #[test]
    fn an_event_stream_can_be_resumed_for_a_day() {
        let (tickets, clock, presented, holding) = with_stream();
        let view = View::of("flights");
        let minute = i64::try_from(60 * MICROS).unwrap();
        for minutes in 1..24 * 60 {
            clock.set(UnixMicros(minutes * minute));
            assert!(tickets.still_holds(&holding));
        }
        let holding = tickets.hold(presented, view, true).unwrap();
        clock.set(UnixMicros(24 * 60 * minute));
        assert!(tickets.still_holds(&holding));
        assert_eq!(tickets.hold(presented, view, true), None);
    }

    #[test]
    fn no_user_can_have_all_the_streams_that_can_be_resumed() {
        let tickets = Tickets::new(Clock::manual(UnixMicros(0)));
        let view = View::of("all");
        let open = |user_id| {
            let ticket = tickets.issue(&caller(user_id)).unwrap();
            let (presented, _) = tickets.find(ticket.secret.as_str()).unwrap();
            let holding = tickets.hold(presented, view, false).unwrap();
            assert!(tickets.still_holds(&holding));
            tickets.hold(presented, view, true).is_some()
        };
        for _ in 0..TICKETS_PER_USER_MAX {
            assert!(open(1));
        }
        assert!(!open(1));
        assert!(open(2));
    }
}
