//! The stream that a job feeds: its name, and the stream itself, which is made if it is not there.

use std::sync::Arc;

use tidegate_codec::definition::{InvalidDefinition, StreamDefinition};
use tidegate_codec::{InvalidStreamName, NAME_BYTES_MAX, OnDuplicate, Stream, StreamName};

use super::definition::{Definition, OnChange};
use super::members::{Invalid, invalid};
use crate::catalog::Catalog;
use crate::db;
use crate::db::streams::{NewStream, TableError};
use crate::outbound::Endpoint;

/// Why a stream cannot take a job's items.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    #[error(
        "`on_change` is replace, but the stream {0} was made without `on_duplicate` replace, so nothing in it can be replaced"
    )]
    NotReplacing(StreamName),
    #[error("the stream for it cannot be made: {0}")]
    Definition(#[from] InvalidDefinition),
    #[error("the stream for it cannot be made: {0}")]
    Table(TableError),
    #[error(transparent)]
    Database(#[from] db::Error),
    /// It was deleted at the same moment.
    #[error("the stream {0} is not there")]
    Gone(StreamName),
}

impl From<TableError> for DestinationError {
    fn from(error: TableError) -> DestinationError {
        match error {
            TableError::Database(error) => DestinationError::Database(error),
            error => DestinationError::Table(error),
        }
    }
}

/// The stream that was named, else the one that the address names.
pub fn stream_of(given: Option<String>, definition: &Definition) -> Result<StreamName, Invalid> {
    match given {
        None => Ok(stream_name(&definition.url)),
        Some(name) => {
            name.parse().map_err(|error: InvalidStreamName| invalid("/stream", error.to_string()))
        }
    }
}

/// The stream that a job feeds; made, if it is not there, for the job's owner.
pub async fn destination(
    catalog: &Catalog,
    name: &StreamName,
    definition: &Definition,
    owner: Option<i64>,
) -> Result<Arc<Stream>, DestinationError> {
    if let Some(stream) = catalog.streams().by_name(name) {
        check_fit(&stream, definition)?;
        return Ok(stream);
    }
    let replaces = definition.on_change == OnChange::Replace;
    let defined = StreamDefinition {
        key: replaces.then(|| definition.key.iter().map(ToString::to_string).collect()),
        on_duplicate: replaces.then_some(OnDuplicate::Replace),
        ..StreamDefinition::default()
    };
    let defined = defined.check()?;
    let new = NewStream {
        name: name.clone(),
        shape: defined.shape,
        key: defined.key,
        retention_days: defined.retention_days,
        created_by: owner,
    };
    let stream = catalog.create_or_find(&new).await?;
    let stream = stream.ok_or_else(|| DestinationError::Gone(name.clone()))?;
    check_fit(&stream, definition)?;
    Ok(stream)
}

/// A job that replaces needs a stream that does. Any other takes a keyed stream as it is: what becomes of a changed item
/// is for the stream's key to say.
fn check_fit(stream: &Stream, definition: &Definition) -> Result<(), DestinationError> {
    let replaces = stream.key.as_ref().is_some_and(|key| key.on_duplicate == OnDuplicate::Replace);
    if definition.on_change == OnChange::Replace && !replaces {
        return Err(DestinationError::NotReplacing(stream.name.clone()));
    }
    Ok(())
}

/// The stream that a job without a stream feeds: the last segment of its address's path, made a valid name.
fn stream_name(endpoint: &Endpoint) -> StreamName {
    let mut segments = endpoint.url().path_segments().into_iter().flatten();
    let last = segments.rfind(|segment| !segment.is_empty());
    let text = last.or(endpoint.url().host_str()).unwrap_or_default();
    let text = text.split_once('.').map_or(text, |(before, _)| before);
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes().map(|byte| byte.to_ascii_lowercase()) {
        let fits = byte.is_ascii_alphanumeric();
        match fits {
            true => name.push(char::from(byte)),
            false if !name.ends_with('_') => name.push('_'),
            false => {}
        }
    }
    let name = name.trim_matches('_');
    let begins_well = name.starts_with(|letter: char| letter.is_ascii_lowercase());
    let mut name = if begins_well { name.to_owned() } else { format!("items_{name}") };
    name.truncate(NAME_BYTES_MAX);
    name.trim_end_matches('_').parse().expect("only what a name may have is left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_stream() {
        let name = |text: &str| stream_name(&Endpoint::parse(text).unwrap().0).to_string();
        assert_eq!(name("https://api.test/v1/users"), "users");
        assert_eq!(name("https://api.test/v1/Users.json?x=/y"), "users");
        assert_eq!(name("https://api.test/v1/order-items/"), "order_items");
        assert_eq!(name("https://api.test/2024"), "items_2024");
        assert_eq!(name("https://api.test/%20%20"), "items_20_20");
        assert_eq!(name("https://api.test/---"), "items");
        assert_eq!(name("https://api.test/"), "api");
        assert_eq!(name("https://127.0.0.1/"), "items_127");
        assert_eq!(name(&format!("https://api.test/{}", "x".repeat(500))).len(), NAME_BYTES_MAX);
    }
}
