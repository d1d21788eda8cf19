-- A table that is locked, dropped or not writable must hold up nobody else: the entries of its stream wait here, put in
-- by the transaction that commits their part of the journal, and follow when the table is back.
create table tidegate.parked (
    journal_id uuid not null references tidegate.journals (id),
    stream_id integer not null,
    -- Where the entry lay in the journal: its order.
    position bigint not null,
    column_set integer not null,
    rows integer not null,
    received_at timestamptz not null,
    -- The entry's own bytes: who sent it, and its COPY tuples.
    meta bytea not null,
    body bytea not null,
    parked_at timestamptz not null default now(),
    primary key (journal_id, stream_id, position)
);
-- Tuples are compressed by nobody who would read them again a moment later.
alter table tidegate.parked alter column body set storage external;

-- What became of an entry, where not all of its records made a row: {"<position>": {"duplicates": 3}}, and so on.
alter table tidegate.committed_ranges drop column duplicates;
alter table tidegate.committed_ranges add column outcomes jsonb;

-- Records that PostgreSQL refused have its error code and the position of their entry.
alter table tidegate.quarantine add column sqlstate text;
alter table tidegate.quarantine add column position bigint;

-- A stream that was deleted leaves its row behind: so a stream without a row is one that this database has forgotten,
-- because it was set back, and its records are not thrown away with it.
alter table tidegate.streams add column deleted_at timestamptz;
alter table tidegate.streams drop constraint streams_name_key;
create unique index streams_name on tidegate.streams (name) where deleted_at is null;
