-- What a polling job cannot do, and what became of a run's items, in the gateway's own words and counts.
--
-- Why no run of the job comes to its end, as the last run that found so said it; null as soon as one does, or goes on.
alter table tidegate.polling_jobs add column unfinished text;
-- Of the items that are new or changed, those that wait in tidegate.parked until the stream's table can be written. As new,
-- changed and refused it is counted by the transactions that write the rows.
alter table tidegate.polling_runs add column parked bigint not null default 0;
