//! `POST /v1/polling-jobs/preview`: asks for the first page of a job that is still to be made, and shows what came, what
//! could be its key, and what columns its stream could have. It makes nothing and keeps nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value};

use crate::api::bodies::ApiJson;
use crate::api::{ApiError, AppState, named_stream};
use crate::auth::{Caller, Scope};
use crate::polling::ask::FetchError;
use crate::polling::ask::Resume;
use crate::polling::ask::{Preview, PreviewError};
use crate::polling::jobs::Definition;
use crate::polling::jobs::Members;
use crate::polling::jobs::stream_of;
use crate::telemetry::limits;

/// Advice while other previews are made.
const RETRY_AFTER_BUSY: Duration = Duration::from_secs(5);

/// `POST /v1/polling-jobs/preview` → 200, or 422 `preview_failed` with the reason in words. The body is a job's full form;
/// when it runs does not matter.
pub async fn preview(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(members): ApiJson<Map<String, Value>>,
) -> Result<Json<Preview>, ApiError> {
    caller.require(Scope::Jobs)?;
    let mut members = Members::new(members);
    for name in ["name", "owner", "paused", "interval_ms", "cron", "zone"] {
        members.take::<Value>(name)?;
    }
    let stream = members.take::<String>("stream")?;
    let (definition, secrets) = Definition::take(&mut members)?;
    members.finish()?;
    // Before anything is asked: a caller who may make no such job sees none of its answers either.
    named_stream::require(&caller, &stream_of(stream, &definition)?)?;
    // Held until the reply is made: an API that does not answer holds up few others.
    let _permit = state.previewers.take(&caller).await?;
    let (fetcher, definition) = (&state.polling.fetcher, Arc::new(definition));
    let mut pages = fetcher.pages(caller.user_id, definition, secrets, Resume::default());
    let page = pages.next().await?;
    Ok(Json(state.previews.look(page).await?))
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> ApiError {
        ApiError::unprocessable("preview_failed", error.message).with("kind", error.kind.as_str())
    }
}

impl From<PreviewError> for ApiError {
    fn from(error: PreviewError) -> ApiError {
        match error {
            PreviewError::Busy => {
                limits::PREVIEWS.hit();
                ApiError::unavailable("busy", error.to_string(), RETRY_AFTER_BUSY)
            }
            PreviewError::Failed(error) => ApiError::internal(error),
        }
    }
}
