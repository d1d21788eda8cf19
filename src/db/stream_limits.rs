//! How many streams there may be: each is a table, which costs PostgreSQL files and memory whether or not it is used.

use sqlx::{Postgres, Transaction};

/// Most streams, and most that one user made, among those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    pub in_all_max: usize,
    pub per_user_max: usize,
}

/// One more stream would be too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooManyStreams {
    #[error(
        "there are {limit} streams, as many as there may be (TIDEGATE_STREAMS_MAX); delete some that are not needed, or raise it"
    )]
    InAll { limit: usize },
    #[error(
        "this user made {limit} streams that are there, as many as one user may (TIDEGATE_STREAMS_PER_USER_MAX); delete \
         some that are not needed, or have it raised"
    )]
    OfUser { limit: usize },
}

impl TooManyStreams {
    pub fn limit(self) -> usize {
        match self {
            TooManyStreams::InAll { limit } | TooManyStreams::OfUser { limit } => limit,
        }
    }
}

impl StreamLimits {
    /// `total` and `own`: how many there are, with the new one.
    pub fn check(self, total: usize, own: usize) -> Result<(), TooManyStreams> {
        if total > self.in_all_max {
            return Err(TooManyStreams::InAll { limit: self.in_all_max });
        }
        if own > self.per_user_max {
            return Err(TooManyStreams::OfUser { limit: self.per_user_max });
        }
        Ok(())
    }
}

/// How many streams there are, in all and of one user, with the one that this transaction made. Exact, because they are made
/// one at a time, under a lock that it holds.
pub(super) async fn count(
    transaction: &mut Transaction<'static, Postgres>,
    created_by: Option<i64>,
) -> Result<(usize, usize), sqlx::Error> {
    let (total, own): (i64, i64) = sqlx::query_as(
        "select count(*), count(*) filter (where created_by = $1) from tidegate.streams where deleted_at is null",
    )
    .bind(created_by)
    .fetch_one(&mut **transaction)
    .await?;
    let whole = |count| usize::try_from(count).unwrap_or(usize::MAX);
    Ok((whole(total), whole(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_fits_is_made_and_the_next_is_not() {
        let limits = StreamLimits { in_all_max: 3, per_user_max: 2 };
        assert_eq!(limits.check(3, 2), Ok(()));
        assert_eq!(limits.check(4, 0), Err(TooManyStreams::InAll { limit: 3 }));
        assert_eq!(limits.check(3, 3), Err(TooManyStreams::OfUser { limit: 2 }));
        for (error, setting) in [
            (TooManyStreams::InAll { limit: 3 }, "TIDEGATE_STREAMS_MAX"),
            (TooManyStreams::OfUser { limit: 2 }, "TIDEGATE_STREAMS_PER_USER_MAX"),
        ] {
            assert!(error.to_string().contains(setting), "{error}");
        }
    }
}
