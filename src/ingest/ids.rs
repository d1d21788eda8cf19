//! The ids of records: version 7, and consecutive for the records of one stream in one body.

use tidegate_record::UnixMicros;
use uuid::Uuid;

/// A fresh UUIDv7 whose following ids are free as well: the highest random bit is 0, so that counting up from it
/// never reaches the variant.
pub fn first_id(at: UnixMicros) -> Uuid {
    let milliseconds = u64::try_from(at.0 / 1_000).unwrap_or_default();
    let mut random: [u8; 10] = rand::random();
    random[2] &= 0x1f;
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}

/// The id of an entry's record, counted from 0.
pub fn nth_id(first: Uuid, index: u32) -> Uuid {
    Uuid::from_u128(first.as_u128() + u128::from(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_an_entry_are_version_7_and_consecutive() {
        for _ in 0..1_000 {
            let first = first_id(UnixMicros(1_700_000_000_000_000));
            let last = nth_id(first, u32::MAX);
            for id in [first, last] {
                assert_eq!(id.get_version_num(), 7);
                assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
                assert_eq!(id.get_timestamp().unwrap().to_unix().0, 1_700_000_000);
            }
            assert!(first < last);
        }
    }
}
