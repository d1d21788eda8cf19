//! A segment of the journal, damaged anywhere: it opens, and what is read was written.

#![no_main]

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_journal::{DiskStorage, EntryDraft, Journal, JournalOptions, Opened};
use tidegate_record::{ColumnSet, UnixMicros};

const OPTIONS: JournalOptions = JournalOptions {
    segment_bytes: 4 << 10,
    bytes_max: 1 << 20,
    retention: Duration::ZERO,
    retention_bytes: 0,
};

/// The files of a journal of three segments, and the bodies that are in it.
struct Written {
    files: Vec<(PathBuf, Vec<u8>)>,
    bodies: HashSet<Vec<u8>>,
}

static WRITTEN: LazyLock<Written> = LazyLock::new(|| {
    let dir = TempDir::new().expect("a directory");
    let Opened { mut appender, .. } =
        Journal::open(dir.path(), OPTIONS, DiskStorage).expect("a journal");
    let bodies: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; 40 * usize::from(n)]).collect();
    for body in &bodies {
        let mut draft = EntryDraft::new(b"meta", body.len());
        draft.buffer_mut().extend_from_slice(body);
        appender.append(&mut [draft.seal(1, 2, ColumnSet(3), 4, UnixMicros(5))]).expect("appended");
    }
    drop(appender);
    let files = fs::read_dir(dir.path()).expect("listed").map(|file| {
        let path = file.expect("a file").path();
        (PathBuf::from(path.file_name().expect("a name")), fs::read(&path).expect("read"))
    });
    Written { files: files.collect(), bodies: bodies.into_iter().collect() }
});

// Each five bytes are a change: which file, where in it, and which bits; nothing at all cuts the file there.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut files = WRITTEN.files.clone();
    for change in data.chunks_exact(5) {
        let index = usize::from(change[0]) % files.len();
        let (name, bytes) = &mut files[index];
        // Without its identity it is another journal.
        if bytes.is_empty() || !name.to_string_lossy().ends_with(".segment") {
            continue;
        }
        let at = usize::from(u16::from_le_bytes([change[1], change[2]])) % bytes.len();
        match change[3] {
            0 => bytes.truncate(at),
            bits => bytes[at] ^= bits,
        }
    }
    let dir = TempDir::new().expect("a directory");
    for (name, bytes) in &files {
        fs::write(dir.path().join(name), bytes).expect("written");
    }
    let Ok(Opened { journal, .. }) = Journal::open(dir.path(), OPTIONS, DiskStorage) else {
        panic!("a damaged segment never blocks the start");
    };
    let mut reader = journal.reader(journal.first());
    while let Ok(Some(entry)) = reader.next() {
        assert!(WRITTEN.bodies.contains(&entry.body[..]), "what is read was written");
    }
});
