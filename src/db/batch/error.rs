//! Why a batch was not committed, and what that means for it.

use sqlx::postgres::PgDatabaseError;
use tidegate_codec::Stream;

use crate::db::connection_check::{ConnectError, Unfit};
use crate::db::verdict::{Verdict, verdict};
use crate::db::words::words_of;

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Another session raised the epoch: this one is over.
    #[error("the journal belongs to a newer session")]
    Fenced,
    /// The table was changed between the look at it and the rows.
    #[error("the table of a stream was changed while it was written")]
    TableChanged,
    /// The connection is not what it must be.
    #[error(transparent)]
    Unfit(Unfit),
    #[error("{doing}: {}", words_of(.source))]
    Database {
        doing: String,
        #[source]
        source: sqlx::Error,
    },
}

impl From<ConnectError> for BatchError {
    fn from(error: ConnectError) -> BatchError {
        match error {
            ConnectError::Unfit(unfit) => BatchError::Unfit(unfit),
            ConnectError::Database(source) => during("connecting")(source),
        }
    }
}

/// What PostgreSQL said of rows that it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub sqlstate: String,
    /// The message, the detail and the hint.
    pub message: String,
    /// The column, where PostgreSQL named one.
    pub column: Option<String>,
}

impl BatchError {
    /// The class of SQLSTATE, or `connection` where PostgreSQL said nothing; for metrics.
    pub fn class(&self) -> String {
        match self {
            BatchError::Fenced => "fenced".to_owned(),
            BatchError::TableChanged => "table_changed".to_owned(),
            BatchError::Unfit(_) => "unfit".to_owned(),
            BatchError::Database { .. } => self
                .sqlstate()
                .map_or_else(|| "connection".to_owned(), |code| code.chars().take(2).collect()),
        }
    }

    /// What to do about it, if the statement wrote into a stream's table.
    pub fn verdict(&self) -> Verdict {
        match self {
            BatchError::Fenced => Verdict::Retry,
            BatchError::TableChanged => Verdict::Table,
            BatchError::Unfit(unfit) if unfit.passes() => Verdict::Retry,
            BatchError::Unfit(_) => Verdict::Stop,
            BatchError::Database { .. } => {
                self.sqlstate().map_or(Verdict::Retry, |code| verdict(&code))
            }
        }
    }

    /// The same of a statement whose tuples fit the stream's table. A fault that no record can help is the table's.
    pub fn verdict_of_rows(&self, stream: &Stream) -> Verdict {
        if self.is_missing_partition(stream) || self.is_null_in_foreign_column(stream) {
            return Verdict::Table;
        }
        self.verdict()
    }

    /// The partition for the rows' day is there, but not the table's: it was taken off, or the table was swapped.
    fn is_missing_partition(&self, stream: &Stream) -> bool {
        let Some(error) = self.detailed() else { return false };
        error.code() == "23514"
            && error.routine() == Some("ExecFindPartition")
            && is_of(error, stream)
    }

    /// A column that must not be null, has no default, and is not the stream's: no record ever has it.
    fn is_null_in_foreign_column(&self, stream: &Stream) -> bool {
        let Some(error) = self.detailed() else { return false };
        let Some(column) = error.column() else { return false };
        let is_own = ["id", "received_at", "extra", "payload"].contains(&column)
            || stream.columns().iter().any(|declared| declared.name == column);
        error.code() == "23502" && is_of(error, stream) && !is_own
    }

    /// Is there a row with the same key? Not necessarily the stream's key: users have unique indexes, too.
    pub fn is_key_taken(&self) -> bool {
        self.sqlstate().as_deref() == Some("23505")
    }

    /// Did the statement take longer than it may, or was it cancelled?
    pub fn is_timeout(&self) -> bool {
        self.sqlstate().as_deref() == Some("57014")
    }

    /// May the rows that could not be copied straight into the table of a keyed stream be merged all the same, later in
    /// the transaction? Merges are made in the order of the batches, so one waits for no rows of another,
    /// and finds what must be there.
    pub fn lets_merge(&self) -> bool {
        match self.sqlstate().as_deref() {
            // Each waited for the other's rows.
            Some("40P01") => true,
            // It took all the time that there is.
            _ if self.is_timeout() => false,
            _ => self.verdict() != Verdict::Retry,
        }
    }

    /// What PostgreSQL said, its hint included; of an error that did not come from it, what happened.
    pub fn refusal(&self) -> Refusal {
        let BatchError::Database { source: source @ sqlx::Error::Database(_), .. } = self else {
            return Refusal { sqlstate: String::new(), message: self.to_string(), column: None };
        };
        Refusal {
            sqlstate: self.sqlstate().unwrap_or_default(),
            message: words_of(source),
            column: self.detailed().and_then(PgDatabaseError::column).map(str::to_owned),
        }
    }

    fn detailed(&self) -> Option<&PgDatabaseError> {
        match self {
            BatchError::Database { source: sqlx::Error::Database(error), .. } => {
                error.try_downcast_ref()
            }
            _ => None,
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            BatchError::Database { source: sqlx::Error::Database(error), .. } => {
                Some(error.code().unwrap_or_default().into_owned())
            }
            _ => None,
        }
    }
}

/// Is it about the stream's own table or a partition of it, and not about one that a trigger writes?
fn is_of(error: &PgDatabaseError, stream: &Stream) -> bool {
    match (error.schema(), error.table()) {
        (Some("streams"), Some(table)) => table == stream.name.as_str(),
        (Some("stream_partitions"), Some(table)) => {
            table.starts_with(&format!("s{}_", stream.id.0))
        }
        _ => false,
    }
}

pub(in crate::db) fn during(doing: &str) -> impl Fn(sqlx::Error) -> BatchError {
    move |source| BatchError::Database { doing: doing.to_owned(), source }
}

pub(super) fn during_stream(doing: &str, stream: &Stream) -> impl Fn(sqlx::Error) -> BatchError {
    let doing = format!("{doing} of stream {}", stream.name);
    move |source| BatchError::Database { doing: doing.clone(), source }
}
