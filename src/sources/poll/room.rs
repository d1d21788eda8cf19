//! Room for the answers of all runs together, in bytes: a run that finds none for a while gives up, and keeps nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::{FetchError, FetchErrorKind};

/// Longest wait for room.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Room is handed out in pieces of so many bytes.
const PIECE_BYTES: usize = 4 << 10;
/// Reserved ahead, so that an answer that arrives in small chunks does not ask for each.
const AHEAD_BYTES: usize = 64 << 10;

/// The room of all. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Room {
    pieces: Arc<Semaphore>,
    /// How many there are.
    pieces_max: usize,
}

/// What one run holds, until it is dropped.
#[derive(Debug)]
pub struct Held {
    room: Room,
    permit: Option<OwnedSemaphorePermit>,
    /// Pieces that the same run holds elsewhere, and does not let go of before.
    beside: usize,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// There was none for a while.
    #[error(
        "the gateway holds as many bytes of answers as it may (TIDEGATE_POLLING_ANSWERS_BYTES_MAX)"
    )]
    Now,
    /// There would be too little if nobody else held any.
    #[error(
        "the answer and its items take more than all of the gateway's {0} bytes for answers (TIDEGATE_POLLING_ANSWERS_BYTES_MAX)"
    )]
    Ever(usize),
}

impl From<NoRoom> for FetchError {
    fn from(error: NoRoom) -> FetchError {
        let kind = match error {
            NoRoom::Now => FetchErrorKind::Busy,
            NoRoom::Ever(_) => FetchErrorKind::TooLarge,
        };
        FetchError::new(kind, error.to_string())
    }
}

impl Room {
    pub fn new(bytes_max: u64) -> Room {
        let pieces = usize::try_from(bytes_max).unwrap_or(usize::MAX) / PIECE_BYTES;
        let pieces_max = pieces.clamp(1, Semaphore::MAX_PERMITS);
        Room { pieces: Arc::new(Semaphore::new(pieces_max)), pieces_max }
    }

    /// Holds nothing yet.
    pub fn hold(&self) -> Held {
        Held { room: self.clone(), permit: None, beside: 0 }
    }
}

impl Held {
    /// From now on a look at what can ever be held counts what `other`, of the same run, holds.
    pub fn goes_beside(&mut self, other: &Held) {
        self.beside = other.pieces();
    }

    /// Waits until at least `bytes` are held. Some more are taken where there is room.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let held = self.pieces();
        let needed = bytes.div_ceil(PIECE_BYTES).saturating_sub(held);
        if needed == 0 {
            return Ok(());
        }
        let Room { pieces, pieces_max } = &self.room;
        let ever = NoRoom::Ever(pieces_max * PIECE_BYTES);
        if self.beside + held + needed > *pieces_max {
            return Err(ever);
        }
        let more = u32::try_from(needed).map_err(|_| ever)?;
        let ahead = more.saturating_add(u32::try_from(AHEAD_BYTES / PIECE_BYTES).unwrap_or(0));
        let permit = match Arc::clone(pieces).try_acquire_many_owned(ahead) {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = Arc::clone(pieces).acquire_many_owned(more);
                let permit = timeout(WAIT_MAX, waiting).await.map_err(|_| NoRoom::Now)?;
                permit.map_err(|_| NoRoom::Now)?
            }
        };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    fn pieces(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_together_hold_no_more_than_there_is() {
        let room = Room::new(1 << 20);
        let mut one = room.hold();
        one.grow_to(900 << 10).await.unwrap();
        let mut two = room.hold();
        assert_eq!(two.grow_to(200 << 10).await, Err(NoRoom::Now));
        assert_eq!(one.grow_to(2 << 20).await, Err(NoRoom::Ever(1 << 20)));
        drop(one);
        two.grow_to(200 << 10).await.unwrap();
        let mut three = room.hold();
        three.goes_beside(&two);
        assert_eq!(three.grow_to(900 << 10).await, Err(NoRoom::Ever(1 << 20)), "two never goes");
        drop(three);
        two.grow_to(1 << 20).await.unwrap();
        drop(two);
        assert_eq!(room.pieces.available_permits(), 256);
    }
}
