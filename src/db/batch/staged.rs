//! Tuples that do not go straight into their stream's table: copied into a temporary one with the tuple's own types, and
//! brought from there into the table, by key or through casts.

use bytes::Bytes;
use sqlx::{AssertSqlSafe, Executor};
use tidegate_codec::Key;
use uuid::Uuid;

use super::connection::BatchConnection;
use super::error::{BatchError, during_stream};
use super::statements::{
    Staged, Target, create_staging_statement, insert_statement, merge_statement, staging,
};
use crate::db::sql::PLAIN_TEXTS;

impl BatchConnection {
    /// Brings the staged rows of a keyed stream into its table. `entries` are the batch's entries in this stream: the id of
    /// each one's first record, in the order of these, and its place in the journal's order. Returns for each how many of
    /// its records made a new row. `only`: the ids of the staged rows to take; all of them without.
    pub async fn merge(
        &mut self,
        staged: Staged<'_>,
        key: &Key,
        entries: &[(Uuid, usize)],
        only: Option<&[Uuid]>,
    ) -> Result<Vec<u64>, BatchError> {
        self.settle_texts(staged).await?;
        let sql = merge_statement(staged, key, only.is_some());
        let first_ids: Vec<Uuid> = entries.iter().map(|(id, _)| *id).collect();
        let order = entries.iter().map(|(_, place)| i32::try_from(*place).unwrap_or(i32::MAX));
        let mut query = sqlx::query_as(AssertSqlSafe(sql))
            .persistent(false)
            .bind(first_ids)
            .bind(order.collect::<Vec<i32>>());
        if let Some(only) = only {
            query = query.bind(only);
        }
        let rows: Vec<(i32, i64)> =
            query.fetch_all(&mut self.0).await.map_err(during_stream("merging", staged.stream))?;
        let mut fresh = vec![0; entries.len()];
        for (bucket, count) in rows {
            let entry = usize::try_from(bucket - 1).ok().and_then(|index| fresh.get_mut(index));
            // A trigger of the user's may have given a row another id, which belongs to no entry.
            if let Some(entry) = entry {
                *entry = count.unsigned_abs();
            }
        }
        Ok(fresh)
    }

    /// Brings staged rows into the table of a stream without a key; `only` those of these ids.
    pub async fn insert(
        &mut self,
        staged: Staged<'_>,
        only: Option<&[Uuid]>,
    ) -> Result<(), BatchError> {
        self.settle_texts(staged).await?;
        self.lock_table(staged.stream).await?;
        if self.has_rules(staged.stream).await? {
            return Err(BatchError::TableChanged);
        }
        let sql = insert_statement(staged, only.is_some());
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        if let Some(only) = only {
            query = query.bind(only);
        }
        let inserted = query.execute(&mut self.0).await;
        inserted.map(drop).map_err(during_stream("inserting the staged rows", staged.stream))
    }

    /// A value that becomes text must be what the connection began with, whatever a trigger of another stream has set since.
    async fn settle_texts(&mut self, staged: Staged<'_>) -> Result<(), BatchError> {
        if staged.fit.is_exact() {
            return Ok(());
        }
        self.command(PLAIN_TEXTS).await
    }

    /// Makes the staging table anew, and fills it; for those who take some of its rows, by an index.
    pub async fn stage(&mut self, staged: Staged<'_>, bodies: &[Bytes]) -> Result<(), BatchError> {
        self.unstage(staged).await?;
        self.copy(Target::Staging(staged), bodies).await?;
        self.command(&format!("create index on {} (id)", staging(staged))).await
    }

    /// Drops the staging table; the next who needs it makes it anew. Each commit of a connection empties all that it has.
    pub async fn unstage(&mut self, staged: Staged<'_>) -> Result<(), BatchError> {
        self.command(&format!("drop table if exists {}", staging(staged))).await
    }

    pub(super) async fn create_staging(&mut self, staged: Staged<'_>) -> Result<(), BatchError> {
        let sql = create_staging_statement(staged);
        let created = self.0.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
        created.map(drop).map_err(during_stream("making the staging table", staged.stream))
    }
}
