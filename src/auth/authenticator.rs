//! The handle that every request is authenticated with, and through which accounts are changed.
//!
//! Bearer tokens and remembered passwords need neither the database nor a lock; only sessions that are not remembered
//! ask the database, and a refusal, which takes a [second look](crate::auth::second_look). A change of users or tokens
//! runs to its end even if the client hangs up, and is visible on this node before the client hears of it.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::header::HeaderMap;
use axum::http::request::Parts;
use axum::http::{Method, Uri};
use tidegate_record::clock::Clock;
use tokio::sync::{Notify, Semaphore};

use crate::auth::accounts::{Accounts, AccountsSnapshot, User};
use crate::auth::caller::{Caller, Denied, Via};
use crate::auth::credentials::{self, Credentials};
use crate::auth::error::AuthError;
use crate::auth::homes::Whence;
use crate::auth::local_token::LocalToken;
use crate::auth::origin::{Origin, origin_of};
use crate::auth::password::Password;
use crate::auth::password_checks::{Attempt, PasswordChecks, Verdict};
use crate::auth::quota::{Admission, OverQuota, Quotas};
use crate::auth::second_look::{CannotLook, SecondLook};
use crate::auth::secret::{Secret, SecretHash};
use crate::auth::sessions::{LOOKUP_WAIT_MAX, LookupError, Sessions};
use crate::auth::tickets::{Holding, Presented, Ticket, Tickets, View};
use crate::config::PublicUrl;
use crate::db::acting::Acting;
use crate::db::{self, Database, answered};
use crate::lifecycle::Lifecycle;

/// Name of the cookie that carries a browser session.
pub const SESSION_COOKIE: &str = "tidegate_session";
/// Name of the cookie by which a browser is known where a user signed in before.
pub const BROWSER_COOKIE: &str = "tidegate_browser";
/// Most changes of users and tokens at a time.
pub const CHANGES_MAX: usize = 8;
/// What a client is told to wait when there are more.
pub const CHANGE_RETRY: Duration = Duration::from_secs(1);

/// What can be set.
#[derive(Debug, Clone)]
pub struct AuthOptions {
    /// How long a browser session lasts.
    pub session_lifetime: Duration,
    /// Believe `X-Forwarded-Proto`. Only right behind a proxy that always sets it.
    pub trust_forwarded_proto: bool,
    /// Where people find this gateway; its pages count as the gateway's own.
    pub public_url: PublicUrl,
}

/// What [`Auth`] is made of.
pub struct AuthParts {
    pub accounts: Accounts,
    pub database: Database,
    pub clock: Clock,
    pub lifecycle: Lifecycle,
    pub local_token: LocalToken,
    /// Told after each change, for the catalog to write its mirror (and to look again, should the first look fail).
    pub catalog_changed: Arc<Notify>,
    pub options: AuthOptions,
}

/// The handle; clones are the same.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    parts: AuthParts,
    passwords: PasswordChecks,
    second_look: SecondLook,
    sessions: Sessions,
    tickets: Tickets,
    changes: Arc<Semaphore>,
    quotas: Quotas,
}

impl Auth {
    pub fn new(parts: AuthParts) -> Auth {
        let clock = parts.clock.clone();
        let lifetime = parts.options.session_lifetime;
        Auth(Arc::new(Inner {
            passwords: PasswordChecks::new(clock.clone()),
            second_look: SecondLook::default(),
            sessions: Sessions::new(parts.database.clone(), clock.clone(), lifetime),
            tickets: Tickets::new(clock),
            changes: Arc::new(Semaphore::new(CHANGES_MAX)),
            quotas: Quotas::default(),
            parts,
        }))
    }

    /// The users and tokens of this moment.
    pub fn accounts(&self) -> Arc<AccountsSnapshot> {
        self.0.parts.accounts.snapshot()
    }

    /// Lets a request that sends records in, if its token's quota allows; None where there is no quota.
    pub fn admit(&self, caller: &Caller) -> Result<Option<Admission>, OverQuota> {
        let Via::Bearer { token_id } = caller.via else { return Ok(None) };
        let rate = self.accounts().token(token_id).and_then(|token| token.records_per_second);
        rate.map(|rate| self.0.quotas.admit(token_id, rate, Instant::now())).transpose()
    }

    pub fn clock(&self) -> &Clock {
        &self.0.parts.clock
    }

    /// Who sent this request, and from where? A cookie is taken only from this gateway's own pages, unless all it does is
    /// read.
    pub async fn authenticate(
        &self,
        request: &Parts,
        whence: impl FnOnce() -> Whence,
    ) -> Result<Caller, AuthError> {
        let reads = request.method == Method::GET || request.method == Method::HEAD;
        let upgrades = request.headers.contains_key(axum::http::header::UPGRADE);
        self.check(request, whence, !reads || upgrades).await
    }

    /// Who sent this request, by the value of its `Authorization` header, which is a Bearer token?
    pub async fn authenticate_token(&self, authorization: &str) -> Result<Caller, AuthError> {
        match credentials::authorization_value(authorization)? {
            Credentials::Bearer(hash) => self.check_token(&hash).await,
            Credentials::Basic { .. } | Credentials::Session(_) => Err(AuthError::Token),
        }
    }

    /// Who wants to watch? Takes a ticket too, and a cookie only from this gateway's own pages. A ticket that counted is
    /// returned: it is not used up before [`Auth::spend_ticket`] or [`Auth::hold_ticket`] say so.
    pub async fn authenticate_monitor(
        &self,
        request: &Parts,
        whence: impl FnOnce() -> Whence,
        ticket: Option<&str>,
    ) -> Result<(Caller, Option<Presented>), AuthError> {
        match ticket {
            Some(ticket) if !request.headers.contains_key(axum::http::header::AUTHORIZATION) => {
                let (ticket, caller) = self.0.tickets.find(ticket).ok_or(AuthError::Ticket)?;
                if !self.still_takes(&caller).await {
                    return Err(AuthError::Ticket);
                }
                Ok((caller, Some(ticket)))
            }
            _ => Ok((self.check(request, whence, true).await?, None)),
        }
    }

    /// What needs the database or takes long is boxed, so that a token's way, which is that of most records, stays small.
    async fn check(
        &self,
        request: &Parts,
        whence: impl FnOnce() -> Whence,
        own_pages_only: bool,
    ) -> Result<Caller, AuthError> {
        let found = credentials::read(&request.headers, SESSION_COOKIE)?;
        match found.ok_or(AuthError::Missing)? {
            Credentials::Bearer(hash) => self.check_token(&hash).await,
            Credentials::Basic { name, password } => {
                let attempt = Attempt { name: &name, password: &password, whence: whence() };
                let user = Box::pin(self.check_password(attempt)).await?;
                Ok(user
                    .map_err(|refused| refused.unless_nothing_is_known(self))?
                    .caller(Via::Basic))
            }
            Credentials::Session(hash) => {
                let origin = self.origin_of(&request.headers, &request.uri);
                if own_pages_only && !matches!(origin, Origin::Same { .. }) {
                    return Err(AuthError::foreign_origin(&request.headers));
                }
                Box::pin(self.session_caller(&hash, whence().address)).await
            }
        }
    }

    fn token_caller(&self, hash: &SecretHash) -> Option<Caller> {
        let local = self.0.parts.local_token.caller(hash);
        local.or_else(|| self.accounts().caller_of_token(hash, self.clock().now()))
    }

    async fn check_token(&self, hash: &SecretHash) -> Result<Caller, AuthError> {
        match self.token_caller(hash) {
            Some(caller) => Ok(caller),
            None => Box::pin(self.check_token_again(hash)).await,
        }
    }

    async fn check_token_again(&self, hash: &SecretHash) -> Result<Caller, AuthError> {
        let looked = self.look_again().await;
        let refused = || Refused { error: AuthError::Token, looked };
        self.token_caller(hash).ok_or_else(|| refused().unless_nothing_is_known(self))
    }

    async fn session_caller(
        &self,
        hash: &SecretHash,
        address: IpAddr,
    ) -> Result<Caller, AuthError> {
        let found = self.0.sessions.find(hash, address).await.map_err(|error| match error {
            LookupError::Busy => AuthError::Busy { retry_after: LOOKUP_WAIT_MAX },
            LookupError::Database(error) => AuthError::Database(error),
        })?;
        let (user_id, session) = found.ok_or(AuthError::Session)?;
        let caller = self.accounts().caller_of_user(user_id, Via::Session);
        let caller = caller.ok_or(AuthError::Session)?;
        Ok(Caller { session: Some(session), ..caller })
    }

    /// The user whose password this is.
    async fn check_password(
        &self,
        attempt: Attempt<'_>,
    ) -> Result<Result<Arc<User>, Refused>, AuthError> {
        let user = self.enabled_user(attempt.name);
        let wrong = match self.0.passwords.verify(user.as_deref(), attempt).await? {
            Verdict::Right => {
                return Ok(user.ok_or(Refused { error: AuthError::Password, looked: Ok(()) }));
            }
            Verdict::Wrong(wrong) => wrong,
        };
        let looked = self.look_again().await;
        let now = self.enabled_user(attempt.name);
        let mark = |user: &Option<Arc<User>>| user.as_ref().map(|user| user.password_mark);
        if mark(&now) != mark(&user) && wrong.again(now.as_deref()).await?.is_right() {
            return Ok(now.ok_or(Refused { error: AuthError::Password, looked }));
        }
        Ok(Err(Refused { error: AuthError::Password, looked }))
    }

    fn enabled_user(&self, name: &str) -> Option<Arc<User>> {
        self.accounts().user_by_name(name).filter(|user| !user.disabled).cloned()
    }

    /// See [`crate::auth::second_look`].
    async fn look_again(&self) -> Result<(), CannotLook> {
        let parts = &self.0.parts;
        self.0.second_look.look(&parts.accounts, &parts.database, &parts.lifecycle).await
    }

    /// Would the credential behind `caller` still be taken, as far as users, tokens and the time tell? It costs no query.
    pub fn takes(&self, caller: &Caller) -> bool {
        self.accounts().still_takes(caller, self.clock().now())
    }

    /// Would the credential behind `caller` still be taken? A connection that outlives its first check asks this from time
    /// to time; it costs no query, but for a session that is not remembered.
    pub async fn still_takes(&self, caller: &Caller) -> bool {
        if !self.takes(caller) {
            return false;
        }
        match &caller.session {
            Some(session) => !self.0.sessions.is_over(session).await,
            None => true,
        }
    }

    /// Refuses a caller who was shut out, or may do less, since the request began: its body may have been on its way for
    /// long. To be asked when it is there, and right before what it asks for is done.
    pub async fn require_still(&self, caller: &Caller) -> Result<(), AuthError> {
        if !self.still_takes(caller).await {
            return Err(AuthError::no_longer(caller.via));
        }
        match self.accounts().lost_scope(caller) {
            Some(scope) => Err(Denied { scope }.into()),
            None => Ok(()),
        }
    }

    /// Checks a password and begins a browser session: the user, the session, and what the browser is known by from now on.
    /// While the database cannot be asked, no user is told that they are unknown.
    pub async fn sign_in(
        &self,
        name: &str,
        password: &str,
        whence: Whence,
    ) -> Result<(Arc<User>, Secret, Secret), AuthError> {
        let attempt = Attempt { name, password, whence };
        let user = self.check_password(attempt).await?.map_err(Refused::if_looked)?;
        let secret = self.0.sessions.begin(&user).await?.ok_or(AuthError::Password)?;
        let known = self.0.passwords.know_browser(&user, whence);
        Ok((user, secret, known))
    }

    /// Is this the password of the user who is signed in? Counts as an attempt to sign in.
    pub async fn is_password_of(
        &self,
        user: &User,
        password: &str,
        whence: Whence,
    ) -> Result<bool, AuthError> {
        let attempt = Attempt { name: user.name.as_str(), password, whence };
        Ok(self.0.passwords.verify(Some(user), attempt).await?.is_right())
    }

    /// Logs what passwords were wrong lately. To be called every [`crate::auth::TELL_FAILURES_EVERY`].
    pub fn tell_failures(&self) {
        self.0.passwords.tell_failures();
    }

    /// Ends the browser session whose cookie this is.
    pub async fn sign_out(&self, hash: &SecretHash) -> Result<(), db::Error> {
        self.0.sessions.end(hash).await
    }

    /// How long a browser session lasts.
    pub fn session_lifetime(&self) -> Duration {
        self.0.sessions.lifetime()
    }

    /// Did the browser come by https? The gateway itself speaks plain HTTP, so it is a proxy or the browser that says.
    pub fn came_by_https(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        let forwarded =
            || headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
        self.origin_of(headers, uri) == Origin::Same { https: true }
            || (self.0.parts.options.trust_forwarded_proto && forwarded())
    }

    /// Where does a request come from?
    pub fn origin_of(&self, headers: &HeaderMap, uri: &Uri) -> Origin {
        origin_of(headers, uri, &self.0.parts.options.public_url)
    }

    /// A ticket with which `caller` may watch, once; None if there are too many unused ones.
    pub fn issue_ticket(&self, caller: &Caller) -> Option<Ticket> {
        self.0.tickets.issue(caller)
    }

    /// Uses a ticket up; refused if another request was faster.
    pub fn spend_ticket(&self, ticket: Presented) -> Result<(), AuthError> {
        if self.0.tickets.spend(ticket) { Ok(()) } else { Err(AuthError::Ticket) }
    }

    /// Uses a ticket for an event stream, which it can resume (`resumes`).
    pub fn hold_ticket(
        &self,
        ticket: Presented,
        view: View,
        resumes: bool,
    ) -> Result<Holding, AuthError> {
        self.0.tickets.hold(ticket, view, resumes).ok_or(AuthError::Ticket)
    }

    /// Does a connection still have the event stream of its ticket? To be asked from time to time: it keeps the ticket
    /// good for resuming.
    pub fn still_holds(&self, holding: &Holding) -> bool {
        self.0.tickets.still_holds(holding)
    }

    /// Hashes a new password.
    pub async fn hash_password(
        &self,
        password: Password,
        whence: Whence,
    ) -> Result<String, AuthError> {
        Ok(self.0.passwords.hash(password, whence).await?)
    }

    /// Forgets all sessions, to be called when users may have changed elsewhere.
    pub fn forget_all_sessions(&self) {
        self.0.sessions.forget_all();
    }

    /// Forgets a session that was ended, by its hash.
    pub fn forget_session(&self, hash: &[u8]) {
        if let Ok(hash) = SecretHash::try_from(hash) {
            self.0.sessions.forget(&hash);
        }
    }

    /// Forgets the sessions of a user whom a change may have signed out.
    pub fn forget_sessions_of(&self, user_id: i64) {
        self.0.sessions.forget_user(user_id);
    }

    /// Runs a change of users or tokens to its end, whether or not the client waits for it, and makes it visible on
    /// this node. `work` gets the pool for changes, and for whom it is: the statement itself asks once more whether they
    /// still may, because another gateway may have shut them out just now.
    pub async fn change<T, F>(
        &self,
        caller: &Caller,
        work: impl FnOnce(db::Pool, Option<Acting>) -> F,
    ) -> Result<T, AuthError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, db::Error>> + Send + 'static,
    {
        let permit = Arc::clone(&self.0.changes)
            .try_acquire_owned()
            .map_err(|_| AuthError::Busy { retry_after: CHANGE_RETRY })?;
        self.require_still(caller).await?;
        let (auth, via) = (self.clone(), caller.via);
        let work = work(self.changes_pool().clone(), self.accounts().acting(caller));
        let task = self.0.parts.lifecycle.spawn("account change", async move {
            let done = answered(work).await.map_err(|error| match error {
                db::Error::RowNotFound => AuthError::no_longer(via),
                error => error.into(),
            })?;
            auth.refresh().await.map_err(|error| {
                tracing::warn!(%error, "users and tokens changed, but could not be read back");
                AuthError::NotAppliedYet
            })?;
            drop(permit);
            Ok(done)
        });
        task.await.map_err(|_| AuthError::Interrupted)?
    }

    /// Reads users and tokens again, so that this node knows what has just been changed, and tells the catalog.
    pub async fn refresh(&self) -> Result<(), db::Error> {
        let reloaded = self.0.parts.accounts.reload(self.changes_pool()).await;
        self.0.parts.catalog_changed.notify_one();
        reloaded
    }

    fn changes_pool(&self) -> &db::Pool {
        &self.0.parts.database.pools().changes
    }
}

/// A refusal, and whether the database was asked before it.
struct Refused {
    error: AuthError,
    looked: Result<(), CannotLook>,
}

impl Refused {
    /// A refusal needs a look into the database before it.
    fn if_looked(self) -> AuthError {
        if self.looked.is_ok() { self.error } else { AuthError::NotKnown }
    }

    /// What is known from before goes on while the database is away; where nothing is, a no would be a guess.
    fn unless_nothing_is_known(self, auth: &Auth) -> AuthError {
        if auth.accounts().is_empty() { self.if_looked() } else { self.error }
    }
}
