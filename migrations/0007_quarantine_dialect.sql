-- What a kept row of CSV was separated and quoted with, where its sender said so. null: a comma, a double quote.
alter table tidegate.quarantine add column csv_delimiter text;
alter table tidegate.quarantine add column csv_quote text;
