//! Encoders that wait for the next request. Making one takes longer than encoding a small record.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_codec::Stream;
use tidegate_codec::encode::{EncodeLimits, EncoderError, RecordEncoder};

/// Most encoders that wait; the one that waited longest goes first.
const WAITING_MAX: usize = 256;

/// Each with the definition that it was made for.
type Waiting = VecDeque<(Arc<Stream>, RecordEncoder)>;

/// The encoders; clones share them.
#[derive(Debug, Clone)]
pub struct Encoders {
    limits: EncodeLimits,
    waiting: Arc<Mutex<Waiting>>,
}

impl Encoders {
    pub fn new(limits: EncodeLimits) -> Encoders {
        Encoders { limits, waiting: Arc::default() }
    }

    /// An encoder for exactly this definition of the stream.
    pub fn take(&self, stream: &Arc<Stream>) -> Result<RecordEncoder, EncoderError> {
        let mut waiting = self.lock();
        let fits = waiting.iter().rposition(|(other, _)| Arc::ptr_eq(other, stream));
        if let Some((_, encoder)) = fits.and_then(|index| waiting.swap_remove_back(index)) {
            return Ok(encoder);
        }
        drop(waiting);
        RecordEncoder::new(stream, self.limits)
    }

    /// Keeps an encoder for the next request.
    pub fn give_back(&self, stream: Arc<Stream>, encoder: RecordEncoder) {
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back((stream, encoder));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_codec::columns::{Column, ColumnType};
    use tidegate_codec::{Shape, UnknownKeys};
    use tidegate_record::StreamId;
    use time::OffsetDateTime;

    use super::*;

    /// With so many columns.
    fn stream(columns: usize) -> Arc<Stream> {
        let column = |number| Column::new(format!("c{number}"), ColumnType::Text);
        let columns = (0..columns).map(column).collect();
        Arc::new(Stream {
            id: StreamId(1),
            name: "s".parse().unwrap(),
            shape: Shape::typed(columns, UnknownKeys::Extra),
            key: None,
            retention_days: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        })
    }

    #[test]
    fn an_encoder_never_serves_another_definition() {
        let encoders =
            Encoders::new(EncodeLimits { record_bytes_max: 1_000, members_max: u64::MAX });
        let (before, after) = (stream(1), stream(2));
        encoders.give_back(Arc::clone(&before), encoders.take(&before).unwrap());
        assert_eq!(encoders.take(&after).unwrap().column_set().columns(), 2);
        assert_eq!(encoders.lock().len(), 1);
        assert_eq!(encoders.take(&before).unwrap().column_set().columns(), 1);
        assert_eq!(encoders.lock().len(), 0);
    }

    #[test]
    fn only_so_many_wait() {
        let encoders =
            Encoders::new(EncodeLimits { record_bytes_max: 1_000, members_max: u64::MAX });
        let stream = stream(1);
        let taken: Vec<_> = (0..WAITING_MAX + 5).map(|_| encoders.take(&stream).unwrap()).collect();
        for encoder in taken {
            encoders.give_back(Arc::clone(&stream), encoder);
        }
        assert_eq!(encoders.lock().len(), WAITING_MAX);
    }
}
