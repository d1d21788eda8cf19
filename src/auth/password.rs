//! Passwords: their rules, their hashes (argon2id), and checking them without letting a flood of guesses take the
//! machine.
//!
//! One check takes 19 MiB and some 20 ms of a core, on purpose. Only [`CHECKS_MAX`] run at a time, only
//! [`CHECKS_WAITING_MAX`] wait, and none longer than [`CHECK_WAIT_MAX`]: beyond that the caller hears [`Busy`]. A
//! password that was right is remembered for [`VERIFIED_SECONDS`], so that HTTP Basic costs a SHA-256 a request. An
//! unknown user costs as much as a known one.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::RngCore;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::accounts::User;
use crate::auth::expiring_map::ExpiringMap;
use crate::clock::Clock;

/// Fewest characters of a new password.
pub const PASSWORD_CHARACTERS_MIN: usize = 8;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_000;
/// Most argon2 computations at a time.
pub const CHECKS_MAX: usize = 2;
/// Most argon2 computations that run or wait.
pub const CHECKS_WAITING_MAX: usize = 64;
/// Longest wait for an argon2 computation to begin.
pub const CHECK_WAIT_MAX: Duration = Duration::from_secs(5);
/// Seconds that a password that was right is remembered.
pub const VERIFIED_SECONDS: u64 = 60;
/// Most passwords that are remembered (each takes some 100 bytes).
pub const VERIFIED_MAX: usize = 10_000;

// OWASP's first choice for argon2id, and the crate's default; stated here because the dummy hash must match it.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

/// Stands in for the hash of a user who does not exist. Nobody knows a password for it.
const DUMMY_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$dGlkZWdhdGVkdW1teXM\
                          $AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// A password fit to be set. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Password(String);

/// Why a text cannot be set as a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a password has at least {PASSWORD_CHARACTERS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes"
)]
pub struct InvalidPassword;

impl Password {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Password {
    type Err = InvalidPassword;

    fn from_str(text: &str) -> Result<Self, InvalidPassword> {
        let long_enough = text.chars().nth(PASSWORD_CHARACTERS_MIN - 1).is_some();
        if long_enough && text.len() <= PASSWORD_BYTES_MAX {
            Ok(Password(text.to_owned()))
        } else {
            Err(InvalidPassword)
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Hashes a password for keeping, in PHC form. Takes some 20 ms of a core: not for a thread of the runtime.
pub fn hash_password(password: &Password) -> String {
    let mut salt = [0; SALT_BYTES];
    rand::rng().fill_bytes(&mut salt);
    let salt = SaltString::encode_b64(&salt).expect("16 bytes are a valid salt");
    argon2()
        .hash_password(password.as_str().as_bytes(), &salt)
        .expect("argon2 takes a password of PASSWORD_BYTES_MAX with constant parameters")
        .to_string()
}

/// Too many passwords are being checked; come back after [`CHECK_WAIT_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Checks passwords, within the module's limits.
pub struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    verified: Mutex<ExpiringMap<[u8; 32], ()>>,
    // Makes what is remembered useless outside this process.
    process_secret: [u8; 32],
    clock: Clock,
}

impl Passwords {
    pub fn new(clock: Clock) -> Passwords {
        let mut process_secret = [0; 32];
        rand::rng().fill_bytes(&mut process_secret);
        let lifetime = Duration::from_secs(VERIFIED_SECONDS);
        Passwords {
            running: Arc::new(Semaphore::new(CHECKS_MAX)),
            waiting: Arc::new(Semaphore::new(CHECKS_WAITING_MAX)),
            verified: Mutex::new(ExpiringMap::new(VERIFIED_MAX, lifetime)),
            process_secret,
            clock,
        }
    }

    /// Is this the user's password? None stands for a user who does not exist or is disabled: the answer is no, after
    /// the same time.
    pub async fn verify(&self, user: Option<&User>, password: &str) -> Result<bool, Busy> {
        // Nobody can have set such a password, so nothing is told by answering at once.
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(false);
        }
        let remembered_as = user.map(|user| self.remembered_as(user, password));
        if remembered_as.is_some_and(|key| self.remembers(&key)) {
            return Ok(true);
        }
        let stored = user.map_or(DUMMY_HASH, |user| &user.password_hash).to_owned();
        let sent = password.to_owned();
        let right = self.compute(move || verify_password(&sent, &stored)).await?;
        match remembered_as {
            Some(key) if right => {
                self.lock_verified().insert(key, (), self.clock.now());
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Hashes a password for keeping, within the same limits.
    pub async fn hash(&self, password: Password) -> Result<String, Busy> {
        self.compute(move || hash_password(&password)).await
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Busy)?;
        let turn = Arc::clone(&self.running).acquire_owned();
        let turn = tokio::time::timeout(CHECK_WAIT_MAX, turn)
            .await
            .map_err(|_| Busy)?
            .expect("the semaphore is never closed");
        // The permits go along: a client that hangs up does not free the core that its check still occupies.
        let permits: [OwnedSemaphorePermit; 2] = [place, turn];
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permits);
            result
        });
        // The work does not panic; the task is cancelled only when the runtime ends.
        task.await.map_err(|_| Busy)
    }

    fn remembers(&self, key: &[u8; 32]) -> bool {
        self.lock_verified().get(key, self.clock.now()).is_some()
    }

    /// The user's current hash is part of the key: a new password makes the old one forgotten.
    fn remembered_as(&self, user: &User, password: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.process_secret);
        hash.update(user.id.to_le_bytes());
        // The length keeps the two texts apart.
        hash.update(user.password_hash.len().to_le_bytes());
        hash.update(user.password_hash.as_bytes());
        hash.update(password.as_bytes());
        hash.finalize().into()
    }

    fn lock_verified(&self) -> std::sync::MutexGuard<'_, ExpiringMap<[u8; 32], ()>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are valid");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A stored hash that cannot be read matches nothing, after the same time.
fn verify_password(password: &str, stored: &str) -> bool {
    let (hash, readable) = match PasswordHash::new(stored) {
        Ok(hash) => (hash, true),
        Err(_) => (PasswordHash::new(DUMMY_HASH).expect("the dummy hash is valid"), false),
    };
    argon2().verify_password(password.as_bytes(), &hash).is_ok() && readable
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::auth::caller::PasswordMark;
    use crate::auth::scope::Role;
    use crate::record::UnixMicros;

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

    fn remembered(passwords: &Passwords, user: &User, password: &str) -> bool {
        passwords.remembers(&passwords.remembered_as(user, password))
    }

    #[test]
    fn the_rules_count_characters_below_and_bytes_above() {
        for password in ["12345678", "éééééééé", "        ", &"a".repeat(1_000)] {
            assert!(password.parse::<Password>().is_ok(), "{password:?}");
        }
        for password in ["", "1234567", "ééééééé", &"a".repeat(1_001), &"é".repeat(501)] {
            assert!(password.parse::<Password>().is_err(), "{password:?}");
        }
        assert!(!format!("{:?}", "12345678".parse::<Password>().unwrap()).contains("1234"));
    }

    #[test]
    fn the_dummy_costs_what_a_real_hash_costs() {
        let real = hash_password(&"correct horse".parse().unwrap());
        let (real, dummy) =
            (PasswordHash::new(&real).unwrap(), PasswordHash::new(DUMMY_HASH).unwrap());
        assert_eq!(real.algorithm, dummy.algorithm);
        assert_eq!(real.version, dummy.version);
        assert_eq!(real.params, dummy.params);
        assert_eq!(real.hash.unwrap().len(), dummy.hash.unwrap().len());
    }

    #[tokio::test]
    async fn the_right_password_is_right_and_remembered() {
        let clock = Clock::manual(UnixMicros(0));
        let passwords = Passwords::new(clock.clone());
        let ada = user("correct horse");
        assert_eq!(passwords.verify(Some(&ada), "correct horsf").await, Ok(false));
        assert!(!remembered(&passwords, &ada, "correct horsf"));
        assert_eq!(passwords.verify(Some(&ada), "correct horse").await, Ok(true));
        assert!(remembered(&passwords, &ada, "correct horse"));

        // A new password makes the old one unknown, at once.
        let changed = User { password_hash: user("another horse").password_hash, ..ada.clone() };
        assert!(!remembered(&passwords, &changed, "correct horse"));
        assert_eq!(passwords.verify(Some(&changed), "correct horse").await, Ok(false));

        clock.set(UnixMicros(60_000_000));
        assert!(!remembered(&passwords, &ada, "correct horse"));
    }

    #[tokio::test]
    async fn nobody_and_nonsense_are_never_right() {
        let passwords = Passwords::new(Clock::System);
        assert_eq!(passwords.verify(None, "correct horse").await, Ok(false));
        let broken = User { password_hash: "plain text".into(), ..user("correct horse") };
        assert_eq!(passwords.verify(Some(&broken), "plain text").await, Ok(false));
        let ada = user("correct horse");
        let long = "a".repeat(PASSWORD_BYTES_MAX + 1);
        assert_eq!(passwords.verify(Some(&ada), &long).await, Ok(false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_hears_that_it_must_wait() {
        let passwords = Passwords::new(Clock::System);
        let running =
            Arc::clone(&passwords.running).acquire_many_owned(CHECKS_MAX.try_into().unwrap()).await;
        assert_eq!(passwords.verify(None, "x").await, Err(Busy), "after CHECK_WAIT_MAX");
        assert_eq!(passwords.waiting.available_permits(), CHECKS_WAITING_MAX);
        drop(running);

        let waiting = passwords.waiting.acquire_many(CHECKS_WAITING_MAX.try_into().unwrap()).await;
        assert_eq!(passwords.verify(None, "x").await, Err(Busy), "at once");
        drop(waiting);
        assert_eq!(passwords.verify(None, "x").await, Ok(false));
    }
}
