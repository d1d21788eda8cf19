//! The streams of one request whose lines name theirs: an assembler for each, and one limit for all of them together.
//!
//! A line is refused by itself where its stream is unknown, cannot be made, is not for the caller, or would be one too many:
//! no stream has its records, so they are counted and named, and not kept. What is gathered is handed on for all streams at
//! once, so that what is taken is always the beginning of the body.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_codec::StreamName;
use tidegate_codec::csv::CsvOptions;
use tidegate_codec::encode::{RecordEncoder, RecordError};
use tidegate_codec::formats::{
    Finished, FramingError, PushProgress, RecordPlace, StreamsFramer, StreamsSink,
};
use tidegate_record::{EntryKey, EntryKind, Source, UnixMicros};
use uuid::Uuid;

use crate::auth::InvalidRecords;
use crate::catalog::Catalog;
use crate::ingest::assembled::Assembled;
use crate::ingest::assembler::{Assembler, EntryKeys, Origin, PlacedError, RECORD_ERRORS_MAX};
use crate::ingest::encoders::Encoders;
use crate::ingest::level::{ENTRY_TARGET_BYTES, Level};
use crate::ingest::parts::{Gathered, Part, Parts, framer_limits};
use crate::ingest::{
    Ingest, IngestReply, Keeping, NotKept, NotMade, Rights, StreamReply, Target, WhyNotKept,
};
use crate::pipeline::Claim;
use crate::telemetry::limits;

/// Most streams of one request. The answer to one with an idempotency key must fit an entry's meta.
pub const REQUEST_STREAMS_MAX: usize = 256;
/// What a stream of a request takes in memory beside its tuples, in bytes: by itself, and for each of its columns.
const STREAM_BYTES: usize = 4 << 10;
const COLUMN_BYTES: usize = 256;
/// Most characters of a stream's name that an error repeats.
const SHOWN_NAME_CHARS_MAX: usize = 64;

/// A body of many streams.
pub(super) struct Many {
    framer: StreamsFramer,
    streams: Streams,
}

/// See the module.
struct Streams {
    ingest: Ingest,
    rights: Rights,
    common: Common,
    invalid: Option<InvalidRecords>,
    slots: Vec<Slot>,
    /// One for each slot, until the end of the body.
    encoders: Vec<RecordEncoder>,
    by_name: HashMap<String, usize>,
    chosen: usize,
    /// What is gathered for all but the chosen one.
    others: Level,
    /// What the slots take beside that, in bytes.
    slots_bytes: usize,
    /// Bytes from which on room is to be asked for, where all records of a stream must fit one entry.
    full_at_bytes: usize,
    /// Lines that no stream takes.
    refused: u64,
    errors: Vec<PlacedError>,
    skipped_lines: u64,
}

/// What the assemblers of a request have in common.
pub(super) struct Common {
    pub(super) user: Arc<str>,
    pub(super) received_at: UnixMicros,
    /// All records of a stream must fit one entry.
    pub(super) one_entry: bool,
    /// Invalid records are kept.
    pub(super) keeps: bool,
}

/// One stream of the request.
struct Slot {
    target: Target,
    assembler: Assembler,
    /// Where it was met first.
    place: RecordPlace,
    /// Why it cannot be made.
    unmade: Option<LineError>,
    /// Records that were gathered for it when that was found out.
    lost: u64,
    /// Those of them that it had not refused.
    lost_rows: u64,
}

/// Why a line is refused, whatever its records are.
#[derive(Debug, Clone)]
struct LineError {
    code: &'static str,
    message: String,
}

impl Many {
    pub(super) fn new(
        ingest: &Ingest,
        rights: Rights,
        common: Common,
        invalid: Option<InvalidRecords>,
    ) -> Many {
        let streams = Streams {
            ingest: ingest.clone(),
            rights,
            common,
            invalid,
            slots: Vec::new(),
            encoders: Vec::new(),
            by_name: HashMap::new(),
            chosen: 0,
            others: Level::default(),
            slots_bytes: 0,
            full_at_bytes: ENTRY_TARGET_BYTES,
            refused: 0,
            errors: Vec::new(),
            skipped_lines: 0,
        };
        Many { framer: StreamsFramer::new(framer_limits(ingest)), streams }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> PushProgress {
        self.framer.push(chunk, &mut self.streams)
    }

    pub(super) fn end(&mut self) -> PushProgress {
        self.framer.end(&mut self.streams)
    }

    pub(super) fn finish(&mut self) -> Result<Finished, FramingError> {
        self.framer.finish(&mut self.streams)
    }

    pub(super) fn held_bytes(&self, rest: usize) -> usize {
        match self.framer.carry_bytes() + self.gathered_bytes() + rest {
            0 => 0,
            bytes => bytes + self.streams.slots_bytes,
        }
    }

    pub(super) fn gathered_bytes(&self) -> usize {
        self.streams.level().bytes
    }

    /// As [`Assembler::raise`], for all streams together.
    pub(super) fn raise(&mut self) {
        self.streams.full_at_bytes = self.gathered_bytes() + ENTRY_TARGET_BYTES;
    }

    pub(super) fn has_streams_to_make(&self) -> bool {
        let is_to_make = |slot: &Slot| slot.target.maker.is_some() && !slot.assembler.is_empty();
        self.streams.slots.iter().any(is_to_make)
    }

    /// Makes the streams that are not there yet and have something for them. What is for one that cannot be made is given up.
    pub(super) async fn make_streams(&mut self, catalog: &Catalog) -> Result<(), NotMade> {
        let keeps = self.streams.common.keeps;
        for slot in &mut self.streams.slots {
            if slot.target.maker.is_none() || slot.assembler.is_empty() {
                continue;
            }
            match slot.target.make(catalog).await {
                Ok(()) => slot.assembler.set_stream(Arc::clone(&slot.target.stream)),
                Err(error) if error.is_of_stream() && keeps => slot.give_up(&error),
                Err(error) => return Err(error),
            }
        }
        self.streams.recount();
        Ok(())
    }

    pub(super) fn take(&mut self) -> Option<Parts> {
        let parts = self.streams.take_each(|_, slot| slot.assembler.take());
        self.streams.recount();
        parts
    }

    /// An entry that a crash left in the journal is not taken again; the answer goes into the last of those that are.
    pub(super) fn take_once(&mut self, answered: &EntryKey, claim: &Claim) -> Option<Parts> {
        let unanswered = EntryKey { answer: None, ..answered.clone() };
        let is_new = |slot: &Slot, kind: EntryKind| slot.untorn(kind, claim) > 0;
        let kinds = [EntryKind::Quarantine, EntryKind::Records];
        let slots = self.streams.slots.iter().enumerate();
        let new = slots.flat_map(|(index, slot)| {
            kinds.into_iter().filter(|kind| is_new(slot, *kind)).map(move |kind| (index, kind))
        });
        let last = new.last()?;
        let key = |index: usize, slot: &Slot, kind: EntryKind| {
            let key = if (index, kind) == last { answered } else { &unanswered };
            is_new(slot, kind).then(|| key.clone())
        };
        self.streams.take_each(|index, slot| {
            let records = key(index, slot, EntryKind::Records);
            let quarantine = key(index, slot, EntryKind::Quarantine);
            slot.assembler.take_once(EntryKeys { records, quarantine })
        })
    }

    pub(super) fn gathered(&self, claim: &Claim) -> Gathered {
        let count = |slot: &Slot, kind: EntryKind| {
            let torn = claim.torn_rows(slot.target.stream.id, kind).map(u64::from);
            torn.unwrap_or_else(|| slot.untorn(kind, claim))
        };
        let of_slot = |slot: &Slot| match slot.target.maker {
            // There is no such stream.
            Some(_) => (0, 0),
            None => (count(slot, EntryKind::Records), count(slot, EntryKind::Quarantine)),
        };
        let streams: Vec<(u64, u64)> = self.streams.slots.iter().map(of_slot).collect();
        let accepted = streams.iter().map(|(accepted, _)| accepted).sum();
        let quarantined = streams.iter().map(|(_, quarantined)| quarantined).sum();
        Gathered { accepted, quarantined, first_id: Uuid::nil(), streams }
    }

    /// Records that no stream has, and those that their streams refused.
    pub(super) fn refused(&self) -> u64 {
        let of_slot = |slot: &Slot| slot.assembler.refused() + slot.lost_rows;
        self.streams.refused + self.streams.slots.iter().map(of_slot).sum::<u64>()
    }

    /// The first of them.
    pub(super) fn errors(&self) -> Vec<PlacedError> {
        let mut errors = self.streams.errors.clone();
        for slot in &self.streams.slots {
            let name = || Some(slot.target.stream.name.to_string());
            let of_slot = slot.assembler.errors().iter().cloned();
            errors.extend(of_slot.map(|error| PlacedError { stream: name(), ..error }));
            errors.extend(slot.error_of_lost());
        }
        errors.sort_by_key(|error| error.record);
        errors.truncate(RECORD_ERRORS_MAX);
        errors
    }

    pub(super) fn tell_not_kept(&self, reply: &mut IngestReply) {
        let mut all = NotKept::default();
        all.add(WhyNotKept::NoStream, self.streams.refused);
        for (index, slot) in self.streams.slots.iter().enumerate() {
            let mut not_kept = slot.assembler.not_kept().cloned().unwrap_or_default();
            not_kept.add(WhyNotKept::NoStream, slot.lost);
            all.add_all(&not_kept);
            if index == reply.streams.len() {
                reply.streams.push(StreamReply::new(slot.target.stream.name.clone()));
            }
            let told = &mut reply.streams[index];
            told.not_kept = not_kept;
            told.id = slot.target.maker.is_none().then_some(slot.target.stream.id);
        }
        // With `on_error=reject` there is nothing to keep.
        if self.streams.common.keeps {
            reply.not_kept = all;
        }
    }

    pub(super) fn skipped_lines(&self) -> u64 {
        self.streams.skipped_lines
    }

    pub(super) fn give_back_encoders(&mut self, encoders: &Encoders) {
        let of_streams = self.streams.encoders.drain(..).zip(&self.streams.slots);
        for (encoder, slot) in of_streams.filter(|(_, slot)| slot.target.maker.is_none()) {
            encoders.give_back(Arc::clone(&slot.target.stream), encoder);
        }
    }
}

impl Streams {
    fn level(&self) -> Level {
        let chosen = self.slots.get(self.chosen);
        chosen.map_or(self.others, |slot| self.others.plus(slot.assembler.level()))
    }

    /// After what is gathered changed for others than the chosen one.
    fn recount(&mut self) {
        let others = self.slots.iter().enumerate().filter(|(index, _)| *index != self.chosen);
        self.others =
            others.fold(Level::default(), |sum, (_, slot)| sum.plus(slot.assembler.level()));
    }

    fn take_each(
        &mut self,
        mut take: impl FnMut(usize, &mut Slot) -> Option<Assembled>,
    ) -> Option<Parts> {
        let mut parts = self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let assembled = take(index, slot)?;
            Some(Part { slot: index, stream: slot.target.stream.id, assembled })
        });
        let first = parts.next()?;
        Some(Parts { first, others: parts.collect() })
    }

    /// Begins with a stream that the request did not name before.
    fn open(&mut self, name: &str, place: RecordPlace) -> Result<usize, LineError> {
        let Rights { caller, makes_streams } = &self.rights;
        let found = Target::find(&self.ingest.catalog, caller, *makes_streams, name);
        let target =
            found.map_err(|error| LineError { code: error.code(), message: error.to_string() })?;
        if self.slots.len() >= REQUEST_STREAMS_MAX {
            limits::REQUEST_STREAMS.hit();
            let message = format!(
                "a request is for at most {REQUEST_STREAMS_MAX} streams, and this line names one more; send its records \
                 with another request"
            );
            return Err(LineError { code: "too_many_streams", message });
        }
        let encoder = self.ingest.encoders.take(&target.stream).map_err(|error| LineError {
            code: "unusable_stream",
            message: format!("the stream cannot take records: {error}"),
        })?;
        let Common { user, received_at, one_entry, .. } = &self.common;
        let origin = Origin {
            stream: Arc::clone(&target.stream),
            source: Source::Http,
            user: Arc::clone(user),
            received_at: *received_at,
            one_entry: *one_entry,
            csv: CsvOptions::default(),
            replays: None,
            has_changes: false,
        };
        let invalid = self.invalid.as_ref().map(InvalidRecords::another);
        let room = &self.ingest.quarantine;
        let keeping = self.common.keeps.then(|| Keeping::new(room, target.stream.id, invalid));
        let assembler = Assembler::new(origin, encoder.column_set(), keeping);
        self.slots_bytes += STREAM_BYTES + COLUMN_BYTES * target.stream.columns().len();
        self.slots.push(Slot { target, assembler, place, unmade: None, lost: 0, lost_rows: 0 });
        self.encoders.push(encoder);
        let index = self.slots.len() - 1;
        self.by_name.insert(name.to_owned(), index);
        Ok(index)
    }

    fn switch_to(&mut self, index: usize) {
        if index == self.chosen {
            return;
        }
        let left = &self.slots[self.chosen].assembler;
        let (allowance, level) = (left.allowance(), left.level());
        let chosen = &mut self.slots[index].assembler;
        chosen.set_allowance(allowance);
        self.others = self.others.plus(level).minus(chosen.level());
        self.chosen = index;
    }

    fn refuse(&mut self, place: RecordPlace, stream: Option<&str>, error: LineError) {
        self.refused += 1;
        if self.errors.len() < RECORD_ERRORS_MAX {
            let shown = |name: &str| name.chars().take(SHOWN_NAME_CHARS_MAX).collect();
            self.errors.push(PlacedError {
                record: place.record,
                line: place.line,
                stream: stream.map(shown),
                column: None,
                code: error.code.into(),
                message: error.message,
            });
        }
    }
}

impl StreamsSink for Streams {
    type Records = Assembler;

    fn choose(&mut self, name: &str, place: RecordPlace) -> bool {
        let chosen = self.slots.get(self.chosen);
        let is_chosen = chosen.is_some_and(|slot| slot.target.stream.name.as_str() == name);
        let index = if is_chosen { Some(self.chosen) } else { self.by_name.get(name).copied() };
        let index = match index.map_or_else(|| self.open(name, place), Ok) {
            Ok(index) => index,
            Err(error) => {
                self.refuse(place, Some(name), error);
                return false;
            }
        };
        if let Some(unmade) = self.slots[index].unmade.clone() {
            self.refuse(place, Some(name), unmade);
            return false;
        }
        self.switch_to(index);
        true
    }

    fn chosen(&mut self) -> (&mut RecordEncoder, &mut Assembler) {
        (&mut self.encoders[self.chosen], &mut self.slots[self.chosen].assembler)
    }

    fn refused(&mut self, place: RecordPlace, error: RecordError) {
        let code = error.code.as_str();
        self.refuse(place, None, LineError { code, message: error.message });
    }

    fn skipped_lines(&mut self, lines: u64) {
        self.skipped_lines = lines;
    }

    fn is_full(&self) -> bool {
        if self.common.one_entry {
            self.level().bytes >= self.full_at_bytes
        } else {
            self.level().is_full()
        }
    }
}

impl Slot {
    /// How many records wait to be taken into an entry of this kind.
    fn gathered(&self, kind: EntryKind) -> u64 {
        let level = self.assembler.level();
        match kind {
            EntryKind::Records | EntryKind::Changes => level.rows.into(),
            EntryKind::Quarantine => level.quarantined.into(),
        }
    }

    /// How many of them are to go into the journal beside what a crash left there. Where it left anything of the stream, and
    /// this was changed since to refuse more, the refused ones may be there as good ones: none is kept anew.
    fn untorn(&self, kind: EntryKind, claim: &Claim) -> u64 {
        let stream = self.target.stream.id;
        let is_torn = match kind {
            EntryKind::Records | EntryKind::Changes => claim.torn_rows(stream, kind).is_some(),
            EntryKind::Quarantine => claim.has_torn(stream),
        };
        if is_torn { 0 } else { self.gathered(kind) }
    }

    /// The stream cannot be made.
    fn give_up(&mut self, error: &NotMade) {
        let level = self.assembler.level();
        self.lost_rows = level.rows.into();
        self.lost = self.lost_rows + u64::from(level.quarantined);
        self.assembler.give_up();
        self.unmade = Some(LineError { code: error.code(), message: error.to_string() });
    }

    /// Stands for those that have no error of their own.
    fn error_of_lost(&self) -> Option<PlacedError> {
        let error = self.unmade.as_ref().filter(|_| self.lost_rows > 0)?;
        Some(PlacedError {
            record: self.place.record,
            line: self.place.line,
            stream: Some(self.target.stream.name.to_string()),
            column: None,
            code: error.code.into(),
            message: format!(
                "{}; {} records before are not taken for it",
                error.message, self.lost_rows
            ),
        })
    }
}

impl StreamReply {
    pub(super) fn new(name: StreamName) -> StreamReply {
        let not_kept = NotKept::default();
        StreamReply { name, id: None, accepted: 0, quarantined: 0, not_kept, committed: None }
    }
}
