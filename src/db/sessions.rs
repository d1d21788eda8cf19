//! The table `tidegate.sessions`: browsers that are signed in.
//!
//! Each function is safe to cancel: every statement stands for itself. The time is the gateway's, not the database's. A
//! session that is ended before its time is announced on the channel of the catalog, for nodes that remember it.

use time::OffsetDateTime;

use crate::db::pool::PgPool;

/// A session that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct SessionRow {
    pub user_id: i64,
    pub expires_at: OffsetDateTime,
}

/// A session to be.
pub struct NewSession<'a> {
    pub hash: &'a [u8],
    pub user_id: i64,
    /// The hash that the password was checked against.
    pub password_hash: &'a str,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// Adds a session; false if meanwhile the user was disabled or has another password. The row lock orders this against
/// `users::update`, which deletes the sessions that it can see once it has changed the user.
pub async fn insert(pool: &PgPool, session: &NewSession<'_>) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(
        "insert into tidegate.sessions (hash, user_id, created_at, expires_at)
         select $1, id, $4, $5 from tidegate.users
         where id = $2 and password_hash = $3 and not disabled
         for share",
    )
    .bind(session.hash)
    .bind(session.user_id)
    .bind(session.password_hash)
    .bind(session.created_at)
    .bind(session.expires_at)
    .execute(pool)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// The session, if there is one that is not over.
pub async fn find(
    pool: &PgPool,
    hash: &[u8],
    now: OffsetDateTime,
) -> Result<Option<SessionRow>, sqlx::Error> {
    sqlx::query_as(
        "select user_id, expires_at from tidegate.sessions where hash = $1 and expires_at > $2",
    )
    .bind(hash)
    .bind(now)
    .fetch_optional(pool)
    .await
}

/// Ends a session.
pub async fn delete(pool: &PgPool, hash: &[u8]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with ended as (delete from tidegate.sessions where hash = $1 returning hash)
         select pg_notify('tidegate_catalog', 'session ' || encode(hash, 'hex')) from ended",
    )
    .bind(hash)
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes every session that is over, and the user's oldest ones beyond `keep`.
pub async fn prune(
    pool: &PgPool,
    user_id: i64,
    keep: i64,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with ended as (
             delete from tidegate.sessions
             where expires_at <= $3
                or hash in (
                    select hash from tidegate.sessions
                    where user_id = $1 order by created_at desc, hash offset $2
                )
             returning hash, expires_at
         )
         select pg_notify('tidegate_catalog', 'session ' || encode(hash, 'hex'))
         from ended where expires_at > $3",
    )
    .bind(user_id)
    .bind(keep)
    .bind(now)
    .execute(pool)
    .await?;
    Ok(())
}
