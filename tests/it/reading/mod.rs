//! Asking for records: what PostgreSQL says to the same question in SQL written by hand is what has to come.

mod cache;
mod command;
mod filters;
mod formats;
mod own_writes;
mod pages;
mod refused;
mod replica;
mod trends;

use serde_json::{Value, json};

use crate::support::{Client, Gateway};

/// How many flights [`sample`] sends.
const FLIGHTS: i64 = 600;

/// A gateway with the same made-up flights in a typed stream, `flights`, and as documents of both kinds, `docs` (jsonb) and
/// `texts` (json); some values are missing, some are alike.
async fn sample() -> Gateway {
    let gateway = Gateway::start().await;
    let columns = json!([
        {"name": "n", "type": "integer"},
        {"name": "carrier", "type": "text"},
        {"name": "dep_delay", "type": "integer"},
        {"name": "air_time", "type": "double precision"},
        {"name": "fare", "type": "numeric"},
        {"name": "flown", "type": "boolean"},
        {"name": "time_hour", "type": "timestamptz"},
        {"name": "day", "type": "date"},
        {"name": "details", "type": "jsonb"},
    ]);
    gateway.create_stream(&json!({"name": "flights", "columns": columns})).await;
    gateway.create_stream(&json!({"name": "texts", "payload": "json"})).await;
    gateway.create_stream(&json!({"name": "daily", "columns": columns, "retention_days": 3})).await;
    let flights: Vec<Value> = (0..FLIGHTS).map(flight).collect();
    for stream in ["flights", "docs", "texts", "daily"] {
        for some in flights.chunks(100) {
            gateway.commit(stream, &json!(some)).await;
        }
    }
    gateway
}

fn flight(n: i64) -> Value {
    let some = |every: i64, value: Value| if n % every == 0 { Value::Null } else { value };
    let carriers = ["UA", "AA", "B6", "a,b", "quote\"d", "50%", "O'Hare", "back\\slash"];
    let carrier = carriers[usize::try_from(n).unwrap() % carriers.len()];
    let sevenths = f64::from(i32::try_from(n).unwrap()) / 7.0;
    let letter = ["A", "B", "C"][usize::try_from(n % 3).unwrap()];
    let mut flight = json!({
        "n": n,
        "carrier": some(11, json!(carrier)),
        "dep_delay": some(7, json!(n % 40 - 10)),
        "air_time": some(13, json!(sevenths)),
        "fare": some(17, json!(format!("{}.{:02}", n % 9, n % 100))),
        "flown": some(5, json!(n % 2 == 0)),
        "time_hour": format!("2013-01-{:02}T{:02}:00:00Z", n % 28 + 1, n % 24),
        "day": format!("2013-01-{:02}", n % 28 + 1),
        "details": {"gate": {"letter": letter, "stops": [n % 4, {"x": n % 5}]}, "words": "quick brown fox"},
    });
    if n % 3 == 0 {
        flight["tail"] = json!(format!("N{n}"));
    }
    flight
}

/// The `n` of every record of a reply.
fn numbers(records: &Value) -> Vec<i64> {
    let records = records["records"].as_array().unwrap();
    records.iter().map(|record| record["data"]["n"].as_i64().unwrap()).collect()
}

/// The address of a question, its parameters encoded.
fn question(stream: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    format!("/v1/streams/{stream}/records?{}", query.finish())
}

async fn ask(client: &Client, stream: &str, parameters: &[(&str, &str)]) -> Value {
    client.get(&question(stream, parameters)).await.expect(200)
}
