-- Changes wait for their table as records do. The numbers are those of entries in the journal: 1 records, 3 changes.
alter table tidegate.parked add column kind smallint not null default 1;

-- What a document becomes when another one is merged into it, as RFC 7396 says: members of the patch replace those of the
-- target, object by object, and null takes a member away.
create function tidegate.merge_patch(target jsonb, patch jsonb) returns jsonb
language sql immutable
as $$
    select case
        when jsonb_typeof(patch) is distinct from 'object' then patch
        else coalesce(
            (select jsonb_object_agg(
                 key, case when p.key is null then t.value else tidegate.merge_patch(t.value, p.value) end)
             from jsonb_each(case jsonb_typeof(target) when 'object' then target else '{}' end) t
                 full join jsonb_each(patch) p using (key)
             where p.key is null or jsonb_typeof(p.value) <> 'null'),
            '{}')
    end
$$;

-- The quarantine keeps changes as well.
alter table tidegate.quarantine drop constraint quarantine_format_check,
    add constraint quarantine_format_check check (format in ('json', 'csv', 'change'));
