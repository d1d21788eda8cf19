//! Why a stream's table could not be made or changed, in words that say what helps.
//!
//! What a user did to the tables in PostgreSQL is for a user to undo, so these words reach the caller; anything
//! else stays an error of the database.

use tidegate_codec::StreamName;

use crate::db::locks::TableLocked;
use crate::db::pool::PgPool;
use crate::db::stream_limits::TooManyStreams;
use crate::db::words::words_of;

/// Why a stream's table could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error(
        "streams.{stream} is in the database already: {what}; rename or drop it there, or choose another name for the stream"
    )]
    Exists { stream: StreamName, what: &'static str },
    #[error(
        "there is no table streams.{stream} to change any more; rename it back or make it again in PostgreSQL, or delete the stream"
    )]
    Gone { stream: StreamName },
    #[error(
        "the table streams.{stream} has a column \"{column}\" already, of type {found}; rename or drop it there, or choose another name, with \"from\":\"{column}\" if it is a key of the records"
    )]
    ColumnExists { stream: StreamName, column: String, found: String },
    #[error(
        "the table streams.{stream} has no column \"{column}\" any more; rename it back or add it again in PostgreSQL first"
    )]
    ColumnGone { stream: StreamName, column: String },
    #[error(
        "column \"{column}\" is {found} in the table streams.{stream}, which cannot become {wanted} without loss; alter it to {declared} first, as the stream has it, or to {wanted}"
    )]
    ColumnDiffers {
        stream: StreamName,
        column: String,
        found: String,
        declared: &'static str,
        wanted: &'static str,
    },
    #[error(
        "the table streams.{stream} takes too long to rewrite; run {statement} in PostgreSQL when the table is not needed for so long, and then ask for this again"
    )]
    TooLarge { stream: StreamName, statement: String },
    /// PostgreSQL's own words.
    #[error("PostgreSQL refused to {doing} the table streams.{stream}: {words}")]
    Refused { stream: StreamName, doing: &'static str, words: String },
    #[error(transparent)]
    TooMany(#[from] TooManyStreams),
    #[error(transparent)]
    Locked(TableLocked),
    #[error(
        "another stream is being made at the moment, or the database prepared; nothing was changed, send this again"
    )]
    Busy,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl TableError {
    /// What went wrong, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            TableError::Exists { .. } => "table_exists",
            TableError::Gone { .. } => "table_gone",
            TableError::ColumnExists { .. } => "column_exists",
            TableError::ColumnGone { .. } => "column_gone",
            TableError::ColumnDiffers { .. } => "column_differs",
            TableError::TooLarge { .. } => "table_too_large",
            TableError::Refused { .. } => "table_refused",
            TableError::TooMany(_) => "streams_limit",
            TableError::Locked(_) => "table_locked",
            TableError::Busy => "streams_busy",
            TableError::Database(_) => "database",
        }
    }

    /// Is it PostgreSQL that is away, or does not answer, whatever the stream?
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            TableError::Database(
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
            )
        )
    }

    /// The same error with those who hold the table, where that is what was waited for in vain.
    pub async fn naming_holders(self, pool: &PgPool, stream: &StreamName) -> TableError {
        let TableError::Database(error) = self else { return self };
        match TableLocked::of(&error, pool, stream).await {
            Some(locked) => TableError::Locked(locked),
            None => TableError::Database(error),
        }
    }

    /// Of a statement that would `doing` the stream's table.
    pub(super) fn of(stream: &StreamName, doing: &'static str, error: sqlx::Error) -> TableError {
        let stream = stream.clone();
        match sqlstate(&error) {
            Some(code) if code == "42P01" => TableError::Gone { stream },
            Some(code) if is_for_the_owner(&code) => {
                TableError::Refused { stream, doing, words: words_of(&error) }
            }
            _ => TableError::Database(error),
        }
    }
}

pub(super) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().map(|error| error.code().unwrap_or_default().into_owned())
}

/// Can the owner of the tables repair it? By SQLSTATE: what is not supported there (a view that depends on a column),
/// data, constraints, dependent rights, a schema that is gone, names and rights, limits, objects in use, triggers of
/// the user's.
fn is_for_the_owner(code: &str) -> bool {
    let classes = ["0A", "22", "23", "2B", "3F", "42", "54", "55", "P0"];
    classes.iter().any(|class| code.starts_with(class)) && code != "55P03"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_or_is_our_fault_is_not_for_the_owner() {
        for code in [
            "0A000", "3F000", "22003", "23505", "2BP01", "42501", "42809", "54011", "55006",
            "P0001",
        ] {
            assert!(is_for_the_owner(code), "{code}");
        }
        for code in ["55P03", "57014", "40P01", "53100", "08006", "25006", "XX000", ""] {
            assert!(!is_for_the_owner(code), "{code}");
        }
    }
}
