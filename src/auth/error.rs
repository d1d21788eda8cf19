//! Why a request is not let in, or a change of users and tokens not made.

use std::time::Duration;

use axum::http::header::HeaderMap;

use crate::auth::caller::{Denied, Via};
use crate::auth::credentials::Garbled;
use crate::auth::failures::Throttled;
use crate::auth::fair_queue::{HASH_WAIT_MAX, NoPermit};
use crate::auth::origin::ForeignOrigin;
use crate::auth::password_checks::Unchecked;
use crate::auth::tickets::TICKET_SECONDS;
use crate::db;

/// Why a request is not let in, or a change not made.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("no credentials: send a Bearer token, HTTP Basic, or sign in")]
    Missing,
    #[error(transparent)]
    Garbled(#[from] Garbled),
    #[error("the token is unknown, expired or revoked")]
    Token,
    #[error("user and password do not match")]
    Password,
    #[error("the session is over; sign in again")]
    Session,
    #[error(
        "the ticket is unknown, older than {TICKET_SECONDS} seconds or used; a used one does nothing but resume the event \
         stream that it opened, with the same streams and mode and a Last-Event-ID. Fetch another"
    )]
    Ticket,
    #[error("{0}")]
    ForeignOrigin(Box<ForeignOrigin>),
    #[error("{0}")]
    Throttled(Throttled),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("too many checks of credentials at once")]
    Busy { retry_after: Duration },
    #[error("users and tokens cannot be read from the database at the moment")]
    NotKnown,
    #[error(
        "the change is stored, but this gateway cannot read it back yet; it applies as soon as it can"
    )]
    NotAppliedYet,
    #[error("the change was cut off")]
    Interrupted,
    #[error(transparent)]
    Database(#[from] db::Error),
}

impl AuthError {
    /// What is wrong with a request that a cookie must not speak for.
    pub fn foreign_origin(headers: &HeaderMap) -> AuthError {
        AuthError::ForeignOrigin(Box::new(ForeignOrigin::of(headers)))
    }

    /// Of a caller whose credential was taken, and is not any more.
    pub fn no_longer(via: Via) -> AuthError {
        match via {
            Via::Bearer { .. } | Via::Local => AuthError::Token,
            Via::Basic => AuthError::Password,
            Via::Session => AuthError::Session,
            Via::Ticket { .. } => AuthError::Ticket,
        }
    }
}

impl From<NoPermit> for AuthError {
    fn from(_: NoPermit) -> AuthError {
        AuthError::Busy { retry_after: HASH_WAIT_MAX }
    }
}

impl From<Unchecked> for AuthError {
    fn from(unchecked: Unchecked) -> AuthError {
        match unchecked {
            Unchecked::Throttled(throttled) => AuthError::Throttled(throttled),
            Unchecked::Busy => NoPermit.into(),
        }
    }
}
