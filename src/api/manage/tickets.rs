//! `/v1/monitor/tickets`: a minute's admission to a monitor, for browsers elsewhere.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use time::OffsetDateTime;

use crate::api::ApiError;
use crate::auth::{Auth, Caller, Scope, TICKET_SECONDS, moment};

/// `{"ticket":"…","expires_at":"…"}`. No `Debug`: a ticket opens something.
#[derive(Serialize)]
pub struct IssuedTicket {
    ticket: String,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// `POST /v1/monitor/tickets` → 201; 429 while too many tickets are unused. Needs `monitor`.
pub async fn create(
    State(auth): State<Auth>,
    caller: Caller,
) -> Result<(StatusCode, Json<IssuedTicket>), ApiError> {
    caller.require(Scope::Monitor)?;
    let ticket = auth.issue_ticket(&caller).ok_or_else(|| {
        let wait = Duration::from_secs(TICKET_SECONDS);
        ApiError::too_many_requests("too_many_tickets", "too many tickets are unused", wait)
    })?;
    let (text, expires_at) = (ticket.secret.as_str().to_owned(), moment(ticket.expires_at));
    Ok((StatusCode::CREATED, Json(IssuedTicket { ticket: text, expires_at })))
}
