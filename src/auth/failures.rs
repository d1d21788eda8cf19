//! Failed guesses at passwords: which accounts wait before the next one, and which do not wait for what others did.
//!
//! A failure counts against the account at the place that it came from, against the place, and against the account. Each
//! of the three has a few free, then waits that double up to a limit, and is forgiven one failure each
//! [`FORGIVEN_EVERY`]. The wait comes before the password's hash is computed, so guessing costs the gateway little.
//!
//! An account whose password was right from a place within [`AT_HOME_FOR`] is *at home* there: neither what others
//! guessed from that place nor what was guessed at the account from elsewhere keeps it waiting, only its own failures
//! there. So guesses from elsewhere lock no person out. A place is an address; for a user who signed in with a browser it is
//! that browser as well, by a cookie that opens nothing, so that people whom a proxy or a company's network gives one address
//! do not wait for each other.
//!
//! A right password, and a new one, end the waits that earlier failures at the account left: the first those at its place.
//!
//! It promises bounded memory, and that a name without a user counts and waits like one with a user. It is kept in
//! memory by gateway: a restart forgets it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_record::UnixMicros;

use crate::auth::caller::PasswordMark;
use crate::auth::expiring_map::ExpiringMap;
use crate::auth::homes::{Homes, Name, Place, Standing, Whence};
use crate::auth::secret::SecretHash;

/// Of the failures that count, one is forgiven each time that this is over.
pub const FORGIVEN_EVERY: Duration = Duration::from_mins(1);
/// The first wait.
pub const FAILURE_WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait of a place, and of an account at one place.
pub const PLACE_WAIT_MAX: Duration = Duration::from_secs(60);
/// The longest wait of an account at places where it is not at home.
pub const ACCOUNT_WAIT_MAX: Duration = Duration::from_secs(30);
/// Failures of an account at one place; the last of them makes it wait.
pub const OWN_FAILURES_FREE: u32 = 5;
/// Failures of a place, or of an account; the last of them makes it wait.
pub const FAILURES_FREE: u32 = 20;
/// Most places, most accounts, and most accounts at a place whose failures are remembered (each takes some 150 bytes).
pub const FAILURES_REMEMBERED_MAX: usize = 20_000;
/// No failure counts for longer: by then the most that any has are forgiven.
const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_mins(40);

const OWN: Rule = Rule { free: OWN_FAILURES_FREE, wait_max: PLACE_WAIT_MAX };
const OF_PLACE: Rule = Rule { free: FAILURES_FREE, wait_max: PLACE_WAIT_MAX };
const OF_ACCOUNT: Rule = Rule { free: FAILURES_FREE, wait_max: ACCOUNT_WAIT_MAX };

/// A name that was given, whether or not a user has it, and the password that it has: failures at an earlier one count no
/// more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Account {
    name: Name,
    password: Option<PasswordMark>,
}

/// A failure that was counted against a place, if it was, and can be taken back.
#[derive(Debug)]
pub struct Failure(Option<AtPlace>);

#[derive(Debug)]
struct AtPlace {
    place: Place,
    before: Option<Bucket>,
    after: Bucket,
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
        let seconds = seconds.max(1);
        let unit = if seconds == 1 { "second" } else { "seconds" };
        write!(f, "too many wrong passwords {what}; try again in {seconds} {unit}")
    }
}

/// See the module.
#[derive(Debug)]
pub struct Failures {
    /// Random, so that no sender can make two names one.
    names: RandomState,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    own: ExpiringMap<(Account, Place), Bucket>,
    of_places: ExpiringMap<Place, Bucket>,
    of_accounts: ExpiringMap<Account, Bucket>,
    homes: Homes,
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
            homes: Homes::default(),
        };
        Failures { names: RandomState::new(), memory: Mutex::new(memory) }
    }
}

impl Failures {
    pub fn account(&self, name: &str, password: Option<PasswordMark>) -> Account {
        Account { name: Name(self.names.hash_one(name)), password }
    }

    /// The place that counts for an account: the browser, if the account is at home there; else the address.
    pub fn place(&self, account: Account, whence: Whence, now: UnixMicros) -> Place {
        let browser = whence.browser.map(Place::Browser);
        let is_home = |browser: &Place| {
            self.lock().homes.standing(account.name, *browser, now) == Standing::AtHome
        };
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
        let standing = memory.homes.standing(account.name, place, now);
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
    pub fn failed(&self, account: Account, place: Place, now: UnixMicros) -> Failure {
        let mut memory = self.lock();
        let standing = memory.homes.standing(account.name, place, now);
        fail(&mut memory.own, (account, place), &OWN, now);
        if standing == Standing::AtHome {
            return Failure(None);
        }
        fail(&mut memory.of_accounts, account, &OF_ACCOUNT, now);
        let before = memory.of_places.get(&place, now).copied();
        let after = fail(&mut memory.of_places, place, &OF_PLACE, now);
        Failure(Some(AtPlace { place, before, after }))
    }

    /// The account had another password already: the failure was none of the place. (At the account it counts no more.)
    pub fn take_back(&self, failure: &Failure, now: UnixMicros) {
        let Some(AtPlace { place, before, after }) = failure.0 else { return };
        let of_places = &mut self.lock().of_places;
        let restored = match of_places.take(&place, now) {
            Some(latest) if latest == after => before,
            // Others failed meanwhile, and their wait stays.
            latest => latest
                .map(|latest| Bucket { failures: latest.failures.saturating_sub(1), ..latest }),
        };
        if let Some(bucket) = restored {
            of_places.insert(place, bucket, now);
        }
    }

    /// A password was right: the account is at home there, and its failures there are over.
    pub fn right(&self, account: Account, place: Place, address: IpAddr, now: UnixMicros) {
        let mut memory = self.lock();
        memory.own.take(&(account, place), now);
        memory.homes.came(account.name, place, address, now);
    }

    /// The account is at home in a browser that is known by another cookie from now on.
    pub fn know_browser(&self, account: Account, whence: Whence, now: SecretHash, at: UnixMicros) {
        self.lock().homes.know_browser(account.name, whence, now, at);
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many failures are free, and how long the wait becomes.
struct Rule {
    free: u32,
    wait_max: Duration,
}

/// What failed lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        let failures = (left + 1).min(rule.free + doublings_max);
        let wait = match failures.checked_sub(rule.free) {
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

    /// A clock that was set back makes no account wait longer than the rule says.
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
) -> Bucket {
    let bucket = Bucket::after_another(buckets.get(&key, now), rule, now);
    buckets.insert(key, bucket, now);
    bucket
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::homes::AT_HOME_FOR;

    const HOME: Place = Place::Address(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const ELSEWHERE: Place = Place::Address(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    fn at(seconds: i64) -> UnixMicros {
        UnixMicros(seconds * 1_000_000)
    }

    fn place(number: u32) -> Place {
        Place::Address(IpAddr::V4(number.into()))
    }

    fn account(failures: &Failures, name: &str) -> Account {
        failures.account(name, None)
    }

    fn address(place: Place) -> IpAddr {
        let Place::Address(address) = place else { panic!("an address") };
        address
    }

    fn right(failures: &Failures, account: Account, place: Place) {
        failures.right(account, place, address(place), at(0));
    }

    fn wait(failures: &Failures, name: &str, place: Place, now: UnixMicros) -> Option<Throttled> {
        failures.check(account(failures, name), place, now).err()
    }

    fn fail_times(failures: &Failures, times: u32, name: &str, place: Place) {
        for _ in 0..times {
            failures.failed(account(failures, name), place, at(0));
        }
    }

    #[test]
    fn waits_double_to_their_limit_and_are_forgiven() {
        let failures = Failures::default();
        fail_times(&failures, OWN_FAILURES_FREE - 1, "ada", HOME);
        assert_eq!(wait(&failures, "ada", HOME, at(0)), None);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            fail_times(&failures, 1, "ada", HOME);
            let throttled = wait(&failures, "ada", HOME, at(0)).unwrap();
            assert_eq!((throttled.blamed, throttled.retry_after.as_secs()), (Blamed::Own, seconds));
            let unit = if seconds == 1 { "second" } else { "seconds" };
            assert!(throttled.to_string().ends_with(&format!(" in {seconds} {unit}")));
        }
        assert_eq!(wait(&failures, "ada", HOME, at(60)), None);
        failures.failed(account(&failures, "ada"), HOME, at(60));
        assert_eq!(wait(&failures, "ada", HOME, at(60)).unwrap().retry_after.as_secs(), 60);
        // A quarter of an hour without a failure, and the free ones are back.
        failures.failed(account(&failures, "ada"), HOME, at(60 + 15 * 60));
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
    fn an_account_at_home_does_not_wait_for_guesses_of_others() {
        let failures = Failures::default();
        let ada = account(&failures, "ada");
        right(&failures, ada, HOME);
        for number in 0..1_000 {
            fail_times(&failures, 1, "ada", place(number));
            fail_times(&failures, 1, &format!("user {number}"), HOME);
        }
        assert_eq!(failures.check(ada, HOME, at(0)), Ok(Standing::AtHome));
        let new = wait(&failures, "ada", ELSEWHERE, at(0)).unwrap();
        assert_eq!((new.blamed, new.retry_after), (Blamed::Account, ACCOUNT_WAIT_MAX));
        assert_eq!(wait(&failures, "bob", HOME, at(0)).unwrap().blamed, Blamed::Place);
        // Its own failures count, and only for itself.
        fail_times(&failures, OWN_FAILURES_FREE, "ada", HOME);
        assert_eq!(wait(&failures, "ada", HOME, at(0)).unwrap().blamed, Blamed::Own);
        // Not for ever.
        let later = UnixMicros(micros(AT_HOME_FOR));
        assert_eq!(failures.check(ada, HOME, later), Ok(Standing::New));
    }

    #[test]
    fn a_right_password_ends_the_failures_of_its_user_and_place() {
        let failures = Failures::default();
        let ada = account(&failures, "ada");
        fail_times(&failures, OWN_FAILURES_FREE - 1, "ada", HOME);
        fail_times(&failures, OWN_FAILURES_FREE, "ada", ELSEWHERE);
        fail_times(&failures, OWN_FAILURES_FREE, "bob", HOME);
        right(&failures, ada, HOME);
        fail_times(&failures, OWN_FAILURES_FREE - 1, "ada", HOME);
        assert_eq!(wait(&failures, "ada", HOME, at(0)), None);
        assert!(wait(&failures, "ada", ELSEWHERE, at(0)).is_some());
        assert!(wait(&failures, "bob", HOME, at(0)).is_some());
    }

    #[test]
    fn failures_at_a_password_count_no_more_when_there_is_another() {
        let failures = Failures::default();
        let [old, new] =
            ["old", "new"].map(|hash| failures.account("ada", Some(PasswordMark::of(hash))));
        right(&failures, old, HOME);
        for number in 0..100 {
            failures.failed(old, place(number), at(0));
            failures.failed(old, HOME, at(0));
        }
        assert!(failures.check(old, HOME, at(0)).is_err());
        assert!(failures.check(old, ELSEWHERE, at(0)).is_err());
        assert_eq!(failures.check(new, HOME, at(0)), Ok(Standing::AtHome), "it stays at home");
        assert_eq!(failures.check(new, ELSEWHERE, at(0)), Ok(Standing::New));
    }

    #[test]
    fn a_failure_that_was_none_is_taken_back_from_its_place() {
        let failures = Failures::default();
        let ada = account(&failures, "ada");
        let fail_all = |times| {
            for number in 0..times {
                fail_times(&failures, 1, &format!("user {number}"), HOME);
            }
        };
        fail_all(FAILURES_FREE - 1);
        for _ in 0..3 {
            let failure = failures.failed(ada, HOME, at(0));
            assert!(wait(&failures, "bob", HOME, at(0)).is_some());
            failures.take_back(&failure, at(0));
            assert_eq!(wait(&failures, "bob", HOME, at(0)), None);
        }
        let failure = failures.failed(ada, HOME, at(0));
        fail_all(1);
        failures.take_back(&failure, at(0));
        let bucket = *failures.lock().of_places.get(&HOME, at(0)).unwrap();
        assert_eq!(bucket.failures, FAILURES_FREE);
        assert!(wait(&failures, "bob", HOME, at(0)).is_some(), "the others' wait stays");
    }

    #[test]
    fn a_browser_is_a_place_for_the_user_who_signed_in_there_and_for_no_other() {
        let failures = Failures::default();
        let [ada, eve] = ["ada", "eve"].map(|name| account(&failures, name));
        let [first, second] = ["first", "second"].map(SecretHash::of);
        let address = address(HOME);
        let place = |account, browser| {
            failures.place(account, Whence { address, browser: Some(browser) }, at(0))
        };
        assert_eq!(place(ada, first), HOME, "made up");
        failures.know_browser(ada, Whence { address, browser: None }, first, at(0));
        assert_eq!(place(ada, first), Place::Browser(first));
        assert_eq!(place(eve, first), HOME);
        failures.know_browser(ada, Whence { address, browser: Some(first) }, second, at(0));
        assert_eq!((place(ada, first), place(ada, second)), (HOME, Place::Browser(second)));
        // It stays so, whatever others do at the same address.
        fail_times(&failures, 100, "ada", HOME);
        assert!(wait(&failures, "ada", HOME, at(0)).is_some());
        assert_eq!(wait(&failures, "ada", Place::Browser(second), at(0)), None);
    }

    #[test]
    fn a_name_without_a_user_waits_like_one_with_a_user() {
        let failures = Failures::default();
        right(&failures, account(&failures, "ada"), HOME);
        for number in 0..100 {
            let waits = ["ada", "unknown"].map(|name| wait(&failures, name, place(number), at(0)));
            assert_eq!(waits[0], waits[1], "{number}");
            fail_times(&failures, 1, "ada", place(number + 1_000));
            fail_times(&failures, 1, "unknown", place(number + 2_000));
        }
        assert!(wait(&failures, "unknown", ELSEWHERE, at(0)).is_some());
    }

    #[test]
    fn a_clock_set_back_makes_no_account_wait_longer() {
        let failures = Failures::default();
        for _ in 0..100 {
            failures.failed(account(&failures, "ada"), HOME, at(1_000_000));
        }
        assert!(
            wait(&failures, "ada", HOME, at(0)).is_none_or(|it| it.retry_after <= PLACE_WAIT_MAX)
        );
    }
}
