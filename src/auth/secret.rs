//! Secrets that the gateway makes: tokens, session cookies, tickets. Each is 32 random bytes, shown once; what is kept
//! is its SHA-256.
//!
//! A plain hash is enough, and no salt or argon2 is needed, because 256 random bits cannot be guessed. Looking a hash
//! up in a map leaks nothing of use through its timing: the compared bytes are those of a SHA-256, which a client
//! cannot steer towards a wanted value, and a prefix of which says nothing about the secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Random bytes in a secret.
pub const SECRET_BYTES: usize = 32;
/// Longest text that is taken for a secret; a longer one is none of ours.
pub const SECRET_TEXT_BYTES_MAX: usize = 128;
/// What a token starts with, so that people and scanners recognise one.
pub const TOKEN_PREFIX: &str = "tg_";

/// A new secret, to be shown once. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A new Bearer token.
    pub fn token() -> Secret {
        Secret::random(TOKEN_PREFIX)
    }

    /// A new session or ticket.
    pub fn bare() -> Secret {
        Secret::random("")
    }

    // The generator is not passed in: a predictable secret is of no use to a test either.
    fn random(prefix: &str) -> Secret {
        let mut bytes = [0; SECRET_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        Secret(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text to show, in `A-Z a-z 0-9 _ -`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 of a secret's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Hashes what a client sent.
    pub fn of(text: &str) -> SecretHash {
        SecretHash(Sha256::digest(text.as_bytes()).into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &SecretHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl TryFrom<&[u8]> for SecretHash {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        Ok(SecretHash(bytes.try_into()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_fit_into_headers_and_addresses() {
        let (one, other) = (Secret::token(), Secret::token());
        assert_ne!(one.as_str(), other.as_str());
        assert!(!one.hash().matches(&other.hash()));
        assert!(one.hash().matches(&SecretHash::of(one.as_str())));
        for secret in [one, Secret::bare()] {
            let text = secret.as_str();
            assert!(text.len() <= SECRET_TEXT_BYTES_MAX);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
            assert!(!format!("{secret:?}").contains(text));
        }
    }
}
