//! What the writers of a session tell each other about keyed streams: which of them have rows in a table before their turn.
//!
//! A part of a keyed stream is copied straight into its table, beside those of other batches, in the hope that all of
//! its keys are new; it is committed in its turn. A part of which a key is taken is staged and merged in its turn. A merge
//! would wait in PostgreSQL for rows of later batches, which themselves wait for it. So it is announced here first: writers
//! that have copied directly step back, and none begins to, until the merge is over.
//!
//! A stream that could not be copied directly is tried with exponential backoff, so that one with many duplicates does not
//! pay for both ways; but again at once when a merge has found all of its keys new.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_record::StreamId;
use tokio::sync::watch;

/// Most batches of a stream that are staged without a try to copy them directly.
const PAUSE_BATCHES_MAX: u32 = 64;

/// One session's keyed streams, as many as the catalog has; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes(Arc<watch::Sender<BTreeMap<StreamId, Lane>>>);

#[derive(Debug, Default)]
struct Lane {
    /// Transactions that have, or are about to have, rows in the table before their turn.
    direct: usize,
    /// Transactions that merge in their turn.
    merging: usize,
    /// Batches that are staged without a try.
    pause: u32,
    /// How long the pause was when the last try failed; 0 after one that went well.
    last_pause: u32,
    /// Why the last try failed.
    obstacle: Option<Obstacle>,
}

/// Why a stream could not be copied directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// A key was taken.
    KeyTaken,
    /// Anything else, such as another transaction that had to be waited for. Merges do not tell whether it is still there.
    Other,
}

/// A transaction that copies these streams directly; dropping it says that it has no rows before its turn any more.
#[derive(Debug)]
pub(super) struct Direct {
    lanes: Lanes,
    streams: Vec<StreamId>,
}

/// A transaction that merges a stream in its turn; dropping it says that it is over.
#[derive(Debug)]
pub(super) struct Merging {
    lanes: Lanes,
    stream: StreamId,
}

impl Lanes {
    /// Announces a transaction that copies directly: those of the streams for which that is worth a try.
    pub fn enter(&self, wanted: &[StreamId]) -> Direct {
        let mut streams = Vec::new();
        self.0.send_if_modified(|lanes| {
            for stream in wanted {
                let lane = lanes.entry(*stream).or_default();
                if lane.pause > 0 {
                    lane.pause -= 1;
                } else if lane.merging == 0 {
                    lane.direct += 1;
                    streams.push(*stream);
                }
            }
            false
        });
        Direct { lanes: self.clone(), streams }
    }

    /// A merge has found all keys of the stream new.
    pub fn found_new_keys(&self, stream: StreamId) {
        self.0.send_if_modified(|lanes| {
            let lane = lanes.entry(stream).or_default();
            if lane.obstacle == Some(Obstacle::KeyTaken) {
                lane.pause = 0;
            }
            false
        });
    }

    /// Announces a merge whose turn has come, and waits until no writer has rows before its turn.
    pub async fn merge(&self, stream: StreamId) -> Merging {
        let mut changes = self.0.subscribe();
        self.0.send_modify(|lanes| lanes.entry(stream).or_default().merging += 1);
        let announced = Merging { lanes: self.clone(), stream };
        let is_free =
            |lanes: &BTreeMap<StreamId, Lane>| lanes.get(&stream).is_none_or(Lane::is_free);
        changes.wait_for(is_free).await.expect("this end of the channel is held here");
        announced
    }
}

impl Lane {
    fn is_free(&self) -> bool {
        self.direct == 0
    }
}

impl Direct {
    pub fn has(&self, stream: StreamId) -> bool {
        self.streams.contains(&stream)
    }

    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Waits until a writer whose turn is earlier wants to merge one of the streams.
    pub async fn is_in_the_way(&self) {
        let mut changes = self.lanes.0.subscribe();
        let merges = |lanes: &BTreeMap<StreamId, Lane>| {
            let merges = |stream| lanes.get(stream).is_some_and(|lane: &Lane| lane.merging > 0);
            self.streams.iter().any(merges)
        };
        changes.wait_for(merges).await.expect("this end of the channel is held here");
    }

    /// The stream could not be copied: the next batches of it are staged at once.
    pub fn was_in_vain(&self, stream: StreamId, obstacle: Obstacle) {
        self.lanes.0.send_if_modified(|lanes| {
            let lane = lanes.entry(stream).or_default();
            lane.last_pause = (lane.last_pause * 2).clamp(1, PAUSE_BATCHES_MAX);
            lane.pause = lane.last_pause;
            lane.obstacle = Some(obstacle);
            false
        });
    }

    /// The turn has come, and every row is in its place.
    pub fn went_well(&self) {
        self.lanes.0.send_if_modified(|lanes| {
            for stream in &self.streams {
                lanes.entry(*stream).or_default().last_pause = 0;
            }
            false
        });
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        self.lanes.0.send_modify(|lanes| {
            for stream in &self.streams {
                let lane = lanes.entry(*stream).or_default();
                lane.direct = lane.direct.saturating_sub(1);
            }
        });
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.lanes.0.send_if_modified(|lanes| {
            let lane = lanes.entry(self.stream).or_default();
            lane.merging = lane.merging.saturating_sub(1);
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const STREAM: StreamId = StreamId(7);
    const OTHER: StreamId = StreamId(8);

    #[tokio::test]
    async fn a_merge_waits_for_those_that_came_too_early_and_keeps_others_off() {
        let lanes = Lanes::default();
        let direct = lanes.enter(&[OTHER, STREAM]);
        assert!(direct.has(STREAM) && direct.has(OTHER));
        assert!(direct.is_in_the_way().now_or_never().is_none(), "none merges");
        let mut merge = Box::pin(lanes.merge(STREAM));
        assert!(merge.as_mut().now_or_never().is_none(), "another came too early");
        direct.is_in_the_way().await;
        let late = lanes.enter(&[STREAM, OTHER]);
        assert!(!late.has(STREAM) && late.has(OTHER), "another is about to merge");
        assert!(late.is_in_the_way().now_or_never().is_none(), "not that stream");
        drop(direct);
        let merging = merge.await;
        assert!(lanes.enter(&[STREAM]).is_empty());
        drop(merging);
        assert!(lanes.enter(&[STREAM]).has(STREAM));
    }

    #[tokio::test]
    async fn what_was_in_vain_is_tried_with_exponential_backoff() {
        let lanes = Lanes::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            lanes.enter(&[STREAM]).was_in_vain(STREAM, Obstacle::Other);
            let mut pause = 0;
            while lanes.enter(&[STREAM]).is_empty() {
                pause += 1;
            }
            pauses.push(pause);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        let direct = lanes.enter(&[STREAM]);
        direct.went_well();
        direct.was_in_vain(STREAM, Obstacle::Other);
        assert!(lanes.enter(&[STREAM]).is_empty());
        assert!(lanes.enter(&[STREAM]).has(STREAM), "it begins anew");
    }

    #[tokio::test]
    async fn a_merge_tells_whether_keys_are_still_taken() {
        let lanes = Lanes::default();
        for (obstacle, is_tried) in [(Obstacle::KeyTaken, true), (Obstacle::Other, false)] {
            lanes.enter(&[STREAM]).was_in_vain(STREAM, obstacle);
            lanes.found_new_keys(STREAM);
            assert_eq!(lanes.enter(&[STREAM]).has(STREAM), is_tried, "{obstacle:?}");
        }
    }
}
