//! A survey finds what opening finds, over any damage, and changes nothing.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::Config;
use tidegate_record::Position;

use super::super::fixture::{OPTIONS, append, read_bodies};
use super::super::{DiskStorage, Finding, Journal, JournalOptions, Opened, Survey, SurveyError};

/// Ranges of positions, those that touch as one.
type Ranges = Vec<(u64, u64)>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    bodies: Vec<Vec<u8>>,
    damages: Ranges,
}

fn add(ranges: &mut Ranges, from: Position, to: Position) {
    match ranges.last_mut() {
        Some((_, last)) if *last == from.0 => *last = to.0,
        _ => ranges.push((from.0, to.0)),
    }
}

fn look(survey: &Survey) -> (Seen, Option<bool>) {
    let (mut seen, mut tail) = (Seen::default(), None);
    survey
        .visit(|finding| {
            match finding {
                Finding::File { .. } => {}
                Finding::Entry(entry) => seen.bodies.push(entry.body.to_vec()),
                Finding::Damage(part) => add(&mut seen.damages, part.from, part.to),
                Finding::Tail { is_blank, .. } => tail = Some(is_blank),
            }
            Ok::<(), SurveyError>(())
        })
        .unwrap();
    (seen, tail)
}

fn open(dir: &Path) -> Opened {
    Journal::open(dir, OPTIONS, DiskStorage).unwrap()
}

fn opened(dir: &Path) -> Seen {
    let Opened { journal, damages, .. } = open(dir);
    let mut seen = Seen::default();
    for damage in damages {
        add(&mut seen.damages, damage.from, damage.to);
    }
    seen.bodies = read_bodies(&mut journal.reader(journal.first()));
    seen
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .collect();
    paths.sort();
    paths
}

fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

#[test]
fn a_first_segment_without_anything_readable_is_where_the_journal_does_not_begin_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut appender, .. } = open(dir.path());
    append(&mut appender, &[&[7; 557]]);
    appender.close().unwrap();
    let first = &segments(dir.path())[0];
    for place in [0, 64, 100] {
        flip(first, place);
    }
    let end = fs::metadata(first).unwrap().len();
    let lost = Seen { bodies: vec![], damages: vec![(0, end)] };
    assert_eq!(look(&Survey::of_dir(dir.path()).unwrap()).0, lost);
    assert_eq!(opened(dir.path()), lost);
    let survey = Survey::of_dir(dir.path()).unwrap();
    assert_eq!(look(&survey).0, Seen::default());
    assert_eq!(survey.set_aside().len(), 1, "it is still there to be looked at");
}

proptest! {
    #![proptest_config(Config { cases: 60, failure_persistence: None, ..Config::default() })]

    #[test]
    fn looking_finds_what_opening_finds(
        lengths in proptest::collection::vec(0..1500_usize, 1..20),
        close: bool,
        flips in proptest::collection::vec((any::<u16>(), any::<u16>()), 0..5),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let Opened { mut appender, .. } = open(dir.path());
        for (index, length) in lengths.iter().enumerate() {
            append(&mut appender, &[&vec![u8::try_from(index).unwrap(); *length], b"and one more"]);
        }
        if close {
            appender.close().unwrap();
        }
        let paths = segments(dir.path());
        for (which, place) in flips {
            let path = &paths[usize::from(which) % paths.len()];
            let length = fs::metadata(path).unwrap().len();
            // Opening gives a last segment without a header up as a whole; a survey need not.
            let header = if Some(path) == paths.last() { 64 } else { 0 };
            flip(path, header + u64::from(place) % (length - header));
        }
        let survey = Survey::of_dir(dir.path()).unwrap();
        let (before, _) = look(&survey);
        let found = opened(dir.path());
        prop_assert_eq!(&before, &found);
        let (after, _) = look(&Survey::of_dir(dir.path()).unwrap());
        // A first segment of which nothing was readable is set aside as a whole: the journal begins behind it.
        let begin = segments(dir.path())[0].file_stem().unwrap().to_str().unwrap().to_owned();
        let begin = u64::from_str_radix(&begin, 16).unwrap();
        let behind = |&(from, to): &(u64, u64)| (to > begin).then_some((from.max(begin), to));
        let damages = found.damages.iter().filter_map(behind).collect();
        prop_assert_eq!(after, Seen { damages, ..found }, "what was set aside stays damaged");
    }
}

#[test]
fn a_torn_end_is_not_called_damage_and_reserved_space_is_blank() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut appender, .. } = open(dir.path());
    append(&mut appender, &[b"acknowledged"]);
    let torn = append(&mut appender, &[b"torn"]);
    drop(appender);
    let (seen, tail) = look(&Survey::of_dir(dir.path()).unwrap());
    assert_eq!((seen.bodies.len(), seen.damages.len(), tail), (2, 0, Some(true)));
    flip(&segments(dir.path())[0], torn.first.0 + 64 + 4);
    let (seen, tail) = look(&Survey::of_dir(dir.path()).unwrap());
    assert_eq!(
        (seen.bodies, seen.damages, tail),
        (vec![b"acknowledged".to_vec()], vec![], Some(false))
    );
}

#[test]
fn a_missing_segment_and_a_file_alone_are_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut appender, .. } = open(dir.path());
    let places = [1, 2, 3].map(|byte| append(&mut appender, &[&[byte; 3000]]));
    appender.close().unwrap();
    let second = segments(dir.path()).swap_remove(1);
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(second, &elsewhere).unwrap();
    let (seen, _) = look(&Survey::of_dir(dir.path()).unwrap());
    assert_eq!(seen.damages, [(places[1].first.0 - 64, places[1].end.0)]);
    assert_eq!(seen.bodies, [[1; 3000], [3; 3000]]);
    let (alone, _) = look(&Survey::of_file(&elsewhere, dir.path()).unwrap());
    assert_eq!(alone.bodies, [[2; 3000]]);
    fs::write(&elsewhere, "no journal").unwrap();
    let refused = Survey::of_file(&elsewhere, dir.path());
    assert!(matches!(refused, Err(SurveyError::NoPosition(_))));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Survey::of_dir(empty.path()), Err(SurveyError::NoJournal(_))));
    let nowhere = Survey::of_dir(&empty.path().join("nowhere"));
    assert!(matches!(nowhere, Err(SurveyError::Io { .. })));
}

#[test]
fn what_is_appended_during_a_survey_is_never_damage() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { segment_bytes: 8 << 20, bytes_max: 64 << 20, ..OPTIONS };
    let Opened { mut appender, .. } = Journal::open(dir.path(), options, DiskStorage).unwrap();
    append(&mut appender, &[b"there from the beginning"]);
    let (mut bodies, mut damages) = (0, Vec::new());
    Survey::of_dir(dir.path())
        .unwrap()
        .visit(|finding| {
            match finding {
                Finding::Entry(_) => {
                    bodies += 1;
                    if bodies == 1 {
                        // It begins in what was read already, as reserved space, and reaches beyond.
                        append(&mut appender, &[&vec![7; 3 << 20]]);
                        append(&mut appender, &[b"proves that the one before was durable"]);
                    }
                }
                Finding::Damage(part) => damages.push((part.from, part.to)),
                Finding::File { .. } | Finding::Tail { .. } => {}
            }
            Ok::<(), SurveyError>(())
        })
        .unwrap();
    assert_eq!(damages, []);
    assert_eq!(bodies, 3, "what follows shows that it is there");
}
