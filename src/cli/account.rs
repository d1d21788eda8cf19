//! Users by the names that commands are given.

use anyhow::Context;

use crate::db::{Pool, users};

/// The id of the user with this name.
pub(super) async fn id_of(pool: &Pool, name: &str) -> anyhow::Result<i64> {
    let user = users::by_name(pool, name).await?;
    Ok(user.with_context(|| format!("there is no user {name}"))?.id)
}
