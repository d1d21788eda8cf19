//! The table `tidegate.tokens`.
//!
//! Every change notifies `tidegate_catalog` in its own transaction. Functions that take several statements must not
//! be cancelled half way: run them in a task.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::db::acting::{self, Acting};
use crate::db::pool::PgPool;

/// A row of the table; also what the catalog's mirror keeps of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct TokenRow {
    pub id: i64,
    pub user_id: i64,
    pub name: String,
    /// SHA-256 of the token: 32 bytes.
    pub hash: Vec<u8>,
    pub scopes: Vec<String>,
    /// None: every stream.
    pub streams: Option<Vec<String>>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// None: as many as it likes. A mirror of an older version does not have it.
    #[serde(default)]
    pub records_per_second: Option<i32>,
}

/// A token to be.
pub struct NewToken<'a> {
    pub user_id: i64,
    pub name: &'a str,
    pub hash: &'a [u8],
    pub scopes: &'a [String],
    pub streams: Option<&'a [String]>,
    pub expires_at: Option<OffsetDateTime>,
    pub records_per_second: Option<i32>,
}

/// Every token, by id; expired ones too, so that their owners see why they stopped working.
pub async fn list(pool: &PgPool) -> Result<Vec<TokenRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, user_id, name, hash, scopes, streams, created_at, expires_at, records_per_second
         from tidegate.tokens order by id",
    )
    .fetch_all(pool)
    .await
}

/// Adds a token. A caller who was shut out is [`sqlx::Error::RowNotFound`].
pub async fn insert(
    pool: &PgPool,
    acting: Option<&Acting>,
    token: &NewToken<'_>,
) -> Result<TokenRow, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    acting::hold(&mut transaction, acting).await?;
    let row = sqlx::query_as(
        "insert into tidegate.tokens
             (user_id, name, hash, scopes, streams, expires_at, records_per_second)
         values ($1, $2, $3, $4, $5, $6, $7)
         returning id, user_id, name, hash, scopes, streams, created_at, expires_at,
             records_per_second",
    )
    .bind(token.user_id)
    .bind(token.name)
    .bind(token.hash)
    .bind(token.scopes)
    .bind(token.streams)
    .bind(token.expires_at)
    .bind(token.records_per_second)
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query("notify tidegate_catalog").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(row)
}

/// Takes a token away; says whether there was one.
pub async fn delete(pool: &PgPool, id: i64) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let deleted = sqlx::query("delete from tidegate.tokens where id = $1")
        .bind(id)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    sqlx::query("notify tidegate_catalog").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(deleted > 0)
}
