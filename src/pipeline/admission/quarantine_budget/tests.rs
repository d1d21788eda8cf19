//! What is counted, from a record's parsing to its measurement.

use super::*;

const STREAM: StreamId = StreamId(1);
const OTHER: StreamId = StreamId(2);

fn room(full: QuarantineFull) -> QuarantineBudget {
    let stream = KeptAmount { records: 4, bytes: 1_000 };
    let all = KeptAmount { records: 8, bytes: 1_200 };
    QuarantineBudget::new(QuarantineLimits { stream, all, full, ..QuarantineLimits::NONE })
}

/// Takes so many records, or as many as there is room for.
fn take(room: &QuarantineBudget, stream: StreamId, records: u64, bytes: u64) -> BudgetTaken {
    let mut taken = room.begin(stream);
    let refused = (0..records).find_map(|_| taken.take(bytes).err());
    assert_eq!(refused.is_none(), taken.amount.records == records);
    taken
}

fn why_not(room: &QuarantineBudget, stream: StreamId, bytes: u64) -> Option<NoRoomToKeep> {
    room.begin(stream).take(bytes).err()
}

fn in_table(records: u64, bytes: u64) -> HashMap<StreamId, KeptAmount> {
    HashMap::from([(STREAM, KeptAmount { records, bytes })])
}

/// Measures once everything below a position is committed.
fn measure(room: &QuarantineBudget, low_water: u64, table: &HashMap<StreamId, KeptAmount>) {
    room.note_committed(|_, last| last < Position(low_water));
    room.measured(table, KeptAmount::default());
}

#[test]
fn a_stream_gets_its_share_and_all_streams_together_no_more_than_there_is() {
    let room = room(QuarantineFull::Refuse);
    let of_stream = take(&room, STREAM, 10, 100);
    assert_eq!(of_stream.amount.records, 4, "by records");
    assert_eq!(why_not(&room, STREAM, 1), Some(NoRoomToKeep::Stream));
    assert_eq!(room.full_streams(), 1);
    let mut of_other = take(&room, OTHER, 10, 300);
    assert_eq!(of_other.amount.records, 2, "by bytes of all");
    assert_eq!(why_not(&room, OTHER, 300), Some(NoRoomToKeep::All));
    assert_eq!(of_other.take(200), Ok(()));
    assert_eq!(room.level(), KeptAmount { records: 7, bytes: 1_200 });
    assert_eq!(room.level_of(STREAM), KeptAmount { records: 4, bytes: 400 });
}

#[test]
fn what_does_not_reach_the_journal_is_given_back() {
    let room = room(QuarantineFull::Refuse);
    let mut taken = take(&room, STREAM, 3, 10);
    let on_its_way = taken.split().unwrap();
    assert!(taken.split().is_none());
    taken.take(10).unwrap();
    drop(taken);
    assert_eq!(room.level_of(STREAM).records, 3, "what was handed on is not given back");
    drop(on_its_way);
    assert_eq!((room.level(), room.is_moving()), (KeptAmount::default(), false));
    // Of a stream that is made only then.
    let mut taken = take(&room, STREAM, 4, 10);
    taken.set_stream(OTHER);
    assert_eq!((room.level_of(STREAM).records, room.level_of(OTHER).records), (0, 4));
    taken.split().unwrap().journaled(Position(0));
    drop(taken);
    assert_eq!(room.level().records, 4);
    assert_eq!(why_not(&room, OTHER, 1), Some(NoRoomToKeep::Stream));
}

#[test]
fn what_was_taken_is_counted_until_it_is_surely_measured_however_long_that_takes() {
    let room = room(QuarantineFull::Refuse);
    let taken = take(&room, STREAM, 3, 10);
    for low_water in 1..10 {
        measure(&room, low_water, &HashMap::new());
        assert_eq!(room.level_of(STREAM).records, 3, "the body has not ended");
    }
    taken.journaled(Position(10));
    measure(&room, 10, &HashMap::new());
    assert!(room.is_moving());
    // It is committed in between, where the measurement sees it.
    let latest = take(&room, STREAM, 9, 10);
    assert_eq!(latest.amount.records, 1);
    measure(&room, 10, &in_table(3, 30));
    assert_eq!(room.level_of(STREAM).records, 7, "three are counted twice, for a moment");
    measure(&room, 11, &in_table(3, 30));
    assert_eq!(room.level_of(STREAM), KeptAmount { records: 4, bytes: 40 });
    assert_eq!(why_not(&room, STREAM, 1), Some(NoRoomToKeep::Stream));
    latest.journaled(Position(20));
    measure(&room, 21, &in_table(4, 40));
    assert_eq!((room.level_of(STREAM).records, room.is_moving()), (4, false));
    measure(&room, 21, &in_table(1, 10));
    assert_eq!(take(&room, STREAM, 9, 10).amount.records, 3, "three were dropped");
}

#[test]
fn an_entry_is_measured_while_one_before_it_waits() {
    let room = room(QuarantineFull::Refuse);
    for position in [10, 20] {
        take(&room, STREAM, 1, 10).journaled(Position(position));
    }
    room.note_committed(|first, _| first == Position(20));
    room.measured(&in_table(1, 10), KeptAmount::default());
    assert_eq!(room.level_of(STREAM), KeptAmount { records: 2, bytes: 20 });
}

#[test]
fn of_many_entries_the_last_are_remembered_together() {
    let room = QuarantineBudget::new(QuarantineLimits::NONE);
    let entries = JOURNALED_MAX as u64 + 100;
    for position in 0..entries {
        take(&room, STREAM, 1, 10).journaled(Position(position));
    }
    assert_eq!(room.lock().streams[&STREAM].journaled.len(), JOURNALED_MAX);
    measure(&room, entries - 1, &HashMap::new());
    assert_eq!(room.level().records, 101, "none before the last of them is committed");
    measure(&room, entries, &HashMap::new());
    assert_eq!(room.level(), KeptAmount::default());
}

#[test]
fn what_comes_before_the_oldest_are_dropped_has_a_limit_as_well() {
    let room = room(QuarantineFull::DropOldest);
    let taken = take(&room, STREAM, 10, 10);
    assert_eq!(taken.amount.records, 5);
    assert_eq!(why_not(&room, STREAM, 10), Some(NoRoomToKeep::Stream));
}

#[test]
fn streams_of_which_nothing_is_kept_are_forgotten() {
    let room = room(QuarantineFull::Refuse);
    for stream in 0..8 {
        take(&room, StreamId(stream), 1, 1).journaled(Position(5));
    }
    measure(&room, 6, &HashMap::new());
    assert!(room.lock().streams.is_empty());
    assert_eq!(room.level(), KeptAmount::default());
}
