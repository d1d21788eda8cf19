//! Is it alive, and can it do its work? For load balancers and service managers; no authentication.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::AppState;

/// Whether the gateway takes records and writes to PostgreSQL, and what is missing.
#[derive(Debug, Serialize)]
pub struct Readiness {
    pub ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Whom it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Every client that can connect. Paths, and PostgreSQL's words, which may name hosts and users, are not for it.
    Public,
    /// Callers who may read the status.
    Reader,
}

/// What stands between the gateway and its work.
pub fn readiness(state: &AppState, audience: Audience) -> Readiness {
    let mut missing = Vec::new();
    if state.lifecycle.soft().is_cancelled() {
        missing.push("the gateway is shutting down".to_owned());
    }
    if let Some(failure) = state.appender.failure() {
        let said = match audience {
            Audience::Public => failure.without_directory(),
            Audience::Reader => failure.to_string(),
        };
        missing.push(format!("the journal refuses records: {said}; {}", failure.advice()));
    }
    let database = state.database_state.borrow();
    let mut lacks = |what: &str, why: &str| {
        missing.push(match audience {
            Audience::Public => format!("{what}; GET /v1/status says why"),
            Audience::Reader => format!("{what}: {why}"),
        });
    };
    if !database.reachable {
        let reason = database.last_error.as_deref().unwrap_or("not reached yet");
        lacks("PostgreSQL cannot be used", reason);
    } else if let Some(stalled) = &database.stalled {
        lacks("PostgreSQL does not commit what waits", stalled);
    }
    Readiness { ready: missing.is_empty(), missing }
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> Json<serde_json::Value> {
    Json(serde_json::json!({"status": "ok"}))
}

/// `GET /readyz`: 200 when everything works, 503 with what is missing. Records may be taken all the same while
/// PostgreSQL is away.
pub async fn readyz(State(state): State<AppState>) -> Response {
    let readiness = readiness(&state, Audience::Public);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}
