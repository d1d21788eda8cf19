//! What senders were told of each record, and what the table says to that.

use std::collections::HashMap;
use std::fmt;

use super::honest::STREAM;
use crate::support::Gateway;

/// Copies of a record's name in its text, so that it has some size.
const TEXT_COPIES: usize = 10;

/// What became of a record, as far as its sender was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    Refused,
    /// No answer came.
    Unknown,
}

/// What one sender was told of its records, by their number.
#[derive(Debug)]
pub struct Book {
    pub sender: i64,
    outcomes: Vec<Outcome>,
}

impl Book {
    pub fn new(sender: i64) -> Book {
        Book { sender, outcomes: Vec::new() }
    }

    /// The number of the next record.
    pub fn next(&self) -> usize {
        self.outcomes.len()
    }

    pub fn note(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// What the next record says, so that its value can be told from another's.
    pub fn text(&self) -> String {
        format!("{}:{} ", self.sender, self.next()).repeat(TEXT_COPIES)
    }

    pub fn acknowledged(&self) -> usize {
        self.outcomes.iter().filter(|outcome| **outcome == Outcome::Acknowledged).count()
    }
}

/// What is not as it was told, as `sender:number`.
#[derive(Debug, Default)]
pub struct Verdict {
    lost: Vec<String>,
    doubled: Vec<String>,
    wrong: Vec<String>,
    /// Refused, and there all the same.
    invented: Vec<String>,
}

impl Verdict {
    /// Holds the books against the table.
    pub async fn of(books: &[Book], gateway: &Gateway) -> Verdict {
        let sql = format!(
            "select sender, n, count(*), bool_and(said = repeat(concat(sender, ':', n, ' '), {TEXT_COPIES}))
               from (select (payload->>'sender')::bigint as sender, (payload->>'n')::bigint as n,
                            payload->>'text' as said from streams.{STREAM}) as records
              group by sender, n"
        );
        let rows: Vec<(i64, i64, i64, bool)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_all(gateway.pool())
            .await
            .expect("the table can be read");
        let there: HashMap<_, _> = rows
            .into_iter()
            .map(|(sender, n, count, right)| ((sender, n), (count, right)))
            .collect();
        let mut verdict = Verdict::default();
        for book in books {
            for (number, outcome) in (0..).zip(&book.outcomes) {
                let name = format!("{}:{number}", book.sender);
                match (outcome, there.get(&(book.sender, number))) {
                    (Outcome::Acknowledged, None) => verdict.lost.push(name),
                    (Outcome::Refused, Some(_)) => verdict.invented.push(name),
                    (_, Some((2.., _))) => verdict.doubled.push(name),
                    (_, Some((_, false))) => verdict.wrong.push(name),
                    (_, Some(_) | None) => {}
                }
            }
        }
        verdict
    }

    pub fn is_clean(&self) -> bool {
        self.counts() == [0; 4]
    }

    /// How many were lost, doubled, wrong and invented.
    pub fn counts(&self) -> [usize; 4] {
        [&self.lost, &self.doubled, &self.wrong, &self.invented].map(Vec::len)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("wrong", &self.wrong),
            ("invented", &self.invented),
        ];
        parts.iter().try_for_each(|(name, list)| write!(f, "{name}: {} {list:?}  ", list.len()))
    }
}
