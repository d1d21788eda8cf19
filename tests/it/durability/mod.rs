//! Nothing is lost and nothing doubled: crashes, damage, outages, disks that fill, and the private PostgreSQL.

mod backlog;
mod damage;
mod data_directory;
mod fence;
mod first_start;
mod full_disk;
mod journal_cli;
mod older_journal;
pub mod outages;
mod poolers;
mod private_postgres;
mod recovery;
mod set_back;
mod silent_line;
mod stalled_commits;
