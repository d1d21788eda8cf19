//! `/v1/monitor`: watching records arrive, over a WebSocket or as server-sent events.

use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::http::header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use url::form_urlencoded;

use crate::api::caller::MonitorCaller;
use crate::api::{ApiError, AppState};
use crate::auth::{Caller, Scope, View};
use crate::hub::SubscribeError;
use crate::monitors::{
    MonitorRequest, MonitorRequestError, NotAnUpgrade, Session, Upgrade, WEBSOCKET_VERSION,
    events as sse, websocket as ws,
};
use crate::telemetry::limits;

/// Advice when there are as many monitors as may be.
const RETRY_AFTER: Duration = Duration::from_secs(10);

impl From<MonitorRequestError> for ApiError {
    fn from(error: MonitorRequestError) -> ApiError {
        let text = error.to_string();
        match error {
            MonitorRequestError::NoSuchStream(_) => ApiError::not_found("no_such_stream", text),
            MonitorRequestError::Forbidden(_) => ApiError::forbidden("stream_not_allowed", text),
            _ => ApiError::bad_request("invalid_monitor_request", text),
        }
    }
}

impl From<SubscribeError> for ApiError {
    fn from(error: SubscribeError) -> ApiError {
        let code = match error {
            SubscribeError::TooManyOfUser { .. } => {
                limits::MONITORS_OF_USER.hit();
                let text = error.to_string();
                return ApiError::too_many_requests("too_many_monitors", text, RETRY_AFTER);
            }
            SubscribeError::TooMany { .. } => "no_more_monitors",
            SubscribeError::Ended => "shutting_down",
        };
        ApiError::unavailable(code, error.to_string(), RETRY_AFTER)
    }
}

impl From<NotAnUpgrade> for ApiError {
    fn from(error: NotAnUpgrade) -> ApiError {
        let (status, code) = match error {
            NotAnUpgrade::Version => (StatusCode::UPGRADE_REQUIRED, "unknown_websocket_version"),
            NotAnUpgrade::Subprotocol => (StatusCode::BAD_REQUEST, "unknown_subprotocol"),
            NotAnUpgrade::Method
            | NotAnUpgrade::Header(..)
            | NotAnUpgrade::NoKey
            | NotAnUpgrade::NotPossible => (StatusCode::BAD_REQUEST, "not_an_upgrade"),
        };
        let instead = "GET /v1/monitor/events has the same messages without a WebSocket";
        ApiError::new(status, code, error.to_string()).with("instead", instead)
    }
}

/// `GET /v1/monitor`: refused with 401, 403, 404 or 503 before the upgrade, never after it. A refusal leaves a ticket as it
/// was.
pub async fn websocket(
    State(state): State<AppState>,
    MonitorCaller { caller, ticket }: MonitorCaller,
    RawQuery(query): RawQuery,
    mut request: Request,
) -> Result<Response, ApiError> {
    let upgrade = match Upgrade::of(&mut request) {
        Ok(upgrade) => upgrade,
        Err(NotAnUpgrade::Version) => return Ok(other_version()),
        Err(error) => return Err(error.into()),
    };
    let session = open(&state, &caller, &requested(query.as_deref())?)?;
    if let Some(ticket) = ticket {
        state.auth.spend_ticket(ticket)?;
    }
    let shutdown = state.lifecycle.soft().clone();
    let auth = state.auth.clone();
    let still_allowed = move || {
        let (auth, caller) = (auth.clone(), caller.clone());
        async move { auth.still_takes(&caller).await }
    };
    let (response, connection) = upgrade.accept();
    // A task of the lifecycle, so that a shutdown waits for the goodbye.
    state.lifecycle.spawn("monitor", ws::serve(connection, session, still_allowed, shutdown));
    Ok(response)
}

/// `POST /v1/monitor` → 204, or what a WebSocket with this address would be refused with now. Browsers do not tell a page
/// why a WebSocket was refused, so a page asks.
///
/// It is a POST because a browser then names its origin, as it does for a WebSocket.
pub async fn check(
    State(state): State<AppState>,
    MonitorCaller { caller, .. }: MonitorCaller,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, ApiError> {
    open(&state, &caller, &requested(query.as_deref())?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/monitor/events`: the same messages. `Last-Event-ID` resumes, with the ticket that the stream was opened with,
/// too.
pub async fn events(
    State(state): State<AppState>,
    MonitorCaller { caller, ticket }: MonitorCaller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut request = requested(query.as_deref())?;
    let last_event = headers.get("last-event-id").map(HeaderValue::as_bytes);
    if let Some(id) = last_event {
        request.resume_after(&String::from_utf8_lossy(id));
    }
    let session = open(&state, &caller, &request)?;
    let hold =
        |ticket| state.auth.hold_ticket(ticket, View::of(&request.view()), last_event.is_some());
    let holding = ticket.map(hold).transpose()?;
    let auth = state.auth.clone();
    let still_allowed = move || {
        let (auth, caller) = (auth.clone(), caller.clone());
        async move {
            let holds = holding.is_none_or(|holding| auth.still_holds(&holding));
            holds && auth.still_takes(&caller).await
        }
    };
    Ok(sse::respond(session, still_allowed, state.lifecycle.soft().clone()))
}

/// What is asked for in the address.
fn requested(query: Option<&str>) -> Result<MonitorRequest, MonitorRequestError> {
    let pairs: Vec<_> = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect();
    MonitorRequest::parse(pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())))
}

fn open(state: &AppState, caller: &Caller, request: &MonitorRequest) -> Result<Session, ApiError> {
    caller.require(Scope::Monitor)?;
    let selection = request.select(state.catalog.streams(), caller.streams.as_deref())?;
    Ok(Session::open(&state.hub, caller.user_id, selection, request)?)
}

/// 426, with the version that is spoken here (RFC 6455, section 4.4).
fn other_version() -> Response {
    let mut response = ApiError::from(NotAnUpgrade::Version).into_response();
    let headers = response.headers_mut();
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(WEBSOCKET_VERSION));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}
