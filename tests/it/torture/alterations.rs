//! What is done to the tables of streams under torture, and how it is repaired, so that every row is what it was.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Something that is done to a stream's table, `{x}`, in one transaction, and undone in another.
#[derive(Debug)]
pub struct Alteration {
    pub name: &'static str,
    streams: &'static [&'static str],
    there: &'static str,
    back: &'static str,
}

/// Streams whose records have the columns that [`crate::support::Oracle`] sends.
const TYPED: &[&str] = &["typed", "retained", "replaced"];
const DOCUMENTS: &[&str] = &["documents", "polled_appended", "polled_tagged", "polled_since"];
const KEYED_DOCUMENTS: &[&str] = &["ignored", "polled_replaced"];
/// Streams that no partitions hang on.
const TABLES: &[&str] = &[
    "typed",
    "replaced",
    "documents",
    "ignored",
    "polled_appended",
    "polled_replaced",
    "polled_typed",
    "polled_tagged",
    "polled_since",
];
/// All that have a number `key`.
const NUMBERED: &[&str] = &["typed", "retained", "replaced", "polled_typed"];

const ALTERATIONS: [Alteration; 22] = [
    // Of the same length, so that a COPY does not notice.
    Alteration {
        name: "double precision as bigint",
        streams: TYPED,
        there: "alter table streams.{x} alter ratio type bigint using (ratio * 8)::bigint",
        back: "alter table streams.{x} alter ratio type double precision using ratio / 8.0",
    },
    Alteration {
        name: "bigint as timestamp",
        streams: NUMBERED,
        there: "alter table streams.{x} alter key type timestamp
                using timestamp '2000-01-01' + key * interval '1 us'",
        back: "alter table streams.{x} alter key type bigint
               using (extract(epoch from key - timestamp '2000-01-01') * 1000000)::bigint",
    },
    Alteration {
        name: "bigint as double precision",
        streams: NUMBERED,
        there: "alter table streams.{x} alter version type double precision",
        back: "alter table streams.{x} alter version type bigint",
    },
    Alteration {
        name: "timestamptz as bigint",
        streams: TYPED,
        there: "alter table streams.{x} alter \"at\" type bigint using (extract(epoch from \"at\") * 1000000)::bigint",
        back: "alter table streams.{x} alter \"at\" type timestamptz
               using timestamptz '1970-01-01 00:00:00Z' + \"at\" * interval '1 us'",
    },
    Alteration {
        name: "uuid as bytea",
        streams: TYPED,
        there: "alter table streams.{x} alter tag type bytea using uuid_send(tag)",
        back: "alter table streams.{x} alter tag type uuid using encode(tag, 'hex')::uuid",
    },
    Alteration {
        name: "text with a limit",
        streams: TYPED,
        there: "alter table streams.{x} alter note type varchar(10000)",
        back: "alter table streams.{x} alter note type text",
    },
    // Into these every value goes.
    Alteration {
        name: "bigint as numeric",
        streams: NUMBERED,
        there: "alter table streams.{x} alter key type numeric",
        back: "alter table streams.{x} alter key type bigint",
    },
    Alteration {
        name: "bigint as text",
        streams: NUMBERED,
        there: "alter table streams.{x} alter version type text",
        back: "alter table streams.{x} alter version type bigint using version::bigint",
    },
    Alteration {
        name: "numeric as text",
        streams: TYPED,
        there: "alter table streams.{x} alter amount type text",
        back: "alter table streams.{x} alter amount type numeric using amount::numeric",
    },
    Alteration {
        name: "timestamptz as text",
        streams: TYPED,
        there: "alter table streams.{x} alter \"at\" type text",
        back: "alter table streams.{x} alter \"at\" type timestamptz using \"at\"::timestamptz",
    },
    Alteration {
        name: "text as varchar",
        streams: TYPED,
        there: "alter table streams.{x} alter note type varchar",
        back: "alter table streams.{x} alter note type text",
    },
    Alteration {
        name: "extra as json",
        streams: TYPED,
        there: "alter table streams.{x} alter extra type json",
        back: "alter table streams.{x} alter extra type jsonb",
    },
    Alteration {
        name: "payload as json",
        streams: KEYED_DOCUMENTS,
        there: "alter table streams.{x} alter payload type json",
        back: "alter table streams.{x} alter payload type jsonb",
    },
    Alteration {
        name: "payload as text",
        streams: DOCUMENTS,
        there: "alter table streams.{x} alter payload type text",
        back: "alter table streams.{x} alter payload type jsonb using payload::jsonb",
    },
    Alteration {
        name: "payload as bytea",
        streams: DOCUMENTS,
        there: "alter table streams.{x} alter payload type bytea using convert_to(payload::text, 'UTF8')",
        back: "alter table streams.{x} alter payload type jsonb using convert_from(payload, 'UTF8')::jsonb",
    },
    Alteration {
        name: "id as text",
        streams: TABLES,
        there: "alter table streams.{x} alter id type text",
        back: "alter table streams.{x} alter id type uuid using id::uuid",
    },
    // Tables of another shape.
    Alteration {
        name: "column renamed",
        streams: NUMBERED,
        there: "alter table streams.{x} rename note to other",
        back: "alter table streams.{x} rename other to note",
    },
    Alteration {
        name: "column dropped, added again",
        streams: NUMBERED,
        there: "lock table streams.{x} in access exclusive mode;
                create table altered.{x} as select id, note from streams.{x};
                alter table streams.{x} drop note",
        back: "alter table streams.{x} add note text;
               update streams.{x} set note = kept.note from altered.{x} as kept where kept.id = {x}.id;
               drop table altered.{x}",
    },
    Alteration {
        name: "column that needs a value",
        streams: TABLES,
        there: "alter table streams.{x} add needed integer not null default 1;
                alter table streams.{x} alter needed drop default",
        back: "alter table streams.{x} drop needed",
    },
    Alteration {
        name: "table swapped",
        streams: TABLES,
        // What was committed is found in it, too.
        there: "alter table streams.{x} rename to {x}_aside; create table streams.{x} as table streams.{x}_aside;
                alter table streams.{x} alter received_at type timestamptz(0)",
        back: "drop table streams.{x}; alter table streams.{x}_aside rename to {x}",
    },
    Alteration {
        name: "table replaced by a view",
        streams: TABLES,
        there: "alter table streams.{x} rename to {x}_aside; create view streams.{x} as table streams.{x}_aside",
        back: "drop view streams.{x}; alter table streams.{x}_aside rename to {x}",
    },
    Alteration {
        name: "trigger that is broken",
        streams: TABLES,
        there: "create function altered.{x}() returns trigger language plpgsql as $$
                    begin perform nope from tidegate.installation; return new; end $$;
                create trigger broken before insert on streams.{x} for each row execute function altered.{x}()",
        back: "drop function altered.{x}() cascade",
    },
];

impl Alteration {
    /// Any alteration, and a stream that it can be done to.
    pub fn draw(numbers: &mut StdRng) -> (&'static Alteration, &'static str) {
        let alteration = &ALTERATIONS[numbers.random_range(0..ALTERATIONS.len())];
        (alteration, alteration.streams.choose(numbers).expect("there are streams"))
    }

    pub fn there(&self, stream: &str) -> String {
        self.there.replace("{x}", stream)
    }

    pub fn back(&self, stream: &str) -> String {
        self.back.replace("{x}", stream)
    }
}
