//! For whom users and tokens are changed, as the gateway knew them when it began.
//!
//! Another gateway may shut the caller out at the same moment, and word of that takes a while. So a change asks again in its
//! own transaction, and holds the caller's row until it is committed: it is either before that, and what it made is there to
//! be taken away, or it is refused.

use sqlx::PgConnection;

/// The caller of a change.
#[derive(Debug, Clone)]
pub struct Acting {
    pub user_id: i64,
    pub role: &'static str,
    /// The hash that the password must still have, where the credential goes back to it.
    pub password_hash: Option<String>,
    /// The token that must still be there, if the caller came with one.
    pub token_id: Option<i64>,
}

/// Holds a caller as they were known until the transaction ends.
///
/// # Errors
/// [`sqlx::Error::RowNotFound`] where they may not do so any more: they were disabled or given another role, their password
/// was changed, or their token revoked.
pub(super) async fn hold(
    connection: &mut PgConnection,
    acting: Option<&Acting>,
) -> Result<(), sqlx::Error> {
    // The command line acts for no user.
    let Some(acting) = acting else { return Ok(()) };
    let held = sqlx::query(
        "select from tidegate.users u
         where u.id = $1 and not u.disabled and u.role = $2 and ($3::text is null or u.password_hash = $3)
           and ($4::bigint is null or exists (select from tidegate.tokens t where t.id = $4 and t.user_id = u.id))
         for share",
    )
    .bind(acting.user_id)
    .bind(acting.role)
    .bind(&acting.password_hash)
    .bind(acting.token_id);
    held.fetch_one(connection).await.map(|_row| ())
}
