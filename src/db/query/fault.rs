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
