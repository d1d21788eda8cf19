//! What splits a request's body, encodes its records and gathers them: for one stream, or for many.

use std::sync::Arc;

use tidegate_codec::formats::{Finished, Framer, FramingError, PushProgress};
use tidegate_record::{EntryKey, EntryKind};

use crate::ingest::assembled::Assembled;
use crate::ingest::assembler::{Assembler, EntryKeys, Origin, PlacedError};
use crate::ingest::encoders::Encoders;
use crate::ingest::many::Many;
use crate::ingest::parts::{Gathered, Part, Parts, framer_limits};
use crate::ingest::{FailureReason, Ingest, IngestReply, Keeping, NotMade, OneStream, Target};
use crate::pipeline::Claim;

/// After larger bodies the encoder is not kept; they take longer than making another.
const KEPT_ENCODER_BODY_BYTES_MAX: u64 = 64 << 10;

/// See the module.
#[expect(
    clippy::large_enum_variant,
    reason = "a request for one stream shall cost no allocation more"
)]
pub(super) enum Parser {
    One(One),
    Many(Box<Many>),
}

/// For a body whose records are all for one stream.
pub(super) struct One {
    /// None at the end of the body, when its encoder serves the next request.
    framer: Option<Framer>,
    assembler: Assembler,
    pub(super) target: Target,
}

impl Parser {
    /// So many bytes of the body come next.
    pub(super) fn expect(&mut self, bytes: usize) {
        if let Parser::One(one) = self {
            one.assembler.expect(bytes);
        }
    }

    /// Takes the next bytes of the body.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<PushProgress, FramingError> {
        match self {
            Parser::One(One { framer: Some(framer), assembler, .. }) => {
                framer.push(chunk, assembler)
            }
            Parser::One(_) => Ok(PushProgress::ChunkTaken),
            Parser::Many(many) => Ok(many.push(chunk)),
        }
    }

    /// Takes the end of the body. To be called again as long as there is more than fits.
    pub(super) fn end(&mut self) -> PushProgress {
        match self {
            Parser::One(_) => PushProgress::ChunkTaken,
            Parser::Many(many) => many.end(),
        }
    }

    /// What the whole body was; after [`Parser::end`].
    pub(super) fn finish(&mut self) -> Result<Finished, FramingError> {
        match self {
            Parser::One(One { framer: Some(framer), assembler, .. }) => framer.finish(assembler),
            Parser::One(_) => Ok(Finished { records: 0, single: false }),
            Parser::Many(many) => many.finish(),
        }
    }

    /// Bytes in memory, with the rest of the body that has arrived and is not taken yet; 0 if everything is handed on.
    pub(super) fn held_bytes(&self, rest: &[u8]) -> usize {
        let rest = if holds_no_record(rest) { 0 } else { rest.len() };
        match self {
            Parser::One(one) => one.held_bytes(rest),
            Parser::Many(many) => many.held_bytes(rest),
        }
    }

    /// Bytes that wait to be taken, as tuples.
    pub(super) fn gathered_bytes(&self) -> usize {
        match self {
            Parser::One(one) => one.assembler.bytes(),
            Parser::Many(many) => many.gathered_bytes(),
        }
    }

    /// Goes on where it was full and all must fit one entry: there is room for more.
    pub(super) fn raise(&mut self) {
        match self {
            Parser::One(one) => one.assembler.raise(),
            Parser::Many(many) => many.raise(),
        }
    }

    /// Some stream is not there yet, and has something for it.
    pub(super) fn has_streams_to_make(&self) -> bool {
        match self {
            Parser::One(one) => one.target.maker.is_some() && !one.assembler.is_empty(),
            Parser::Many(many) => many.has_streams_to_make(),
        }
    }

    /// Makes those streams. Gives the stream of a request for one.
    pub(super) async fn make_streams(
        &mut self,
        ingest: &Ingest,
    ) -> Result<Option<&Target>, NotMade> {
        match self {
            Parser::One(one) => {
                one.target.make(&ingest.catalog).await?;
                one.assembler.set_stream(Arc::clone(&one.target.stream));
                Ok(Some(&one.target))
            }
            Parser::Many(many) => {
                many.make_streams(&ingest.catalog).await?;
                Ok(None)
            }
        }
    }

    /// Takes what was gathered; `None` if there is nothing.
    pub(super) fn take(&mut self) -> Option<Parts> {
        match self {
            Parser::One(one) => {
                let assembled = one.assembler.take()?;
                Some(one.part(assembled))
            }
            Parser::Many(many) => many.take(),
        }
    }

    /// Takes everything as the entries of a request with a key; `answered` goes into the last of them. `None` if there is
    /// nothing for the journal.
    pub(super) fn take_once(&mut self, answered: EntryKey, claim: &Claim) -> Option<Parts> {
        match self {
            Parser::One(one) => {
                let keys = one.entry_keys(answered, claim);
                let assembled = one.assembler.take_once(keys)?;
                Some(one.part(assembled))
            }
            Parser::Many(many) => many.take_once(&answered, claim),
        }
    }

    /// How many records were refused so far.
    pub(super) fn refused(&self) -> u64 {
        match self {
            Parser::One(one) => one.assembler.refused(),
            Parser::Many(many) => many.refused(),
        }
    }

    pub(super) fn errors(&self) -> Vec<PlacedError> {
        match self {
            Parser::One(one) => one.assembler.errors().to_vec(),
            Parser::Many(many) => many.errors(),
        }
    }

    /// Tells in a reply what is not kept, and which streams there are.
    pub(super) fn tell_not_kept(&self, reply: &mut IngestReply) {
        match self {
            Parser::One(one) => {
                if let Some(not_kept) = one.assembler.not_kept().filter(|it| !it.is_empty()) {
                    reply.not_kept = not_kept.clone();
                }
            }
            Parser::Many(many) => many.tell_not_kept(reply),
        }
    }

    /// Tells in a reply what the sender should know although nothing is wrong.
    pub(super) fn tell_remarks(&self, reply: &mut IngestReply) {
        match self {
            Parser::One(one) => {
                reply.matched = one.assembler.matched().to_vec();
                reply.skipped_lines = one.assembler.skipped_lines();
            }
            Parser::Many(many) => reply.skipped_lines = many.skipped_lines(),
        }
    }

    /// At the end of a body of so many bytes: keeps the encoders for the next request, unless they may hold much memory.
    pub(super) fn give_back_encoders(&mut self, encoders: &Encoders, body_bytes: u64) {
        if body_bytes > KEPT_ENCODER_BODY_BYTES_MAX {
            return;
        }
        match self {
            // Of a stream that is not there yet no other request asks for one.
            Parser::One(one) if one.target.maker.is_some() => {}
            Parser::One(one) => {
                if let Some(framer) = one.framer.take() {
                    encoders.give_back(Arc::clone(&one.target.stream), framer.into_encoder());
                }
            }
            Parser::Many(many) => many.give_back_encoders(encoders),
        }
    }

    /// What waits to be taken, for the answer to a request with a key.
    pub(super) fn gathered(&self, claim: &Claim) -> Gathered {
        match self {
            Parser::One(one) => {
                let (accepted, first_id) = one.assembler.gathered();
                let torn = claim.torn_rows(one.target.stream.id, EntryKind::Quarantine);
                let quarantined = torn.map_or_else(|| one.assembler.quarantined(), u64::from);
                Gathered { accepted: accepted.into(), quarantined, first_id, streams: Vec::new() }
            }
            Parser::Many(many) => many.gathered(claim),
        }
    }
}

/// Whatever came before, such bytes begin no record that anything would be gathered of but rows of NULL, which make the sink
/// full soon enough: they are blank, or the end of an array.
fn holds_no_record(rest: &[u8]) -> bool {
    rest.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b']'))
}

impl One {
    pub(super) fn new(
        ingest: &Ingest,
        wanted: &OneStream,
        origin: Origin,
        keeping: Option<Keeping>,
    ) -> Result<One, FailureReason> {
        let target = wanted.target.clone();
        let taken = ingest.encoders.take(&target.stream);
        let encoder = taken.map_err(|error| FailureReason::Stream(error.to_string()))?;
        let assembler = Assembler::new(origin, encoder.column_set(), keeping);
        let limits = framer_limits(ingest);
        let framer = Some(Framer::new(wanted.format, encoder, limits, wanted.csv.clone()));
        Ok(One { framer, assembler, target })
    }

    /// What its framer keeps for the next record is not counted by itself.
    fn held_bytes(&self, rest: usize) -> usize {
        let (gathered, framer) = (self.assembler.bytes() + rest, self.framer.as_ref());
        if gathered == 0 && framer.is_none_or(Framer::is_between_records) {
            return 0;
        }
        framer.map_or(0, Framer::carry_bytes) + gathered
    }

    fn part(&self, assembled: Assembled) -> Parts {
        let first = Part { slot: 0, stream: self.target.stream.id, assembled };
        Parts { first, others: Vec::new() }
    }

    /// A crash can have left the refused records in the journal, and they are not to be there twice, not even where the stream
    /// was changed since and refuses more.
    fn entry_keys(&self, answered: EntryKey, claim: &Claim) -> EntryKeys {
        let is_kept = claim.has_torn(self.target.stream.id);
        if self.assembler.gathered().0 == 0 {
            return EntryKeys { records: None, quarantine: (!is_kept).then_some(answered) };
        }
        let unanswered = EntryKey { answer: None, ..answered.clone() };
        let quarantine = (!is_kept).then_some(unanswered);
        EntryKeys { records: Some(answered), quarantine }
    }
}
