//! Changes end as if each had come alone, however many come together: the same ones are sent in one body to one stream, and
//! one by one to another.

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::CHANGES;
use crate::support::{Gateway, Reply, Seed};

const RECORDS: usize = 6;
/// Few in a body, so that often all of them can be done: what PostgreSQL refuses is bisected, and so done one by one.
const CHANGES_AT_ONCE_MAX: usize = 4;
const BODIES: usize = 60;

/// A stream of people with a key, of whom some have an e-mail of their own.
async fn people(gateway: &Gateway, stream: &str) {
    let columns = json!([
        {"name": "name", "type": "text"}, {"name": "email", "type": "text"}, {"name": "n", "type": "integer"},
    ]);
    let definition =
        json!({"name": stream, "columns": columns, "key": ["name"], "on_duplicate": "replace"});
    gateway.create_stream(&definition).await;
    let people: Vec<Value> = (0..RECORDS)
        .map(|n| json!({"name": format!("p{n}"), "email": format!("e{n}"), "n": n}))
        .collect();
    gateway.commit(stream, &json!(people)).await;
}

/// The ids of the records, in the order of their names.
async fn ids(gateway: &Gateway, stream: &str) -> Vec<String> {
    gateway.column(format!("select id::text from streams.{stream} order by name")).await
}

/// A change that often is in the way of another one; with a number it is about the record in that place of those that are
/// there.
fn change(random: &mut StdRng) -> (Value, Option<usize>) {
    let name = format!("p{}", random.random_range(0..RECORDS + 2));
    let email = format!("e{}", random.random_range(0..RECORDS + 2));
    let n = random.random_range(0..100);
    let record = random.random_bool(0.6).then(|| random.random_range(0..RECORDS));
    let key = json!({"name": name});
    let change = match (random.random_range(0..4), record) {
        (0, _) => json!({"op": "delete"}),
        (1, Some(_)) => json!({"op": "patch", "data": {"name": name, "n": n}}),
        (1 | 2, _) => json!({"op": "patch", "data": {"email": email}}),
        (_, _) => json!({"op": "put", "data": {"name": name, "email": email, "n": n}}),
    };
    let mut change = change;
    if record.is_none() {
        change["key"] = key;
    }
    (change, record)
}

async fn send(gateway: &Gateway, stream: &str, changes: &[Value]) -> [u64; 4] {
    let body: String = changes.iter().map(|change| format!("{change}\n")).collect();
    let reply: Reply = gateway.records(stream).body(CHANGES, body).send().await;
    let reply = reply.expect(200);
    ["applied", "missing", "conflicts", "quarantined"].map(|end| reply[end].as_u64().unwrap())
}

async fn rows(gateway: &Gateway, stream: &str) -> Vec<String> {
    let sql = format!("select concat_ws('|', name, email, n) from streams.{stream} order by name");
    gateway.column(sql).await
}

#[tokio::test]
async fn changes_that_come_together_end_as_if_each_had_come_alone() {
    let seed = Seed::draw();
    let mut random = seed.numbers(1);
    let gateway = Gateway::start().await;
    for has_unique_emails in [false, true] {
        let [together, alone] =
            ["together", "alone"].map(|how| format!("{how}_{has_unique_emails}"));
        for stream in [&together, &alone] {
            people(&gateway, stream).await;
            if has_unique_emails {
                let sql = format!("alter table streams.{stream} add unique (email)");
                gateway.execute(&sql).await;
            }
        }
        for _ in 0..BODIES {
            let many = random.random_range(2..=CHANGES_AT_ONCE_MAX);
            let changes: Vec<_> = (0..many).map(|_| change(&mut random)).collect();
            let here = of(&changes, &ids(&gateway, &together).await);
            let there = of(&changes, &ids(&gateway, &alone).await);
            let told_together = send(&gateway, &together, &here).await;
            let mut told_alone = [0; 4];
            for change in there {
                let told = send(&gateway, &alone, &[change]).await;
                told_alone.iter_mut().zip(told).for_each(|(sum, told)| *sum += told);
            }
            assert_eq!(told_together, told_alone, "seed {seed}: {changes:?}");
            let (found, expected) = (rows(&gateway, &together).await, rows(&gateway, &alone).await);
            assert_eq!(found, expected, "seed {seed}: {changes:?}");
        }
    }
}

/// The changes with the ids of a stream's records.
fn of(changes: &[(Value, Option<usize>)], ids: &[String]) -> Vec<Value> {
    let with_id = |(change, record): &(Value, Option<usize>)| {
        let mut change = change.clone();
        if let Some(record) = record {
            let missing = "00000000-0000-7000-8000-000000000000";
            change["id"] = json!(ids.get(*record).map_or(missing, String::as_str));
        }
        change
    };
    changes.iter().map(with_id).collect()
}
