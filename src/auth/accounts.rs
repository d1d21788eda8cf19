//! Users and tokens at one moment: an immutable snapshot, replaced as a whole, like the directory of streams.
//!
//! A Bearer token is checked with one SHA-256 and one look into a map: no query, no lock. The rows are what the
//! catalog mirrors in the data directory, so that ingest starts without PostgreSQL; [`AccountsSnapshot::new`] is the
//! one place where they become valid types. A row that makes no sense grants nothing: it is left out, and logged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tidegate_codec::StreamName;
use tidegate_record::UnixMicros;
use time::OffsetDateTime;

use crate::auth::caller::{Caller, PasswordMark, Via};
use crate::auth::scope::{Role, Scope, ScopeSet};
use crate::auth::secret::SecretHash;
use crate::auth::user_name::UserName;
use crate::db::acting::Acting;
use crate::db::tokens::TokenRow;
use crate::db::users::UserRow;
use crate::db::{self, Pool};

/// What the database knows of users and tokens.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRows {
    pub users: Vec<UserRow>,
    pub tokens: Vec<TokenRow>,
}

impl AccountRows {
    /// Reads users and tokens. A token of a user who is not among the users is worth nothing, so it does not matter
    /// that this takes two queries.
    pub async fn read(pool: &Pool) -> Result<AccountRows, db::Error> {
        let users = db::users::list(pool).await?;
        let tokens = db::tokens::list(pool).await?;
        Ok(AccountRows { users, tokens })
    }
}

/// A user. Its `Debug` does not show the password's hash.
#[derive(Clone)]
pub struct User {
    pub id: i64,
    pub name: UserName,
    pub email: Option<String>,
    /// argon2id, in PHC form.
    pub password_hash: String,
    pub password_mark: PasswordMark,
    pub role: Role,
    pub disabled: bool,
    pub created_at: OffsetDateTime,
}

impl User {
    /// The caller that this user is when they came with their password.
    pub fn caller(&self, via: Via) -> Caller {
        Caller {
            user_id: Some(self.id),
            user_name: self.name.shared(),
            role: self.role,
            scopes: self.role.scopes(),
            streams: None,
            via,
            password: Some(self.password_mark),
            session: None,
        }
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A Bearer token.
#[derive(Debug, Clone)]
pub struct Token {
    pub id: i64,
    pub user_id: i64,
    pub name: String,
    pub hash: SecretHash,
    /// As granted; what it may do is the part that its user's role allows.
    pub scopes: ScopeSet,
    /// None: every stream.
    pub streams: Option<Arc<[StreamName]>>,
    pub created_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    /// None: as many as it likes.
    pub records_per_second: Option<u32>,
}

impl Token {
    /// Is its time over?
    pub fn is_expired(&self, now: UnixMicros) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= moment(now))
    }
}

/// All users and tokens at one moment.
#[derive(Debug, Default)]
pub struct AccountsSnapshot {
    users: HashMap<i64, Arc<User>>,
    users_by_name: HashMap<UserName, Arc<User>>,
    tokens: HashMap<SecretHash, Arc<Token>>,
    tokens_by_id: HashMap<i64, Arc<Token>>,
}

impl AccountsSnapshot {
    pub fn new(rows: AccountRows) -> AccountsSnapshot {
        let mut snapshot = AccountsSnapshot::default();
        for row in rows.users {
            let id = row.id;
            let Some(user) = user_of(row) else {
                tracing::warn!(user_id = id, "a row of tidegate.users makes no sense; left out");
                continue;
            };
            let user = Arc::new(user);
            snapshot.users_by_name.insert(user.name.clone(), Arc::clone(&user));
            snapshot.users.insert(id, user);
        }
        for row in rows.tokens {
            let id = row.id;
            let Some(token) = token_of(row) else {
                tracing::warn!(token_id = id, "a row of tidegate.tokens makes no sense; left out");
                continue;
            };
            let token = Arc::new(token);
            snapshot.tokens.insert(token.hash, Arc::clone(&token));
            snapshot.tokens_by_id.insert(id, token);
        }
        snapshot
    }

    pub fn user(&self, id: i64) -> Option<&Arc<User>> {
        self.users.get(&id)
    }

    pub fn user_by_name(&self, name: &str) -> Option<&Arc<User>> {
        self.users_by_name.get(name)
    }

    pub fn token(&self, id: i64) -> Option<&Arc<Token>> {
        self.tokens_by_id.get(&id)
    }

    /// Every user, by id.
    pub fn users(&self) -> Vec<&Arc<User>> {
        let mut users: Vec<_> = self.users.values().collect();
        users.sort_unstable_by_key(|user| user.id);
        users
    }

    /// Every token, by id.
    pub fn tokens(&self) -> Vec<&Arc<Token>> {
        let mut tokens: Vec<_> = self.tokens_by_id.values().collect();
        tokens.sort_unstable_by_key(|token| token.id);
        tokens
    }

    /// The caller that a Bearer token stands for; None if it is unknown, expired, or its user is disabled.
    pub fn caller_of_token(&self, hash: &SecretHash, now: UnixMicros) -> Option<Caller> {
        let token = self.tokens.get(hash).filter(|token| !token.is_expired(now))?;
        let user = self.users.get(&token.user_id).filter(|user| !user.disabled)?;
        Some(Caller {
            scopes: token.scopes.intersection(user.role.scopes()),
            streams: token.streams.clone(),
            password: None,
            ..user.caller(Via::Bearer { token_id: token.id })
        })
    }

    /// The caller that a user is after they proved it in another way; None if disabled or gone.
    pub fn caller_of_user(&self, id: i64, via: Via) -> Option<Caller> {
        let user = self.users.get(&id).filter(|user| !user.disabled)?;
        Some(user.caller(via))
    }

    /// Is no user known, as before the database was read for the first time?
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Would the credential behind `caller` still be taken, as far as users, tokens and the time tell? For connections that
    /// outlive their first check.
    pub fn still_takes(&self, caller: &Caller, now: UnixMicros) -> bool {
        let takes_user = |id| {
            let user = self.users.get(&id).filter(|user| !user.disabled);
            user.is_some_and(|user| caller.password.is_none_or(|mark| mark == user.password_mark))
        };
        let lives = |id| self.tokens_by_id.get(&id).is_some_and(|token| !token.is_expired(now));
        let token_lives = match caller.via {
            Via::Bearer { token_id } | Via::Ticket { token_id: Some(token_id) } => lives(token_id),
            Via::Local | Via::Basic | Via::Session | Via::Ticket { token_id: None } => true,
        };
        let session_lives = caller.session.is_none_or(|session| now < session.expires_at);
        token_lives && session_lives && caller.user_id.is_none_or(takes_user)
    }

    /// A scope that `caller` had and that the user's role allows no more.
    pub fn lost_scope(&self, caller: &Caller) -> Option<Scope> {
        let role = self.users.get(&caller.user_id?)?.role.scopes();
        caller.scopes.iter().find(|scope| !role.allows(*scope))
    }

    /// The caller of a change as the database knows them; `None` where the caller is no user.
    pub fn acting(&self, caller: &Caller) -> Option<Acting> {
        let user = self.users.get(&caller.user_id?)?;
        let token_id = match caller.via {
            Via::Bearer { token_id } | Via::Ticket { token_id: Some(token_id) } => Some(token_id),
            Via::Local | Via::Basic | Via::Session | Via::Ticket { token_id: None } => None,
        };
        Some(Acting {
            user_id: user.id,
            role: user.role.as_str(),
            password_hash: caller.password.map(|_| user.password_hash.clone()),
            token_id,
        })
    }
}

/// The current snapshot, shared by clones. Reading it takes no lock.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    current: Arc<ArcSwap<Numbered>>,
    readings: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Numbered {
    reading: Reading,
    snapshot: Arc<AccountsSnapshot>,
}

/// The place of a reading of the database among all readings: see [`Accounts::begin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Reading(u64);

impl Accounts {
    /// The snapshot as it stands now.
    pub fn snapshot(&self) -> Arc<AccountsSnapshot> {
        Arc::clone(&self.current.load().snapshot)
    }

    /// To be called before the database is read.
    ///
    /// Readings run side by side (the catalog's periodic look, a change through the API), and one that was slow must
    /// not bring back what a later one saw revoked.
    /// Invariant: what a transaction committed before `begin` stays visible once this reading has been offered to
    /// [`Accounts::replace`], taken or not: only a reading that began later can have been put in its place.
    pub fn begin(&self) -> Reading {
        Reading(self.readings.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Puts a new snapshot in place, unless a later reading is there already.
    pub fn replace(&self, reading: Reading, snapshot: AccountsSnapshot) {
        let next = Arc::new(Numbered { reading, snapshot: Arc::new(snapshot) });
        self.current.rcu(|current| {
            if current.reading > reading { Arc::clone(current) } else { Arc::clone(&next) }
        });
    }

    /// Reads the database and replaces the snapshot.
    pub async fn reload(&self, pool: &Pool) -> Result<(), db::Error> {
        let reading = self.begin();
        let rows = AccountRows::read(pool).await?;
        self.replace(reading, AccountsSnapshot::new(rows));
        Ok(())
    }
}

/// The same moment as PostgreSQL and JSON know it. Years beyond 9999 become the last moment of 9999.
pub(crate) fn moment(at: UnixMicros) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000)
        .unwrap_or(time::macros::datetime!(9999-12-31 23:59:59 UTC))
}

fn user_of(row: UserRow) -> Option<User> {
    Some(User {
        id: row.id,
        name: row.name.parse().ok()?,
        email: row.email,
        password_mark: PasswordMark::of(&row.password_hash),
        password_hash: row.password_hash,
        role: row.role.parse().ok()?,
        disabled: row.disabled,
        created_at: row.created_at,
    })
}

fn token_of(row: TokenRow) -> Option<Token> {
    // A scope or stream name that this version does not know narrows the token instead of killing it.
    let mut scopes: ScopeSet = row.scopes.iter().filter_map(|scope| scope.parse().ok()).collect();
    let streams =
        row.streams.map(|names| names.iter().filter_map(|name| name.parse().ok()).collect());
    if streams.is_some() {
        // An admin could lift the limit off their own token: the two contradict each other.
        scopes = scopes.without(Scope::Admin);
    }
    Some(Token {
        id: row.id,
        user_id: row.user_id,
        name: row.name,
        hash: SecretHash::try_from(row.hash.as_slice()).ok()?,
        scopes,
        streams,
        created_at: row.created_at,
        expires_at: row.expires_at,
        records_per_second: row.records_per_second.and_then(|rate| u32::try_from(rate).ok()),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::auth::caller::SessionMark;

    pub(crate) fn user(id: i64, name: &str, role: Role) -> UserRow {
        UserRow {
            id,
            name: name.into(),
            email: None,
            password_hash: String::new(),
            role: role.as_str().into(),
            disabled: false,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    pub(crate) fn token(id: i64, user_id: i64, text: &str, scopes: &[Scope]) -> TokenRow {
        TokenRow {
            id,
            user_id,
            name: "a token".into(),
            hash: SecretHash::of(text).as_bytes().into(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            streams: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
            expires_at: None,
            records_per_second: None,
        }
    }

    fn snapshot(users: Vec<UserRow>, tokens: Vec<TokenRow>) -> AccountsSnapshot {
        AccountsSnapshot::new(AccountRows { users, tokens })
    }

    const NOW: UnixMicros = UnixMicros(1_000_000);

    fn of(snapshot: &AccountsSnapshot, text: &str) -> Option<Caller> {
        snapshot.caller_of_token(&SecretHash::of(text), NOW)
    }

    #[test]
    fn a_token_is_worth_what_its_user_is_worth() {
        let users = |role| vec![user(1, "ada", role)];
        let tokens = vec![token(7, 1, "tg_a", &[Scope::Ingest, Scope::Admin])];
        let admin = of(&snapshot(users(Role::Admin), tokens.clone()), "tg_a").unwrap();
        assert!(admin.scopes.allows(Scope::Jobs));
        assert_eq!(admin.via, Via::Bearer { token_id: 7 });
        let member = of(&snapshot(users(Role::Member), tokens.clone()), "tg_a").unwrap();
        assert_eq!(member.scopes, ScopeSet::EMPTY.with(Scope::Ingest));

        let mut disabled = users(Role::Admin);
        disabled[0].disabled = true;
        let disabled = snapshot(disabled, tokens.clone());
        assert_eq!(of(&disabled, "tg_a"), None);
        assert_eq!(disabled.caller_of_user(1, Via::Session), None);
        assert!(!disabled.still_takes(&admin, NOW));
        assert_eq!(of(&snapshot(vec![], tokens), "tg_a"), None);
    }

    #[test]
    fn a_new_password_ends_what_the_old_one_began_and_no_token() {
        let before = snapshot(
            vec![user(1, "ada", Role::Member)],
            vec![token(7, 1, "tg_a", &[Scope::Monitor])],
        );
        let mut changed = user(1, "ada", Role::Member);
        changed.password_hash = "$argon2id$another".to_owned();
        let after = snapshot(vec![changed], vec![token(7, 1, "tg_a", &[Scope::Monitor])]);
        for via in [Via::Session, Via::Basic, Via::Ticket { token_id: None }] {
            let caller = before.caller_of_user(1, via).unwrap();
            assert!(before.still_takes(&caller, NOW));
            assert!(!after.still_takes(&caller, NOW), "{via:?}");
        }
        assert!(after.still_takes(&of(&before, "tg_a").unwrap(), NOW));
    }

    #[test]
    fn a_token_ends_at_its_time() {
        let mut row = token(7, 1, "tg_a", &[Scope::Ingest]);
        row.expires_at = Some(moment(NOW));
        let over = snapshot(vec![user(1, "ada", Role::Member)], vec![row.clone()]);
        assert_eq!(of(&over, "tg_a"), None);
        row.expires_at = Some(moment(UnixMicros(NOW.0 + 1)));
        let living = snapshot(vec![user(1, "ada", Role::Member)], vec![row]);
        let caller = of(&living, "tg_a").unwrap();
        assert!(living.still_takes(&caller, NOW));
        assert!(!living.still_takes(&caller, UnixMicros(NOW.0 + 1)));
        let revoked = snapshot(vec![user(1, "ada", Role::Member)], vec![]);
        assert!(!revoked.still_takes(&caller, NOW));
        let ticket = Caller { via: Via::Ticket { token_id: Some(7) }, ..caller };
        assert!(living.still_takes(&ticket, NOW));
        assert!(!revoked.still_takes(&ticket, NOW), "a ticket lives no longer than its token");
        assert_eq!(of(&living, "tg_b"), None);
    }

    #[test]
    fn what_a_session_began_ends_at_its_time() {
        let snapshot = snapshot(vec![user(1, "ada", Role::Member)], vec![]);
        let session =
            Some(SessionMark { hash: SecretHash::of("s"), expires_at: UnixMicros(NOW.0 + 1) });
        for via in [Via::Session, Via::Ticket { token_id: None }] {
            let caller = Caller { session, ..snapshot.caller_of_user(1, via).unwrap() };
            assert!(snapshot.still_takes(&caller, NOW), "{via:?}");
            assert!(!snapshot.still_takes(&caller, UnixMicros(NOW.0 + 1)), "{via:?}");
        }
    }

    #[test]
    fn a_token_limited_to_streams_cannot_administer() {
        let mut row = token(7, 1, "tg_a", &[Scope::Admin, Scope::Ingest]);
        row.streams = Some(vec!["flights".into(), "not a stream".into()]);
        let caller = of(&snapshot(vec![user(1, "ada", Role::Admin)], vec![row]), "tg_a").unwrap();
        assert_eq!(caller.scopes, ScopeSet::EMPTY.with(Scope::Ingest));
        assert_eq!(caller.streams.unwrap().len(), 1);
    }

    #[test]
    fn rows_without_sense_grant_nothing_and_harm_no_other_user() {
        let mut strange = user(1, "eve", Role::Admin);
        strange.role = "root".into();
        let mut short = token(8, 2, "tg_b", &[Scope::Admin]);
        short.hash.pop();
        let mut unknown = token(9, 2, "tg_c", &[]);
        unknown.scopes = vec!["everything".into(), "read".into()];
        let users = vec![strange, user(2, "ada", Role::Admin), user(3, "a:b", Role::Admin)];
        let tokens = vec![token(7, 1, "tg_a", &[Scope::Admin]), short, unknown];
        let snapshot = snapshot(users, tokens);
        assert_eq!(snapshot.users().len(), 1);
        assert_eq!(of(&snapshot, "tg_a"), None);
        assert_eq!(of(&snapshot, "tg_b"), None);
        assert_eq!(of(&snapshot, "tg_c").unwrap().scopes, ScopeSet::EMPTY.with(Scope::Read));
    }

    #[test]
    fn a_slow_reading_does_not_bring_back_what_was_revoked() {
        let accounts = Accounts::default();
        let slow = accounts.begin();
        let fast = accounts.begin();
        accounts.replace(fast, snapshot(vec![], vec![]));
        accounts.replace(slow, snapshot(vec![user(1, "ada", Role::Admin)], vec![]));
        assert!(accounts.snapshot().user(1).is_none());
        let later = accounts.begin();
        accounts.replace(later, snapshot(vec![user(1, "ada", Role::Admin)], vec![]));
        assert!(accounts.snapshot().user_by_name("ada").is_some());
    }

    #[test]
    fn the_mirror_gives_back_the_same_rows() {
        let mut row = token(7, 1, "tg_a", &[Scope::Ingest]);
        row.expires_at = Some(moment(NOW));
        row.streams = Some(vec!["flights".into()]);
        row.records_per_second = Some(100);
        let mut rows = AccountRows { users: vec![user(1, "ada", Role::Admin)], tokens: vec![row] };
        let json = serde_json::to_string(&rows).unwrap();
        assert!(serde_json::from_str::<AccountRows>(&json).unwrap() == rows);
        // The mirror of a version that knew no rates.
        let older = json.replace(",\"records_per_second\":100", "");
        assert_ne!(older, json);
        rows.tokens[0].records_per_second = None;
        assert!(serde_json::from_str::<AccountRows>(&older).unwrap() == rows);
    }

    #[test]
    fn no_moment_is_beyond_what_postgresql_takes() {
        assert_eq!(moment(UnixMicros(i64::MAX)).year(), 9999);
        assert_eq!(moment(UnixMicros(0)), OffsetDateTime::UNIX_EPOCH);
    }
}
