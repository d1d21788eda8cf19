//! Checking passwords without letting a flood of guesses take the machine or lock anybody out.
//!
//! Before a hash is computed, [`Failures`] say whether the account, and the place that the password comes from, may try
//! now; then [`Turns`] hand out a share of the cores, fairly between places. What is refused is told: too many failures,
//! or too many at once.
//!
//! A password that was right is remembered for [`VERIFIED_SECONDS`] at its place, so that HTTP Basic costs a SHA-256 a
//! request. (At other places it is not: there the memory would tell guesses that cost nothing from right ones.) A user
//! who does not exist costs as much as one who does, and waits as long.

use std::num::NonZero;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngCore;
use sha2::{Digest, Sha256};

use crate::auth::accounts::User;
use crate::auth::expiring_map::ExpiringMap;
use crate::auth::failure_log::FailureLog;
use crate::auth::failures::{Account, Blamed, Failures, Place, Standing, Throttled, Whence};
use crate::auth::password::{
    DUMMY_HASH, PASSWORD_BYTES_MAX, Password, hash_password, verify_password,
};
use crate::auth::secret::Secret;
use crate::auth::turns::{Busy, Holder, Turns};
use crate::clock::Clock;
use crate::telemetry::limits;
use crate::telemetry::metrics::{PasswordCheck, count_password_checks};

/// Of how many cores one may compute hashes; at least one does.
pub const CORES_FOR_ONE_HASH: usize = 2;
/// Most hashes at a time, however many cores there are: each takes 19 MiB.
pub const HASHES_AT_ONCE_MAX: usize = 4;
/// Seconds that a password that was right is remembered.
pub const VERIFIED_SECONDS: u64 = 60;
/// Most passwords that are remembered (each takes some 100 bytes).
pub const VERIFIED_MAX: usize = 10_000;

/// Checks passwords, within the module's limits.
pub struct PasswordChecks {
    failures: Failures,
    log: FailureLog,
    turns: Turns,
    verified: Mutex<ExpiringMap<[u8; 32], ()>>,
    // Makes what is remembered useless outside this process.
    process_secret: [u8; 32],
    clock: Clock,
}

/// A password that somebody sent.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// The name that it was sent with.
    pub name: &'a str,
    pub password: &'a str,
    pub whence: Whence,
}

/// Why a password was not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchecked {
    Throttled(Throttled),
    Busy,
}

impl From<Busy> for Unchecked {
    fn from(_: Busy) -> Unchecked {
        Unchecked::Busy
    }
}

impl PasswordChecks {
    pub fn new(clock: Clock) -> PasswordChecks {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        PasswordChecks::with_hashes_at_once(clock, hashes_at_once(cores))
    }

    fn with_hashes_at_once(clock: Clock, at_once: usize) -> PasswordChecks {
        let mut process_secret = [0; 32];
        rand::rng().fill_bytes(&mut process_secret);
        let lifetime = Duration::from_secs(VERIFIED_SECONDS);
        PasswordChecks {
            failures: Failures::default(),
            log: FailureLog::default(),
            turns: Turns::new(at_once),
            verified: Mutex::new(ExpiringMap::new(VERIFIED_MAX, lifetime)),
            process_secret,
            clock,
        }
    }

    /// Is this the user's password? None stands for a user who does not exist or is disabled: the answer is no, after
    /// the same time. What came of it is counted, and logged where it is not what it should be.
    pub async fn verify(
        &self,
        user: Option<&User>,
        attempt: Attempt<'_>,
    ) -> Result<bool, Unchecked> {
        let answer = self.answer(user, attempt).await;
        let outcome = match &answer {
            Ok(true) => PasswordCheck::Right,
            Ok(false) => PasswordCheck::Wrong,
            Err(Unchecked::Throttled(throttled)) => {
                let limit = match throttled.blamed {
                    Blamed::Own => &limits::SIGN_IN_USER_AND_ADDRESS,
                    Blamed::Place => &limits::SIGN_IN_ADDRESS,
                    Blamed::Account => &limits::SIGN_IN_USER,
                };
                limit.hit();
                PasswordCheck::Throttled
            }
            Err(Unchecked::Busy) => {
                limits::SIGN_IN_QUEUE.hit();
                PasswordCheck::Busy
            }
        };
        count_password_checks(outcome, 1);
        self.log.note(outcome, attempt.name, attempt.whence.address);
        answer
    }

    async fn answer(&self, user: Option<&User>, attempt: Attempt<'_>) -> Result<bool, Unchecked> {
        let Attempt { name, password, whence } = attempt;
        let account = self.failures.account(name);
        let place = self.failures.place(account, whence, self.clock.now());
        let standing = self.may_try(account, place)?;
        // Nobody can have set such a password, so nothing is told by answering at once.
        if password.len() > PASSWORD_BYTES_MAX {
            self.failures.failed(account, place, self.clock.now());
            return Ok(false);
        }
        let remembered_as = user.map(|user| self.remembered_as(user, password, place));
        if remembered_as.is_some_and(|key| self.remembers(&key)) {
            return Ok(true);
        }
        let turn = self.turns.take(Holder { place, standing }).await?;
        // While this one waited, others failed, or the same password was right.
        if remembered_as.is_some_and(|key| self.remembers(&key)) {
            return Ok(true);
        }
        self.may_try(account, place)?;
        let stored = user.map_or(DUMMY_HASH, |user| &user.password_hash).to_owned();
        let sent = password.to_owned();
        // The turn goes along: a client that hangs up does not free the core that its check still occupies.
        let checking = tokio::task::spawn_blocking(move || {
            let right = verify_password(&sent, &stored);
            (right, turn)
        });
        // Counted before the next one has its turn, and before it is known: who hangs up has guessed all the same.
        let guess = Guess { checks: self, account, place, right: false };
        // The work does not panic; the task is cancelled only when the runtime ends.
        let (matches, turn) = checking.await.map_err(|_| Unchecked::Busy)?;
        let right = guess.end(remembered_as.filter(|_| matches));
        drop(turn);
        Ok(right)
    }

    fn may_try(&self, account: Account, place: Place) -> Result<Standing, Unchecked> {
        self.failures.check(account, place, self.clock.now()).map_err(Unchecked::Throttled)
    }

    /// Hashes a password for keeping, within the same limits.
    pub async fn hash(&self, password: Password, whence: Whence) -> Result<String, Busy> {
        // Who may set a password is no stranger.
        let place = Place::Address(whence.address);
        let holder = Holder { place, standing: Standing::AtHome };
        let turn = self.turns.take(holder).await?;
        let task = tokio::task::spawn_blocking(move || {
            let hash = hash_password(&password);
            drop(turn);
            hash
        });
        task.await.map_err(|_| Busy)
    }

    /// Makes the browser that somebody just signed in with one that is known; what it shall keep as its cookie.
    pub fn know_browser(&self, name: &str, whence: Whence) -> Secret {
        let secret = Secret::bare();
        let (before, now) = (whence.browser.map(Place::Browser), Place::Browser(secret.hash()));
        self.failures.moved(self.failures.account(name), before, now, self.clock.now());
        secret
    }

    /// Logs what was wrong since the last time. To be called every [`crate::auth::TELL_FAILURES_EVERY`].
    pub fn tell_failures(&self) {
        self.log.tell();
    }

    fn remembers(&self, key: &[u8; 32]) -> bool {
        self.lock_verified().get(key, self.clock.now()).is_some()
    }

    /// The user's current hash is part of the key: a new password makes the old one forgotten.
    fn remembered_as(&self, user: &User, password: &str, place: Place) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.process_secret);
        hash.update(user.id.to_le_bytes());
        let place = format!("{place:?}");
        // The lengths keep the texts apart.
        for text in [place.as_str(), user.password_hash.as_str()] {
            hash.update(text.len().to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(password.as_bytes());
        hash.finalize().into()
    }

    fn lock_verified(&self) -> MutexGuard<'_, ExpiringMap<[u8; 32], ()>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guess whose hash is being computed. Dropped without an end, as when the client hangs up, it counts as wrong: a right
/// one that nobody waits for does nobody any good.
struct Guess<'a> {
    checks: &'a PasswordChecks,
    account: Account,
    place: Place,
    right: bool,
}

impl Guess<'_> {
    /// What came of it: `remembered_as` if it was right.
    fn end(mut self, remembered_as: Option<[u8; 32]>) -> bool {
        if let Some(key) = remembered_as {
            self.checks.lock_verified().insert(key, (), self.checks.clock.now());
            self.right = true;
        }
        self.right
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        let (failures, now) = (&self.checks.failures, self.checks.clock.now());
        if self.right {
            failures.right(self.account, self.place, now);
        } else {
            failures.failed(self.account, self.place, now);
        }
    }
}

/// A share of the cores.
fn hashes_at_once(cores: usize) -> usize {
    (cores / CORES_FOR_ONE_HASH).clamp(1, HASHES_AT_ONCE_MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use time::OffsetDateTime;

    use super::*;
    use crate::auth::caller::PasswordMark;
    use crate::auth::failures::OWN_FAILURES_FREE;
    use crate::auth::scope::Role;
    use crate::record::UnixMicros;

    const HERE: Place = Place::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    const THERE: Place = Place::Address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));

    fn user(password: &str) -> User {
        User {
            id: 1,
            name: "ada".parse().unwrap(),
            email: None,
            password_mark: PasswordMark::of(password),
            password_hash: hash_password(&password.parse().unwrap()),
            role: Role::Member,
            disabled: false,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn whence(place: Place) -> Whence {
        let Place::Address(address) = place else { panic!("an address") };
        Whence { address, browser: None }
    }

    async fn verify(
        checks: &PasswordChecks,
        user: Option<&User>,
        password: &str,
        place: Place,
    ) -> Result<bool, Unchecked> {
        checks.verify(user, Attempt { name: "ada", password, whence: whence(place) }).await
    }

    fn remembered(checks: &PasswordChecks, user: &User, password: &str, place: Place) -> bool {
        checks.remembers(&checks.remembered_as(user, password, place))
    }

    #[tokio::test]
    async fn the_right_password_is_right_and_remembered_where_it_was_sent_from() {
        let clock = Clock::manual(UnixMicros(0));
        let checks = PasswordChecks::new(clock.clone());
        let ada = user("correct horse");
        assert_eq!(verify(&checks, Some(&ada), "correct horsf", HERE).await, Ok(false));
        assert!(!remembered(&checks, &ada, "correct horsf", HERE));
        assert_eq!(verify(&checks, Some(&ada), "correct horse", HERE).await, Ok(true));
        assert!(remembered(&checks, &ada, "correct horse", HERE));
        assert!(!remembered(&checks, &ada, "correct horse", THERE), "it would tell guesses there");

        // A new password makes the old one unknown, at once.
        let changed = User { password_hash: user("another horse").password_hash, ..ada.clone() };
        assert!(!remembered(&checks, &changed, "correct horse", HERE));
        assert_eq!(verify(&checks, Some(&changed), "correct horse", HERE).await, Ok(false));

        clock.set(UnixMicros(60_000_000));
        assert!(!remembered(&checks, &ada, "correct horse", HERE));
    }

    #[tokio::test]
    async fn nobody_and_nonsense_are_never_right() {
        let checks = PasswordChecks::new(Clock::manual(UnixMicros(0)));
        assert_eq!(verify(&checks, None, "correct horse", HERE).await, Ok(false));
        let broken = User { password_hash: "plain text".into(), ..user("correct horse") };
        assert_eq!(verify(&checks, Some(&broken), "plain text", HERE).await, Ok(false));
        let ada = user("correct horse");
        let long = "a".repeat(PASSWORD_BYTES_MAX + 1);
        assert_eq!(verify(&checks, Some(&ada), &long, HERE).await, Ok(false));
    }

    #[tokio::test]
    async fn after_its_free_failures_a_guesser_waits_even_with_the_right_password() {
        let clock = Clock::manual(UnixMicros(0));
        let checks = PasswordChecks::new(clock.clone());
        let ada = user("correct horse");
        assert_eq!(verify(&checks, Some(&ada), "correct horse", HERE).await, Ok(true));
        for who in [Some(&ada), None] {
            for _ in 0..=OWN_FAILURES_FREE {
                let _ = verify(&checks, who, &"a".repeat(2_000), THERE).await;
            }
        }
        let throttled = verify(&checks, Some(&ada), "correct horse", THERE).await;
        assert!(matches!(throttled, Err(Unchecked::Throttled(_))), "{throttled:?}");
        assert_eq!(verify(&checks, Some(&ada), "correct horse", HERE).await, Ok(true));
        clock.set(UnixMicros(60_000_000));
        assert_eq!(verify(&checks, Some(&ada), "correct horse", THERE).await, Ok(true));
    }

    #[tokio::test]
    async fn a_browser_that_is_known_does_not_wait_for_guesses_from_its_address() {
        let checks = PasswordChecks::new(Clock::manual(UnixMicros(0)));
        let ada = user("correct horse");
        let cookie = checks.know_browser("ada", whence(HERE));
        for _ in 0..=OWN_FAILURES_FREE {
            let _ = verify(&checks, Some(&ada), &"a".repeat(2_000), HERE).await;
        }
        let with = |secret: &Secret| {
            let whence = Whence { browser: Some(secret.hash()), ..whence(HERE) };
            checks.verify(Some(&ada), Attempt { name: "ada", password: "correct horse", whence })
        };
        assert_eq!(with(&cookie).await, Ok(true));
        assert!(matches!(with(&Secret::bare()).await, Err(Unchecked::Throttled(_))));
    }

    #[tokio::test]
    async fn guesses_that_come_at_once_are_counted_one_after_the_other() {
        let checks = PasswordChecks::with_hashes_at_once(Clock::manual(UnixMicros(0)), 1);
        let guesses = (0..3 * OWN_FAILURES_FREE).map(|_| verify(&checks, None, "a guess", HERE));
        let answers = futures::future::join_all(guesses).await;
        let hashed = answers.iter().filter(|answer| **answer == Ok(false)).count();
        assert_eq!(u32::try_from(hashed), Ok(OWN_FAILURES_FREE + 1), "{answers:?}");
    }

    #[tokio::test]
    async fn a_guess_that_nobody_waits_for_counts() {
        let checks = PasswordChecks::with_hashes_at_once(Clock::manual(UnixMicros(0)), 1);
        for _ in 0..=OWN_FAILURES_FREE {
            let guess = Box::pin(verify(&checks, None, "a guess", HERE));
            let first_poll = futures::future::select(guess, std::future::ready(())).await;
            drop(first_poll);
            // The core is free again when the hash is computed.
            let turn = checks.turns.take(Holder { place: HERE, standing: Standing::AtHome }).await;
            assert!(turn.is_ok());
        }
        let throttled = verify(&checks, None, "a guess", HERE).await;
        assert!(matches!(throttled, Err(Unchecked::Throttled(_))), "{throttled:?}");
    }

    #[test]
    fn hashes_get_a_share_of_the_cores() {
        let shares = [1, 2, 3, 4, 8, 64].map(hashes_at_once);
        assert_eq!(shares, [1, 1, 1, 2, 4, 4]);
    }
}
