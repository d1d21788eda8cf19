//! Roles and scopes: what a caller may do.
//!
//! A role belongs to a user, scopes to a credential. A credential never has more than its user's role allows, so that
//! taking a role away takes it from every token at once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May do everything, users and other people's tokens included.
    Admin,
    /// May do everything but administer.
    Member,
}

/// The text is not a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is admin or member")]
pub struct UnknownRole;

impl Role {
    /// The word used in SQL, JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Member => "member",
        }
    }

    /// The most that a credential of such a user may do.
    pub fn scopes(self) -> ScopeSet {
        match self {
            Role::Admin => ScopeSet::ALL,
            Role::Member => ScopeSet::ALL.without(Scope::Admin),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "admin" => Ok(Role::Admin),
            "member" => Ok(Role::Member),
            _ => Err(UnknownRole),
        }
    }
}

/// One thing that a credential may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Send records.
    Ingest,
    /// Change and delete records.
    Write,
    /// Read records and streams.
    Read,
    /// Watch records arrive.
    Monitor,
    /// Create, change and delete streams.
    StreamsWrite,
    /// Manage polling jobs.
    Jobs,
    /// Everything.
    Admin,
}

/// The text is not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is one of ingest, write, read, monitor, streams:write, jobs, admin")]
pub struct UnknownScope;

impl Scope {
    /// Every scope, in the order in which they are shown.
    pub const ALL: [Scope; 7] = [
        Scope::Ingest,
        Scope::Write,
        Scope::Read,
        Scope::Monitor,
        Scope::StreamsWrite,
        Scope::Jobs,
        Scope::Admin,
    ];

    /// The word used in SQL, JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Ingest => "ingest",
            Scope::Write => "write",
            Scope::Read => "read",
            Scope::Monitor => "monitor",
            Scope::StreamsWrite => "streams:write",
            Scope::Jobs => "jobs",
            Scope::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A set of scopes; in JSON a list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// Nothing.
    pub const EMPTY: ScopeSet = ScopeSet(0);
    /// Everything.
    pub const ALL: ScopeSet = ScopeSet((1 << Scope::ALL.len()) - 1);

    /// This set and `scope`.
    pub const fn with(self, scope: Scope) -> ScopeSet {
        ScopeSet(self.0 | scope.bit())
    }

    /// This set but not `scope`.
    pub const fn without(self, scope: Scope) -> ScopeSet {
        ScopeSet(self.0 & !scope.bit())
    }

    /// What is named in both sets. `admin` counts as itself only: a token whose only scope is `admin` can do nothing
    /// once its user is a member.
    pub const fn intersection(self, other: ScopeSet) -> ScopeSet {
        ScopeSet(self.0 & other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Is `scope` itself in the set?
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// May the holder do `scope`? `admin` implies every other scope.
    pub const fn allows(self, scope: Scope) -> bool {
        self.contains(Scope::Admin) || self.contains(scope)
    }

    /// The scopes named, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> ScopeSet {
        scopes.into_iter().fold(ScopeSet::EMPTY, ScopeSet::with)
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Scope>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_its_own_bit_and_word() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            let alone = ScopeSet::EMPTY.with(scope);
            assert_eq!(alone.iter().collect::<Vec<_>>(), [scope]);
        }
        for text in ["", "Admin", "streams_write", "all", "ingest "] {
            assert_eq!(text.parse::<Scope>(), Err(UnknownScope), "{text:?}");
        }
        assert_eq!(Scope::ALL.into_iter().collect::<ScopeSet>(), ScopeSet::ALL);
    }

    #[test]
    fn admin_implies_every_scope_and_no_other_does() {
        for held in Scope::ALL {
            for wanted in Scope::ALL {
                let allowed = ScopeSet::EMPTY.with(held).allows(wanted);
                assert_eq!(allowed, held == wanted || held == Scope::Admin, "{held} {wanted}");
            }
        }
        assert!(!Role::Member.scopes().allows(Scope::Admin));
    }

    #[test]
    fn a_role_taken_away_takes_the_scope_away() {
        let admin_only = ScopeSet::EMPTY.with(Scope::Admin);
        assert!(admin_only.intersection(Role::Member.scopes()).is_empty());
        let mixed = admin_only.with(Scope::Ingest).intersection(Role::Member.scopes());
        assert_eq!(mixed, ScopeSet::EMPTY.with(Scope::Ingest));
    }

    #[test]
    fn json_is_a_list_of_words() {
        let set = ScopeSet::EMPTY.with(Scope::StreamsWrite).with(Scope::Ingest);
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(json, r#"["ingest","streams:write"]"#);
        assert_eq!(serde_json::from_str::<ScopeSet>(&json).unwrap(), set);
        assert!(serde_json::from_str::<ScopeSet>(r#"["root"]"#).is_err());
    }
}
