//! Applying changes of a stream's records, in their order.
//!
//! Changes are staged as they are (`tidegate_codec::changes`). Consecutive ones about different records are a run, and done
//! together, a statement for each kind of them.
//!
//! Invariant: changes end as if each were done alone, in their order. So a run has only such as cannot be in each other's way: one
//! that may move a record's key is alone, and all are where the table has constraints of its users' between its rows. Where
//! something of a run is refused, the caller comes again with fewer of them, down to one.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow};
use tidegate_codec::changes::{ChangeOp, Precondition};
use tidegate_codec::{Key, KeyField, Shape};
use uuid::Uuid;

use super::connection::BatchConnection;
use super::error::{BatchError, during_stream};
use super::statements::{Staged, change_column, staged_rows};
use crate::db::sql::{
    PLAIN_TEXTS, key_expressions_of, literal, record_hash, table, tuple_column_names,
};

/// Longest time for a statement that does several changes.
const SEVERAL_MAX: Duration = Duration::from_secs(5);
/// Whether rows of a table (`$2`) are tied to each other by more than the keys of the stream: by unique indexes beside that of
/// the id and that of the key, by exclusion, by references to rows of the same table.
const TIES: &str = "select exists (select from pg_index
         where indrelid = to_regclass($2) and (indisunique or indisexclusion) offset 2)
     or exists (select from pg_constraint
         where contype = 'f' and conrelid = to_regclass($2) and confrelid = conrelid)";

/// What became of a change that PostgreSQL did not refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeEnd {
    Applied,
    /// There is no such record.
    Missing,
    /// The record is not as the change says it is.
    Conflict,
}

/// A staged change, but for its values.
#[derive(Debug, FromRow)]
struct StagedChange {
    id: Uuid,
    op: i16,
    target: Option<Uuid>,
    precondition: Option<Vec<u8>>,
    /// Equal for equal keys.
    key_number: i64,
    /// What it does to its record may be in the way of another one.
    is_alone: bool,
}

/// Which record a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Id(Uuid),
    Key(i64),
}

/// How a change is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    Delete,
    Patch,
    /// A put of a record that is there.
    Replace,
    /// A put of a record that is there or not.
    Upsert,
    /// A put of a record that is not there.
    Insert,
}

/// Changes about different records, all by id or all by key, that are not in each other's way.
#[derive(Debug, Default)]
struct Run {
    targets: HashSet<Target>,
    by_key: bool,
    is_alone: bool,
    changes: Vec<StagedChange>,
}

impl StagedChange {
    fn about(&self) -> Target {
        self.target.map_or(Target::Key(self.key_number), Target::Id)
    }

    fn way(&self) -> Option<Way> {
        let precondition = self.precondition.as_deref().and_then(Precondition::from_bytes);
        Some(match (ChangeOp::from_code(self.op)?, self.target, precondition) {
            (ChangeOp::Delete, _, _) => Way::Delete,
            (ChangeOp::Patch, _, _) => Way::Patch,
            (ChangeOp::Put, None, None) => Way::Upsert,
            (ChangeOp::Put, None, Some(Precondition::IsNew)) => Way::Insert,
            (ChangeOp::Put, _, _) => Way::Replace,
        })
    }
}

impl BatchConnection {
    /// Applies staged changes: those of these ids, in this order. What became of each.
    pub async fn apply_changes(
        &mut self,
        staged: Staged<'_>,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, ChangeEnd>, BatchError> {
        let Some(key) = &staged.stream.key else { return Ok(HashMap::new()) };
        // A hash is of texts; so are values that the table keeps as text.
        self.command(PLAIN_TEXTS).await?;
        if ids.len() > 1 {
            // Fewer of them may be done in time.
            let timeout = SEVERAL_MAX.as_millis();
            self.command(&format!("set local statement_timeout = {timeout}")).await?;
        }
        let mut ends = HashMap::with_capacity(ids.len());
        for run in runs(self.staged_changes(staged, key, ids).await?) {
            let statements = Statements { staged, key, by_key: run.by_key };
            let mut unapplied: HashMap<Uuid, Way> = HashMap::new();
            for wanted in [Way::Delete, Way::Patch, Way::Replace, Way::Upsert, Way::Insert] {
                let of_way = run.changes.iter().filter(|change| change.way() == Some(wanted));
                let of_way: Vec<Uuid> = of_way.map(|change| change.id).collect();
                if of_way.is_empty() {
                    continue;
                }
                let applied = self.changed(statements.of(wanted), staged, &of_way).await?;
                for id in of_way {
                    // An upsert tells of the rows' ids, which are not the changes' where they were there before.
                    if wanted == Way::Upsert || applied.contains(&id) {
                        ends.insert(id, ChangeEnd::Applied);
                    } else {
                        unapplied.insert(id, wanted);
                    }
                }
            }
            if unapplied.is_empty() {
                continue;
            }
            let asked: Vec<Uuid> = unapplied.keys().copied().collect();
            let there = self.changed(statements.there(), staged, &asked).await?;
            for (id, way) in unapplied {
                let makes = way == Way::Insert || (way == Way::Replace && run.by_key);
                let conflicts = makes || there.contains(&id);
                ends.insert(id, if conflicts { ChangeEnd::Conflict } else { ChangeEnd::Missing });
            }
        }
        self.command("set local statement_timeout to default").await?;
        Ok(ends)
    }

    /// What the changes are about, in the order of their ids here.
    async fn staged_changes(
        &mut self,
        staged: Staged<'_>,
        key: &Key,
        ids: &[Uuid],
    ) -> Result<Vec<StagedChange>, BatchError> {
        let keys = |row| key_expressions_of(row, staged.stream, key).join(", ");
        let sql = format!(
            "select s.id, s.{op} as op, s.{target} as target, s.{precondition} as precondition,
                 dense_rank() over (order by {own}) as key_number,
                 ties.has or case
                     when s.{target} is null then false
                     when s.{op} = {put} then row({there}) is distinct from row({own})
                     when s.{op} = {patch} then {assigns_key}
                     else false end as is_alone
             from ({rows}) s join unnest($1::uuid[]) with ordinality as asked (id, place) on asked.id = s.id
                 left join {table} t on t.id = s.{target}, ({ties}) as ties (has)
             order by asked.place",
            op = change_column("op"),
            target = change_column("target"),
            precondition = change_column("precondition"),
            put = ChangeOp::Put.code(),
            patch = ChangeOp::Patch.code(),
            own = keys("s."),
            there = keys("t."),
            assigns_key = assigns_key(key),
            table = table(staged.stream),
            rows = staged_rows(staged, Some("any($1::uuid[])")),
            ties = TIES,
        );
        sqlx::query_as(AssertSqlSafe(sql))
            .persistent(false)
            .bind(ids)
            .bind(table(staged.stream))
            .fetch_all(&mut self.0)
            .await
            .map_err(during_stream("reading staged changes", staged.stream))
    }

    /// The ids that a statement tells.
    async fn changed(
        &mut self,
        sql: String,
        staged: Staged<'_>,
        ids: &[Uuid],
    ) -> Result<HashSet<Uuid>, BatchError> {
        let changed: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
            .persistent(false)
            .bind(ids)
            .fetch_all(&mut self.0)
            .await
            .map_err(during_stream("changing records", staged.stream))?;
        Ok(changed.into_iter().collect())
    }
}

/// Whether a patch, `s`, says something of the key.
fn assigns_key(key: &Key) -> String {
    let assigned = |field: &KeyField| match field {
        KeyField::Column(index) => {
            format!("get_bit(s.{}, {index}) = 1", change_column("assigned"))
        }
        KeyField::Pointer(segments) => {
            let first = segments.first().map_or("", String::as_str);
            format!("s.{} ? {}", change_column("merged"), literal(first))
        }
    };
    let fields: Vec<String> = key.fields.iter().map(assigned).collect();
    format!("({})", fields.join(" or "))
}

/// Changes as runs, in their order. What a record's key is was looked at before all of them: once one is moved, a later change
/// by id may move it back.
fn runs(changes: Vec<StagedChange>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut has_moved = false;
    for change in changes {
        let (about, by_key) = (change.about(), change.target.is_none());
        let is_alone = change.is_alone || (has_moved && !by_key);
        has_moved |= is_alone;
        let goes_on = |run: &Run| {
            run.by_key == by_key && !run.is_alone && !is_alone && !run.targets.contains(&about)
        };
        if !runs.last().is_some_and(goes_on) {
            runs.push(Run { by_key, is_alone, ..Run::default() });
        }
        if let Some(run) = runs.last_mut() {
            run.targets.insert(about);
            run.changes.push(change);
        }
    }
    runs
}

/// The statements of a run; `$1` are the ids of the changes.
#[derive(Clone, Copy)]
struct Statements<'a> {
    staged: Staged<'a>,
    key: &'a Key,
    by_key: bool,
}

impl Statements<'_> {
    fn of(self, way: Way) -> String {
        let (table, rows) = (table(self.staged.stream), self.rows());
        let is_it = format!("{} and {}", self.is_about(), self.is_as_said());
        match way {
            Way::Delete => {
                format!("delete from {table} t using ({rows}) s where {is_it} returning s.id")
            }
            Way::Patch => {
                let sets = self.patched().join(", ");
                format!("update {table} t set {sets} from ({rows}) s where {is_it} returning s.id")
            }
            Way::Replace => {
                let sets = self.replaced("s.").join(", ");
                format!("update {table} t set {sets} from ({rows}) s where {is_it} returning s.id")
            }
            Way::Upsert | Way::Insert => {
                let columns = self.columns().join(", ");
                let keys = key_expressions_of("", self.staged.stream, self.key).join(", ");
                let action = if way == Way::Insert {
                    "do nothing".to_owned()
                } else {
                    format!("do update set {}", self.replaced("excluded.").join(", "))
                };
                format!(
                    "insert into {table} ({columns}) select {columns} from ({rows}) s
                     on conflict ({keys}) {action} returning id"
                )
            }
        }
    }

    /// The changes whose record is there.
    fn there(self) -> String {
        let table = table(self.staged.stream);
        format!("select s.id from {table} t join ({}) s on {}", self.rows(), self.is_about())
    }

    fn rows(self) -> String {
        staged_rows(self.staged, Some("any($1::uuid[])"))
    }

    fn columns(self) -> Vec<String> {
        tuple_column_names(self.staged.stream, self.staged.column_set)
    }

    /// Whether the row `t` of the table is what the change `s` is about.
    fn is_about(self) -> String {
        if !self.by_key {
            return format!("t.id = s.{}", change_column("target"));
        }
        let keys = |row| key_expressions_of(row, self.staged.stream, self.key);
        let equal = keys("t.").into_iter().zip(keys("s."));
        equal.map(|(own, wanted)| format!("{own} = {wanted}")).collect::<Vec<_>>().join(" and ")
    }

    /// Whether the row is as the change says it is.
    fn is_as_said(self) -> String {
        let said = format!("s.{}", change_column("precondition"));
        let hash = record_hash("t.", self.staged.stream, self.staged.column_set);
        format!("({said} is null or {said} = '\\x2a' or {said} = {hash})")
    }

    /// Everything but the id.
    fn replaced(self, row: &str) -> Vec<String> {
        let columns = self.columns().into_iter().filter(|column| column != "id");
        columns.map(|column| format!("{column} = {row}{column}")).collect()
    }

    fn patched(self) -> Vec<String> {
        let merged = format!("s.{}", change_column("merged"));
        let mut sets = vec!["received_at = s.received_at".to_owned()];
        match &self.staged.stream.shape {
            Shape::Document { .. } => {
                sets.push(format!("payload = tidegate.merge_patch(t.payload::jsonb, {merged})"));
            }
            Shape::Typed { .. } => {
                sets.push(format!(
                    "extra = case when {merged} is null then t.extra::jsonb \
                     else nullif(tidegate.merge_patch(t.extra::jsonb, {merged}), '{{}}') end"
                ));
                let assigned = change_column("assigned");
                let columns = self.columns().into_iter().skip(3).enumerate();
                sets.extend(columns.map(|(index, column)| {
                    format!(
                        "{column} = case get_bit(s.{assigned}, {index}) when 1 then s.{column} else t.{column} end"
                    )
                }));
            }
        }
        sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(id: u128, target: Option<u128>, key_number: i64) -> StagedChange {
        let (id, target) = (Uuid::from_u128(id), target.map(Uuid::from_u128));
        StagedChange { id, op: 1, target, precondition: None, key_number, is_alone: false }
    }

    #[test]
    fn a_run_has_each_record_once_and_does_not_mix_ids_and_keys() {
        let changes = [
            change(1, None, 1),
            change(2, None, 2),
            change(3, None, 1),
            change(4, Some(7), 9),
            change(5, Some(8), 9),
            change(6, Some(7), 9),
            change(7, None, 2),
        ];
        let runs: Vec<Vec<u128>> = runs(changes.into())
            .iter()
            .map(|run| run.changes.iter().map(|change| change.id.as_u128()).collect())
            .collect();
        assert_eq!(runs, [vec![1, 2], vec![3], vec![4, 5], vec![6], vec![7]]);
    }

    #[test]
    fn a_change_that_moves_a_key_is_alone_and_so_are_those_by_id_behind_it() {
        let moves = StagedChange { is_alone: true, ..change(2, Some(8), 9) };
        let changes = [
            change(1, Some(7), 9),
            moves,
            change(3, Some(9), 9),
            change(4, Some(10), 9),
            change(5, None, 1),
            change(6, None, 2),
        ];
        let runs: Vec<usize> = runs(changes.into()).iter().map(|run| run.changes.len()).collect();
        assert_eq!(runs, [1, 1, 1, 1, 2]);
    }
}
