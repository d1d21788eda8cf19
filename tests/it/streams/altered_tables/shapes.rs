//! Tables of another shape: columns that are gone, have other names, came back or stand elsewhere, columns that the stream
//! does not know, tables that took another's name, views.

use serde_json::json;

use super::cases::{Case, FLAGS, judge};
use super::ways::Way;
use crate::support::Gateway;

/// What is done to a table `{x}`, and what repairs it; `{k}` is the statement that makes the index of the stream's key,
/// if it has one.
struct Meddling {
    name: &'static str,
    alter: &'static str,
    /// None: records are stored all the same.
    repaired_by: Option<&'static str>,
    /// What the words must have.
    words: &'static [&'static str],
    /// SQL, while it is parked: the table is as it was.
    untouched: &'static str,
}

const ONE_ROW: &str = "select count(*) = 1 from streams.{x}";
const NOTHING_TO_SEE: &str = "null";

const fn parked(
    name: &'static str,
    alter: &'static str,
    repair: &'static str,
    words: &'static [&'static str],
) -> Meddling {
    Meddling { name, alter, repaired_by: Some(repair), words, untouched: ONE_ROW }
}

const fn stored(name: &'static str, alter: &'static str) -> Meddling {
    Meddling { name, alter, repaired_by: None, words: &[], untouched: NOTHING_TO_SEE }
}

/// Of typed streams with the column `measured bigint`, whose key is `n` if they have one.
const OF_COLUMNS: [Meddling; 13] = [
    parked(
        "renamed",
        "alter table streams.{x} rename measured to measured_",
        "alter table streams.{x} rename measured_ to measured",
        &["measured"],
    ),
    parked(
        "dropped",
        "alter table streams.{x} drop measured",
        "alter table streams.{x} add measured bigint",
        &["measured"],
    ),
    parked(
        "exchanged",
        "alter table streams.{x} rename measured to old; alter table streams.{x} rename other to measured;
         alter table streams.{x} rename old to other",
        "alter table streams.{x} rename measured to old; alter table streams.{x} rename other to measured;
         alter table streams.{x} rename old to other",
        &["column measured", "bigint", "double precision"],
    ),
    parked(
        "added_as_another",
        "alter table streams.{x} drop measured, add measured double precision",
        "alter table streams.{x} drop measured, add measured bigint",
        &["column measured", "bigint", "double precision"],
    ),
    parked(
        "generated",
        "alter table streams.{x} drop measured, add measured bigint generated always as (n + 1) stored",
        "alter table streams.{x} drop measured, add measured bigint",
        &["measured"],
    ),
    parked(
        "without_extra",
        "alter table streams.{x} drop extra",
        "alter table streams.{x} add extra jsonb",
        &["extra"],
    ),
    parked(
        "with_a_column_that_needs_a_value",
        "alter table streams.{x} add needed integer not null default 7;
         alter table streams.{x} alter needed drop default",
        "alter table streams.{x} alter needed set default 8",
        &["needed"],
    ),
    stored(
        "with_more_columns",
        "alter table streams.{x} add more text, add most integer not null default 7",
    ),
    stored("added_again", "alter table streams.{x} drop measured, add measured bigint"),
    stored(
        "in_another_order",
        "alter table streams.{x} add g_ integer, add extra_ jsonb, add id_ uuid;
         update streams.{x} set g_ = g, extra_ = extra, id_ = id;
         alter table streams.{x} drop g, drop extra;
         alter table streams.{x} rename g_ to g; alter table streams.{x} rename extra_ to extra",
    ),
    stored("with_a_collation", "alter table streams.{x} alter t type text collate \"C\""),
    stored("with_a_default", "alter table streams.{x} alter measured set default 7, alter t set default 'x'"),
    stored("with_a_comment", "comment on column streams.{x}.measured is 'bigint'"),
];

/// Of streams that are not partitioned.
const OF_TABLES: [Meddling; 8] = [
    parked(
        "without_id",
        "alter table streams.{x} drop id cascade",
        "alter table streams.{x} add id uuid primary key default gen_random_uuid()",
        &["id"],
    ),
    parked(
        "without_received_at",
        "alter table streams.{x} drop received_at",
        "alter table streams.{x} add received_at timestamptz not null default now()",
        &["received_at"],
    ),
    Meddling {
        name: "gone",
        alter: "alter table streams.{x} rename to {x}_gone",
        repaired_by: Some("alter table streams.{x}_gone rename to {x}"),
        words: &["{x}"],
        untouched: "select count(*) = 1 from streams.{x}_gone",
    },
    Meddling {
        name: "swapped",
        alter: "alter table streams.{x} rename to {x}_aside; create table streams.{x} (like streams.{x}_aside including all);
                alter table streams.{x} alter measured type double precision",
        repaired_by: Some("drop table streams.{x}; alter table streams.{x}_aside rename to {x}"),
        words: &["column measured", "bigint", "double precision"],
        untouched: "(select count(*) = 0 from streams.{x}) and (select count(*) = 1 from streams.{x}_aside)",
    },
    Meddling {
        name: "without_columns",
        alter: "alter table streams.{x} rename to {x}_apart; create table streams.{x} ()",
        repaired_by: Some("drop table streams.{x}; alter table streams.{x}_apart rename to {x}"),
        words: &["{x}", "no columns"],
        untouched: "select count(*) = 1 from streams.{x}_apart",
    },
    Meddling {
        name: "looked_through",
        alter: "alter table streams.{x} rename to {x}_below; create view streams.{x} as table streams.{x}_below",
        repaired_by: Some("drop view streams.{x}; alter table streams.{x}_below rename to {x}"),
        words: &["view"],
        untouched: ONE_ROW,
    },
    Meddling {
        name: "looked_back",
        alter: "alter table streams.{x} rename to {x}_below;
                create materialized view streams.{x} as table streams.{x}_below",
        repaired_by: Some("drop materialized view streams.{x}; alter table streams.{x}_below rename to {x}"),
        words: &["view"],
        untouched: ONE_ROW,
    },
    stored(
        "swapped_for_one_of_another_order",
        "alter table streams.{x} rename to {x}_aside;
         create table streams.{x} (t text, other float, measured bigint, n integer, extra jsonb, g integer,
             received_at timestamptz not null, more text, id uuid primary key);
         {k}; insert into streams.{x} (id, received_at, g, n, measured, t, extra)
         select id, received_at, g, n, measured, t, extra from streams.{x}_aside",
    ),
];

/// Of streams of documents, whose key is `/n` if they have one.
const OF_DOCUMENTS: [Meddling; 2] = [
    parked(
        "without_payload",
        "alter table streams.{x} drop payload",
        "alter table streams.{x} add payload jsonb not null default '{\"g\": 0, \"n\": -1}'; {k}",
        &["payload"],
    ),
    parked(
        "with_another_payload",
        "alter table streams.{x} rename payload to document",
        "alter table streams.{x} rename document to payload",
        &["payload"],
    ),
];

/// Triggers that cannot do what they are there for: it is no record's fault.
const OF_TRIGGERS: [Meddling; 5] = [
    triggered(
        "whose_trigger_names_no_column",
        "create function {x}() returns trigger language plpgsql as $$
             begin perform nope from tidegate.installation; return new; end $$;
         create trigger t before insert on streams.{x} for each row execute function {x}()",
        &["nope"],
    ),
    triggered(
        "whose_trigger_names_no_field",
        "create function {x}() returns trigger language plpgsql as $$
             begin new.nope := 1; return new; end $$;
         create trigger t before insert on streams.{x} for each row execute function {x}()",
        &["nope"],
    ),
    triggered(
        "whose_trigger_gives_another_row",
        "create function {x}() returns trigger language plpgsql as $$ begin return row(1, 2); end $$;
         create trigger t before insert on streams.{x} for each row execute function {x}()",
        &["returned row structure"],
    ),
    triggered(
        "whose_trigger_calls_no_function",
        "create function {x}() returns trigger language plpgsql as $$ begin perform nope(); return new; end $$;
         create trigger t after insert on streams.{x} for each row execute function {x}()",
        &["nope"],
    ),
    triggered(
        "whose_trigger_fails_at_the_commit",
        "create function {x}() returns trigger language plpgsql as $$
             begin perform nope from tidegate.installation; return new; end $$;
         create constraint trigger t after insert on streams.{x} deferrable initially deferred
             for each row execute function {x}()",
        &["nope"],
    ),
];

const fn triggered(
    name: &'static str,
    alter: &'static str,
    words: &'static [&'static str],
) -> Meddling {
    let repair = "create or replace function {x}() returns trigger language plpgsql as $$ begin return new; end $$";
    parked(name, alter, repair, words)
}

/// Of keyed streams.
const OF_KEYS: [Meddling; 2] = [
    parked("without_index", "drop index streams.{x}_n_idx", "{k}", &["unique"]),
    parked(
        "without_key",
        "alter table streams.{x} drop n cascade",
        "alter table streams.{x} add n integer; {k}",
        &["column n"],
    ),
];

fn meddled(case: Case, meddling: &Meddling, index: &str) -> Case {
    let stream = case.stream.clone();
    let filled = |sql: &str| sql.replace("{x}", &stream).replace("{k}", index);
    let words: Vec<String> = meddling.words.iter().map(|word| filled(word)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let case = Case { untouched: filled(meddling.untouched), ..case };
    match meddling.repaired_by {
        Some(repair) => case.parked(filled(meddling.alter), filled(repair), &words),
        None => case.stored(filled(meddling.alter)),
    }
}

fn is_keyed(way: Way) -> bool {
    matches!(way, Way::Ignored | Way::Replaced)
}

/// The column that changes places with `measured` is `other`.
fn typed(way: Way, meddling: &Meddling) -> Case {
    let stream = format!("{}_{}", way.name(), meddling.name);
    let columns = json!([
        {"name": "measured", "type": "bigint"},
        {"name": "other", "type": "double precision"},
    ]);
    let case = way.of(Case::typed(stream, &columns), "measured", "n");
    let index = format!("create unique index on {} (n)", case.table());
    let case = meddled(case, meddling, if is_keyed(way) { &index } else { "" });
    let record = |generation: i32, number: i32| {
        json!({
            "g": generation, "n": number, "measured": 9_007_199_254_740_993_i64 + i64::from(number), "other": 0.5,
            "t": "after", "more": [number],
        })
    };
    let right = "measured = 9007199254740993 + n and other = 0.5 and t = 'after'
        and extra = jsonb_build_object('more', jsonb_build_array(n))";
    Case {
        before: record(0, 0).to_string(),
        after: vec![json!([record(1, 0), record(1, 1), record(1, 2)]).to_string()],
        again: record(2, 3).to_string(),
        rows: if meddling.name == "without_key" { [1, 3] } else { way.rows(3) },
        right: right.to_owned(),
        ..case
    }
}

fn documents(way: Way, meddling: &Meddling) -> Case {
    let stream = format!("{}_{}", way.name(), meddling.name);
    let case = way.of(Case::documents(stream, "jsonb"), "", "/n");
    let table = case.table();
    let index = format!("create unique index on {table} ((payload #>> array['n']::text[]))");
    let case = meddled(case, meddling, if is_keyed(way) { &index } else { "" });
    let record = |generation: i32, number: i32| json!({"g": generation, "n": number, "é": [null]});
    let rows = if meddling.name == "without_payload" { [1, 3] } else { way.rows(3) };
    Case {
        before: record(0, 0).to_string(),
        after: vec![json!([record(1, 0), record(1, 1), record(1, 2)]).to_string()],
        again: record(2, 3).to_string(),
        rows,
        right: "payload = jsonb_build_object('g', 1, 'n', payload->'n', 'é', '[null]'::jsonb)"
            .to_owned(),
        ..case
    }
}

#[tokio::test]
async fn a_table_of_another_shape_is_written_right_or_parked_until_it_is_repaired() {
    let gateway = Gateway::with(&FLAGS).await;
    let mut cases = Vec::new();
    for way in Way::BY_ANOTHER {
        cases.extend(OF_COLUMNS.iter().map(|meddling| typed(way, meddling)));
        cases.extend(OF_TRIGGERS.iter().map(|meddling| typed(way, meddling)));
        cases.extend(OF_DOCUMENTS.iter().map(|meddling| documents(way, meddling)));
        if way != Way::Retained {
            cases.extend(OF_TABLES.iter().map(|meddling| typed(way, meddling)));
        }
        if is_keyed(way) {
            cases.extend(OF_KEYS.iter().map(|meddling| typed(way, meddling)));
        }
    }
    judge(&gateway, &cases).await;
}
