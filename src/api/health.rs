//! Is it alive, and can it do its work? For load balancers and service managers; no authentication.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::AppState;

/// How what is missing of PostgreSQL begins; the rest is for those who may read the status.
const NOT_REACHED: &str = "PostgreSQL cannot be used";
const STALLED: &str = "PostgreSQL does not commit what waits";

/// Whether the gateway takes records and writes to PostgreSQL, and what is missing.
#[derive(Debug, Serialize)]
pub struct Readiness {
    pub ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// What stands between the gateway and its work.
pub fn readiness(state: &AppState) -> Readiness {
    let mut missing = Vec::new();
    if state.lifecycle.soft().is_cancelled() {
        missing.push("the gateway is shutting down".to_owned());
    }
    if let Some(failure) = state.appender.failure() {
        let advice = failure.advice();
        missing.push(format!("the journal refuses records: {failure}; {advice}"));
    }
    let database = state.database_state.borrow();
    if !database.reachable {
        let reason = database.last_error.as_deref().unwrap_or("not reached yet");
        missing.push(format!("{NOT_REACHED}: {reason}"));
    } else if let Some(stalled) = &database.stalled {
        missing.push(format!("{STALLED}: {stalled}"));
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
    let mut readiness = readiness(&state);
    // Errors of PostgreSQL may name hosts and users; they are for the status page, which asks who is looking.
    for reason in &mut readiness.missing {
        for hidden in [NOT_REACHED, STALLED] {
            if reason.starts_with(hidden) {
                *reason = format!("{hidden}; GET /v1/status says why");
            }
        }
    }
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}
