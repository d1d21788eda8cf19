//! `/v1/monitor`: watching records arrive, over a WebSocket or as server-sent events.

use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use url::form_urlencoded;

use crate::api::caller::MonitorCaller;
use crate::api::{ApiError, AppState};
use crate::auth::{Caller, Scope};
use crate::hub::SubscribeError;
use crate::monitors::{
    MonitorRequest, MonitorRequestError, Session, Upgrade, events as sse, websocket as ws,
};

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
            SubscribeError::TooMany { .. } => "no_more_monitors",
            SubscribeError::Ended => "shutting_down",
        };
        ApiError::unavailable(code, error.to_string(), RETRY_AFTER)
    }
}

/// `GET /v1/monitor`: refused with 401, 403 or 404 before the upgrade, never after it.
pub async fn websocket(
    State(state): State<AppState>,
    MonitorCaller(caller): MonitorCaller,
    RawQuery(query): RawQuery,
    mut request: Request,
) -> Result<Response, ApiError> {
    let upgrade = Upgrade::of(&mut request).map_err(|error| {
        ApiError::bad_request("not_an_upgrade", error.to_string())
            .with("instead", "GET /v1/monitor/events has the same messages without a WebSocket")
    })?;
    let session = open(&state, &caller, query.as_deref(), None)?;
    let shutdown = state.lifecycle.soft().clone();
    let auth = state.auth.clone();
    let still_allowed = move || std::future::ready(auth.still_takes(&caller));
    let (response, connection) = upgrade.accept();
    // A task of the lifecycle, so that a shutdown waits for the goodbye.
    state.lifecycle.spawn("monitor", ws::serve(connection, session, still_allowed, shutdown));
    Ok(response)
}

/// `GET /v1/monitor/events`: the same messages. `Last-Event-ID` resumes.
pub async fn events(
    State(state): State<AppState>,
    MonitorCaller(caller): MonitorCaller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last_event = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let session = open(&state, &caller, query.as_deref(), last_event)?;
    let auth = state.auth.clone();
    let still_allowed = move || std::future::ready(auth.still_takes(&caller));
    Ok(sse::respond(session, still_allowed, state.lifecycle.soft().clone()))
}

fn open(
    state: &AppState,
    caller: &Caller,
    query: Option<&str>,
    last_event: Option<&str>,
) -> Result<Session, ApiError> {
    caller.require(Scope::Monitor)?;
    let pairs: Vec<_> = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect();
    let pairs = pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    let mut request = MonitorRequest::parse(pairs)?;
    if let Some(last_event) = last_event {
        request.resume_after(last_event)?;
    }
    let selection = request.select(state.catalog.streams(), caller.streams.as_deref())?;
    Ok(Session::open(&state.hub, selection, &request)?)
}
