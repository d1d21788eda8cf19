//! Failed guesses at passwords: who waits before the next one, and who does not wait for what others did.
//!
//! A failure counts against the account at the place that it came from, against the place, and against the account. Each
//! of the three has a few free, then waits that double up to a limit, and is forgiven one failure each
//! [`FORGIVEN_EVERY`]. The wait comes before the password's hash is computed, so guessing costs the gateway little.
//!
//! An account whose password was right from a place within [`AT_HOME_FOR`] is *at home* there: neither what others
//! guessed from that place nor what anybody guessed at the account from elsewhere keeps it waiting, only its own failures
//! there. So nobody locks a person out from elsewhere. A place is an address; for whoever signed in with a browser it is that
//! browser as well, by a cookie that opens nothing, so that people whom a proxy or a company's network gives one address
//! do not wait for each other.
//!
//! It promises bounded memory, and that a name that nobody has counts and waits like one that somebody has. It is kept in
//! memory by gateway: a restart forgets it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::expiring_map::ExpiringMap;
use crate::auth::secret::SecretHash;
use crate::record::UnixMicros;

/// Of the failures that count, one is forgiven each time that this is over.
pub const FORGIVEN_EVERY: Duration = Duration::from_mins(1);
/// The first wait.
pub const FAILURE_WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait of a place, and of an account at one place.
pub const PLACE_WAIT_MAX: Duration = Duration::from_secs(60);
/// The longest wait of an account at places where it is not at home.
pub const ACCOUNT_WAIT_MAX: Duration = Duration::from_secs(30);
/// Failures of an account at one place before it waits.
pub const OWN_FAILURES_FREE: u32 = 5;
/// Failures of a place, or of an account, before it waits.
pub const FAILURES_FREE: u32 = 20;
/// How long after its latest right password an account is at home at a place.
pub const AT_HOME_FOR: Duration = Duration::from_hours(7 * 24);
/// Most places where an account is at home; a new one takes the place of the oldest.
pub const HOMES_MAX: usize = 32;
/// Most places, most accounts, and most accounts at a place whose failures are remembered (each takes some 150 bytes).
pub const FAILURES_REMEMBERED_MAX: usize = 20_000;
/// Most accounts whose homes are remembered.
const ACCOUNTS_AT_HOME_MAX: usize = 20_000;
/// No failure counts for longer: by then the most that any has are forgiven.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_mins(40);

const OWN: Rule = Rule { free: OWN_FAILURES_FREE, wait_max: PLACE_WAIT_MAX };
const OF_PLACE: Rule = Rule { free: FAILURES_FREE, wait_max: PLACE_WAIT_MAX };
const OF_ACCOUNT: Rule = Rule { free: FAILURES_FREE, wait_max: ACCOUNT_WAIT_MAX };

/// What is known of where a password comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whence {
    /// An address, or the network of one, that one caller has to themselves.
    pub address: IpAddr,
    /// The cookie of a browser where somebody signed in before. It opens nothing.
    pub browser: Option<SecretHash>,
}

/// What counts as one place. A browser only is one for whom it knows, or whoever has no cookie would have a new place each
/// time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    Address(IpAddr),
    Browser(SecretHash),
}

/// A name that was given, whether or not somebody has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Account(u64);

/// How an account and a place go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The account's password was right from there lately.
    AtHome,
    New,
}

/// What had too many failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blamed {
    /// The account, at this place.
    Own,
    Place,
    Account,
}

/// Too many passwords were wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Throttled {
    pub blamed: Blamed,
    pub retry_after: Duration,
}

impl fmt::Display for Throttled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.blamed {
            Blamed::Own => "for this user from this address",
            Blamed::Place => "from this address",
            Blamed::Account => {
                "for this user; from an address where the user signed in within a week it still works"
            }
        };
        let seconds = self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0);
        write!(f, "too many wrong passwords {what}; try again in {} seconds", seconds.max(1))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Failures {
    /// Random, so that nobody can make two names one.
    names: RandomState,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    own: ExpiringMap<(Account, Place), Bucket>,
    of_places: ExpiringMap<Place, Bucket>,
    of_accounts: ExpiringMap<Account, Bucket>,
    // Only accounts that are there get in, so strangers cannot crowd them out.
    homes: ExpiringMap<Account, Vec<(Place, UnixMicros)>>,
}

impl Default for Failures {
    fn default() -> Failures {
        fn remembered<K: Clone + Eq + std::hash::Hash>() -> ExpiringMap<K, Bucket> {
            ExpiringMap::new(FAILURES_REMEMBERED_MAX, FAILURES_FORGOTTEN_AFTER)
        }
        let memory = Memory {
            own: remembered(),
            of_places: remembered(),
            of_accounts: remembered(),
            homes: ExpiringMap::new(ACCOUNTS_AT_HOME_MAX, AT_HOME_FOR),
        };
        Failures { names: RandomState::new(), memory: Mutex::new(memory) }
    }
}

impl Failures {
    pub fn account(&self, name: &str) -> Account {
        Account(self.names.hash_one(name))
    }

    /// The place that counts for an account: the browser, if the account is at home there; else the address.
    pub fn place(&self, account: Account, whence: Whence, now: UnixMicros) -> Place {
        let browser = whence.browser.map(Place::Browser);
        let is_home =
            |browser: &Place| self.lock().standing(account, *browser, now) == Standing::AtHome;
        browser.filter(is_home).unwrap_or(Place::Address(whence.address))
    }

    /// May a password be tried now? Costs no hash.
    pub fn check(
        &self,
        account: Account,
        place: Place,
        now: UnixMicros,
    ) -> Result<Standing, Throttled> {
        let memory = self.lock();
        let standing = memory.standing(account, place, now);
        let wait = |bucket: Option<&Bucket>, rule, blamed| {
            let retry_after = bucket.map_or(Duration::ZERO, |bucket| bucket.wait(rule, now));
            Throttled { blamed, retry_after }
        };
        let own = wait(memory.own.get(&(account, place), now), &OWN, Blamed::Own);
        let longest = match standing {
            Standing::AtHome => own,
            Standing::New => {
                let of_place = memory.of_places.get(&place, now);
                let of_account = memory.of_accounts.get(&account, now);
                let others = [
                    wait(of_place, &OF_PLACE, Blamed::Place),
                    wait(of_account, &OF_ACCOUNT, Blamed::Account),
                ];
                let longer = |one: Throttled, other: Throttled| {
                    if other.retry_after > one.retry_after { other } else { one }
                };
                others.into_iter().fold(own, longer)
            }
        };
        if longest.retry_after.is_zero() { Ok(standing) } else { Err(longest) }
    }

    /// A password was wrong.
    pub fn failed(&self, account: Account, place: Place, now: UnixMicros) {
        let mut memory = self.lock();
        let standing = memory.standing(account, place, now);
        fail(&mut memory.own, (account, place), &OWN, now);
        if standing == Standing::New {
            fail(&mut memory.of_places, place, &OF_PLACE, now);
            fail(&mut memory.of_accounts, account, &OF_ACCOUNT, now);
        }
    }

    /// A password was right: the account is at home there.
    pub fn right(&self, account: Account, place: Place, now: UnixMicros) {
        self.moved(account, None, place, now);
    }

    /// The account is at home in a place, in the stead of another one.
    pub fn moved(&self, account: Account, from: Option<Place>, place: Place, now: UnixMicros) {
        let homes = &mut self.lock().homes;
        let mut places = homes.take(&account, now).unwrap_or_default();
        places.retain(|(other, _)| *other != place && Some(*other) != from);
        if places.len() >= HOMES_MAX {
            places.remove(0);
        }
        places.push((place, now));
        homes.insert(account, places, now);
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn standing(&self, account: Account, place: Place, now: UnixMicros) -> Standing {
        let is_lately = |since: UnixMicros| now.0.saturating_sub(since.0) < micros(AT_HOME_FOR);
        let homes = self.homes.get(&account, now);
        let is_home = homes
            .is_some_and(|homes| homes.iter().any(|(home, at)| *home == place && is_lately(*at)));
        if is_home { Standing::AtHome } else { Standing::New }
    }
}

/// How many failures are free, and how long the wait becomes.
struct Rule {
    free: u32,
    wait_max: Duration,
}

/// What failed lately.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    failures: u32,
    /// When the next minute of forgiving began.
    since: UnixMicros,
    until: UnixMicros,
}

impl Bucket {
    fn after_another(before: Option<&Bucket>, rule: &Rule, now: UnixMicros) -> Bucket {
        let (left, since) = before.map_or((0, now), |bucket| bucket.unforgiven(now));
        let since = if left == 0 { now } else { since };
        let doublings_max = rule.wait_max.as_secs().max(1).ilog2() + 1;
        let failures = (left + 1).min(rule.free + 1 + doublings_max);
        let wait = match failures.checked_sub(rule.free + 1) {
            None => Duration::ZERO,
            Some(doublings) => (FAILURE_WAIT_MIN * (1 << doublings)).min(rule.wait_max),
        };
        Bucket { failures, since, until: UnixMicros(now.0.saturating_add(micros(wait))) }
    }

    /// Failures that still count, and since when the next is on its way to be forgiven.
    fn unforgiven(&self, now: UnixMicros) -> (u32, UnixMicros) {
        let forgiven = now.0.saturating_sub(self.since.0).max(0) / micros(FORGIVEN_EVERY);
        let since = self.since.0.saturating_add(forgiven.saturating_mul(micros(FORGIVEN_EVERY)));
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        (self.failures.saturating_sub(forgiven), UnixMicros(since))
    }

    /// A clock that was set back makes nobody wait longer than the rule says.
    fn wait(&self, rule: &Rule, now: UnixMicros) -> Duration {
        let left = u64::try_from(self.until.0.saturating_sub(now.0)).unwrap_or(0);
        Duration::from_micros(left).min(rule.wait_max)
    }
}

fn fail<K: Clone + Eq + std::hash::Hash>(
    buckets: &mut ExpiringMap<K, Bucket>,
    key: K,
    rule: &Rule,
    now: UnixMicros,
) {
    let bucket = Bucket::after_another(buckets.get(&key, now), rule, now);
    buckets.insert(key, bucket, now);
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Place = Place::Address(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const ELSEWHERE: Place = Place::Address(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    fn at(seconds: i64) -> UnixMicros {
        UnixMicros(seconds * 1_000_000)
    }

    fn place(number: u32) -> Place {
        Place::Address(IpAddr::V4(number.into()))
    }

    fn wait(failures: &Failures, name: &str, place: Place, now: UnixMicros) -> Option<Throttled> {
        failures.check(failures.account(name), place, now).err()
    }

    fn fail_times(failures: &Failures, times: u32, name: &str, place: Place) {
        for _ in 0..times {
            failures.failed(failures.account(name), place, at(0));
        }
    }

    #[test]
    fn waits_double_to_their_limit_and_are_forgiven() {
        let failures = Failures::default();
        fail_times(&failures, OWN_FAILURES_FREE, "ada", HOME);
        assert_eq!(wait(&failures, "ada", HOME, at(0)), None);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            fail_times(&failures, 1, "ada", HOME);
            let throttled = wait(&failures, "ada", HOME, at(0)).unwrap();
            assert_eq!((throttled.blamed, throttled.retry_after.as_secs()), (Blamed::Own, seconds));
            assert!(throttled.to_string().contains(&format!("in {seconds} seconds")));
        }
        assert_eq!(wait(&failures, "ada", HOME, at(60)), None);
        failures.failed(failures.account("ada"), HOME, at(60));
        assert_eq!(wait(&failures, "ada", HOME, at(60)).unwrap().retry_after.as_secs(), 60);
        // A quarter of an hour without a failure, and the free ones are back.
        failures.failed(failures.account("ada"), HOME, at(60 + 15 * 60));
        assert_eq!(wait(&failures, "ada", HOME, at(60 + 15 * 60)), None);
    }

    #[test]
    fn guessing_from_one_place_stops_no_other_place() {
        let failures = Failures::default();
        for number in 0..100 {
            fail_times(&failures, 1, &format!("user {number}"), ELSEWHERE);
        }
        assert_eq!(wait(&failures, "ada", ELSEWHERE, at(0)).unwrap().blamed, Blamed::Place);
        assert_eq!(wait(&failures, "ada", HOME, at(0)), None);
        assert_eq!(wait(&failures, "user 1", HOME, at(0)), None);
    }

    #[test]
    fn who_is_at_home_waits_for_nobody_else_s_guesses() {
        let failures = Failures::default();
        failures.right(failures.account("ada"), HOME, at(0));
        for number in 0..1_000 {
            fail_times(&failures, 1, "ada", place(number));
            fail_times(&failures, 1, &format!("user {number}"), HOME);
        }
        assert_eq!(failures.check(failures.account("ada"), HOME, at(0)), Ok(Standing::AtHome));
        let new = wait(&failures, "ada", ELSEWHERE, at(0)).unwrap();
        assert_eq!((new.blamed, new.retry_after), (Blamed::Account, ACCOUNT_WAIT_MAX));
        assert_eq!(wait(&failures, "bob", HOME, at(0)).unwrap().blamed, Blamed::Place);
        // Its own failures count, and only for itself.
        fail_times(&failures, OWN_FAILURES_FREE + 1, "ada", HOME);
        assert_eq!(wait(&failures, "ada", HOME, at(0)).unwrap().blamed, Blamed::Own);
        // Not for ever.
        let later = UnixMicros(micros(AT_HOME_FOR));
        assert_eq!(failures.check(failures.account("ada"), HOME, later), Ok(Standing::New));
    }

    #[test]
    fn an_account_has_so_many_homes_and_keeps_the_latest() {
        let failures = Failures::default();
        let ada = failures.account("ada");
        for number in 0..100 {
            failures.right(ada, place(number), at(0));
            failures.right(ada, HOME, at(0));
        }
        let is_home = |place| failures.check(ada, place, at(0)) == Ok(Standing::AtHome);
        assert!(is_home(HOME) && is_home(place(99)));
        assert!(!is_home(place(1)));
        assert_eq!(failures.lock().homes.get(&ada, at(0)).unwrap().len(), HOMES_MAX);
    }

    #[test]
    fn a_browser_is_a_place_for_who_signed_in_there_and_for_nobody_else() {
        let failures = Failures::default();
        let [ada, eve] = ["ada", "eve"].map(|name| failures.account(name));
        let [first, second] = ["first", "second"].map(SecretHash::of);
        let Place::Address(address) = HOME else { panic!("an address") };
        let place = |account, browser| {
            failures.place(account, Whence { address, browser: Some(browser) }, at(0))
        };
        assert_eq!(place(ada, first), HOME, "made up");
        failures.moved(ada, None, Place::Browser(first), at(0));
        assert_eq!(place(ada, first), Place::Browser(first));
        assert_eq!(place(eve, first), HOME);
        failures.moved(ada, Some(Place::Browser(first)), Place::Browser(second), at(0));
        assert_eq!((place(ada, first), place(ada, second)), (HOME, Place::Browser(second)));
        // Whatever others do at the same address.
        fail_times(&failures, 100, "ada", HOME);
        assert!(wait(&failures, "ada", HOME, at(0)).is_some());
        assert_eq!(wait(&failures, "ada", Place::Browser(second), at(0)), None);
    }

    #[test]
    fn a_name_that_nobody_has_waits_like_one_that_somebody_has() {
        let failures = Failures::default();
        failures.right(failures.account("ada"), HOME, at(0));
        for number in 0..100 {
            let waits = ["ada", "nobody"].map(|name| wait(&failures, name, place(number), at(0)));
            assert_eq!(waits[0], waits[1], "{number}");
            fail_times(&failures, 1, "ada", place(number + 1_000));
            fail_times(&failures, 1, "nobody", place(number + 2_000));
        }
        assert!(wait(&failures, "nobody", ELSEWHERE, at(0)).is_some());
    }

    #[test]
    fn a_clock_set_back_makes_nobody_wait_longer() {
        let failures = Failures::default();
        for _ in 0..100 {
            failures.failed(failures.account("ada"), HOME, at(1_000_000));
        }
        assert!(
            wait(&failures, "ada", HOME, at(0)).is_none_or(|it| it.retry_after <= PLACE_WAIT_MAX)
        );
    }
}
