//! Word from other nodes that the catalog changed. A hint only: who listens also looks from time to time.

use std::io::ErrorKind;

use sqlx::postgres::PgListener;

use crate::db::connection_check::{ConnectError, check_listener};
use crate::db::{Database, answered};

/// The channel that every change of streams, users and tokens is announced on, and every session that was ended.
pub(super) const NOTIFY_CATALOG: &str = "notify tidegate_catalog";
const CHANNEL: &str = "tidegate_catalog";
/// What the word of a session's end begins with; its hash follows, in hexadecimal.
const SESSION_WORD: &str = "session ";

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Streams, users or tokens changed.
    Catalog,
    /// The session with this hash was ended.
    SessionEnded(Vec<u8>),
}

impl Word {
    /// What makes no sense is a reason to look.
    fn read(payload: &str) -> Word {
        let hash = payload.strip_prefix(SESSION_WORD).and_then(bytes_of);
        hash.map_or(Word::Catalog, Word::SessionEnded)
    }
}

fn bytes_of(hexadecimal: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hexadecimal
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Listens until an error ends it.
#[derive(Debug)]
pub struct CatalogListener(PgListener);

impl CatalogListener {
    /// Listens, and makes sure that what is said is heard.
    pub async fn open(database: &Database) -> Result<CatalogListener, ConnectError> {
        let pool = database.pool();
        let mut listener = answered(async {
            let mut listener = PgListener::connect_with(pool.for_listening()).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        })
        .await?;
        check_listener(&mut listener, pool).await?;
        Ok(CatalogListener(listener))
    }

    /// Waits for the next word of a change. A line that was lost is an error, because a new one has to be tried first.
    pub async fn changed(&mut self) -> Result<Word, sqlx::Error> {
        match self.0.try_recv().await? {
            Some(said) => Ok(Word::read(said.payload())),
            None => Err(sqlx::Error::Io(ErrorKind::ConnectionAborted.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_nonsense_is_a_reason_to_look() {
        assert_eq!(Word::read("session 00ff7a"), Word::SessionEnded(vec![0, 0xff, 0x7a]));
        for payload in ["", "session 0", "session zz", "session é1", "sessions 00"] {
            assert_eq!(Word::read(payload), Word::Catalog, "{payload}");
        }
    }
}
