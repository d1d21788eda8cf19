//! Opening over what went wrong, one case at a time. The random histories are in `model`.

use std::path::{Path, PathBuf};

use tidegate_record::{ColumnSet, Position};

use super::super::faults::FaultStorage;
use super::super::fixture::{
    DIR, OPTIONS, all_bodies, append, memory, open, read_bodies, segment_path, try_open,
};
use super::super::format::{Identity, SegmentHeader};
use super::super::storage::{Storage, write_all};
use super::super::{Appended, Damage, EntryHeader, Journal, OpenError, Opened};

/// Three segments with one entry each (bodies of 1, 2 and 3), closed. Returns where they lie.
fn three_segments(storage: &FaultStorage) -> Vec<Appended> {
    let Opened { mut appender, .. } = open(storage);
    let appended = [1, 2, 3].map(|byte| append(&mut appender, &[&[byte; 3000]]));
    appender.close().unwrap();
    appended.into()
}

fn ranges(damages: &[Damage]) -> Vec<(u64, u64)> {
    damages.iter().map(|damage| (damage.from.0, damage.to.0)).collect()
}

fn overwrite(storage: &FaultStorage, path: &Path, offset: u64, bytes: &[u8]) {
    let file = storage.open(path).unwrap();
    write_all(&*file, [bytes], offset).unwrap();
    file.sync().unwrap();
}

fn damaged_path(name: &str) -> PathBuf {
    Path::new(DIR).join("damaged").join(name)
}

#[test]
fn reopening_keeps_the_identity_and_all_entries_and_goes_on_after_them() {
    let storage = memory();
    let id = open(&storage).journal.id();
    let mut expected = Vec::new();
    for round in 0..20_u8 {
        let Opened { journal, mut appender, damages } = open(&storage);
        assert_eq!((journal.id(), damages), (id, Vec::new()));
        assert_eq!(all_bodies(&journal), expected);
        let before = journal.synced();
        assert!(append(&mut appender, &[&[round; 300]]).first > before);
        expected.push(vec![round; 300]);
    }
}

#[test]
fn reopening_without_entries_leaves_one_segment() {
    let storage = memory();
    for _ in 0..5 {
        open(&storage);
    }
    assert_eq!(
        storage.files(Path::new(DIR), ""),
        [segment_path(0), Path::new(DIR).join("identity")]
    );
}

#[test]
fn a_damaged_entry_is_copied_named_and_passed_over() {
    let storage = memory();
    let Opened { mut appender, .. } = open(&storage);
    let bodies: [&[u8]; 3] = [&[1; 500], &[2; 500], &[3; 500]];
    append(&mut appender, &bodies);
    appender.close().unwrap();
    // In the header, then in the body, of the second.
    for (offset, mask) in [(64 + 568 + 20, 1), (64 + 568 + 300, 0x80)] {
        storage.flip(&segment_path(0), offset, mask);
        for _ in 0..2 {
            let Opened { journal, damages, .. } = open(&storage);
            let (from, to) = (64 + 568, 64 + 2 * 568);
            assert_eq!(ranges(&damages), [(from, to)], "named again at each opening");
            let copy = damages[0].set_aside.clone().unwrap();
            assert_eq!(copy, damaged_path("0000000000000278-00000000000004b0.bin"));
            assert_eq!(storage.durable(&copy).len(), 568);
            let mut reader = journal.reader(Position(0));
            assert_eq!(read_bodies(&mut reader), [[1; 500], [3; 500]]);
            assert_eq!(reader.take_damages(), [(Position(from), Position(to))]);
            assert_eq!(reader.take_damages(), []);
        }
    }
}

#[test]
fn damage_met_while_running_is_passed_over_too() {
    let storage = memory();
    let Opened { journal, mut appender, .. } = open(&storage);
    append(&mut appender, &[&[1; 500], &[2; 500], &[3; 500]]);
    storage.flip(&segment_path(0), 64 + 100, 1);
    storage.flip(&segment_path(0), 64 + 2 * 568, 1);
    let mut reader = journal.reader(Position(0));
    assert_eq!(read_bodies(&mut reader), [[2; 500]]);
    append(&mut appender, &[&[4; 500]]);
    assert_eq!(read_bodies(&mut reader), [[4; 500]]);
    let third = 64 + 2 * 568;
    let expected = [(64, 64 + 568), (third, third + 568)];
    assert_eq!(reader.take_damages(), expected.map(|(from, to)| (Position(from), Position(to))));
}

#[test]
fn a_sector_that_cannot_be_read_costs_only_its_entry() {
    let storage = memory();
    let Opened { journal, mut appender, .. } = open(&storage);
    let bodies: Vec<Vec<u8>> = (0..5).map(|byte| vec![byte; 9000]).collect();
    for body in &bodies {
        append(&mut appender, &[body]);
    }
    let first = journal.reader(Position(30_000)).next_header().unwrap().unwrap().position;
    appender.close().unwrap();
    storage.make_unreadable(&segment_path(first.0 - 64), 8);
    let mut remaining = bodies.clone();
    remaining.retain(|body| body[0] != 4);
    assert_eq!(all_bodies(&journal), remaining);
    let Opened { journal, damages, .. } = open(&storage);
    assert_eq!(damages.len(), 1);
    assert_eq!(all_bodies(&journal), remaining);
}

#[test]
fn a_damaged_segment_header_costs_no_entry() {
    let storage = memory();
    let appended = three_segments(&storage);
    let second = appended[1].first.0 - 64;
    storage.flip(&segment_path(second), 20, 1);
    let Opened { journal, damages, .. } = open(&storage);
    assert_eq!(ranges(&damages), [(second, second + 64)]);
    assert_eq!(storage.durable(damages[0].set_aside.as_ref().unwrap()).len(), 64);
    assert_eq!(all_bodies(&journal), [[1; 3000], [2; 3000], [3; 3000]]);
}

#[test]
fn a_segment_of_garbage_is_moved_away_and_named_from_then_on() {
    let storage = memory();
    let appended = three_segments(&storage);
    let (from, to) = (appended[1].first.0 - 64, appended[1].end.0);
    overwrite(&storage, &segment_path(from), 0, &[0xee; 3200]);
    for _ in 0..2 {
        let Opened { journal, damages, .. } = open(&storage);
        assert_eq!(ranges(&damages), [(from, to)]);
        assert_eq!(damages[0].set_aside, Some(damaged_path(&format!("{from:016x}.segment"))));
        let mut reader = journal.reader(Position(0));
        assert_eq!(read_bodies(&mut reader), [[1; 3000], [3; 3000]]);
        assert_eq!(reader.take_damages(), [(Position(from), Position(to))]);
    }
}

#[test]
fn a_last_segment_of_garbage_does_not_free_its_positions() {
    let storage = memory();
    let id = open(&storage).journal.id();
    append(&mut open(&storage).appender, &[b"acknowledged"]);
    overwrite(&storage, &segment_path(0), 0, &[0; 4096]);
    let Opened { journal, mut appender, damages } = open(&storage);
    assert_eq!(journal.id(), id);
    assert_eq!(ranges(&damages), [(0, 4096)]);
    assert_eq!((journal.first(), journal.synced()), (Position(4096), Position(4096)));
    append(&mut appender, &[b"next"]);
    assert_eq!(all_bodies(&journal), [b"next"]);
}

#[test]
fn a_missing_segment_is_a_damage() {
    let storage = memory();
    let appended = three_segments(&storage);
    let (from, to) = (appended[1].first.0 - 64, appended[1].end.0);
    storage.remove(&segment_path(from)).unwrap();
    let Opened { journal, damages, .. } = open(&storage);
    assert_eq!(ranges(&damages), [(from, to)]);
    assert_eq!(damages[0].set_aside, None);
    let mut reader = journal.reader(Position(from));
    assert_eq!(read_bodies(&mut reader), [[3; 3000]]);
    assert_eq!(reader.take_damages(), [(Position(from), Position(to))]);
}

#[test]
fn a_shortened_segment_costs_only_what_is_gone() {
    // Length of the file, entries kept, where the damage begins.
    for (length, kept, from) in
        [(1300, 2, 1200), (1199, 1, 632), (64, 0, 64), (63, 0, 0), (0, 0, 0)]
    {
        let storage = memory();
        let Opened { mut appender, .. } = open(&storage);
        let end = append(&mut appender, &[&[1; 500], &[2; 500], &[3; 500]]).end;
        appender.close().unwrap();
        storage.open(&segment_path(0)).unwrap().truncate(length).unwrap();
        let Opened { journal, mut appender, damages } = open(&storage);
        assert_eq!(all_bodies(&journal), [[1; 500], [2; 500]][..kept], "{length}");
        assert_eq!((damages[0].from, damages[damages.len() - 1].to), (Position(from), end));
        assert!(damages.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!(journal.synced(), end);
        append(&mut appender, &[b"goes on"]);
        assert_eq!(all_bodies(&journal).len(), kept + 1);
    }
}

#[test]
fn without_any_segment_the_journal_is_another_one() {
    let storage = memory();
    let id = open(&storage).journal.id();
    append(&mut open(&storage).appender, &[b"was position 64"]);
    storage.remove(&segment_path(0)).unwrap();
    let Opened { journal, .. } = open(&storage);
    assert_ne!(journal.id(), id, "or its positions would stand for two entries");
    assert_eq!(journal.synced(), Position(0));
}

#[test]
fn a_lost_identity_comes_back_from_the_segments() {
    let storage = memory();
    three_segments(&storage);
    let id = open(&storage).journal.id();
    storage.remove(&Path::new(DIR).join("identity")).unwrap();
    let Opened { journal, damages, .. } = open(&storage);
    assert_eq!((journal.id(), damages), (id, Vec::new()));
    assert_eq!(all_bodies(&journal).len(), 3);
}

#[test]
fn a_segment_of_another_journal_is_moved_away_and_not_read() {
    let storage = memory();
    three_segments(&storage);
    let header = SegmentHeader { identity: Identity::random(), first: Position(1 << 20) };
    drop(storage.create(&segment_path(1 << 20)).unwrap());
    overwrite(&storage, &segment_path(1 << 20), 0, &header.encode());
    let Opened { journal, damages, .. } = open(&storage);
    assert_eq!(ranges(&damages), [(1 << 20, (1 << 20) + 64)]);
    assert!(damages[0].reason.contains("another journal"));
    assert_eq!(all_bodies(&journal).len(), 3);
    assert!(journal.synced() < Position(1 << 20));
}

#[test]
fn a_later_version_is_refused_and_left_alone() {
    let storage = memory();
    let appended = three_segments(&storage);
    let path = segment_path(appended[2].first.0 - 64);
    let mut header = storage.durable(&path)[..64].to_vec();
    header[8] = 9;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..12]);
    crc.update(&header[16..]);
    header[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    overwrite(&storage, &path, 0, &header);
    let refused = try_open(&storage);
    assert!(matches!(refused, Err(OpenError::Version { version: 9, .. })));
    assert_eq!(storage.durable(&path)[..64], header);
}

#[test]
fn a_torn_tail_is_cut_and_its_positions_are_free() {
    let storage = memory();
    let Opened { mut appender, .. } = open(&storage);
    let acknowledged = append(&mut appender, &[b"acknowledged"]).end;
    let torn = append(&mut appender, &[b"torn", b"after it"]);
    // As if the second group's first sector had never reached the disk.
    overwrite(&storage, &segment_path(0), torn.first.0, &[0; 16]);
    let Opened { journal, mut appender, damages } = open(&storage);
    assert_eq!(damages, []);
    assert_eq!(journal.synced(), acknowledged);
    let kept = storage.durable(&segment_path(0));
    assert_eq!(kept.len() as u64, acknowledged.0, "nothing of it is left, nor what was reserved");
    assert_eq!(append(&mut appender, &[b"new"]).first.0, torn.first.0 + 64);
    assert_eq!(all_bodies(&journal), [&b"acknowledged"[..], b"new"]);
    drop(appender);
    assert_eq!(all_bodies(&open(&storage).journal), [&b"acknowledged"[..], b"new"]);
}

#[test]
fn a_header_inside_a_record_is_never_taken_for_an_entry() {
    let storage = memory();
    let Opened { journal, mut appender, .. } = open(&storage);
    // The sender knows all but the secret, even the position that its bytes will have.
    let forged_at = 64 + 64 + 4 + 4;
    let header = EntryHeader {
        position: Position(forged_at),
        end: Position(forged_at + 64),
        kind: 1,
        stream: 1,
        column_set: ColumnSet(0),
        rows: 1,
        received_at: tidegate_record::UnixMicros(0),
        meta_len: 0,
        body_len: 0,
    };
    let frame = super::super::format::EntryFrame { header, content_crc: 0, synced: Position(0) };
    let mut forged = [0; 64];
    frame.encode(0, &mut forged);
    let body = [&[0; 4][..], &forged[..]].concat();
    append(&mut appender, &[&body, b"honest"]);
    appender.close().unwrap();
    storage.flip(&segment_path(0), 64, 1);
    assert_eq!(all_bodies(&journal), [b"honest"]);
    assert_eq!(all_bodies(&open(&storage).journal), [b"honest"]);
}

#[test]
fn files_of_others_are_left_alone_and_unfinished_ones_removed() {
    let storage = memory();
    three_segments(&storage);
    let (stranger, unfinished) =
        (Path::new(DIR).join("notes.txt"), Path::new(DIR).join("00000000000f0000.segment.new"));
    for path in [&stranger, &unfinished] {
        drop(storage.create(path).unwrap());
        overwrite(&storage, path, 0, b"text");
    }
    let opened = Journal::open(Path::new(DIR), OPTIONS, storage.clone()).unwrap();
    assert_eq!(opened.damages, []);
    assert_eq!(storage.files(Path::new(DIR), "notes.txt"), [stranger]);
    assert!(storage.files(Path::new(DIR), ".new").is_empty());
}

/// As after a copy that was put back, or a rename whose sync failed: what is read is committed to PostgreSQL, and must not
/// be gone after a power loss, or its positions stood for two entries.
#[test]
fn what_is_read_after_opening_is_there_after_a_power_loss() {
    let bodies = [[1; 3000], [2; 3000], [3; 3000]];
    for seed in 0..20 {
        let storage = FaultStorage::new(seed);
        let appended = three_segments(&storage);
        let paths = appended.iter().map(|appended| segment_path(appended.first.0 - 64));
        let files: Vec<_> = paths.map(|path| (storage.durable(&path), path)).collect();
        for (_, path) in &files {
            storage.remove(path).unwrap();
        }
        storage.sync_dir(Path::new(DIR)).unwrap();
        for (content, path) in &files {
            drop(storage.create(path).unwrap());
            overwrite(&storage, path, 0, content);
        }
        // Opening cannot begin a segment, whose own sync of the directory would hide that another is missing.
        storage.fill_after(Some(0));
        assert_eq!(all_bodies(&open(&storage).journal), bodies, "{seed}");
        storage.fill_after(None);
        storage.crash();
        assert_eq!(all_bodies(&open(&storage).journal), bodies, "{seed}");
    }
}
