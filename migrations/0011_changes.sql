-- Changes wait for their table as records do. The numbers are those of entries in the journal: 1 records, 3 changes.
alter table tidegate.parked add column kind smallint not null default 1;

-- What a document becomes when another one is merged into it, as RFC 7396 says: members of the patch replace those of the
-- target, object by object, and null takes a member away. What is assigned goes through json, because jsonb_object_agg takes a
-- time for a large value that grows with its square.
create function tidegate.merge_patch(target jsonb, patch jsonb) returns jsonb
language plpgsql immutable
as $$
declare
    merged jsonb := case jsonb_typeof(target) when 'object' then target else '{}' end;
    removed text[];
    assigned json;
begin
    select array_agg(key) filter (where jsonb_typeof(value) = 'null'),
        json_object_agg(
            key,
            case jsonb_typeof(value) when 'object' then tidegate.merge_patch(merged -> key, value) else value end)
            filter (where jsonb_typeof(value) <> 'null')
    into removed, assigned
    from jsonb_each(patch);
    return (merged - coalesce(removed, '{}')) || coalesce(assigned::jsonb, '{}');
end
$$;

-- The quarantine keeps changes as well.
alter table tidegate.quarantine drop constraint quarantine_format_check,
    add constraint quarantine_format_check check (format in ('json', 'csv', 'change'));
