//! Where the next page begins: the order's values of the last record, opaque to those who carry it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidegate_codec::Stream;
use tidegate_codec::encode::check_value;

use crate::error::Problem;
use crate::order::OrderTerm;

const VERSION: u8 = 1;
/// Longest cursor, in characters.
pub const CURSOR_CHARACTERS_MAX: usize = 64 << 10;
/// Bytes of the hash that tells questions apart.
const QUESTION_BYTES: usize = 8;

/// The order's values of a record, as PostgreSQL's texts; None is NULL.
pub type OrderValues = Vec<Option<String>>;

#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    v: u8,
    /// Of which question it is.
    q: String,
    /// [`OrderValues`]
    o: OrderValues,
}

/// What tells one question from another: the stream, the filters and the order. How many records a page has and what is
/// shown of them may change on the way.
pub(crate) fn question(stream: &Stream, parameters: &[(String, String)]) -> String {
    let mut hash = Sha256::new();
    hash.update(stream.id.0.to_be_bytes());
    for (name, value) in parameters {
        for part in [name, value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..QUESTION_BYTES])
}

/// The cursor behind a record with these values.
pub(crate) fn write(question: &str, values: OrderValues) -> String {
    let cursor = Cursor { v: VERSION, q: question.to_owned(), o: values };
    let json = serde_json::to_vec(&cursor).expect("texts and numbers are JSON");
    URL_SAFE_NO_PAD.encode(json)
}

/// The values of a cursor that [`write`] made for the same question.
pub(crate) fn read(
    text: &str,
    question: &str,
    order: &[OrderTerm],
    stream: &Stream,
) -> Result<OrderValues, Problem> {
    let invalid =
        || Problem::new("invalid_cursor", "it is not what `next` was; begin without `after`");
    if text.len() > CURSOR_CHARACTERS_MAX {
        return Err(invalid());
    }
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    let cursor: Cursor = serde_json::from_slice(&json).map_err(|_| invalid())?;
    if cursor.v != VERSION {
        return Err(invalid());
    }
    if cursor.q != question {
        let message = "it belongs to other filters, another order or another stream; `after` goes with the parameters of \
                       the request that `next` was answered to";
        return Err(Problem::new("other_cursor", message));
    }
    let fits = |(term, value): (&OrderTerm, &Option<String>)| match value {
        Some(value) => check_value(term.field.kind(stream), value).is_ok(),
        None => term.is_nullable(),
    };
    if cursor.o.len() != order.len() || !order.iter().zip(&cursor.o).all(fits) {
        return Err(invalid());
    }
    Ok(cursor.o)
}
