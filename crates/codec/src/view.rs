//! A stream as people and programs see it: the API and the command line show the same.

use serde::Serialize;
use tidegate_record::StreamId;
use time::OffsetDateTime;

use crate::columns::Column;
use crate::{KeyField, OnDuplicate, PayloadType, Shape, Stream, StreamName, UnknownKeys};

/// A stream as the API shows it.
#[derive(Debug, Serialize)]
pub struct StreamView {
    name: StreamName,
    id: StreamId,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<PayloadType>,
    columns: Vec<Column>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<UnknownKeys>,
    key: Option<Vec<String>>,
    on_duplicate: Option<OnDuplicate>,
    retention_days: Option<u16>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl StreamView {
    pub fn name(&self) -> &StreamName {
        &self.name
    }
}

impl From<&Stream> for StreamView {
    fn from(stream: &Stream) -> StreamView {
        let (kind, payload, unknown) = match &stream.shape {
            Shape::Document { payload } => ("document", Some(*payload), None),
            Shape::Typed { unknown, .. } => ("typed", None, Some(*unknown)),
        };
        let field = |field: &KeyField| match field {
            KeyField::Column(index) => stream.columns()[*index].name.clone(),
            KeyField::Pointer(segments) => segments
                .iter()
                .flat_map(|segment| ["/".to_owned(), segment.replace('~', "~0").replace('/', "~1")])
                .collect(),
        };
        StreamView {
            name: stream.name.clone(),
            id: stream.id,
            kind,
            payload,
            columns: stream.columns().to_vec(),
            unknown,
            key: stream.key.as_ref().map(|key| key.fields.iter().map(field).collect()),
            on_duplicate: stream.key.as_ref().map(|key| key.on_duplicate),
            retention_days: stream.retention_days,
            created_at: stream.created_at,
        }
    }
}
