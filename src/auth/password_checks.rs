//! Checking passwords without letting a flood of guesses take the machine or lock people out.
//!
//! Before a hash is computed, [`Failures`] say whether the account, and the place that the password comes from, may try
//! now; then a [`FairQueue`] hands out permits for a share of the cores, fairly between places. What is refused is told: too many failures,
//! or too many at once.
//!
//! A password that was right is remembered for [`VERIFIED_SECONDS`] at its place, so that HTTP Basic costs a SHA-256 a
//! request. (At other places it is not: there the memory would tell guesses that cost nothing from right ones.) A user
//! who does not exist costs as much as one who does, and waits as long.

use std::net::IpAddr;
use std::num::NonZero;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngCore;
use sha2::{Digest, Sha256};
use tidegate_record::clock::Clock;

use crate::auth::accounts::User;
use crate::auth::expiring_map::ExpiringMap;
use crate::auth::failure_log::FailureLog;
use crate::auth::failures::{Account, Blamed, Failure, Failures, Throttled};
use crate::auth::fair_queue::{FairQueue, Flow, HASH_WAIT_MAX, NoPermit};
use crate::auth::homes::{Place, Standing, Whence};
use crate::auth::password::{
    DUMMY_HASH, PASSWORD_BYTES_MAX, Password, hash_password, verify_password,
};
use crate::auth::secret::Secret;
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
    hashing: FairQueue,
    verified: Mutex<ExpiringMap<[u8; 32], ()>>,
    // Makes what is remembered useless outside this process.
    process_secret: [u8; 32],
    clock: Clock,
}

/// A password that was sent.
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

/// What came of an attempt.
pub enum Verdict<'a> {
    Right,
    Wrong(Wrong<'a>),
}

impl Verdict<'_> {
    pub fn is_right(&self) -> bool {
        matches!(self, Verdict::Right)
    }
}

/// A password that is wrong for the user as known so far. It is told as such when this is dropped, as it is when its
/// client hangs up.
pub struct Wrong<'a> {
    checks: &'a PasswordChecks,
    attempt: Attempt<'a>,
    // Invariant: Some until it is checked again.
    failure: Option<Failure>,
}

impl<'a> Wrong<'a> {
    /// The user has another password already: only what comes of that one counts.
    pub async fn again(mut self, user: Option<&User>) -> Result<Verdict<'a>, Unchecked> {
        let (checks, attempt) = (self.checks, self.attempt);
        if let Some(failure) = self.failure.take() {
            checks.failures.take_back(&failure, checks.clock.now());
        }
        checks.verify(user, attempt).await
    }
}

impl Drop for Wrong<'_> {
    fn drop(&mut self) {
        if self.failure.is_some() {
            self.checks.tell(PasswordCheck::Wrong, self.attempt);
        }
    }
}

impl From<NoPermit> for Unchecked {
    fn from(_: NoPermit) -> Unchecked {
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
            hashing: FairQueue::new(at_once, HASH_WAIT_MAX),
            verified: Mutex::new(ExpiringMap::new(VERIFIED_MAX, lifetime)),
            process_secret,
            clock,
        }
    }

    /// Is this the user's password? None stands for a user who does not exist or is disabled: the answer is no, after
    /// the same time. What came of it is counted, and logged where it is not what it should be.
    pub async fn verify<'a>(
        &'a self,
        user: Option<&User>,
        attempt: Attempt<'a>,
    ) -> Result<Verdict<'a>, Unchecked> {
        let (outcome, answer) = match self.answer(user, attempt).await {
            Ok(Ok(())) => (PasswordCheck::Right, Ok(Verdict::Right)),
            Ok(Err(failure)) => {
                let wrong = Wrong { checks: self, attempt, failure: Some(failure) };
                return Ok(Verdict::Wrong(wrong));
            }
            Err(Unchecked::Throttled(throttled)) => {
                let limit = match throttled.blamed {
                    Blamed::Own => &limits::SIGN_IN_USER_AND_ADDRESS,
                    Blamed::Place => &limits::SIGN_IN_ADDRESS,
                    Blamed::Account => &limits::SIGN_IN_USER,
                };
                limit.hit();
                (PasswordCheck::Throttled, Err(Unchecked::Throttled(throttled)))
            }
            Err(Unchecked::Busy) => {
                limits::SIGN_IN_QUEUE.hit();
                (PasswordCheck::Busy, Err(Unchecked::Busy))
            }
        };
        self.tell(outcome, attempt);
        answer
    }

    fn tell(&self, outcome: PasswordCheck, attempt: Attempt<'_>) {
        count_password_checks(outcome, 1);
        self.log.note(outcome, attempt.name, attempt.whence.address);
    }

    async fn answer(
        &self,
        user: Option<&User>,
        attempt: Attempt<'_>,
    ) -> Result<Result<(), Failure>, Unchecked> {
        let Attempt { name, password, whence } = attempt;
        let account = self.failures.account(name, user.map(|user| user.password_mark));
        let place = self.failures.place(account, whence, self.clock.now());
        let standing = self.may_try(account, place)?;
        // No user can have set such a password, so nothing is told by answering at once.
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(Err(self.failures.failed(account, place, self.clock.now())));
        }
        let remembered_as = user.map(|user| self.remembered_as(user, password, place));
        if remembered_as.is_some_and(|key| self.remembers(&key)) {
            return Ok(Ok(()));
        }
        let permit = self.hashing.acquire(Flow { place, standing }).await?;
        // While this one waited, others failed, or the same password was right.
        if remembered_as.is_some_and(|key| self.remembers(&key)) {
            return Ok(Ok(()));
        }
        self.may_try(account, place)?;
        let stored = user.map_or(DUMMY_HASH, |user| &user.password_hash).to_owned();
        let sent = password.to_owned();
        // The permit goes along: a client that hangs up does not free the core that its check still occupies.
        let checking = tokio::task::spawn_blocking(move || {
            let right = verify_password(&sent, &stored);
            (right, permit)
        });
        // Counted before the next one has a permit, and before it is known: a client that hangs up has guessed all the same.
        let address = whence.address;
        let guess = Guess { checks: self, account, place, address, ended: false };
        // The work does not panic; the task is cancelled only when the runtime ends.
        let (matches, permit) = checking.await.map_err(|_| Unchecked::Busy)?;
        let answer = guess.end(remembered_as.filter(|_| matches));
        drop(permit);
        Ok(answer)
    }

    fn may_try(&self, account: Account, place: Place) -> Result<Standing, Unchecked> {
        self.failures.check(account, place, self.clock.now()).map_err(Unchecked::Throttled)
    }

    /// Hashes a password for keeping, within the same limits.
    pub async fn hash(&self, password: Password, whence: Whence) -> Result<String, NoPermit> {
        // A caller that may set a password is known.
        let place = Place::Address(whence.address);
        let flow = Flow { place, standing: Standing::AtHome };
        let permit = self.hashing.acquire(flow).await?;
        let task = tokio::task::spawn_blocking(move || {
            let hash = hash_password(&password);
            drop(permit);
            hash
        });
        task.await.map_err(|_| NoPermit)
    }

    /// Makes the browser of a sign-in that just succeeded one that is known; what it shall keep as its cookie.
    pub fn know_browser(&self, user: &User, whence: Whence) -> Secret {
        let secret = Secret::bare();
        let account = self.failures.account(user.name.as_str(), Some(user.password_mark));
        self.failures.know_browser(account, whence, secret.hash(), self.clock.now());
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
/// one whose answer is not awaited is of no use.
struct Guess<'a> {
    checks: &'a PasswordChecks,
    account: Account,
    place: Place,
    address: IpAddr,
    ended: bool,
}

impl Guess<'_> {
    /// What came of it: `remembered_as` if it was right.
    fn end(mut self, remembered_as: Option<[u8; 32]>) -> Result<(), Failure> {
        self.ended = true;
        let (checks, now) = (self.checks, self.checks.clock.now());
        let Some(key) = remembered_as else {
            return Err(checks.failures.failed(self.account, self.place, now));
        };
        checks.lock_verified().insert(key, (), now);
        checks.failures.right(self.account, self.place, self.address, now);
        Ok(())
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.checks.failures.failed(self.account, self.place, self.checks.clock.now());
        }
    }
}

/// A share of the cores.
fn hashes_at_once(cores: usize) -> usize {
    (cores / CORES_FOR_ONE_HASH).clamp(1, HASHES_AT_ONCE_MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tidegate_record::UnixMicros;
    use time::OffsetDateTime;

    use super::*;
    use crate::auth::caller::PasswordMark;
    use crate::auth::failures::{FAILURES_FREE, OWN_FAILURES_FREE};
    use crate::auth::scope::Role;

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
        let attempt = Attempt { name: "ada", password, whence: whence(place) };
        checks.verify(user, attempt).await.map(|verdict| verdict.is_right())
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
    async fn an_unknown_user_and_nonsense_are_never_right() {
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
    async fn a_new_password_lifts_the_waits_of_its_user() {
        let checks = PasswordChecks::new(Clock::manual(UnixMicros(0)));
        let [old, new] = ["correct horse", "another horse"].map(user);
        for _ in 0..OWN_FAILURES_FREE {
            assert_eq!(verify(&checks, Some(&old), &"a".repeat(2_000), HERE).await, Ok(false));
        }
        assert!(verify(&checks, Some(&old), "another horse", HERE).await.is_err());
        assert_eq!(verify(&checks, Some(&new), "another horse", HERE).await, Ok(true));
    }

    #[tokio::test]
    async fn a_browser_that_is_known_does_not_wait_for_guesses_from_its_address() {
        let checks = PasswordChecks::new(Clock::manual(UnixMicros(0)));
        let ada = user("correct horse");
        let cookie = checks.know_browser(&ada, whence(HERE));
        for _ in 0..=OWN_FAILURES_FREE {
            let _ = verify(&checks, Some(&ada), &"a".repeat(2_000), HERE).await;
        }
        let with = async |secret: &Secret| {
            let whence = Whence { browser: Some(secret.hash()), ..whence(HERE) };
            let attempt = Attempt { name: "ada", password: "correct horse", whence };
            checks.verify(Some(&ada), attempt).await.map(|verdict| verdict.is_right())
        };
        assert_eq!(with(&cookie).await, Ok(true));
        assert!(matches!(with(&Secret::bare()).await, Err(Unchecked::Throttled(_))));
    }

    #[tokio::test]
    async fn a_password_that_is_right_at_the_second_look_was_never_wrong() {
        let checks = PasswordChecks::new(Clock::manual(UnixMicros(0)));
        let [old, new] = ["correct horse", "another horse"].map(user);
        // One more, and every account that is new here waits.
        for number in 1..FAILURES_FREE {
            let other = checks.failures.account(&format!("user {number}"), None);
            checks.failures.failed(other, HERE, UnixMicros(0));
        }
        let attempt = Attempt { name: "ada", password: "another horse", whence: whence(HERE) };
        let Ok(Verdict::Wrong(wrong)) = checks.verify(Some(&old), attempt).await else {
            panic!("wrong, as far as is known");
        };
        assert!(wrong.again(Some(&new)).await.is_ok_and(|verdict| verdict.is_right()));
        assert_eq!(checks.log.wrong(), 0);
        let bob = checks.failures.account("bob", None);
        assert!(checks.failures.check(bob, HERE, UnixMicros(0)).is_ok());
        // What is wrong at both looks is wrong once.
        let Ok(Verdict::Wrong(wrong)) =
            checks.verify(Some(&old), Attempt { password: "a guess", ..attempt }).await
        else {
            panic!("wrong");
        };
        assert!(wrong.again(Some(&new)).await.is_ok_and(|verdict| !verdict.is_right()));
        assert_eq!(checks.log.wrong(), 1);
    }

    #[tokio::test]
    async fn guesses_that_come_at_once_are_counted_one_after_the_other() {
        let checks = PasswordChecks::with_hashes_at_once(Clock::manual(UnixMicros(0)), 1);
        let guesses = (0..3 * OWN_FAILURES_FREE).map(|_| verify(&checks, None, "a guess", HERE));
        let answers = futures::future::join_all(guesses).await;
        let hashed = answers.iter().filter(|answer| **answer == Ok(false)).count();
        assert_eq!(u32::try_from(hashed), Ok(OWN_FAILURES_FREE), "{answers:?}");
    }

    #[tokio::test]
    async fn a_guess_whose_client_hung_up_counts() {
        let checks = PasswordChecks::with_hashes_at_once(Clock::manual(UnixMicros(0)), 1);
        for _ in 0..=OWN_FAILURES_FREE {
            let guess = Box::pin(verify(&checks, None, "a guess", HERE));
            let first_poll = futures::future::select(guess, std::future::ready(())).await;
            drop(first_poll);
            // The core is free again when the hash is computed.
            let flow = Flow { place: HERE, standing: Standing::AtHome };
            assert!(checks.hashing.acquire(flow).await.is_ok());
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
