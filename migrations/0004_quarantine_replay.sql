-- What it takes to read a kept record once more. null: JSON, and what was kept before this.
alter table tidegate.quarantine add column format text check (format in ('json', 'csv'));
-- The header line of the file that a CSV row came in, without which its fields have no names; and the text that meant null.
alter table tidegate.quarantine add column csv_header bytea;
alter table tidegate.quarantine add column csv_null text;
-- The journal that has, or is about to have, this record once more: no other gateway may replay it too.
alter table tidegate.quarantine add column replaying_journal uuid;
