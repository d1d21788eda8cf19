-- Polling jobs: what to ask, when, and what has been seen of it. Nodes share them: whoever claims a job adds one to its
-- fence and gives the run an id. Rows of a run are committed only while the job still has this id, which is checked in the
-- transaction that writes them. The id beside the number: a database that was set back gives numbers a second time.
create table tidegate.polling_jobs (
    id uuid primary key,
    -- null: of whoever can read a gateway's data directory
    owner_id bigint references tidegate.users (id),
    -- Of a job in the short form: for whom it is, in its maker's words; and a hash of that and of the URL, which tells it
    -- from the others of the same owner.
    user_id text,
    short_key bytea,
    name text not null,
    -- The stream's name; and the number of the stream in which the remembered items are: another one begins from nothing.
    stream text not null,
    stream_id integer,
    definition jsonb not null,
    -- Headers that nobody sees again.
    sealed bytea,
    schedule jsonb not null,
    paused boolean not null default false,
    -- What the next run goes on from. Text, because it holds what others sent: nothing in it may fail to be written.
    resume text not null default '{}',
    fence bigint not null default 0,
    -- The run that has the lease, or the last one that had it.
    run_id uuid,
    -- The journal through which it writes.
    lease_owner uuid,
    lease_until timestamptz,
    due_at timestamptz not null,
    -- When somebody should look at it: when it is due, or when the lease on it ends.
    wake_at timestamptz not null,
    -- When due_at was computed: in the future only if the clock was set back since.
    scheduled_at timestamptz not null default now(),
    failures integer not null default 0,
    -- When items that were not seen for long were last forgotten.
    pruned_on date not null default current_date,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index polling_jobs_wake on tidegate.polling_jobs (wake_at) where not paused;
create index polling_jobs_owner on tidegate.polling_jobs (owner_id);
create index polling_jobs_stream on tidegate.polling_jobs (stream);
create unique index polling_jobs_short on tidegate.polling_jobs (coalesce(owner_id, 0), short_key);

-- The latest runs of each job. new and changed are counted by the transactions that write the rows, the rest at the end.
create table tidegate.polling_runs (
    job_id uuid not null,
    fence bigint not null,
    id uuid not null,
    node text not null,
    due_at timestamptz not null,
    started_at timestamptz not null,
    finished_at timestamptz,
    status text not null default 'running',
    items bigint not null default 0,
    new bigint not null default 0,
    changed bigint not null default 0,
    duplicates bigint not null default 0,
    refused bigint not null default 0,
    error text,
    primary key (job_id, fence)
);
create index polling_runs_under_way on tidegate.polling_runs (job_id) where finished_at is null;

-- What a job has seen: hashes of an item's key and of its content, as it was when it was last written; by which run, and
-- where in its journal, because transactions side by side may have two versions of an item.
create table tidegate.polled_items (
    job_id uuid not null,
    fence bigint not null,
    position bigint not null,
    -- Not newer than the last answer that had it, and not much older.
    seen_on date not null default current_date,
    key bytea not null,
    content bytea not null,
    primary key (job_id, key)
);
