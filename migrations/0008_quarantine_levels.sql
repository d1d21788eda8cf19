-- What the quarantine holds of each stream, so that its limits cost no count over it. Triggers add what every statement put
-- in or took out, whoever ran it; the gateway sums up now and then. Rows are only added by the triggers, so that batches
-- side by side never wait for each other here.
create table tidegate.quarantine_levels (
    stream_id integer not null,
    -- They had been accepted, and PostgreSQL refused them: other limits hold for these.
    accepted boolean not null,
    records bigint not null,
    bytes bigint not null
);

-- What a kept record counts: what was sent of it, what is said of it, and about what the row itself takes. The gateway
-- (db/quarantine.rs) counts the same before the row is there.
create function tidegate.quarantine_row_bytes(raw bytea, csv_header bytea, message text) returns bigint
language sql immutable as $$
    select (octet_length(raw) + coalesce(octet_length(csv_header), 0) + octet_length(message) + 200)::bigint
$$;

create function tidegate.note_quarantine_rows() returns trigger language plpgsql as $$
declare
    sign integer := case when tg_op = 'INSERT' then 1 else -1 end;
begin
    insert into tidegate.quarantine_levels (stream_id, accepted, records, bytes)
    select stream_id, sqlstate is not null, sign * count(*),
        sign * sum(tidegate.quarantine_row_bytes(raw, csv_header, message))
    from changed group by 1, 2;
    return null;
end $$;

create trigger note_added after insert on tidegate.quarantine
    referencing new table as changed for each statement execute function tidegate.note_quarantine_rows();
create trigger note_dropped after delete on tidegate.quarantine
    referencing old table as changed for each statement execute function tidegate.note_quarantine_rows();

create function tidegate.forget_quarantine_rows() returns trigger language plpgsql as $$
begin
    delete from tidegate.quarantine_levels;
    return null;
end $$;

create trigger note_emptied after truncate on tidegate.quarantine
    for each statement execute function tidegate.forget_quarantine_rows();

insert into tidegate.quarantine_levels (stream_id, accepted, records, bytes)
select stream_id, sqlstate is not null, count(*),
    sum(tidegate.quarantine_row_bytes(raw, csv_header, message))
from tidegate.quarantine group by 1, 2;
