//! Whether PostgreSQL takes longer over an entry's documents than its rows and bytes say.
//!
//! Writing a row takes as long as some 20 keys and values of documents, and plain records have one for 9 bytes and more. So
//! what an entry has beyond this is what it costs beyond its bytes; of ordinary records there is nothing.

/// So many keys and values come with each row.
const MEMBERS_PER_ROW: u64 = 32;
/// And one with so many bytes of tuples.
const BYTES_PER_MEMBER: u64 = 6;

/// An entry with so many keys and values beyond what its rows and bytes make likely is dense: PostgreSQL takes some
/// milliseconds longer over it.
pub const DENSE_EXCESS_MIN: u64 = 4_000;

/// How many keys and values an entry's documents have beyond what its rows and its bytes of tuples make likely.
pub fn excess_members(members: u64, rows: u64, bytes: u64) -> u64 {
    let likely = rows.saturating_mul(MEMBERS_PER_ROW).saturating_add(bytes / BYTES_PER_MEMBER);
    members.saturating_sub(likely)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a document's tuple has beside the document.
    const TUPLE_BYTES: u64 = 39;

    fn excess(rows: u64, members: u64, bytes: u64) -> u64 {
        excess_members(rows * members, rows, rows * (bytes + TUPLE_BYTES))
    }

    #[test]
    fn ordinary_records_are_not_dense_however_many_there_are() {
        for (members, bytes, what) in [
            (31, 168, "bench's weather, the shortest, as a document"),
            (9, 100, "bench's generated records, the shortest"),
            (39, 395, "the demo's films, the densest"),
            (37, 392, "users of a placeholder API"),
            (21, 61, "10 members of one letter and one digit"),
            (41, 121, "20 of them"),
            (21, 100, "10 members"),
            (41, 300, "20 members"),
            (201, 1_200, "100 members of 12 bytes"),
            (4_001, 24_000, "2,000 of them"),
            (0, 10, "columns without a document"),
        ] {
            for rows in [1, 10_000] {
                assert_eq!(excess(rows, members, bytes), 0, "{what}");
            }
        }
    }

    #[test]
    fn documents_that_are_cheap_to_send_are() {
        for (rows, members, bytes, what) in [
            (1, 249_002, 747_006, "empty objects, below what one entry may have"),
            (1, 9_002, 27_006, "a few of them"),
            (1, 8_002, 16_006, "digits"),
            (1, 7_503, 20_006, "keys of one letter in objects of their own"),
            (1_000, 100, 206, "small documents of digits, many in one body"),
            (1, 420_001, 200_000, "an object of 20,000 keys"),
        ] {
            assert!(excess(rows, members, bytes) >= DENSE_EXCESS_MIN, "{what}");
        }
    }
}
