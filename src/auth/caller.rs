//! The caller: what every handler is told about the sender of a request.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tidegate_codec::StreamName;
use tidegate_record::UnixMicros;

use crate::auth::scope::{Role, Scope, ScopeSet};
use crate::auth::secret::SecretHash;

/// An authenticated sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// None for the local token, which belongs to any program that can read the data directory.
    pub user_id: Option<i64>,
    pub user_name: Arc<str>,
    pub role: Role,
    /// What this credential may do; never more than the user's role allows.
    pub scopes: ScopeSet,
    /// The only streams this credential may use; None: every stream.
    pub streams: Option<Arc<[StreamName]>>,
    pub via: Via,
    /// The password that the credential goes back to; None for tokens, which outlive it.
    pub password: Option<PasswordMark>,
    /// The browser session that the credential goes back to, if it does.
    pub session: Option<SessionMark>,
}

/// Which session it is, and when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionMark {
    pub hash: SecretHash,
    pub expires_at: UnixMicros,
}

/// Tells a user's password from the ones before it, and nothing else about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PasswordMark(u64);

impl PasswordMark {
    /// Of the stored hash, which is salted: the same password set anew has another mark.
    pub fn of(password_hash: &str) -> PasswordMark {
        let mut hasher = DefaultHasher::new();
        password_hash.hash(&mut hasher);
        PasswordMark(hasher.finish())
    }
}

/// How the caller proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A token of a user.
    Bearer { token_id: i64 },
    /// The local token.
    Local,
    /// User and password, with this request.
    Basic,
    /// A browser session.
    Session,
    /// A monitor's single-use ticket, and the token that it was fetched with, if it was one.
    Ticket { token_id: Option<i64> },
}

/// The caller is known, but may not do this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this needs the scope {scope}")]
pub struct Denied {
    pub scope: Scope,
}

impl Caller {
    /// Refuses a caller who lacks `scope`.
    pub fn require(&self, scope: Scope) -> Result<(), Denied> {
        if self.scopes.allows(scope) { Ok(()) } else { Err(Denied { scope }) }
    }

    /// May this credential use the stream? Says nothing about scopes.
    pub fn may_use(&self, stream: &StreamName) -> bool {
        self.streams.as_ref().is_none_or(|streams| streams.contains(stream))
    }

    /// May this credential change what its user owns (password, tokens)? A token that leaked must not be able to
    /// take the account over, so it takes the password, or the scope `admin`.
    pub fn speaks_for_its_user(&self) -> bool {
        matches!(self.via, Via::Basic | Via::Session) || self.scopes.allows(Scope::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(scopes: ScopeSet, streams: Option<&[&str]>, via: Via) -> Caller {
        let streams = streams.map(|names| names.iter().map(|name| name.parse().unwrap()).collect());
        let (user_id, user_name) = (Some(1), "ada".into());
        let role = Role::Member;
        Caller { user_id, user_name, role, scopes, streams, via, password: None, session: None }
    }

    #[test]
    fn a_caller_does_what_its_scopes_say() {
        let scopes = ScopeSet::EMPTY.with(Scope::Ingest);
        let caller = caller(scopes, None, Via::Bearer { token_id: 1 });
        assert_eq!(caller.require(Scope::Ingest), Ok(()));
        assert_eq!(caller.require(Scope::Read), Err(Denied { scope: Scope::Read }));
        assert!(!caller.speaks_for_its_user());
    }

    #[test]
    fn a_list_of_streams_is_the_whole_list() {
        let stream = |name: &str| name.parse::<StreamName>().unwrap();
        let some = caller(ScopeSet::ALL, Some(&["flights"]), Via::Session);
        assert!(some.may_use(&stream("flights")));
        assert!(!some.may_use(&stream("flight")));
        assert!(!caller(ScopeSet::ALL, Some(&[]), Via::Session).may_use(&stream("flights")));
        assert!(caller(ScopeSet::ALL, None, Via::Session).may_use(&stream("flights")));
    }
}
