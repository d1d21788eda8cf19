//! The server's log, `<data dir>/postgres.log`: opened by us, written by the server, bounded by us.
//!
//! The server keeps the file open, so an overgrown log is copied to `postgres.log.1` and emptied in place.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tidegate_private_file as private_file;
use tokio::io::AsyncWriteExt;

use super::error::PostgresError;

/// The log's name in the data directory.
pub(super) const LOG_FILE: &str = "postgres.log";
/// The log is emptied when it has grown beyond this.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How much of the log an error shows.
const TAIL_BYTES_MAX: u64 = 2 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Log {
    path: PathBuf,
}

impl Log {
    pub(super) fn of(data_dir: &Path) -> Log {
        Log { path: data_dir.join(LOG_FILE) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the log for a server. Appending is what makes emptying it below safe.
    pub(super) fn open(&self) -> Result<File, PostgresError> {
        private_file::options()
            .append(true)
            .create(true)
            .open(&self.path)
            .map_err(PostgresError::io("open", &self.path))
    }

    /// Where the next message will begin.
    pub(super) fn end(&self) -> u64 {
        self.path.metadata().map_or(0, |found| found.len())
    }

    /// The last messages, none from before `begin`; empty when the log cannot be read.
    pub(super) fn tail(&self, begin: u64) -> String {
        self.read_tail(begin).unwrap_or_default()
    }

    fn read_tail(&self, begin: u64) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        let from = begin.max(self.end().saturating_sub(TAIL_BYTES_MAX));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// Keeps the log within its bound. What is written between copying and emptying is lost.
    pub(super) async fn trim(&self) {
        if self.end() <= LOG_BYTES_MAX {
            return;
        }
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        let trimmed = async {
            let mut writable = private_file::options();
            writable.write(true);
            let mut emptied = writable.clone();
            emptied.create(true).truncate(true);
            let mut log = tokio::fs::File::open(&self.path).await?;
            let mut copy = tokio::fs::OpenOptions::from(emptied).open(&older).await?;
            tokio::io::copy(&mut log, &mut copy).await?;
            copy.flush().await?;
            tokio::fs::OpenOptions::from(writable).open(&self.path).await?.set_len(0).await
        };
        if let Err(error) = trimmed.await {
            tracing::warn!(log = %self.path.display(), %error, "cannot trim PostgreSQL's log");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn an_overgrown_log_starts_again_and_keeps_its_writer() {
        let data_dir = tempfile::tempdir().expect("a directory");
        let log = Log::of(data_dir.path());
        let mut writer = log.open().expect("opened");
        writer.set_len(LOG_BYTES_MAX).expect("grown");
        log.trim().await;
        assert_eq!(log.end(), LOG_BYTES_MAX);
        writer.write_all(b"one too many").expect("written");
        log.trim().await;
        assert_eq!(log.end(), 0);
        writer.write_all(b"after").expect("written");
        assert_eq!(log.tail(0), "after");
        let older = data_dir.path().join("postgres.log.1");
        assert_eq!(older.metadata().expect("kept").len(), LOG_BYTES_MAX + 12);
    }

    #[test]
    fn a_tail_is_bounded_and_shows_nothing_older_than_asked_for() {
        let data_dir = tempfile::tempdir().expect("a directory");
        let log = Log::of(data_dir.path());
        assert_eq!(log.tail(0), "");
        let mut writer = log.open().expect("opened");
        writer.write_all(&[b'x'; 5000]).expect("written");
        let begin = log.end();
        writer.write_all(b"new\n").expect("written");
        assert_eq!(log.tail(begin), "new");
        assert!(log.tail(0).len() as u64 <= TAIL_BYTES_MAX);
    }
}
