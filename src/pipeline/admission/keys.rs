//! Idempotency keys: which requests are in the journal, so that the same one again is answered and not taken again.
//!
//! The truth is in the journal: the entries of a request name its key, so a key is as durable as what came with it, and
//! it is known for as long as its entries are retained. This is the journal's index, made anew at each start.
//!
//! Invariant: of all requests with the same key at most one is between [`Keys::claim`] and its answer, and the claim
//! travels with the entries to the appender thread: a sender that goes away half way does not set its key free.
//!
//! It refuses what is new at its limit; nothing is forgotten before the journal forgets it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidegate_journal::{Entry, Journal, ReadError};
use tidegate_record::{BodyHash, EntryKind, EntryMeta, KeyHash, Position, StreamId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::ledger::CommitOutcome;

/// Longest wait for a request with the same key that is under way.
const UNDER_WAY_WAIT_MAX: Duration = Duration::from_secs(30);

/// The known keys; clones share them.
#[derive(Debug, Clone)]
pub struct Keys(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    keys_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: HashMap<KeyHash, Taken>,
    /// Closed when the claim ends.
    under_way: HashMap<KeyHash, watch::Receiver<()>>,
    /// Of taken ones that are not whole: what a crash left of their requests.
    torn: HashMap<KeyHash, Vec<TornEntry>>,
    /// Everything below is forgotten already.
    first: Position,
}

/// What is known of a key in the journal. There may be a million of them, so it is small.
#[derive(Debug, Clone, Copy)]
struct Taken {
    body: BodyHash,
    /// Where its last entry lies.
    position: Position,
    /// All its entries are there. A crash can leave the first one alone.
    whole: bool,
    /// Of its records, if this process saw their commit.
    outcome: Option<Counts>,
}

/// An entry of a request of which a crash left only the beginning: it is in the journal, and must not be there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornEntry {
    pub stream: StreamId,
    pub kind: EntryKind,
    pub rows: u32,
}

/// A [`CommitOutcome`] of one entry, smaller.
#[derive(Debug, Clone, Copy)]
struct Counts {
    committed: u32,
    duplicates: u32,
    refused: u32,
    missing: u32,
    conflicts: u32,
}

/// What a claim found.
#[derive(Debug)]
pub enum Claimed {
    /// The key is the caller's until the claim is dropped.
    New(Claim),
    /// The request was taken before. Its answer is in the entry at this position.
    Before { position: Position },
}

/// Why a key cannot be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("this idempotency key came with another request before; give each request its own")]
    Reused,
    #[error("the first request with this idempotency key is still under way")]
    UnderWay,
    #[error("the gateway remembers as many idempotency keys as it may ({keys_max})")]
    Full { keys_max: usize },
}

/// The right to take a request with a key. Dropping it sets the key free for the next.
#[derive(Debug)]
pub struct Claim {
    keys: Keys,
    key: KeyHash,
    body: BodyHash,
    torn: Vec<TornEntry>,
    _ends_with_this: watch::Sender<()>,
}

/// The hash of a key that a user gave for a stream. Users do not meet each other's keys.
pub fn request_key(stream: StreamId, user: &str, key: &str) -> KeyHash {
    let mut hash = Sha256::new_with_prefix(b"request");
    hash.update(stream.0.to_le_bytes());
    hash.update(user.len().to_le_bytes());
    hash.update(user);
    hash.update(key);
    KeyHash(half(hash))
}

/// The hash of a key that a user gave for a request of many streams. It is apart from those for one stream.
pub fn many_streams_key(user: &str, key: &str) -> KeyHash {
    let mut hash = Sha256::new_with_prefix(b"many streams");
    hash.update(user.len().to_le_bytes());
    hash.update(user);
    hash.update(key);
    KeyHash(half(hash))
}

/// The key under which a quarantined record is replayed; apart from all that users give.
pub fn replay_key(quarantined: Uuid) -> KeyHash {
    KeyHash(half(Sha256::new_with_prefix(b"replay").chain_update(quarantined)))
}

/// The hash of a body and of what says how it is read.
pub fn body_hash(read_as: &[&[u8]], body: &[u8]) -> BodyHash {
    let mut hash = Sha256::new();
    for part in read_as {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    BodyHash(half(hash.chain_update(body)))
}

fn half(hash: Sha256) -> [u8; 16] {
    let digest: [u8; 32] = hash.finalize().into();
    *digest.first_chunk().expect("32 bytes begin with 16")
}

impl Keys {
    /// Knows no key.
    pub fn new(keys_max: usize) -> Keys {
        Keys(Arc::new(Shared { keys_max, state: Mutex::default() }))
    }

    /// Reads the keys of everything that the journal retains. Blocks, and reads all of it.
    pub fn read(journal: &Journal, keys_max: usize) -> Result<Keys, ReadError> {
        let keys = Keys::new(keys_max);
        let mut state = keys.lock();
        let mut reader = journal.reader(journal.first());
        while let Some(entry) = reader.next()? {
            state.note(&entry);
        }
        drop(state);
        Ok(keys)
    }

    /// The key for a request with this body: the caller's, or taken before. Waits for another request with the same key
    /// that is under way; if that one is not taken, it is the next one's turn.
    pub async fn claim(&self, key: KeyHash, body: BodyHash) -> Result<Claimed, KeyError> {
        let deadline = Instant::now() + UNDER_WAY_WAIT_MAX;
        loop {
            let mut ended = match self.try_claim(key, body)? {
                Ok(claimed) => return Ok(claimed),
                Err(under_way) => under_way,
            };
            if timeout_at(deadline, ended.changed()).await.is_err() {
                return Err(KeyError::UnderWay);
            }
        }
    }

    fn try_claim(
        &self,
        key: KeyHash,
        body: BodyHash,
    ) -> Result<Result<Claimed, watch::Receiver<()>>, KeyError> {
        let mut state = self.lock();
        if let Some(under_way) = state.under_way.get(&key) {
            return Ok(Err(under_way.clone()));
        }
        let taken = state.taken.get(&key);
        match taken {
            Some(taken) if taken.body != body => return Err(KeyError::Reused),
            Some(taken) if taken.whole => {
                return Ok(Ok(Claimed::Before { position: taken.position }));
            }
            None if state.taken.len() + state.under_way.len() >= self.0.keys_max => {
                return Err(KeyError::Full { keys_max: self.0.keys_max });
            }
            _ => {}
        }
        let torn = state.torn.get(&key).cloned().unwrap_or_default();
        Ok(Ok(Claimed::New(self.begin(&mut state, key, body, torn))))
    }

    /// The key, so that no request with it can begin; `None` if one is under way, or in the journal.
    pub fn keep_free(&self, key: KeyHash) -> Option<Claim> {
        let mut state = self.lock();
        if state.under_way.contains_key(&key) || state.taken.contains_key(&key) {
            return None;
        }
        Some(self.begin(&mut state, key, body_hash(&[], b""), Vec::new()))
    }

    fn begin(
        &self,
        state: &mut State,
        key: KeyHash,
        body: BodyHash,
        torn: Vec<TornEntry>,
    ) -> Claim {
        let (ends_with_this, under_way) = watch::channel(());
        state.under_way.insert(key, under_way);
        let keys = self.clone();
        Claim { keys, key, body, torn, _ends_with_this: ends_with_this }
    }

    /// Notes what became of an entry's records, if it has a key; before its commit is made known.
    pub fn note_committed(&self, entry: &Entry, outcome: CommitOutcome) {
        let Some(key) = EntryMeta::key_of(&entry.meta) else { return };
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let counts = Counts {
            committed: small(outcome.committed),
            duplicates: small(outcome.duplicates),
            refused: small(outcome.refused),
            missing: small(outcome.missing),
            conflicts: small(outcome.conflicts),
        };
        if let Some(taken) = self.lock().taken.get_mut(&key)
            && taken.position == entry.header.position
        {
            taken.outcome = Some(counts);
        }
    }

    /// What became of a taken request's records, if this process saw their commit.
    pub fn outcome(&self, key: KeyHash) -> Option<CommitOutcome> {
        let counts = self.lock().taken.get(&key)?.outcome?;
        Some(CommitOutcome {
            committed: counts.committed.into(),
            duplicates: counts.duplicates.into(),
            refused: counts.refused.into(),
            missing: counts.missing.into(),
            conflicts: counts.conflicts.into(),
        })
    }

    /// Forgets the keys of entries that the journal does not retain any more.
    pub fn trim(&self, journal_first: Position) {
        let mut state = self.lock();
        if journal_first > state.first {
            state.first = journal_first;
            let State { taken, torn, .. } = &mut *state;
            taken.retain(|_, taken| taken.position >= journal_first);
            torn.retain(|key, _| taken.contains_key(key));
        }
    }

    /// How many keys are known.
    pub fn count(&self) -> usize {
        self.lock().taken.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, entry: &Entry) {
        if EntryMeta::key_of(&entry.meta).is_none() {
            return;
        }
        if let Some(key) = EntryMeta::decode(&entry.meta).and_then(|meta| meta.key) {
            let (position, whole) = (entry.header.position, key.answer.is_some());
            let taken = Taken { body: key.body, position, whole, outcome: None };
            self.taken.insert(key.key, taken);
            match TornEntry::of(entry) {
                Some(torn) if !whole => self.torn.entry(key.key).or_default().push(torn),
                _ => drop(self.torn.remove(&key.key)),
            }
        }
    }
}

impl TornEntry {
    fn of(entry: &Entry) -> Option<TornEntry> {
        let stream = StreamId(i32::try_from(entry.header.stream).ok()?);
        let kind = EntryKind::from_code(entry.header.kind)?;
        Some(TornEntry { stream, kind, rows: entry.header.rows })
    }
}

impl Claim {
    pub fn key(&self) -> KeyHash {
        self.key
    }

    pub fn body(&self) -> BodyHash {
        self.body
    }

    /// What a crash left of this very request: it is in the journal already. Nearly always nothing.
    pub fn torn(&self) -> &[TornEntry] {
        &self.torn
    }

    /// How many records of a stream are in the journal already, in an entry of this kind.
    pub fn torn_rows(&self, stream: StreamId, kind: EntryKind) -> Option<u32> {
        let mut of_stream = self.torn.iter().filter(|it| it.stream == stream && it.kind == kind);
        of_stream.next().map(|entry| entry.rows)
    }

    /// Some of a stream's records are in the journal already.
    pub fn has_torn(&self, stream: StreamId) -> bool {
        self.torn.iter().any(|entry| entry.stream == stream)
    }

    /// The request's last entry is durable at this position. Where the journal let go of it already, the key is new again.
    pub(crate) fn taken(self, position: Position) {
        let taken = Taken { body: self.body, position, whole: true, outcome: None };
        let mut state = self.keys.lock();
        if position >= state.first {
            state.taken.insert(self.key, taken);
        } else {
            state.taken.remove(&self.key);
        }
        if !self.torn.is_empty() {
            state.torn.remove(&self.key);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.keys.lock().under_way.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: BodyHash = BodyHash([1; 16]);
    const OTHER_BODY: BodyHash = BodyHash([2; 16]);

    fn key(number: u8) -> KeyHash {
        KeyHash([number; 16])
    }

    async fn new(keys: &Keys, number: u8) -> Claim {
        match keys.claim(key(number), BODY).await.unwrap() {
            Claimed::New(claim) => claim,
            Claimed::Before { position } => panic!("taken at {position}"),
        }
    }

    #[tokio::test]
    async fn a_taken_key_answers_and_another_body_is_refused() {
        let keys = Keys::new(10);
        new(&keys, 1).await.taken(Position(64));
        let again = keys.claim(key(1), BODY).await.unwrap();
        assert!(matches!(again, Claimed::Before { position: Position(64) }));
        assert_eq!(keys.claim(key(1), OTHER_BODY).await.unwrap_err(), KeyError::Reused);
        drop(new(&keys, 2).await);
        assert_eq!(keys.count(), 1, "what was not taken leaves nothing behind");
    }

    #[tokio::test]
    async fn a_key_is_kept_free_unless_a_request_has_it() {
        let keys = Keys::new(10);
        new(&keys, 1).await.taken(Position(64));
        let under_way = new(&keys, 2).await;
        assert!(keys.keep_free(key(1)).is_none() && keys.keep_free(key(2)).is_none());
        drop(under_way);
        let free = keys.keep_free(key(2)).unwrap();
        assert!(futures::poll!(Box::pin(keys.claim(key(2), BODY))).is_pending());
        drop(free);
        new(&keys, 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_waits_for_the_first_and_takes_its_turn() {
        let keys = Keys::new(10);
        let first = new(&keys, 1).await;
        let waiting = keys.claim(key(1), BODY);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(first);
        let Ok(Claimed::New(second)) = waiting.await else { panic!("it is the second's turn") };
        let third = keys.claim(key(1), BODY);
        tokio::pin!(third);
        assert!(futures::poll!(&mut third).is_pending());
        second.taken(Position(8));
        assert!(matches!(third.await, Ok(Claimed::Before { position: Position(8) })));

        let _under_way = new(&keys, 2).await;
        assert_eq!(keys.claim(key(2), BODY).await.unwrap_err(), KeyError::UnderWay);
    }

    #[tokio::test]
    async fn the_limit_refuses_what_is_new_and_forgets_nothing() {
        let keys = Keys::new(2);
        new(&keys, 1).await.taken(Position(8));
        let under_way = new(&keys, 2).await;
        let full = KeyError::Full { keys_max: 2 };
        assert_eq!(keys.claim(key(3), BODY).await.unwrap_err(), full);
        drop(under_way);
        new(&keys, 3).await.taken(Position(16));
        assert_eq!(keys.claim(key(2), BODY).await.unwrap_err(), full);
        assert!(matches!(keys.claim(key(1), BODY).await, Ok(Claimed::Before { .. })));
        keys.trim(Position(16));
        new(&keys, 1).await.taken(Position(24));
        assert!(matches!(keys.claim(key(3), BODY).await, Ok(Claimed::Before { .. })));
    }

    /// Else it would be answered from an entry that is not there, and never leave.
    #[tokio::test]
    async fn a_key_of_what_the_journal_forgot_already_is_new() {
        let keys = Keys::new(10);
        let late = new(&keys, 1).await;
        keys.trim(Position(64));
        late.taken(Position(8));
        assert_eq!(keys.count(), 0);
        new(&keys, 1).await.taken(Position(64));
        assert_eq!(keys.count(), 1);
    }

    #[test]
    fn keys_of_others_are_other_keys() {
        let all = [
            request_key(StreamId(1), "ada", "k"),
            request_key(StreamId(2), "ada", "k"),
            request_key(StreamId(1), "eve", "k"),
            request_key(StreamId(1), "ad", "ak"),
            many_streams_key("ada", "k"),
            many_streams_key("ad", "ak"),
            replay_key(Uuid::from_u128(1)),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_ne!(body_hash(&[b"a", b""], b"b"), body_hash(&[b"", b"a"], b"b"));
    }
}
