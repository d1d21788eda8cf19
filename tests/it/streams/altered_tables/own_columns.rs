//! The columns that the gateway adds itself: `id` and `received_at` are exact, documents may be of another type that
//! takes every document.

use serde_json::json;

use super::cases::{Case, FLAGS, judge};
use super::kinds::{Fit, setup};
use super::ways::Way;
use crate::support::Gateway;

/// Another type for a column, with casts to it and back, and what becomes of records then. The key may lack an index then.
struct Instead {
    column: &'static str,
    table: &'static str,
    there: &'static str,
    back: &'static str,
    fit: Fit,
}

const fn parked(
    column: &'static str,
    table: &'static str,
    there: &'static str,
    back: &'static str,
) -> Instead {
    Instead { column, table, there, back, fit: Fit::Parked }
}

const fn stored(column: &'static str, table: &'static str, there: &'static str) -> Instead {
    Instead { column, table, there, back: "", fit: Fit::Stored }
}

const OF_TYPED: [Instead; 23] = [
    parked("id", "text", "id::text", "id::uuid"),
    parked("id", "varchar", "id::text", "id::uuid"),
    parked("id", "varchar(36)", "id::text", "id::uuid"),
    parked("id", "char(36)", "id::text", "id::uuid"),
    parked("id", "bytea", "uuid_send(id)", "encode(id, 'hex')::uuid"),
    parked("id", "over_uuid", "id", "id"),
    parked("id", "uuid[]", "array[id]", "id[1]"),
    parked(
        "received_at",
        "timestamp",
        "received_at at time zone 'UTC'",
        "received_at at time zone 'UTC'",
    ),
    parked("received_at", "timestamptz(0)", "received_at", "received_at"),
    parked("received_at", "timestamptz(3)", "received_at", "received_at"),
    parked("received_at", "date", "received_at::date", "received_at::timestamptz"),
    parked("received_at", "text", "received_at::text", "received_at::timestamptz"),
    parked(
        "received_at",
        "bigint",
        "extract(epoch from received_at)::bigint",
        "to_timestamp(received_at)",
    ),
    parked(
        "received_at",
        "double precision",
        "extract(epoch from received_at)",
        "to_timestamp(received_at)",
    ),
    parked("received_at", "over_timestamptz", "received_at", "received_at"),
    stored("extra", "json", "extra::json"),
    stored("extra", "text", "extra::text"),
    stored("extra", "varchar", "extra::text"),
    parked("extra", "varchar(1000)", "extra::text", "extra::jsonb"),
    parked(
        "extra",
        "bytea",
        "convert_to(extra::text, 'UTF8')",
        "convert_from(extra, 'UTF8')::jsonb",
    ),
    parked("extra", "over_jsonb", "extra", "extra"),
    parked("extra", "jsonb[]", "array[extra]", "extra[1]"),
    parked("extra", "xml", "null::xml", "null::jsonb"),
];

/// `own` stands for the payload's type.
const OF_DOCUMENTS: [Instead; 8] = [
    stored("payload", "json", "payload::json"),
    stored("payload", "jsonb", "payload::jsonb"),
    stored("payload", "text", "payload::text"),
    stored("payload", "varchar", "payload::text"),
    parked("payload", "varchar(1000)", "payload::text", "payload::own"),
    parked(
        "payload",
        "bytea",
        "convert_to(payload::text, 'UTF8')",
        "convert_from(payload, 'UTF8')::own",
    ),
    parked("payload", "over_jsonb", "payload::jsonb", "payload::own"),
    parked("payload", "jsonb[]", "array[payload::jsonb]", "payload[1]::own"),
];

/// Types of a payload that the key's index follows there and back, so that it is the key's index still.
const WITH_POINTERS: [(&str, &str); 3] =
    [("json", "jsonb"), ("jsonb", "json"), ("jsonb", "over_jsonb")];

fn altered(case: Case, instead: &Instead, own: &str) -> Case {
    let name = case.table();
    let Instead { column, table, there, back, fit } = instead;
    let alter = format!("alter table {name} alter {column} type {table} using {there}");
    let case = Case { altered_column: Some(column), ..case };
    match fit {
        Fit::Stored => case.stored(alter),
        Fit::Parked => {
            let back = back.replace("own", own);
            let repair = format!("alter table {name} alter {column} type {own} using {back}");
            case.parked(alter, repair, &[&format!("column {column}"), own])
        }
    }
}

fn stream_name(way: Way, what: &str, number: usize, table: &str) -> String {
    let table = table.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("{}_{what}_{number}_{table}", way.name())
}

/// The id is one that the gateway made, the time is that of the test.
const RIGHT: &str = "id::text ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7' and received_at between now() - interval '1 hour' and now()";

fn typed(way: Way, number: usize, instead: &Instead) -> Case {
    let stream = stream_name(way, instead.column, number, instead.table);
    let case = Case::typed(stream, &json!([{"name": "measured", "type": "bigint"}]));
    let own = match instead.column {
        "id" => "uuid",
        "received_at" => "timestamptz",
        _ => "jsonb",
    };
    let case = altered(way.of(case, "measured", "n"), instead, own);
    let record = |generation: i32, number: i32| {
        let measured = 9_007_199_254_740_993 + i64::from(number);
        json!({"g": generation, "n": number, "measured": measured, "t": "after", "more": {"é": [number, null]}})
    };
    let right = format!(
        "{RIGHT} and measured = 9007199254740993 + n and t = 'after'
         and extra::jsonb = jsonb_build_object('more', jsonb_build_object('é', jsonb_build_array(n, null)))"
    );
    let after = json!([record(1, 0), record(1, 1), record(1, 2)]);
    Case {
        before: record(0, 0).to_string(),
        after: vec![after.to_string()],
        again: record(2, 3).to_string(),
        rows: way.rows(3),
        right,
        ..case
    }
}

fn documents(way: Way, number: usize, instead: &Instead, own: &str) -> Case {
    let stream = stream_name(way, own, number, instead.table);
    let case = way.of(Case::documents(stream, own), "", "/n");
    let case = altered(case, instead, own);
    // With spaces and an order of its own, which `json` keeps.
    let record = |generation: i32, number: i32| {
        format!("{{\"n\":{number}, \"g\":{generation},\"é\" : [1,2.50,null,\"\\n\"],\"a\":{{}}}}")
    };
    let sent = "format('{\"n\":%s, \"g\":1,\"é\" : [1,2.50,null,\"\\n\"],\"a\":{}}', payload::jsonb->>'n')";
    let mut right = format!("{RIGHT} and payload::jsonb = {sent}::jsonb");
    if own == "json" && instead.table != "jsonb" {
        right = format!("{right} and payload::text = {sent}");
    }
    Case {
        before: record(0, 0),
        after: vec![format!("[{},{},{}]", record(1, 0), record(1, 1), record(1, 2))],
        again: record(2, 3),
        rows: way.rows(3),
        right,
        ..case
    }
}

#[tokio::test]
async fn the_gateway_s_own_columns_are_exact_and_documents_stay_what_they_were() {
    let gateway = Gateway::with(&FLAGS).await;
    gateway.execute(&setup()).await;
    let mut cases = Vec::new();
    for way in Way::BY_ANOTHER {
        for (number, instead) in OF_TYPED.iter().enumerate() {
            // PostgreSQL does not let the type of a partition's bounds be altered.
            if way != Way::Retained || instead.column != "received_at" {
                cases.push(typed(way, number, instead));
            }
        }
        for (number, instead) in OF_DOCUMENTS.iter().enumerate() {
            let is_keyed = matches!(way, Way::Ignored | Way::Replaced);
            for own in ["json", "jsonb"] {
                let has_pointers = WITH_POINTERS.contains(&(own, instead.table));
                if own != instead.table && (has_pointers || !is_keyed) {
                    cases.push(documents(way, number, instead, own));
                }
            }
        }
    }
    judge(&gateway, &cases).await;
}
