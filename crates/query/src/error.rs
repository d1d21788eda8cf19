//! Why a question cannot be asked.

use std::fmt::Display;

/// A parameter that makes no sense, said so that its sender can correct it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{parameter}`: {message}")]
pub struct QueryError {
    /// As it was sent.
    pub parameter: String,
    /// For programs: `unknown_parameter`, `unknown_column`, `invalid_filter`, `invalid_value`, …
    pub code: &'static str,
    /// For people: what is wrong, and what helps.
    pub message: String,
}

impl QueryError {
    /// An error of the parameter of this name.
    pub fn new(parameter: &str, code: &'static str, message: impl Display) -> QueryError {
        QueryError { parameter: shortened(parameter), code, message: message.to_string() }
    }
}

/// What is wrong with a part of a parameter; the parameter's name is added where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub code: &'static str,
    pub message: String,
}

impl Problem {
    pub fn new(code: &'static str, message: impl Display) -> Problem {
        Problem { code, message: message.to_string() }
    }

    pub fn of(self, parameter: &str) -> QueryError {
        QueryError::new(parameter, self.code, self.message)
    }
}

/// Most characters of something sent that a message repeats.
const SHOWN_CHARS_MAX: usize = 64;

/// A text of a sender as messages repeat it.
pub(crate) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
