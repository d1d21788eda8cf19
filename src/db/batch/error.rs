//! Why a batch was not committed, and what that means for it.

use sqlx::postgres::PgDatabaseError;

use crate::db::connection_check::{ConnectError, Unfit};
use crate::db::verdict::{Verdict, verdict};
use crate::streams::Stream;

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Another session raised the epoch: this one is over.
    #[error("the journal belongs to a newer session")]
    Fenced,
    /// The connection is not what it must be.
    #[error(transparent)]
    Unfit(Unfit),
    #[error("{doing}: {source}")]
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
    pub message: String,
    /// The column, where PostgreSQL named one.
    pub column: Option<String>,
}

impl BatchError {
    /// The class of SQLSTATE, or `connection` where PostgreSQL said nothing; for metrics.
    pub fn class(&self) -> String {
        match self {
            BatchError::Fenced => "fenced".to_owned(),
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
            BatchError::Unfit(unfit) if unfit.passes() => Verdict::Retry,
            BatchError::Unfit(_) => Verdict::Stop,
            BatchError::Database { .. } => {
                self.sqlstate().map_or(Verdict::Retry, |code| verdict(&code))
            }
        }
    }

    /// Is there a row with the same key? Not necessarily the stream's key: users have unique indexes, too.
    pub fn is_key_taken(&self) -> bool {
        self.sqlstate().as_deref() == Some("23505")
    }

    /// May the rows that could not be copied straight into the table of a keyed stream be merged all the same, later in
    /// the transaction? A merge takes its turn, so it waits for nobody's rows, and finds what must be there.
    pub fn lets_merge(&self) -> bool {
        match self.sqlstate().as_deref() {
            // Each waited for the other's rows.
            Some("40P01") => true,
            // It took all the time that there is.
            Some("57014") => false,
            _ => self.verdict() != Verdict::Retry,
        }
    }

    /// What PostgreSQL said; of an error that did not come from it, what happened.
    pub fn refusal(&self) -> Refusal {
        let BatchError::Database { source: sqlx::Error::Database(error), .. } = self else {
            return Refusal { sqlstate: String::new(), message: self.to_string(), column: None };
        };
        let detailed = error.try_downcast_ref::<PgDatabaseError>();
        let detail = detailed.and_then(PgDatabaseError::detail);
        let message = match detail {
            Some(detail) => format!("{}: {detail}", error.message()),
            None => error.message().to_owned(),
        };
        Refusal {
            sqlstate: self.sqlstate().unwrap_or_default(),
            message,
            column: detailed.and_then(PgDatabaseError::column).map(str::to_owned),
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

pub(in crate::db) fn during(doing: &str) -> impl Fn(sqlx::Error) -> BatchError {
    move |source| BatchError::Database { doing: doing.to_owned(), source }
}

pub(super) fn during_stream(doing: &str, stream: &Stream) -> impl Fn(sqlx::Error) -> BatchError {
    let doing = format!("{doing} of stream {}", stream.name);
    move |source| BatchError::Database { doing: doing.clone(), source }
}
