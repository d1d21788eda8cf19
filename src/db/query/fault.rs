//! What is wrong with a question that PostgreSQL refused.

use super::reading::ReadError;

/// A refusal that the caller can do something about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuestionFault {
    /// The stream's table has not the columns that the stream says, or is not there.
    Table,
    /// It took longer than a statement may.
    Slow,
    /// A value of a record is not of the type that it is cast to.
    Value,
    /// A pattern that PostgreSQL cannot read, in its words: they are about what the caller wrote.
    Pattern(String),
    /// A search of words that PostgreSQL cannot read, or in a language that it does not know.
    Search,
    /// A time zone that PostgreSQL does not know.
    Timezone,
    /// It is over one of PostgreSQL's own limits.
    TooMuch,
}

impl ReadError {
    /// Does the fault lie in where it was asked, so that another place may answer: the line, or a replica that could not keep
    /// what is read because of what it replays?
    pub fn is_of_place(&self) -> bool {
        // A stream that was just made, or got columns, is known here before the replica has its table.
        self.is_of_line()
            || self.fault() == Some(QuestionFault::Table)
            || matches!(self.sqlstate().as_deref(), Some("40001" | "40P01"))
    }

    /// Is it the line, or a server that takes no questions?
    pub fn is_of_line(&self) -> bool {
        match self {
            ReadError::Database(sqlx::Error::Database(_)) => {
                let state = self.sqlstate().unwrap_or_default();
                ["08", "53"].iter().any(|class| state.starts_with(class))
                    || ["57P01", "57P02", "57P03"].contains(&&*state)
            }
            ReadError::Database(_) => true,
            _ => false,
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            ReadError::Database(sqlx::Error::Database(error)) => {
                Some(error.code().unwrap_or_default().into_owned())
            }
            _ => None,
        }
    }

    /// What is wrong with the question; None where it is not to blame.
    pub fn fault(&self) -> Option<QuestionFault> {
        let ReadError::Database(sqlx::Error::Database(reason)) = self else { return None };
        match &*reason.code()? {
            "57014" => Some(QuestionFault::Slow),
            "2201B" => Some(QuestionFault::Pattern(reason.message().to_owned())),
            "22023" => Some(QuestionFault::Timezone),
            "42601" | "42704" => Some(QuestionFault::Search),
            "42501" => None,
            code if code.starts_with("42") => Some(QuestionFault::Table),
            code if code.starts_with("22") => Some(QuestionFault::Value),
            code if code.starts_with("54") => Some(QuestionFault::TooMuch),
            _ => None,
        }
    }
}
