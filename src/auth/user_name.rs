//! The name of a user and their e-mail address, valid by construction.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_record::USER_NAME_BYTES_MAX;

/// Longest e-mail address, in bytes (the limit of SMTP's path).
pub const EMAIL_BYTES_MAX: usize = 254;

/// A valid user name. It travels in every entry and in HTTP Basic, which cannot carry a colon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(Arc<str>);

/// Why a text is not a user's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user's name is 1 to {USER_NAME_BYTES_MAX} bytes without control characters, colons, or spaces at either end"
)]
pub struct InvalidUserName;

impl UserName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for UserName {
    type Err = InvalidUserName;

    fn from_str(text: &str) -> Result<Self, InvalidUserName> {
        let valid = !text.is_empty()
            && text.len() <= USER_NAME_BYTES_MAX
            && text.trim() == text
            && !text.chars().any(|character| character.is_control() || character == ':');
        if valid { Ok(UserName(text.into())) } else { Err(InvalidUserName) }
    }
}

impl TryFrom<String> for UserName {
    type Error = InvalidUserName;

    fn try_from(text: String) -> Result<Self, InvalidUserName> {
        text.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> String {
        name.0.to_string()
    }
}

// A name hashes and compares as its text, so that maps can be asked with what a client sent.
impl Borrow<str> for UserName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that looks like an e-mail address; whether mail arrives there is not this gateway's business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email(String);

/// Why a text is not an e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an e-mail address is name@host, at most {EMAIL_BYTES_MAX} bytes, without spaces or control characters"
)]
pub struct InvalidEmail;

impl Email {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Email {
    type Err = InvalidEmail;

    fn from_str(text: &str) -> Result<Self, InvalidEmail> {
        let clean =
            !text.chars().any(|character| character.is_control() || character.is_whitespace());
        let split =
            text.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
        if clean && split && text.len() <= EMAIL_BYTES_MAX {
            Ok(Email(text.to_owned()))
        } else {
            Err(InvalidEmail)
        }
    }
}

impl TryFrom<String> for Email {
    type Error = InvalidEmail;

    fn try_from(text: String) -> Result<Self, InvalidEmail> {
        text.parse()
    }
}

impl From<Email> for String {
    fn from(email: Email) -> String {
        email.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_basic_and_into_entries() {
        for name in ["a", "ada", "Ada Lovelace", "ada@example.com", "אדה", &"a".repeat(200)] {
            assert!(name.parse::<UserName>().is_ok(), "{name}");
        }
        let long = ["a".repeat(201), "é".repeat(101)];
        for name in ["", " ", " ada", "ada ", "a:b", "a\nb", "a\0", "\u{85}", &long[0], &long[1]] {
            assert_eq!(name.parse::<UserName>(), Err(InvalidUserName), "{name:?}");
        }
    }

    #[test]
    fn addresses_look_like_addresses() {
        for email in ["a@b", "ada@example.com", "\"a@b\"@c"] {
            assert!(email.parse::<Email>().is_ok(), "{email}");
        }
        let long = format!("a@{}", "b".repeat(EMAIL_BYTES_MAX));
        for email in ["", "ada", "@b", "a@", "a b@c", "a@b\n", &long] {
            assert_eq!(email.parse::<Email>(), Err(InvalidEmail), "{email:?}");
        }
    }
}
