//! Limits on the wait for PostgreSQL's answers.

use std::io::ErrorKind;
use std::time::Duration;

/// Longest wait for the answer to a question of the pool's connections: PostgreSQL itself ends the statement before.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The answer, unless the line went silent: then no error would ever come.
pub(crate) async fn answered<T, E: From<sqlx::Error>>(
    asking: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    within(ANSWER_TIMEOUT, asking).await
}

pub(super) async fn within<T, E: From<sqlx::Error>>(
    limit: Duration,
    asking: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(limit, asking).await.map_err(|_elapsed| silent(limit))?
}

/// What an answer is called that did not come.
pub(super) fn silent(limit: Duration) -> sqlx::Error {
    let message = format!("PostgreSQL did not answer within {limit:?}");
    sqlx::Error::Io(std::io::Error::new(ErrorKind::TimedOut, message))
}
