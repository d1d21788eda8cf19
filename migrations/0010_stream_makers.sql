-- Each user may make so many streams; so it must be known who made one. null: somebody who could read a gateway's data
-- directory, or a stream from before this. No reference: a database that was set back may have forgotten the user.
alter table tidegate.streams add column created_by bigint;
