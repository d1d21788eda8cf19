//! Extractors: the authenticated caller of a request, where the request comes from, and the part of its path that is open.
//!
//! A handler that takes a [`Caller`] runs only for an authenticated one; what the caller may do is the handler's
//! question (`caller.require(…)?`).

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use url::form_urlencoded;

use crate::api::authenticated::Authenticated;
use crate::api::connections::Requester;
use crate::api::{ApiError, AppState};
use crate::auth::{BROWSER_COOKIE, Caller, Presented, Whence, credentials};

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Caller, ApiError> {
        // The route may have asked already.
        if let Some(authenticated) = parts.extensions.get::<Authenticated>() {
            return Ok(authenticated.caller());
        }
        let caller = authenticate(parts, state).await?;
        parts.extensions.insert(Authenticated::new(caller.clone(), state.auth.clone()));
        Ok(caller)
    }
}

/// The caller of a request, of which its requester hears.
pub async fn authenticate(parts: &Parts, state: &AppState) -> Result<Caller, ApiError> {
    let caller = state.auth.authenticate(parts, || whence_of(parts)).await?;
    Requester::of(&parts.extensions).recognize();
    Ok(caller)
}

/// What limits on passwords go by.
impl<S: Send + Sync> FromRequestParts<S> for Whence {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Whence, Infallible> {
        Ok(whence_of(parts))
    }
}

fn whence_of(parts: &Parts) -> Whence {
    let browser = credentials::session_cookie(&parts.headers, BROWSER_COOKIE);
    Whence { address: Requester::of(&parts.extensions).address(), browser }
}

/// The sender of a request for a monitor: may come with `?ticket=`, and with a cookie only from our own pages.
#[derive(Debug, Clone)]
pub struct MonitorCaller {
    pub caller: Caller,
    /// What was presented, if it was a ticket. It is used up where the caller is let in to watch.
    pub ticket: Option<Presented>,
}

impl FromRequestParts<AppState> for MonitorCaller {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<MonitorCaller, ApiError> {
        let ticket = ticket_of(parts.uri.query().unwrap_or_default());
        let whence = || whence_of(parts);
        let (caller, ticket) =
            state.auth.authenticate_monitor(parts, whence, ticket.as_deref()).await?;
        Requester::of(&parts.extensions).recognize();
        Ok(MonitorCaller { caller, ticket })
    }
}

fn ticket_of(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "ticket").map(|(_, ticket)| ticket.into_owned())
}

/// The one part of a path that a route leaves open. What is no text (`%FF`) is the name of nothing.
#[derive(Debug)]
pub struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathText, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(PathText(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticket_is_found_among_the_rest() {
        assert_eq!(ticket_of("streams=a%2Cb&ticket=x-_y&mode=full").as_deref(), Some("x-_y"));
        assert_eq!(ticket_of("tickets=x&TICKET=y"), None);
        assert_eq!(ticket_of("ticket=").as_deref(), Some(""));
        assert_eq!(ticket_of(""), None);
    }
}
