//! Any bytes as a COPY tuple: read or refused, and what can be read has the length that is found without reading it.

#![no_main]

mod streams;

use tidegate_codec::decode::{decode_tuple, tuple_len};
use tidegate_record::{ColumnSet, EntryMeta};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for stream in streams::streams() {
        for column_set in [ColumnSet(0), stream.column_set()] {
            let mut json = b"before".to_vec();
            match decode_tuple(&stream.shape, column_set, data, &mut json) {
                Ok(decoded) => assert_eq!(tuple_len(data), Ok(decoded.consumed)),
                Err(_) => assert_eq!(json, b"before"),
            }
        }
    }
    if let Some(meta) = EntryMeta::decode(data) {
        let mut encoded = Vec::new();
        if meta.user.len() < 1_000 {
            meta.encode(&mut encoded);
            assert_eq!(EntryMeta::decode(&encoded), Some(meta));
        }
    }
});
