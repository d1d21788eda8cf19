//! Access: who is calling, and what they may do.
//!
//! A request's path through this module: [`credentials`] reads what the client presented, [`Auth`] checks it against
//! an [`Accounts`] snapshot (a Bearer token), a verified [`password`] (HTTP Basic), a browser session or a monitor's
//! ticket, and the result is a [`Caller`], which knows its scopes and streams. [`origin`] keeps other sites from
//! using a browser's cookie.
//!
//! It promises that a Bearer token or a known password costs no query and no argon2; that everything that belongs to a
//! disabled user is dead at once on this node; that no secret is stored, logged or shown except where it is made; that
//! guessing passwords from one place keeps no user of another out; and that every queue and cache here is bounded. It refuses to
//! tell which part of a credential was wrong.
//!
//! A *place* is an address or a known browser, and an account is *at home* at a place where its password was right within a
//! week; elsewhere it is new, and waits for what others did ([`homes`], [`failures`], [`fair_queue`]).

mod accounts;
mod authenticator;
mod caller;
pub mod credentials;
mod error;
mod expiring_map;
mod failure_log;
mod failures;
mod fair_queue;
mod first_admin;
mod homes;
mod local_token;
pub mod origin;
mod password;
mod password_checks;
mod quota;
mod scope;
mod second_look;
mod secret;
mod sessions;
mod tickets;
mod user_name;

pub(crate) use accounts::moment;
pub use accounts::{AccountRows, Accounts, AccountsSnapshot, Reading, Token, User};
pub use authenticator::{Auth, AuthOptions, AuthParts, BROWSER_COOKIE, SESSION_COOKIE};
pub use caller::{Caller, Denied, PasswordMark, SessionMark, Via};
pub use error::AuthError;
pub use failure_log::TELL_FAILURES_EVERY;
pub use failures::{
    ACCOUNT_WAIT_MAX, Blamed, FAILURES_FREE, OWN_FAILURES_FREE, PLACE_WAIT_MAX, Throttled,
};
pub use fair_queue::WAITING_MAX as PASSWORDS_WAITING_MAX;
pub use first_admin::{
    ADMIN_PASSWORD_FILE, FirstAdmin, FirstAdminError, ensure_first_admin, remove_stale_password,
};
pub use homes::{AT_HOME_FOR, Whence};
pub use local_token::{LOCAL_TOKEN_FILE, LOCAL_USER_NAME, LocalToken};
pub use password::{
    InvalidPassword, PASSWORD_BYTES_MAX, PASSWORD_CHARACTERS_MIN, Password, hash_password,
};
pub use quota::{Admission, InvalidRecords, OverQuota, Quotas, RECORDS_PER_SECOND_MAX};
pub use scope::{Role, Scope, ScopeSet, UnknownRole, UnknownScope};
pub use secret::{Secret, SecretHash};
pub use tickets::{Holding, Presented, TICKET_SECONDS, View};
pub use user_name::{EMAIL_BYTES_MAX, Email, InvalidEmail, InvalidUserName, UserName};
