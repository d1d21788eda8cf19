//! A quarantined record, as it is shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tidegate_record::StreamId;
use time::OffsetDateTime;
use uuid::Uuid;

use super::guessed_text::GuessedText;
use crate::db::kept_records::KeptRecord;

/// A quarantined record.
#[derive(Debug, Serialize)]
pub struct KeptView {
    id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    received_at: OffsetDateTime,
    /// null: the stream was deleted.
    stream: Option<String>,
    stream_id: StreamId,
    source: String,
    user: String,
    record: Option<i64>,
    line: Option<i64>,
    column: Option<String>,
    code: String,
    /// PostgreSQL's own code, where it was the one that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    sqlstate: Option<String>,
    message: String,
    format: String,
    /// The header line of a CSV row; only where one record is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    csv_header: Option<String>,
    /// What separates and quotes its fields, where the sender said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    csv_delimiter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    csv_quote: Option<String>,
    /// What was sent, as text; a list shows the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    /// The same in base64, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
    /// And what it most likely says, there.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_guess: Option<GuessedText>,
    /// How many bytes are kept.
    raw_bytes: i32,
    /// More was sent than is kept.
    truncated: bool,
}

impl KeptView {
    /// Most bytes that a view makes beside what it takes over: of a record that is not UTF-8 its base64 and its guess, each of
    /// whose characters has three bytes at most.
    pub fn made_bytes(kept: &KeptRecord) -> usize {
        match std::str::from_utf8(&kept.raw) {
            Ok(_) => 0,
            Err(_) => kept.raw.len().div_ceil(3) * 4 + kept.raw.len() * 3,
        }
    }
}

impl From<KeptRecord> for KeptView {
    fn from(kept: KeptRecord) -> KeptView {
        let format = kept.format.unwrap_or_else(|| "json".to_owned());
        let is_cut = usize::try_from(kept.raw_bytes).is_ok_and(|bytes| bytes > kept.raw.len());
        let (raw, raw_base64, raw_guess) = match text(kept.raw, is_cut || kept.truncated) {
            Ok(text) => (Some(text), None, None),
            Err(bytes) => (None, Some(STANDARD.encode(&bytes)), Some(GuessedText::of(&bytes))),
        };
        KeptView {
            id: kept.id,
            received_at: kept.received_at,
            stream: kept.stream,
            stream_id: kept.stream_id,
            source: kept.source,
            user: kept.user_name,
            record: kept.record,
            line: kept.line,
            column: kept.column_name,
            code: kept.code,
            sqlstate: kept.sqlstate,
            message: kept.message,
            format,
            csv_header: kept.csv_header.map(|raw| String::from_utf8_lossy(&raw).into_owned()),
            csv_delimiter: kept.csv_delimiter,
            csv_quote: kept.csv_quote,
            raw,
            raw_base64,
            raw_guess,
            raw_bytes: kept.raw_bytes,
            truncated: kept.truncated,
        }
    }
}

/// The bytes as text, or back. A cut may go through a character, whose half is left out.
fn text(raw: Vec<u8>, is_cut: bool) -> Result<String, Vec<u8>> {
    String::from_utf8(raw).or_else(|error| {
        let half_a_character = is_cut && error.utf8_error().error_len().is_none();
        let valid = error.utf8_error().valid_up_to();
        let mut raw = error.into_bytes();
        if half_a_character {
            raw.truncate(valid);
            return String::from_utf8(raw).map_err(std::string::FromUtf8Error::into_bytes);
        }
        Err(raw)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_through_a_character_is_still_text() {
        let euro = "€".as_bytes();
        assert_eq!(text(euro.to_vec(), false), Ok("€".to_owned()));
        assert_eq!(text([b"a", &euro[..2]].concat(), true), Ok("a".to_owned()));
        assert_eq!(text(euro[..2].to_vec(), false), Err(euro[..2].to_vec()));
        assert_eq!(text(b"\xff a".to_vec(), true), Err(b"\xff a".to_vec()));
    }
}
