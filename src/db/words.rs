//! What PostgreSQL says of an error, whole: its message, its detail and its hint, which often is what helps.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// Did PostgreSQL not take the connection, or end it with this? Then it is away for the caller, whatever the reason.
pub fn ends_connection(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|said| matches!(said.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// An error in PostgreSQL's words; of one that did not come from it, what happened.
pub fn words_of(error: &sqlx::Error) -> String {
    let sqlx::Error::Database(error) = error else { return error.to_string() };
    let Some(said) = error.try_downcast_ref::<PgDatabaseError>() else {
        return error.to_string();
    };
    sentence(said.message(), said.detail(), said.hint())
}

fn sentence(message: &str, detail: Option<&str>, hint: Option<&str>) -> String {
    let mut words = message.to_owned();
    if let Some(detail) = detail {
        words.push_str(": ");
        words.push_str(detail);
    }
    if let Some(hint) = hint {
        // A message has no full stop, a detail has.
        words.push_str(if detail.is_some() { " Hint: " } else { ". Hint: " });
        words.push_str(hint);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_and_hint_follow_the_message() {
        let detail = Some("Failing row contains (1).");
        let hint = Some("Try two.");
        for (detail, hint, words) in [
            (None, None, "no"),
            (detail, None, "no: Failing row contains (1)."),
            (detail, hint, "no: Failing row contains (1). Hint: Try two."),
            (None, hint, "no. Hint: Try two."),
        ] {
            assert_eq!(sentence("no", detail, hint), words);
        }
    }

    #[test]
    fn what_did_not_come_from_postgresql_says_what_happened() {
        assert_eq!(words_of(&sqlx::Error::PoolClosed), sqlx::Error::PoolClosed.to_string());
    }
}
