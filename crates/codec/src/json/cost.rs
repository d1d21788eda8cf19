//! What a document costs PostgreSQL beside its bytes: its keys and values, counted in the scanner's one pass.
//!
//! `jsonb` makes something of each key and value: 0.2 to 0.8 µs, where a byte of a long string takes 0.01. And it sorts the
//! keys of every object with a quicksort that takes n²/12 comparisons, 0.5 ns · n², for an order that a sender can compute:
//! 100,000 keys in 1.2 MB took 5 s, where the same keys in any other order take 0.15. So that a count means the same time
//! whatever is counted, a large object counts by its worst order. (PostgreSQL 15, one core, measured with COPY.)

use memchr::memchr2;

/// An object of more keys counts for its keys as the square of them, divided by this.
pub const PLAIN_OBJECT_KEYS_MAX: u64 = 1_000;

/// What an object of so many keys counts beyond its keys.
pub fn excess_of(keys: u64) -> u64 {
    let worst = keys.saturating_mul(keys) / PLAIN_OBJECT_KEYS_MAX;
    worst.saturating_sub(keys)
}

/// What the objects in a JSON text that was scanned without an error count beyond their keys.
pub(super) fn excess_in(text: &[u8]) -> u64 {
    let mut excess = 0_u64;
    // How many keys each open container has so far; of an array none.
    let mut open: Vec<u64> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => at = end_of_string(text, at),
            b'{' | b'[' => open.push(0),
            b'}' | b']' => {
                excess = excess.saturating_add(excess_of(open.pop().unwrap_or_default()));
            }
            // Outside of strings a colon follows a key, and nothing else.
            b':' => {
                if let Some(keys) = open.last_mut() {
                    *keys += 1;
                }
            }
            _ => {}
        }
    }
    excess
}

/// Where the string ends whose first character is at `at`.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr2(b'"', b'\\', &text[at.min(text.len())..]) {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use crate::json::Scanner;

    fn members(text: &str) -> u64 {
        let mut scanner = Scanner::new(text.as_bytes(), true);
        scanner.value(0).unwrap();
        scanner.members(0)
    }

    fn object(keys: usize) -> String {
        let members: Vec<String> = (0..keys).map(|key| format!("\"k{key}\\\":{{\":1")).collect();
        format!("{{{}}}", members.join(","))
    }

    #[test]
    fn keys_and_values_are_counted_at_every_depth() {
        for (text, expected) in [
            ("1", 0),
            ("{}", 1),
            ("[[],[]]", 3),
            (r#"{"a":1}"#, 3),
            (r#"{"a":[{},{},{}]}"#, 6),
            (r#" [ {"a" : "x,y:{" , "b\"":[1 , null]} , true ] "#, 9),
        ] {
            assert_eq!(members(text), expected, "{text}");
        }
    }

    #[test]
    fn a_large_object_counts_by_the_worst_order_of_its_keys() {
        assert_eq!(members(&object(1_000)), 1 + 2_000);
        assert_eq!(members(&object(3_000)), 1 + 3_000 + 9_000);
        let both = format!("[{},{{\"x\":{}}}]", object(2_000), object(500));
        assert_eq!(members(&both), 1 + (1 + 2_000 + 4_000) + (1 + 1) + (1 + 1_000));
        assert_eq!(members(&format!("[{}]", vec![object(600); 5].join(","))), 1 + 5 * 1_201);
    }
}
