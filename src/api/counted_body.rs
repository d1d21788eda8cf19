//! Bodies whose decoder counts: a few hundred bytes on the line may have it remember megabytes.

use axum::BoxError;
use bytes::Bytes;
use futures::Stream;

use crate::api::AppState;
use crate::api::held_bytes::{Held, Holder};
use crate::ingest::body::{BodyLimits, BodyReader, ContentEncoding};

/// Reads the body of a caller who is known; what its decoder remembers counts for as long as it does.
pub fn read<S, E>(
    state: &AppState,
    body: S,
    encoding: ContentEncoding,
    limits: BodyLimits,
) -> BodyReader
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Into<BoxError> + 'static,
{
    let reader = BodyReader::new(body, encoding, limits);
    if encoding == ContentEncoding::Identity {
        return reader;
    }
    let (budget, mut held) = (state.held_bytes.clone(), None::<Held>);
    reader.with_account(move |bytes| match &mut held {
        Some(held) => held.grow(bytes).is_ok(),
        None => {
            held = budget.hold(Holder::Known, bytes).ok();
            held.is_some()
        }
    })
}
