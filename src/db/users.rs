//! The table `tidegate.users`.
//!
//! Every change notifies `tidegate_catalog` in its own transaction, so that other gateways hear of it exactly when
//! they can see it. Functions that take several statements must not be cancelled half way: run them in a task.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::db::acting::{self, Acting};
use crate::db::pool::PgPool;

/// A row of the table; also what the catalog's mirror keeps of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct UserRow {
    pub id: i64,
    pub name: String,
    pub email: Option<String>,
    /// argon2id, in PHC form.
    pub password_hash: String,
    /// `admin` or `member`.
    pub role: String,
    pub disabled: bool,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A user to be.
pub struct NewUser<'a> {
    pub name: &'a str,
    pub email: Option<&'a str>,
    pub password_hash: &'a str,
    pub role: &'a str,
}

/// What to change; None keeps what is there.
#[derive(Default)]
pub struct UserChange<'a> {
    /// `Some(None)` takes the address away.
    pub email: Option<Option<&'a str>>,
    pub password_hash: Option<&'a str>,
    pub role: Option<&'a str>,
    pub disabled: Option<bool>,
    /// Takes all of the user's tokens away.
    pub revoke_tokens: bool,
}

/// How a change ended.
pub enum UserUpdate {
    Changed(UserRow),
    NotFound,
    /// Refused: no user could administer the gateway any more.
    LastAdmin,
}

/// Every user, by id.
pub async fn list(pool: &PgPool) -> Result<Vec<UserRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, name, email, password_hash, role, disabled, created_at
         from tidegate.users order by id",
    )
    .fetch_all(pool)
    .await
}

/// The user who was made first: the first admin, as no user is ever removed.
pub async fn first(pool: &PgPool) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, name, email, password_hash, role, disabled, created_at
         from tidegate.users order by id limit 1",
    )
    .fetch_optional(pool)
    .await
}

/// The user of this name.
pub async fn by_name(pool: &PgPool, name: &str) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, name, email, password_hash, role, disabled, created_at
         from tidegate.users where name = $1",
    )
    .bind(name)
    .fetch_optional(pool)
    .await
}

/// Is there any user?
pub async fn any(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from tidegate.users)").fetch_one(pool).await
}

/// Adds a user. A name that is taken is a unique violation, and a caller who was shut out [`sqlx::Error::RowNotFound`].
pub async fn insert(
    pool: &PgPool,
    acting: Option<&Acting>,
    user: &NewUser<'_>,
) -> Result<UserRow, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    acting::hold(&mut transaction, acting).await?;
    let row = sqlx::query_as(
        "insert into tidegate.users (name, email, password_hash, role) values ($1, $2, $3, $4)
         returning id, name, email, password_hash, role, disabled, created_at",
    )
    .bind(user.name)
    .bind(user.email)
    .bind(user.password_hash)
    .bind(user.role)
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query("notify tidegate_catalog").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(row)
}

/// Adds a user if there is none yet; None if there was one, even when two gateways ask at the same moment.
pub async fn insert_first(
    pool: &PgPool,
    user: &NewUser<'_>,
) -> Result<Option<UserRow>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("lock table tidegate.users in share row exclusive mode")
        .execute(&mut *transaction)
        .await?;
    let row = sqlx::query_as(
        "insert into tidegate.users (name, email, password_hash, role)
         select $1, $2, $3, $4 where not exists (select from tidegate.users)
         returning id, name, email, password_hash, role, disabled, created_at",
    )
    .bind(user.name)
    .bind(user.email)
    .bind(user.password_hash)
    .bind(user.role)
    .fetch_optional(&mut *transaction)
    .await?;
    sqlx::query("notify tidegate_catalog").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(row)
}

/// Changes a user. A new password, or being disabled, ends the user's sessions; tokens stay, unless they are to be revoked.
/// The last enabled admin stays one. A caller who was shut out is [`sqlx::Error::RowNotFound`].
pub async fn update(
    pool: &PgPool,
    acting: Option<&Acting>,
    id: i64,
    change: &UserChange<'_>,
) -> Result<UserUpdate, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("set local lock_timeout = '5s'").execute(&mut *transaction).await?;
    // One change at a time: two admins who disable each other at the same moment must not both succeed.
    sqlx::query("lock table tidegate.users in share row exclusive mode")
        .execute(&mut *transaction)
        .await?;
    acting::hold(&mut transaction, acting).await?;
    let row: Option<UserRow> = sqlx::query_as(
        "update tidegate.users set
             email = case when $2 then $3 else email end,
             password_hash = coalesce($4, password_hash),
             role = coalesce($5, role),
             disabled = coalesce($6, disabled)
         where id = $1
         returning id, name, email, password_hash, role, disabled, created_at",
    )
    .bind(id)
    .bind(change.email.is_some())
    .bind(change.email.flatten())
    .bind(change.password_hash)
    .bind(change.role)
    .bind(change.disabled)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row else {
        transaction.rollback().await?;
        return Ok(UserUpdate::NotFound);
    };
    let takes_rights = change.role.is_some() || change.disabled == Some(true);
    let admin_left: bool = sqlx::query_scalar(
        "select exists (select from tidegate.users where role = 'admin' and not disabled)",
    )
    .fetch_one(&mut *transaction)
    .await?;
    if takes_rights && !admin_left {
        transaction.rollback().await?;
        return Ok(UserUpdate::LastAdmin);
    }
    if change.password_hash.is_some() || row.disabled {
        sqlx::query("delete from tidegate.sessions where user_id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
    }
    if change.revoke_tokens {
        sqlx::query("delete from tidegate.tokens where user_id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query("notify tidegate_catalog").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(UserUpdate::Changed(row))
}
