//! Keyed streams beside an unkeyed one: the same records, the same bodies, one more index.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::bulk;
use crate::gateway::Gateway;
use crate::records::{self, Packing};

const RECORD_BYTES: usize = 100;
/// Every run sends the same.
const SEED: u64 = 4;

pub const KEYED: &str = "keyed (ignore), new keys in order: committed records/s";
pub const UNKEYED: &str = "unkeyed, the same records: committed records/s";
const LIMIT_KEYED: &str = "psql \\copy as binary tuples, table with the key's index, records/s";
const LIMIT_UNKEYED: &str = "psql \\copy as binary tuples, table without it, records/s";

const TYPED_UNKEYED: &str = "keyed_typed_none";
const TYPED_IGNORE: &str = "keyed_typed_ignore";
/// A stream for each way: the gateway remembers what the keys of a stream were like.
const STREAMS: [&str; 9] = [
    TYPED_UNKEYED,
    TYPED_IGNORE,
    "keyed_typed_ignore_random",
    "keyed_typed_ignore_few",
    "keyed_typed_ignore_many",
    "keyed_typed_replace",
    "keyed_typed_replace_many",
    "keyed_documents_none",
    "keyed_documents_ignore",
];

/// One way to send records.
struct Way {
    figure: String,
    stream: &'static str,
    requests: Arc<Vec<Bytes>>,
    records: usize,
    /// What has to be in the table at the end.
    rows: usize,
}

struct Prepared {
    binary: PathBuf,
    columns: String,
    records: usize,
    ways: Vec<Way>,
}

pub async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let gateway = bench.site.start(&[]).await?;
    let prepared = prepare(bench, &gateway).await?;
    for round in 0..bench.size.rounds {
        for (figure, stream) in [(LIMIT_UNKEYED, TYPED_UNKEYED), (LIMIT_KEYED, TYPED_IGNORE)] {
            bench.say(&format!("round {}: {figure}", round + 1));
            bench.postgres.clear(stream).await?;
            let table = format!("streams.{stream} ({})", prepared.columns);
            let took =
                bench.postgres.copy(&table, &prepared.binary, "with (format binary)").await?;
            bench.rate(round, figure, prepared.records, took);
        }
        for way in &prepared.ways {
            bench.say(&format!("round {}: {}", round + 1, way.figure));
            bench.postgres.clear(way.stream).await?;
            let took = bulk::send(&gateway, &way.requests).await?;
            let rows = usize::try_from(bench.postgres.rows(way.stream).await?)?;
            ensure!(rows == way.rows, "{}: {rows} rows, not {}", way.figure, way.rows);
            bench.rate(round, &way.figure, way.records, took.committed);
        }
    }
    for stream in STREAMS {
        bench.postgres.clear(stream).await?;
    }
    gateway.stop().await
}

async fn prepare(bench: &Bench, gateway: &Gateway) -> anyhow::Result<Prepared> {
    bench.say("preparing the keyed records");
    for stream in STREAMS {
        gateway.create_stream(&definition(stream)).await?;
    }
    let count = bench.size.records;
    let in_order: Vec<usize> = (1..=count).collect();
    let records = records::generated(RECORD_BYTES, in_order.iter().copied());
    let binary = bench.dir.join("keyed.binary");
    let columns = records.write_copy_binary(&binary, records::generated_columns())?;
    let way = |figure: &str, stream: &'static str, sequence: &[usize]| -> anyhow::Result<Way> {
        let records = records::generated(RECORD_BYTES, sequence.iter().copied());
        let bodies = records.bodies(Packing::Ndjson)?;
        let keys: HashSet<usize> = sequence.iter().copied().collect();
        Ok(Way {
            figure: figure.to_owned(),
            stream,
            requests: bulk::requests(gateway, stream, Packing::Ndjson, &bodies),
            records: sequence.len(),
            rows: if is_keyed(stream) { keys.len() } else { sequence.len() },
        })
    };
    let mut numbers = StdRng::seed_from_u64(SEED);
    let mut shuffled = in_order.clone();
    shuffled.shuffle(&mut numbers);
    let few = with_duplicates(count, 0.01, &mut numbers);
    let many = with_duplicates(count, 0.5, &mut numbers);
    let [_, _, random, ignore_few, ignore_many, replace, replace_many, documents, keyed_documents] =
        STREAMS;
    let ways = vec![
        way(UNKEYED, TYPED_UNKEYED, &in_order)?,
        way(KEYED, TYPED_IGNORE, &in_order)?,
        way("keyed (ignore), random keys: committed records/s", random, &shuffled)?,
        way("keyed (ignore), 1 % duplicates: committed records/s", ignore_few, &few)?,
        way("keyed (ignore), 50 % duplicates: committed records/s", ignore_many, &many)?,
        way("keyed (replace), new keys in order: committed records/s", replace, &in_order)?,
        way("keyed (replace), 50 % duplicates: committed records/s", replace_many, &many)?,
        way("documents, unkeyed: committed records/s", documents, &in_order)?,
        way("documents, keyed by a pointer: committed records/s", keyed_documents, &in_order)?,
    ];
    Ok(Prepared { binary, columns, records: count, ways })
}

fn is_keyed(stream: &str) -> bool {
    !stream.ends_with("_none")
}

/// What makes a stream, as its name says.
fn definition(stream: &str) -> Value {
    let mut definition = if stream.contains("_typed_") {
        records::generated_definition(stream, is_keyed(stream).then_some(&["seq"][..]))
    } else {
        let mut definition = records::document_definition(stream);
        if is_keyed(stream) {
            definition["key"] = json!(["/seq"]);
        }
        definition
    };
    if stream.contains("_replace") {
        definition["on_duplicate"] = json!("replace");
    }
    definition
}

/// So many keys, this share of them, at random, one that was there before.
fn with_duplicates(count: usize, share: f64, numbers: &mut StdRng) -> Vec<usize> {
    let mut sequence = Vec::with_capacity(count);
    for seq in 1..=count {
        let again = numbers.random_bool(share) && !sequence.is_empty();
        let key = if again { sequence[numbers.random_range(0..sequence.len())] } else { seq };
        sequence.push(key);
    }
    sequence
}
