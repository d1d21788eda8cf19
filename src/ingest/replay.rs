//! A quarantined record that is taken once more, as it is or repaired. It is taken once, however often that is asked for.

use tidegate_codec::formats::Format;
use uuid::Uuid;

use crate::db::kept_records::{self, TakenOver};
use crate::db::{self, answered};
use crate::ingest::body::BodyReader;
use crate::ingest::request::Request;
use crate::ingest::{Addressing, FailureReason};
use crate::pipeline::Claimed;
use crate::pipeline::keys::replay_key;

/// A quarantined record that is to be taken once more.
#[derive(Debug)]
pub struct Replay {
    pub id: Uuid,
    /// How long the record is as a body of the request's format, in bytes; `None` if not all of it was kept.
    pub kept_bytes: Option<usize>,
}

impl Request<'_> {
    /// Takes a quarantined record once more, or answers as its first replay was answered.
    pub(super) async fn run_replay(
        &mut self,
        replay: Replay,
        body: BodyReader,
    ) -> Result<(), FailureReason> {
        let key = replay_key(replay.id);
        let repaired = self.read_whole(body).await?;
        let hash = self.hash(&repaired);
        if !repaired.is_empty() {
            self.read_as_json();
        } else if replay.kept_bytes.is_none() {
            return Err(FailureReason::NotReplayable);
        }
        match self.ingest.keys.claim(key, hash).await? {
            Claimed::Before { position } if self.answer_again(key, position).await? => Ok(()),
            // Committed, and the journal let go of it just now.
            Claimed::Before { .. } => Err(FailureReason::Gone),
            // Invariant: what is committed has left the quarantine. So under the claim, a record that is there is
            // neither committed nor on its way.
            Claimed::New(claim) => match self.take_over(replay.id).await? {
                TakenOver::Yes => {
                    let record = if repaired.is_empty() {
                        self.kept(&replay).await?
                    } else {
                        repaired.into()
                    };
                    let parser = self.parse_whole(&record, Some(replay.id)).await?;
                    self.take_once(claim, parser, record.len()).await
                }
                TakenOver::Gone => Err(FailureReason::Gone),
                TakenOver::Elsewhere => Err(FailureReason::ReplayedElsewhere),
            },
        }
    }

    fn read_as_json(&mut self) {
        if let Addressing::OneStream(one) = &mut self.wanted.addressing
            && one.format == Format::Csv
        {
            one.format = Format::Json;
        }
    }

    /// The record as it is, once there is room for it: not while its request's body is on its way, which may take as long as
    /// its sender likes.
    async fn kept(&mut self, replay: &Replay) -> Result<Vec<u8>, FailureReason> {
        let bytes = replay.kept_bytes.ok_or(FailureReason::NotReplayable)?;
        // As it comes from the database, and as it is handed on.
        self.make_room(2 * bytes).await?;
        let kept = answered(kept_records::body(self.ingest.database.pool(), replay.id)).await?;
        kept.ok_or(FailureReason::Gone)
    }

    /// Has no other gateway replay the record.
    async fn take_over(&self, id: Uuid) -> Result<TakenOver, db::Error> {
        answered(kept_records::take_over(self.ingest.database.pool(), id, self.ingest.journal.id()))
            .await
    }
}
