-- A token's owner may limit how much it sends, so that a program that runs wild costs others nothing. null: no limit.
-- An older gateway that runs beside this one does not know the column, and does not hold the limit.
alter table tidegate.tokens add column records_per_second integer check (records_per_second > 0);
