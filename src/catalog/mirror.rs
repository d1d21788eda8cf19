//! A private file that repeats what memory holds, for a start without PostgreSQL.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_private_file as private_file;

/// One file and what it last held.
#[derive(Debug)]
pub struct Mirror<T> {
    path: PathBuf,
    written: Vec<u8>,
    holds: std::marker::PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Mirror<T> {
    pub fn new(path: PathBuf) -> Mirror<T> {
        Mirror { path, written: Vec::new(), holds: std::marker::PhantomData }
    }

    /// What the file holds; `None` if there is none. One that cannot be read counts as none, because PostgreSQL has
    /// the truth.
    pub fn load(&self) -> Option<T> {
        let bytes = std::fs::read(&self.path).ok()?;
        let read = serde_json::from_slice(&bytes);
        if let Err(error) = &read {
            tracing::warn!(path = %self.path.display(), %error, "the mirror of the catalog cannot be read; left aside");
        }
        read.ok()
    }

    /// Writes the file where something changed. A disk that refuses costs only the start without PostgreSQL.
    pub async fn save(&mut self, value: &T) {
        let Ok(bytes) = serde_json::to_vec(value) else {
            return;
        };
        if bytes == self.written {
            return;
        }
        let path = self.path.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let result = private_file::write(&path, &bytes);
            (result, bytes)
        })
        .await;
        match saved {
            Ok((Ok(()), bytes)) => self.written = bytes,
            Ok((Err(error), _)) => {
                tracing::warn!(path = %self.path.display(), %error, "the mirror of the catalog was not written");
            }
            Err(error) => tracing::warn!(%error, "the mirror of the catalog was not written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mirror_shows_what_was_saved_and_survives_damage() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mirror.json");
        let mut mirror: Mirror<Vec<String>> = Mirror::new(path.clone());
        assert_eq!(mirror.load(), None);
        mirror.save(&vec!["a".to_owned()]).await;
        assert_eq!(mirror.load(), Some(vec!["a".to_owned()]));
        std::fs::write(&path, b"{").unwrap();
        assert_eq!(mirror.load(), None);
    }
}
