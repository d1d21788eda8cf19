//! Passwords: their rules and their hashes (argon2id). One hash takes 19 MiB and some 20 ms of a core, on purpose; how
//! many are computed is the matter of [`crate::auth::password_checks`].

use std::fmt;
use std::str::FromStr;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::RngCore;

/// Fewest characters of a new password.
pub const PASSWORD_CHARACTERS_MIN: usize = 8;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_000;

// OWASP's first choice for argon2id, and the crate's default; stated here because the dummy hash must match it.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

/// Stands in for the hash of a user who does not exist. No password for it is known.
pub(super) const DUMMY_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$dGlkZWdhdGVkdW1teXM\
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

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are valid");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A stored hash that cannot be read matches nothing, after the same time.
pub(super) fn verify_password(password: &str, stored: &str) -> bool {
    let (hash, readable) = match PasswordHash::new(stored) {
        Ok(hash) => (hash, true),
        Err(_) => (PasswordHash::new(DUMMY_HASH).expect("the dummy hash is valid"), false),
    };
    argon2().verify_password(password.as_bytes(), &hash).is_ok() && readable
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_password_matches_its_hash_and_nothing_matches_nonsense() {
        let hash = hash_password(&"correct horse".parse().unwrap());
        assert!(verify_password("correct horse", &hash));
        assert!(!verify_password("correct horsf", &hash));
        assert!(!verify_password("plain text", "plain text"));
    }
}
