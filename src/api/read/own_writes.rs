//! `wait=`: a reader is answered once what it was told is durable is in the table.

use std::time::Duration;

use tidegate_query::QueryError;
use tidegate_record::Position;
use tokio::time::timeout;

use crate::api::{ApiError, AppState};
use crate::db::replica::LogPlace;
use crate::telemetry::limits;

/// Longest wait for the commit.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Advice to a reader whose records are not committed yet.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Takes `wait` off the parameters of a request.
pub fn take(parameters: &mut Vec<(String, String)>) -> Result<Option<Position>, ApiError> {
    let Some(index) = parameters.iter().position(|(name, _)| name == "wait") else {
        return Ok(None);
    };
    let (_, text) = parameters.remove(index);
    let position = text.parse::<Position>();
    position.map(Some).map_err(|error| invalid(format!("{error}, as `position` in a reply")))
}

/// What a reader must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// What there is, on a replica too.
    Any,
    /// Everything that the primary had at this place of its log.
    Of(LogPlace),
    /// What only the primary has for sure.
    Primary,
}

/// Waits until everything up to this position is committed.
pub async fn wait(state: &AppState, position: Option<Position>) -> Result<Freshness, ApiError> {
    let Some(position) = position else { return Ok(Freshness::Any) };
    if position > state.journal.synced() {
        let message =
            "this gateway has not accepted as much yet; a position is of the gateway that told it";
        return Err(invalid(message.to_owned()));
    }
    let mut committed = state.progress.subscribe();
    let waited = timeout(WAIT_MAX, committed.wait_for(|low_water| *low_water >= position)).await;
    let is_committed = matches!(waited, Ok(Ok(_)));
    drop(waited);
    if !is_committed {
        limits::READ_WAIT.hit();
        let detail = format!(
            "what was accepted up to {position} is not committed after {} s; it is durable, and GET /v1/status says what \
             PostgreSQL waits for",
            WAIT_MAX.as_secs()
        );
        return Err(ApiError::unavailable("not_committed_yet", detail, RETRY_AFTER));
    }
    if state.replica.is_none() {
        return Ok(Freshness::Any);
    }
    Ok(state.database.log_place().await.map_or(Freshness::Primary, Freshness::Of))
}

fn invalid(message: String) -> ApiError {
    QueryError::new("wait", "invalid_position", message).into()
}
