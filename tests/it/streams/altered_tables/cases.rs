//! Cases of one form, hundreds in one gateway: a stream, what is done to its table, what is sent then, and what must have
//! become of it.
//!
//! Before a table is altered it takes a record (generation 0), so that what the gateway remembers of it is out of
//! date. What comes then (generation 1) is stored as it was sent, or the stream is parked with words. Where it is parked
//! the table is repaired, and the records must come by themselves, once, as they were sent. At the end each stream goes
//! its normal way (generation 2), and nothing is in the quarantine.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};

use super::kinds::Fit;
use crate::support::people::Token;
use crate::support::{Client, Gateway, eventually};

/// Small batches: a table that cannot be written takes the time of those that share its batch.
pub const FLAGS: [&str; 2] = ["--batch-rows=40", "--batch-interval-ms=20"];
/// Tables that are made, altered or looked at in one go; each holds locks until its end.
const AT_ONCE: usize = 20;
/// Requests at the same time.
const REQUESTS: usize = 16;
/// Streams that are sent to before what was sent is waited for.
const SENT_AT_ONCE: usize = 300;
/// A table that was repaired is written within this time; there may be hundreds of them.
const DRAINED_WITHIN: Duration = Duration::from_secs(30);
/// How many problems are told.
const PROBLEMS_SHOWN: usize = 60;

/// A stream, and what happens to its table.
#[derive(Debug)]
pub struct Case {
    /// Its name, which says what the case is.
    pub stream: String,
    /// The same definition is asked for once, and copied.
    pub definition: Value,
    /// SQL that alters the table.
    pub alter: String,
    pub fit: Fit,
    /// SQL that repairs it, where its stream is parked.
    pub repair: String,
    /// What the words of a parked stream must have.
    pub words: Vec<String>,
    /// A column whose type, as the table has it then, is among the words.
    pub altered_column: Option<&'static str>,
    /// Bodies of each generation.
    pub before: String,
    pub after: Vec<String>,
    pub again: String,
    /// SQL: of a row, which generation it is of, and its number in it.
    pub generation: &'static str,
    pub number: &'static str,
    /// Rows of generation 0 and 1 in the end.
    pub rows: [i64; 2],
    /// SQL: a row of generation 1 is as it was sent; in the altered table where it is stored, in the repaired one else.
    pub right: String,
    /// SQL: while the stream is parked, its table is as it was; NULL: there is nothing to look at.
    pub untouched: String,
}

/// How a case is going.
struct Scene<'a> {
    gateway: &'a Gateway,
    /// Sees one stream only: what the status says of hundreds takes longer than what is waited for.
    watcher: Client,
    cases: &'a [Case],
    problems: Vec<String>,
}

impl Case {
    /// A case that nothing is done to yet; typed, plain, whose records have `g`, `n`, the column `measured`, and `t`.
    pub fn typed(stream: String, columns: &Value) -> Case {
        let mut all =
            vec![json!({"name": "g", "type": "integer"}), json!({"name": "n", "type": "integer"})];
        all.extend(columns.as_array().expect("columns").clone());
        all.push(json!({"name": "t", "type": "text"}));
        Case {
            definition: json!({"columns": all}),
            generation: "g",
            number: "n",
            ..Case::of(stream)
        }
    }

    /// The same with documents.
    pub fn documents(stream: String, payload: &str) -> Case {
        Case {
            definition: json!({"payload": payload}),
            generation: "(payload::jsonb->>'g')::int",
            number: "(payload::jsonb->>'n')::int",
            ..Case::of(stream)
        }
    }

    fn of(stream: String) -> Case {
        let untouched = format!("select count(*) = 1 from streams.{stream}");
        Case {
            stream,
            definition: Value::Null,
            alter: String::new(),
            fit: Fit::Stored,
            repair: String::new(),
            words: Vec::new(),
            altered_column: None,
            before: String::new(),
            after: Vec::new(),
            again: String::new(),
            generation: "",
            number: "",
            rows: [1, 1],
            right: String::new(),
            untouched,
        }
    }

    /// The table's name in SQL.
    pub fn table(&self) -> String {
        format!("streams.{}", self.stream)
    }

    /// Gives the stream a key.
    pub fn keyed(mut self, key: &str, on_duplicate: &str) -> Case {
        self.definition["key"] = json!([key]);
        self.definition["on_duplicate"] = json!(on_duplicate);
        self
    }

    /// Gives the stream daily partitions.
    pub fn retained(mut self) -> Case {
        self.definition["retention_days"] = json!(3);
        self
    }

    /// Alters the table so that its stream must be parked until it is repaired.
    pub fn parked(self, alter: String, repair: String, words: &[&str]) -> Case {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Case { alter, fit: Fit::Parked, repair, words, ..self }
    }

    /// Alters the table so that records still fit.
    pub fn stored(self, alter: String) -> Case {
        Case { alter, fit: Fit::Stored, ..self }
    }

    /// Counts the rows of each generation, the right ones of generation 1, and shows them.
    fn look(&self) -> String {
        let Case { stream, generation, number, right, .. } = self;
        format!(
            "select array['{stream}',
                 count(*) filter (where {generation} = 0)::text, count(*) filter (where {generation} = 1)::text,
                 count(distinct {number}) filter (where {generation} = 1)::text,
                 count(*) filter (where {generation} = 1 and ({right}))::text,
                 count(*) filter (where {generation} = 2)::text,
                 coalesce(string_agg(left(format('%s', it), 200), ' | ' order by id), '')]
             from {} as it",
            self.table()
        )
    }

    /// What [`Case::look`] must find.
    fn expected(&self) -> [String; 5] {
        let [before, after] = self.rows;
        [before, after, after, after, 1].map(|count| count.to_string())
    }
}

/// Goes through all of it with every case, and fails with all problems that there are.
pub async fn judge(gateway: &Gateway, cases: &[Case]) {
    gateway.create_stream(&json!({"name": "watched"})).await;
    let token = Token::of(gateway, "admin", &["read"], json!({"streams": ["watched"]})).await;
    let watcher = gateway.with_token(&token.text);
    let mut scene = Scene { gateway, watcher, cases, problems: Vec::new() };
    scene.make_streams().await;
    scene.send(|case| vec![case.before.clone()]).await;
    scene.execute(|case| case.alter.clone()).await;
    let types = scene.types().await;
    scene.send(|case| case.after.clone()).await;
    scene.look_at_the_parked(&types).await;
    scene.look_at_the_quarantine().await;
    scene.fail_if_there_are_problems();

    scene.execute(|case| case.repair.clone()).await;
    scene.wait_until_nothing_is_parked().await;
    scene.send(|case| vec![case.again.clone()]).await;
    scene.wait_until_nothing_is_parked().await;
    scene.look_at_the_tables().await;
    scene.look_at_the_quarantine().await;
    scene.fail_if_there_are_problems();
}

impl Scene<'_> {
    /// One stream for each definition is made as users make them, the others are copies of these: hundreds of requests
    /// would make the gateway read hundreds of streams each time.
    async fn make_streams(&self) {
        let mut templates: BTreeMap<String, String> = BTreeMap::new();
        for case in self.cases {
            let mut definition = case.definition.clone();
            let name = format!("template_{}", templates.len());
            if templates.contains_key(&definition.to_string()) {
                continue;
            }
            templates.insert(definition.to_string(), name.clone());
            definition["name"] = json!(name);
            self.gateway.create_stream(&definition).await;
        }
        self.execute(|case| {
            let template = &templates[&case.definition.to_string()];
            let partitions = match case.definition.get("retention_days") {
                Some(_) => "partition by range (received_at)",
                None => "",
            };
            format!(
                "insert into tidegate.streams (name, shape, key, retention_days)
                 select '{}', shape, key, retention_days from tidegate.streams where name = '{template}';
                 create table {} (like streams.{template} including all) {partitions}",
                case.stream,
                case.table(),
            )
        })
        .await;
        self.gateway.execute("notify tidegate_catalog").await;
        eventually("the streams are known", async || {
            let known = self.gateway.get("/v1/streams").await.expect(200);
            let known = known.as_array().or_else(|| known["streams"].as_array()).map(Vec::len);
            (known > Some(self.cases.len() + templates.len())).then_some(())
        })
        .await;
    }

    async fn execute(&self, sql: impl Fn(&Case) -> String) {
        for cases in self.cases.chunks(AT_ONCE) {
            let statements: Vec<String> =
                cases.iter().map(&sql).filter(|sql| !sql.is_empty()).collect();
            self.gateway.execute(&statements.join(";\n")).await;
        }
    }

    /// The types of the altered columns as the tables have them, by stream.
    async fn types(&self) -> BTreeMap<String, String> {
        let sql = "select array[relname::text, attname::text, format_type(atttypid, atttypmod)] from pg_attribute
                   join pg_class on pg_class.oid = attrelid where relnamespace = 'streams'::regnamespace and attnum > 0";
        let found: Vec<Vec<String>> = self.gateway.column(sql).await;
        let mut of_columns: BTreeMap<(String, String), String> = found
            .into_iter()
            .filter_map(|row| <[String; 3]>::try_from(row).ok())
            .map(|[table, column, kind]| ((table, column), kind))
            .collect();
        let of_case = |case: &Case| {
            let column = (case.stream.clone(), case.altered_column?.to_owned());
            Some((case.stream.clone(), of_columns.remove(&column)?))
        };
        self.cases.iter().filter_map(of_case).collect()
    }

    /// Sends bodies of many cases side by side, those of a case in their order, and waits until they are written or parked.
    /// None of them may be refused.
    async fn send(&self, bodies: impl Fn(&Case) -> Vec<String>) {
        for cases in self.cases.chunks(SENT_AT_ONCE) {
            let sending = cases.iter().map(|case| {
                let bodies = bodies(case);
                async move {
                    for body in bodies {
                        let request =
                            self.gateway.records(&case.stream).body("application/json", body);
                        request.query("on_error", "reject").send().await.expect(202);
                    }
                }
            });
            futures::stream::iter(sending).buffer_unordered(REQUESTS).collect::<Vec<()>>().await;
            self.wait_all_committed().await;
        }
    }

    async fn wait_all_committed(&self) {
        eventually("everything is committed", async || {
            let status = self.watcher.get("/v1/status").await.expect(200);
            let journal = &status["journal"];
            (journal["committed"] == journal["synced"]).then_some(())
        })
        .await;
    }

    /// Those that stay parked are problems.
    async fn wait_until_nothing_is_parked(&mut self) {
        let gateway = self.gateway;
        let parked =
            async || -> i64 { gateway.scalar("select count(*) from tidegate.parked").await };
        let mut left = parked().await;
        let mut before = i64::MAX;
        // As long as it becomes less.
        while left > 0 && left < before {
            before = left;
            let less = async {
                eventually("less is parked", async || (parked().await < before).then_some(()))
                    .await;
            };
            let _ = tokio::time::timeout(DRAINED_WITHIN, less).await;
            left = parked().await;
        }
        if left > 0 {
            let status = gateway.get("/v1/status").await.expect(200);
            for (stream, parked) in status["parked"].as_object().expect("an object") {
                self.problems.push(format!("{stream}: stays parked: {}", parked["reason"]));
            }
        }
        self.fail_if_there_are_problems();
        gateway.wait_nothing_parked().await;
    }

    /// Exactly those are parked that must be, with words, and their tables are as they were.
    async fn look_at_the_parked(&mut self, types: &BTreeMap<String, String>) {
        let status = self.gateway.get("/v1/status").await.expect(200);
        let mut untouched = BTreeMap::new();
        for cases in self.cases.chunks(AT_ONCE) {
            let parked = cases.iter().filter(|case| case.fit == Fit::Parked);
            let looks: Vec<String> = parked
                .map(|case| format!("select array['{}', ({})::text]", case.stream, case.untouched))
                .collect();
            if !looks.is_empty() {
                let found: Vec<Vec<Option<String>>> =
                    self.gateway.column(looks.join(" union all ")).await;
                untouched.extend(found.into_iter().map(|row| (row[0].clone(), row[1].clone())));
            }
        }
        for case in self.cases {
            let parked = &status["parked"][&case.stream];
            let reason = parked["reason"].as_str();
            let problem = match (case.fit, reason) {
                (Fit::Stored, None) => continue,
                (Fit::Stored, Some(reason)) => format!("is parked: {reason}"),
                (Fit::Parked, None) => "is not parked".to_owned(),
                (Fit::Parked, Some(reason)) => {
                    let mut missing = case.words.clone();
                    missing.extend(types.get(&case.stream).cloned());
                    missing.retain(|word| !says(reason, word));
                    if missing.is_empty() {
                        let found = untouched.get(&Some(case.stream.clone())).cloned().flatten();
                        match found.as_deref() {
                            None | Some("true") => continue,
                            Some(_) => "is parked, and its table is not as it was".to_owned(),
                        }
                    } else {
                        format!("is parked, and {missing:?} is not in the words: {reason}")
                    }
                }
            };
            self.problems.push(format!("{}: {problem}", case.stream));
        }
    }

    /// The quarantine is empty: every record is good.
    async fn look_at_the_quarantine(&mut self) {
        let sql = "select coalesce(name, '?') || ': ' || count(*) || ' in the quarantine: ' || min(sqlstate || ' ' || message)
                   from tidegate.quarantine left join tidegate.streams on streams.id = stream_id group by name";
        self.problems.extend(self.gateway.column::<String>(sql).await);
    }

    async fn look_at_the_tables(&mut self) {
        for cases in self.cases.chunks(AT_ONCE) {
            let looks: Vec<String> =
                cases.iter().map(|case| format!("({})", case.look())).collect();
            let found: Vec<Vec<String>> = self.gateway.column(looks.join(" union all ")).await;
            for row in found {
                let [stream, counts @ .., shown] = row.as_slice() else { panic!("{row:?}") };
                let case =
                    cases.iter().find(|case| case.stream == *stream).expect("it was asked for");
                let expected = case.expected();
                if counts != expected {
                    self.problems.push(format!(
                        "{stream}: has {counts:?} rows instead of {expected:?} (of generation 0 and 1, different, right, of \
                         generation 2): {shown}"
                    ));
                }
            }
        }
    }

    #[track_caller]
    fn fail_if_there_are_problems(&self) {
        let shown = &self.problems[..self.problems.len().min(PROBLEMS_SHOWN)];
        assert!(
            shown.is_empty(),
            "{} problems with {} tables:\n{}",
            self.problems.len(),
            self.cases.len(),
            shown.join("\n")
        );
    }
}

/// Whether words name something, in quotes or not; one type has two names.
fn says(words: &str, name: &str) -> bool {
    let words = words.replace('"', "");
    words.contains(&name.replace('"', ""))
        || name == "timestamptz" && words.contains("timestamp with time zone")
}
