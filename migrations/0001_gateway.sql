-- The gateway's own tables live in the schema tidegate, users' records in the schema streams (and the daily partitions
-- of streams with retention in stream_partitions), so that a person who reads the database meets only their streams.
create schema if not exists tidegate;
create schema if not exists streams;
create schema if not exists stream_partitions;

-- Who this database is. A gateway's data directory remembers it: its journal names streams by number, so it must not be
-- written into another database.
create table tidegate.installation (
    id uuid not null default gen_random_uuid(),
    only_one boolean primary key default true check (only_one)
);
insert into tidegate.installation default values;

-- One row per journal (a gateway's data directory). The epoch fences lost backends: every batch locks the row for share
-- and checks the epoch; whoever wants to know what is committed first adds one to it, which waits for all that is in
-- flight and makes all that comes late fail.
create table tidegate.journals (
    id uuid primary key,
    node text not null,
    epoch bigint not null default 0,
    created_at timestamptz not null default now()
);

-- What is committed: positions [first, last) of a journal, written in the transaction that copied them.
-- duplicates: for entries of keyed streams, {"<position>": records that found their key taken}; only those above 0.
create table tidegate.committed_ranges (
    journal_id uuid not null references tidegate.journals (id),
    first bigint not null,
    last bigint not null,
    duplicates jsonb,
    committed_at timestamptz not null default now(),
    primary key (journal_id, first),
    check (first < last)
);

create table tidegate.streams (
    id integer generated always as identity primary key,
    name text not null unique,
    -- {"document":{"payload":"jsonb"}} or {"typed":{"columns":[…],"unknown":"extra"}}
    shape jsonb not null,
    -- {"fields":[{"column":0},{"pointer":["a","b"]}],"on_duplicate":"ignore"}, or null
    key jsonb,
    retention_days smallint check (retention_days between 1 and 3650),
    created_at timestamptz not null default now()
);

-- Records that a stream refused, with what a person needs to mend them.
create table tidegate.quarantine (
    id uuid primary key,
    received_at timestamptz not null,
    stream_id integer not null,
    source text not null,
    user_name text not null,
    -- The place: number of the record in its request (from 1), the line of NDJSON or CSV, the column.
    record bigint,
    line bigint,
    column_name text,
    code text not null,
    message text not null,
    -- What was sent, as it was sent; cut at a limit, then truncated is true.
    raw bytea not null,
    truncated boolean not null
);
create index quarantine_stream on tidegate.quarantine (stream_id, received_at);

create table tidegate.users (
    id bigint generated always as identity primary key,
    name text not null unique,
    email text,
    password_hash text not null,
    role text not null check (role in ('admin', 'member')),
    disabled boolean not null default false,
    created_at timestamptz not null default now()
);

create table tidegate.tokens (
    id bigint generated always as identity primary key,
    user_id bigint not null references tidegate.users (id) on delete cascade,
    name text not null,
    -- SHA-256 of the token; the token itself is shown once and kept nowhere.
    hash bytea not null unique,
    scopes text[] not null,
    -- null: every stream
    streams text[],
    created_at timestamptz not null default now(),
    expires_at timestamptz
);
create index tokens_user on tidegate.tokens (user_id);

create table tidegate.sessions (
    hash bytea primary key,
    user_id bigint not null references tidegate.users (id) on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index sessions_user on tidegate.sessions (user_id);
create index sessions_expiry on tidegate.sessions (expires_at);
