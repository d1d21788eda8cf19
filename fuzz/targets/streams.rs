//! The streams that everything is tried on: documents, and a column of every form.

use std::sync::{Arc, LazyLock};

use tidegate_codec::columns::{Column, ColumnType};
use tidegate_codec::{PayloadType, Shape, Stream, UnknownKeys};
use tidegate_record::StreamId;

static STREAMS: LazyLock<[Arc<Stream>; 2]> = LazyLock::new(|| {
    let kinds = [
        ("b", ColumnType::Boolean),
        ("i", ColumnType::Integer),
        ("d", ColumnType::DoublePrecision),
        ("n", ColumnType::Numeric),
        ("t", ColumnType::Text),
        ("z", ColumnType::TimestampTz),
        ("a", ColumnType::Date),
        ("u", ColumnType::Uuid),
        ("j", ColumnType::Jsonb),
    ];
    let column = |(name, kind): (&str, _)| Column::new(name, kind);
    let columns = kinds.into_iter().map(column).collect();
    [
        stream(Shape::Document { payload: PayloadType::Jsonb }),
        stream(Shape::typed(columns, UnknownKeys::Extra)),
    ]
});

fn stream(shape: Shape) -> Arc<Stream> {
    Arc::new(Stream {
        id: StreamId(1),
        name: "fuzzed".parse().expect("a name"),
        shape,
        key: None,
        retention_days: None,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
    })
}

/// The streams that everything is tried on.
pub fn streams() -> &'static [Arc<Stream>; 2] {
    &STREAMS
}
