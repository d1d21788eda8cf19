//! A shadow of the journal, and random histories of groups, crashes, failures and flipped bits.
//!
//! What must hold after every step:
//! - an entry whose append returned is on disk at that moment, without any further sync;
//! - it is read back once, in order, with its content, unless it overlaps a listed damage;
//! - nothing else is read, except whole entries of groups that were refused with the word that they
//!   may remain, and those only after a crash before a restart, and from then on like any other;
//! - damage is listed only where a bit was flipped, and positions are never used twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;
use tidegate_record::{ColumnSet, Position, UnixMicros};

use super::faults::{FaultStorage, below};
use super::segment::parse_file_name;
use super::{
    AppendError, Damage, EntryDraft, Journal, JournalOptions, OpenError, Opened, Reader,
    SealedEntry,
};

const DIR: &str = "/journal";
const OPTIONS: JournalOptions = JournalOptions {
    segment_bytes: 4096,
    bytes_max: 1 << 30,
    retention: Duration::ZERO,
    retention_bytes: 1 << 30,
};

#[derive(Debug, Clone)]
enum Op {
    Append {
        bodies: Vec<u16>,
    },
    /// A group that meets a failing sync or a full disk.
    AppendFailing {
        bodies: Vec<u16>,
        trouble: Trouble,
    },
    /// Starts the appender anew after a failure, perhaps failing again.
    Restart {
        trouble: Option<Trouble>,
    },
    /// The process ends and comes back; the operating system stays.
    Reopen {
        close: bool,
    },
    /// The machine loses power, perhaps meets trouble at the first opening, and comes back.
    Crash {
        trouble: Option<Trouble>,
    },
    /// Bits change while the journal is closed.
    Flip {
        close: bool,
        flips: u8,
    },
    Trim {
        share: u8,
    },
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// Syncs fail.
    Sync { after: u8 },
    /// The disk is full.
    Space { bytes: u16 },
    /// Writes are I/O errors.
    Broken { bytes: u16 },
    /// The file system is read-only: nothing can be written, cut, renamed or removed.
    ReadOnly { after: u8 },
}

fn bodies() -> impl Strategy<Value = Vec<u16>> {
    let body = prop_oneof![8 => 0..300_u16, 3 => 300..3000_u16, 1 => 3000..9000_u16];
    proptest::collection::vec(body, 1..6)
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        (0..6_u8).prop_map(|after| Trouble::Sync { after }),
        (0..5000_u16).prop_map(|bytes| Trouble::Space { bytes }),
        (0..5000_u16).prop_map(|bytes| Trouble::Broken { bytes }),
        (0..12_u8).prop_map(|after| Trouble::ReadOnly { after }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let troubles = || proptest::option::of(trouble());
    prop_oneof![
        8 => bodies().prop_map(|bodies| Op::Append { bodies }),
        3 => (bodies(), trouble()).prop_map(|(bodies, trouble)| Op::AppendFailing { bodies, trouble }),
        3 => troubles().prop_map(|trouble| Op::Restart { trouble }),
        2 => any::<bool>().prop_map(|close| Op::Reopen { close }),
        3 => troubles().prop_map(|trouble| Op::Crash { trouble }),
        1 => (any::<bool>(), 1..4_u8).prop_map(|(close, flips)| Op::Flip { close, flips }),
        1 => any::<u8>().prop_map(|share| Op::Trim { share }),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_history_breaks_a_promise(seed: u64, ops in proptest::collection::vec(op(), 1..40)) {
        let mut shadow = Shadow::new(seed);
        for op in ops {
            shadow.step(op);
        }
        shadow.crash_and_open(None);
    }
}

struct Shadow {
    storage: FaultStorage,
    open: Option<Opened>,
    tail: Option<Reader>,
    /// Acknowledged, or once read: by position, with end and body.
    entries: BTreeMap<u64, (u64, Vec<u8>)>,
    /// In groups that were not acknowledged: they may be there after opening.
    maybe: Vec<(u64, Vec<u8>)>,
    /// Positions of flipped bits.
    flipped: Vec<u64>,
    used_up_to: u64,
    random: u64,
}

impl Shadow {
    fn new(seed: u64) -> Shadow {
        let mut shadow = Shadow {
            storage: FaultStorage::new(seed),
            open: None,
            tail: None,
            entries: BTreeMap::new(),
            maybe: Vec::new(),
            flipped: Vec::new(),
            used_up_to: 0,
            random: seed,
        };
        shadow.open_and_check();
        shadow
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Append { bodies } => self.append(&bodies),
            Op::AppendFailing { bodies, trouble } => {
                self.with_trouble(Some(trouble), |shadow| shadow.append(&bodies));
            }
            Op::Restart { trouble } => {
                self.with_trouble(trouble, |shadow| {
                    let appender = &mut shadow.opened().appender;
                    let restarted = appender.restart().is_ok();
                    assert_eq!(appender.failure().is_none(), restarted);
                    if restarted {
                        // What was refused is gone for good, whatever comes next.
                        shadow.maybe.clear();
                    }
                });
            }
            Op::Reopen { close } => {
                self.shut(close);
                self.open_and_check();
            }
            Op::Crash { trouble } => self.crash_and_open(trouble),
            Op::Flip { close, flips } => self.flip(close, flips),
            Op::Trim { share } => self.trim(share),
        }
        self.check_all_is_read(false);
    }

    fn opened(&mut self) -> &mut Opened {
        self.open.as_mut().unwrap()
    }

    fn with_trouble(&mut self, trouble: Option<Trouble>, act: impl FnOnce(&mut Shadow)) {
        match trouble {
            Some(Trouble::Sync { after }) => self.storage.fail_sync_after(Some(after.into())),
            Some(Trouble::Space { bytes }) => self.storage.fill_after(Some(bytes.into())),
            Some(Trouble::Broken { bytes }) => self.storage.break_after(Some(bytes.into())),
            Some(Trouble::ReadOnly { after }) => {
                self.storage.refuse_changes_after(Some(after.into()));
            }
            None => {}
        }
        act(self);
        self.storage.fail_sync_after(None);
        self.storage.fill_after(None);
        self.storage.break_after(None);
        self.storage.refuse_changes_after(None);
    }

    fn append(&mut self, bodies: &[u16]) {
        let mut group: Vec<SealedEntry> = Vec::new();
        let mut contents = Vec::new();
        for length in bodies {
            let first = below(&mut self.random, 256);
            let body: Vec<u8> = (0..usize::from(*length))
                .map(|index| u8::try_from((first + index * 7) % 256).unwrap())
                .collect();
            let mut draft = EntryDraft::new(b"meta", body.len());
            draft.buffer_mut().extend_from_slice(&body);
            group.push(draft.seal(1, 2, ColumnSet(3), 4, UnixMicros(5)));
            contents.push(body);
        }
        let had_failed = self.opened().appender.failure().is_some();
        let synced_before = self.opened().journal.synced();
        match self.opened().appender.append(&mut group) {
            Ok(appended) => {
                assert!(!had_failed, "a failure is sticky");
                assert_eq!(self.opened().journal.synced(), appended.end);
                assert!(appended.first.0 >= self.used_up_to, "a position was used twice");
                self.used_up_to = appended.end.0;
                for (entry, body) in group.iter().zip(contents) {
                    self.check_durable(entry.position().0, &body);
                    self.entries.insert(entry.position().0, (entry.end().0, body));
                }
            }
            Err(AppendError::Failed { may_remain, .. }) => {
                assert_eq!(self.opened().journal.synced(), synced_before);
                assert!(!had_failed || !may_remain, "nothing is written after a failure");
                if may_remain {
                    let placed = group.iter().map(|entry| entry.position().0);
                    self.maybe.extend(placed.zip(contents));
                }
                group.clear();
            }
            Err(error) => panic!("{error}"),
        }
        self.check_tail(&group);
    }

    /// A reader that follows sees a group once it is durable, and nothing of one that failed.
    fn check_tail(&mut self, group: &[SealedEntry]) {
        let tail = self.tail.as_mut().unwrap();
        for entry in group {
            let read = tail.next().unwrap().expect("what is durable can be read");
            assert_eq!(read.header.position, entry.position());
            assert_eq!(tail.position(), entry.end());
        }
        assert!(tail.next().unwrap().is_none());
        assert_eq!(tail.take_damages(), []);
    }

    fn check_durable(&self, position: u64, body: &[u8]) {
        let files = self.storage.files(Path::new(DIR), ".segment");
        let (first, path) =
            files.iter().rev().map(|path| (first_of(path), path)).find(|f| f.0 < position).unwrap();
        let start = usize::try_from(position - first).unwrap() + 64 + 4;
        let durable = self.storage.durable(path);
        assert_eq!(&durable[start..start + body.len()], body, "acknowledged before it was durable");
    }

    fn shut(&mut self, close: bool) {
        self.tail = None;
        let opened = self.open.take().unwrap();
        if close {
            opened.appender.close().unwrap();
        }
    }

    fn crash_and_open(&mut self, trouble: Option<Trouble>) {
        self.shut(false);
        self.storage.crash();
        if trouble.is_some() {
            self.with_trouble(trouble, |shadow| {
                if shadow.try_open_and_check() {
                    shadow.shut(false);
                }
            });
            if below(&mut self.random, 2) == 0 {
                self.storage.crash();
            }
        }
        self.open_and_check();
    }

    fn open_and_check(&mut self) {
        assert!(self.try_open_and_check(), "damage must not keep it from opening");
        assert!(self.opened().appender.failure().is_none());
    }

    /// What is there after opening stays, whatever comes next.
    fn try_open_and_check(&mut self) -> bool {
        let opened = match Journal::open(Path::new(DIR), OPTIONS, self.storage.clone()) {
            Ok(opened) => opened,
            Err(OpenError::Io { .. }) => return false,
            Err(error) => panic!("{error}"),
        };
        self.check_damages(&opened.damages);
        self.tail = Some(opened.journal.reader(opened.journal.synced()));
        self.open = Some(opened);
        self.check_all_is_read(true);
        self.maybe.clear();
        self.used_up_to = self.used_up_to.max(self.opened().journal.synced().0);
        true
    }

    fn check_damages(&self, damages: &[Damage]) {
        for damage in damages {
            let range = damage.from.0..damage.to.0;
            let is_flipped = self.flipped.iter().any(|position| range.contains(position));
            assert!(is_flipped, "nothing was damaged there: {damage:?}");
        }
    }

    fn check_all_is_read(&mut self, just_opened: bool) {
        let opened = self.open.as_ref().unwrap();
        let first = opened.journal.first();
        let damages = &opened.damages;
        let mut reader = opened.journal.reader(Position(0));
        let mut read = BTreeMap::new();
        let mut last = None;
        while let Some(entry) = reader.next().unwrap() {
            let position = entry.header.position.0;
            assert!(last.is_none_or(|last| last < position), "entries are in order");
            last = Some(position);
            assert_eq!(&entry.meta[..], b"meta");
            let is_maybe = just_opened
                && self.maybe.iter().any(|maybe| maybe.0 == position && maybe.1 == entry.body);
            match self.entries.get(&position) {
                Some((_, body)) => assert_eq!(entry.body, body, "content changed"),
                None => assert!(is_maybe, "read what was never written at {position}"),
            }
            read.insert(position, (entry.header.end.0, entry.body.to_vec()));
        }
        for (position, (end, _)) in self.entries.range(first.0..) {
            let overlaps = |damage: &Damage| damage.from.0 < *end && *position < damage.to.0;
            assert!(
                read.contains_key(position) || damages.iter().any(overlaps),
                "lost the entry at {position}; damages {damages:?}"
            );
        }
        for (from, to) in reader.take_damages() {
            // A reader reports damages that touch as one.
            let mut listed_to = from;
            for damage in damages.iter().filter(|damage| damage.to > from) {
                listed_to = if damage.from <= listed_to { damage.to } else { listed_to };
            }
            assert!(listed_to >= to, "{from}-{to} is not in {damages:?}");
        }
        self.entries = read;
    }

    fn flip(&mut self, close: bool, flips: u8) {
        // What is proven durable before it is damaged is never taken for a torn tail.
        let close = close && self.opened().appender.failure().is_none();
        self.shut(close);
        if !close {
            self.storage.crash();
            self.open_and_check();
            self.shut(false);
        }
        let files = self.storage.files(Path::new(DIR), ".segment");
        for _ in 0..flips {
            let path = &files[below(&mut self.random, files.len())];
            let length = self.storage.durable(path).len();
            let offset = below(&mut self.random, length);
            let position = first_of(path) + offset as u64;
            // A second flip could undo the first.
            if !self.flipped.contains(&position) {
                self.storage.flip(path, offset, 1 << below(&mut self.random, 8));
                self.flipped.push(position);
            }
        }
        if below(&mut self.random, 4) == 0 {
            // Then it comes from the segments' headers.
            self.storage.flip(&Path::new(DIR).join("identity"), 30, 1);
        }
        self.open_and_check();
    }

    fn trim(&mut self, share: u8) {
        let count = self.entries.len() * usize::from(share) / 255;
        let committed = self.entries.values().map(|entry| entry.0).nth(count).unwrap_or(0);
        let journal = self.opened().journal.clone();
        let first = journal.trim(Position(committed), UnixMicros(i64::MAX)).unwrap();
        assert_eq!(first, journal.first());
        let tail_start = self.entries.range(..first.0).next_back().map(|entry| entry.1.0);
        assert!(tail_start.is_none_or(|end| end <= committed), "trimmed what is not committed");
        self.entries = self.entries.split_off(&first.0);
    }
}

fn first_of(path: &Path) -> u64 {
    parse_file_name(path.file_name().unwrap().to_str().unwrap()).unwrap()
}
