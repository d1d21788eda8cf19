//! The stream that a request names, as far as its caller may use it.

use std::sync::Arc;

use tidegate_codec::{InvalidStreamName, Stream, StreamName};

use crate::api::{ApiError, AppState};
use crate::auth::Caller;

/// The stream of this name, if it exists and the caller may use it.
pub fn find(state: &AppState, caller: &Caller, name: &str) -> Result<Arc<Stream>, ApiError> {
    let name = parse_name(name)?;
    require(caller, &name)?;
    state.catalog.streams().by_name(&name).ok_or_else(|| no_such_stream(name.as_str()))
}

/// A token with a list of streams is for these alone.
pub fn require(caller: &Caller, name: &StreamName) -> Result<(), ApiError> {
    if caller.may_use(name) {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "stream_not_allowed",
        format!("this token is not for the stream \"{name}\""),
    ))
}

pub fn no_such_stream(name: &str) -> ApiError {
    ApiError::not_found("no_such_stream", format!("there is no stream \"{name}\""))
}

/// A stream's name from a request.
pub fn parse_name(name: &str) -> Result<StreamName, ApiError> {
    name.parse().map_err(|error: InvalidStreamName| {
        ApiError::unprocessable("invalid_stream_name", error.to_string())
    })
}
