//! The stream that records are for: one that is there, or one that is made at its first record.

use std::sync::Arc;

use tidegate_codec::{InvalidStreamName, PayloadType, Shape, Stream, StreamName};
use tidegate_record::StreamId;
use time::OffsetDateTime;

use crate::auth::{Caller, Scope};
use crate::catalog::Catalog;
use crate::db::streams::{NewStream, TableError};

/// A stream for records.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is still to be made: what it will be, but for its number.
    pub stream: Arc<Stream>,
    /// For whom it is still to be made, when its first record is kept.
    pub maker: Option<Maker>,
}

/// Who makes a stream.
#[derive(Debug, Clone, Copy)]
pub struct Maker {
    /// None: the local token.
    pub user_id: Option<i64>,
}

/// Whose records they are, and whether unknown streams are made for them.
#[derive(Debug, Clone)]
pub struct Rights {
    pub caller: Caller,
    /// Callers who may make streams have unknown ones made.
    pub makes_streams: bool,
}

/// Why there is no stream for records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    #[error(transparent)]
    InvalidName(#[from] InvalidStreamName),
    #[error("this token is not for the stream \"{0}\"")]
    NotAllowed(StreamName),
    #[error("there is no stream \"{0}\"")]
    Unknown(StreamName),
}

impl NoTarget {
    /// The word in replies.
    pub fn code(&self) -> &'static str {
        match self {
            NoTarget::InvalidName(_) => "invalid_stream_name",
            NoTarget::NotAllowed(_) => "stream_not_allowed",
            NoTarget::Unknown(_) => "no_such_stream",
        }
    }
}

/// Why a stream could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NotMade {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("there is no stream \"{0}\"")]
    Gone(StreamName),
    #[error(
        "another request made this stream at the same moment, with a shape of its own; send again"
    )]
    MadeOtherwise,
}

impl NotMade {
    /// Does the reason lie in the stream, so that other streams can take their records, and sending again does not help?
    pub fn is_of_stream(&self) -> bool {
        match self {
            NotMade::Table(error) => {
                !matches!(error, TableError::Database(_) | TableError::Locked(_) | TableError::Busy)
            }
            NotMade::Gone(_) | NotMade::MadeOtherwise => false,
        }
    }

    /// The word in replies.
    pub fn code(&self) -> &'static str {
        match self {
            NotMade::Table(error) => error.code(),
            NotMade::Gone(_) => "no_such_stream",
            NotMade::MadeOtherwise => "stream_just_made",
        }
    }
}

impl Target {
    /// The stream of this name, or, where it is still to be made and may be, what it will be.
    pub fn find(
        catalog: &Catalog,
        caller: &Caller,
        makes_streams: bool,
        name: &str,
    ) -> Result<Target, NoTarget> {
        let name: StreamName = name.parse()?;
        if !caller.may_use(&name) {
            return Err(NoTarget::NotAllowed(name));
        }
        if let Some(stream) = catalog.streams().by_name(&name) {
            return Ok(Target { stream, maker: None });
        }
        if !makes_streams || caller.require(Scope::StreamsWrite).is_err() {
            return Err(NoTarget::Unknown(name));
        }
        let planned = Stream {
            id: StreamId(0),
            name,
            shape: Shape::Document { payload: PayloadType::Jsonb },
            key: None,
            retention_days: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        let maker = Some(Maker { user_id: caller.user_id });
        Ok(Target { stream: Arc::new(planned), maker })
    }

    /// Makes the stream if it is still to be made.
    pub(super) async fn make(&mut self, catalog: &Catalog) -> Result<(), NotMade> {
        let Some(maker) = self.maker else { return Ok(()) };
        let new = NewStream {
            name: self.stream.name.clone(),
            shape: self.stream.shape.clone(),
            key: None,
            retention_days: None,
            created_by: maker.user_id,
        };
        let made = catalog.create_or_find(&new).await?;
        let made = made.ok_or_else(|| NotMade::Gone(new.name.clone()))?;
        // What is waiting for it was read for a stream of documents without a key.
        if made.shape != new.shape || made.key.is_some() {
            return Err(NotMade::MadeOtherwise);
        }
        *self = Target { stream: made, maker: None };
        Ok(())
    }
}
