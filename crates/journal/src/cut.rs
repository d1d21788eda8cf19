//! Cutting off what was written and never became durable, so that nothing of it is ever read.

use std::path::Path;

use super::Shared;
use super::failure::{DiskFailure, during};
use super::format::SEGMENT_HEADER_BYTES;
use super::segment::{file_name, list_segments};

/// Cuts off everything at and above `end`, the newest first, so that a crash in between leaves no
/// hole. Of a segment that begins at `end` the header stays.
///
/// Invariant: when this returned, no entry above `end` is on disk, whatever happens next. Nothing
/// here relies on bytes whose sync failed: below `end` all was synced before, above it nothing stays.
pub(super) fn cut_to(shared: &Shared, end: u64) -> Result<(), DiskFailure> {
    for segment in shared.segments.all().iter().filter(|segment| segment.first > end) {
        shared.segments.remove(segment.first);
    }
    let (dir, storage) = (&shared.dir, &*shared.storage);
    // The directory is asked, because a segment may have failed between its name and the list.
    let firsts = list_segments(dir, storage).map_err(during("list the files of", dir))?;
    for first in firsts.iter().rev().filter(|first| **first > end) {
        let path = dir.join(file_name(*first));
        storage.remove(&path).map_err(during("remove", &path))?;
        storage.sync_dir(dir).map_err(during("sync the directory", dir))?;
    }
    // Once more, for a removal whose sync failed the last time.
    storage.sync_dir(dir).map_err(during("sync the directory", dir))?;
    if firsts.contains(&end) {
        cut_file(shared, &dir.join(file_name(end)), SEGMENT_HEADER_BYTES)?;
    }
    let segments = shared.segments.all();
    if let Some(last) = segments.iter().rev().find(|segment| segment.first < end) {
        cut_file(shared, &last.path, end - last.first)?;
    }
    for segment in segments.iter().filter(|segment| segment.end() > end) {
        segment.set_end(end);
    }
    Ok(())
}

fn cut_file(shared: &Shared, path: &Path, length: u64) -> Result<(), DiskFailure> {
    let cut = || {
        let file = shared.storage.open(path)?;
        // A sync that failed is not asked for again: it could succeed without having written. So a
        // cut that may have failed in its sync is made anew, which this sync then has to write.
        if file.len_bytes()? <= length {
            file.truncate(length + 1)?;
        }
        file.truncate(length)?;
        file.sync()
    };
    cut().map_err(during("cut off what was not acknowledged in", path))
}
