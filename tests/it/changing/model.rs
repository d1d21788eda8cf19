//! Records and changes of few keys in any order end as a model of them does, however they are cut into batches, and over
//! crashes.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::{CHANGES, documents};
use crate::support::{Gateway, Seed};

const KEYS: u32 = 12;
const REQUESTS: usize = 120;

/// What was sent, and what the table must have after it.
#[derive(Default)]
struct Model {
    records: BTreeMap<u32, Value>,
    applied: u64,
    missing: u64,
}

impl Model {
    fn change(&mut self, random: &mut StdRng) -> Value {
        let id = random.random_range(0..KEYS);
        let key = json!({"k": {"id": id}});
        let is_there = self.records.contains_key(&id);
        let n = random.random_range(0..1_000);
        match random.random_range(0..3) {
            0 => {
                self.applied += 1;
                let data = json!({"k": {"id": id}, "n": n});
                self.records.insert(id, data.clone());
                json!({"op": "put", "key": key, "data": data})
            }
            1 => {
                self.count(is_there);
                let member = format!("m{}", n % 3);
                if let Some(record) = self.records.get_mut(&id) {
                    record[&member] = json!(n);
                }
                json!({"op": "patch", "key": key, "data": {member: n}})
            }
            _ => {
                self.count(is_there);
                self.records.remove(&id);
                json!({"op": "delete", "key": key})
            }
        }
    }

    fn count(&mut self, is_there: bool) {
        if is_there { self.applied += 1 } else { self.missing += 1 }
    }

    fn record(&mut self, random: &mut StdRng) -> Value {
        let id = random.random_range(0..KEYS);
        let data = json!({"k": {"id": id}, "r": random.random_range(0..1_000)});
        self.records.insert(id, data.clone());
        data
    }
}

#[tokio::test]
async fn records_and_changes_end_as_they_were_sent_over_crashes() {
    let seed = Seed::draw();
    let mut random = seed.numbers(1);
    let mut gateway = Gateway::with(&["--batch-rows=7", "--batch-interval-ms=5"]).await;
    gateway.create_stream(&documents("jsonb")).await;
    let mut model = Model::default();
    for request in 0..REQUESTS {
        let lines = random.random_range(1..6);
        if random.random_bool(0.5) {
            let body: String =
                (0..lines).map(|_| format!("{}\n", model.change(&mut random))).collect();
            let (applied, missing) = (model.applied, model.missing);
            let sent = gateway.records("docs").body(CHANGES, body);
            if random.random_bool(0.3) {
                let (before, reply) = ((applied, missing), sent.send().await.expect(200));
                assert_eq!(before, (applied, missing));
                let told = reply["applied"].as_u64().unwrap() + reply["missing"].as_u64().unwrap();
                assert_eq!(told, lines, "seed {seed}: {reply}");
            } else {
                sent.query("ack", "journal").send().await.expect(202);
            }
        } else {
            let body: String =
                (0..lines).map(|_| format!("{}\n", model.record(&mut random))).collect();
            gateway.records("docs").ndjson(body).send().await.expect(202);
        }
        if request % 40 == 39 {
            gateway.kill9().await;
            gateway.restart().await;
        }
    }
    gateway.wait_all_committed().await;
    let mut found = gateway.payloads("docs").await;
    found.sort_by_key(|payload| payload["k"]["id"].as_u64());
    let expected: Vec<Value> = model.records.into_values().collect();
    assert_eq!(found, expected, "seed {seed}");
}
