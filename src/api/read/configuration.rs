//! `GET /v1/configuration`: what this gateway was started with.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::{ApiError, AppState};
use crate::auth::{Caller, Scope};
use crate::config::Setting;

#[derive(Debug, Serialize)]
pub struct Configuration {
    settings: Vec<Setting>,
}

/// Every setting with its value, its default and its help; of secrets only whether they are set. Needs the scope `admin`.
pub async fn show(
    State(state): State<AppState>,
    caller: Caller,
) -> Result<Json<Configuration>, ApiError> {
    caller.require(Scope::Admin)?;
    Ok(Json(Configuration { settings: state.settings.clone() }))
}
