//! One monitor's life: hello, catching up, live.
//!
//! [`Session::next`] gives one message after the other, whatever the transport. The past is read at the monitor's own
//! speed; when it is close to the live feed the session joins it, reads on up to exactly the point where it joined, and
//! lives on its queue from there. So no record is lost or repeated at the seam.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::request::MonitorRequest;
use crate::hub::{
    Cursor, Ended, History, Hub, Message, Mode, Monitor, Place, Point, Selection, SubscribeError,
    Subscription,
};
use crate::telemetry::limits;

/// A session that catches up joins the live feed when it is this close, in bytes of the journal; what arrives while it
/// reads the rest waits in its queue.
const JOIN_DISTANCE_BYTES: u64 = 256 * 1024;

/// Longest wait for memory before what a monitor catches up with becomes a gap.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(1);

/// A monitor that is served; dropping it is leaving.
pub struct Session {
    monitor: Monitor,
    outbox: VecDeque<Message>,
    stage: Stage,
    /// The answer that was asked for on joining.
    joining: Option<oneshot::Receiver<Point>>,
    /// Where the live feed begins for this monitor, once it joined.
    joined: Option<Point>,
}

enum Stage {
    /// Nothing was said yet. `history`: the counts of the last quarter of an hour are wanted.
    New { since: Option<Cursor>, history: bool },
    /// Resumes with a cursor that tells nothing here.
    Foreign { since: Cursor },
    /// Reads the past.
    CatchingUp(Reading),
    /// Takes what the hub puts into the queue.
    Live,
}

/// The past, here or on the blocking thread that reads it.
enum Reading {
    Idle(Box<History>),
    Working(JoinHandle<(Box<History>, Vec<Message>)>),
    /// The thread died. The session ends.
    Dead,
}

impl Session {
    /// Registers a monitor of a user that asked for `request`. Nothing is read before the first [`Session::next`].
    pub fn open(
        hub: &Hub,
        user: Option<i64>,
        selection: Selection,
        request: &MonitorRequest,
    ) -> Result<Session, SubscribeError> {
        let monitor = hub.subscribe(Subscription { user, selection, mode: request.mode })?;
        Ok(Session {
            monitor,
            outbox: VecDeque::new(),
            stage: Stage::New { since: request.since, history: request.history },
            joining: None,
            joined: None,
        })
    }

    /// The next message, or why there is none any more. Cancel-safe: a dropped call loses nothing.
    ///
    /// A call says that the monitor took what the call before gave. A session that is not called for long, while
    /// something waits, ends as [`Ended::Stuck`].
    pub async fn next(&mut self) -> Result<Message, Ended> {
        self.monitor.touch();
        loop {
            if let Some(ended) = self.monitor.ended() {
                return Err(ended);
            }
            if !matches!(self.stage, Stage::New { .. })
                && let Some(stats) = self.monitor.take_stats()
            {
                return Ok(stats);
            }
            if let Some(message) = self.outbox.pop_front() {
                self.monitor.note(&message);
                return Ok(message);
            }
            self.refill().await?;
        }
    }

    /// The next message if there is one now, so that a transport can send several at once.
    pub fn next_now(&mut self) -> Option<Message> {
        if self.monitor.ended().is_some() {
            return None;
        }
        if self.outbox.is_empty() && matches!(self.stage, Stage::Live) {
            self.outbox.extend(self.monitor.pop());
        }
        let message = self.outbox.pop_front()?;
        self.monitor.touch();
        self.monitor.note(&message);
        Some(message)
    }

    /// Does one thing that may bring messages.
    async fn refill(&mut self) -> Result<(), Ended> {
        if matches!(self.stage, Stage::Live) {
            self.outbox.extend(self.monitor.pop());
            if self.outbox.is_empty() {
                self.monitor.changed().await;
            }
            return Ok(());
        }
        let Session { monitor, outbox, stage, joining, joined } = self;
        tokio::select! {
            biased;
            advanced = advance(monitor, outbox, stage, joining, joined) => advanced,
            // Statistics, or the end.
            () = monitor.changed() => Ok(()),
        }
    }
}

/// One step of what comes before the live feed. Cancel-safe: what was begun is kept in the session.
async fn advance(
    monitor: &Monitor,
    outbox: &mut VecDeque<Message>,
    stage: &mut Stage,
    joining: &mut Option<oneshot::Receiver<Point>>,
    joined: &mut Option<Point>,
) -> Result<(), Ended> {
    let here = |place| Cursor { journal: monitor.journal_tag(), place };
    match stage {
        Stage::New { since: None, history } => {
            let at = join(monitor, joining).await?;
            greet(monitor, outbox, here(Place::At(at)), *history);
            *stage = Stage::Live;
        }
        Stage::New { since: Some(since), history } => {
            let since = *since;
            greet(monitor, outbox, since, *history);
            *stage = if monitor.knows(&since) {
                Stage::CatchingUp(Reading::Idle(Box::new(monitor.history(since.place))))
            } else {
                Stage::Foreign { since }
            };
        }
        Stage::Foreign { since } => {
            let at = join(monitor, joining).await?;
            outbox.extend(monitor.unknown_gaps(*since, at));
            *stage = Stage::Live;
        }
        Stage::CatchingUp(reading) => {
            if catch_up(monitor, outbox, reading, joining, joined).await? {
                *stage = Stage::Live;
            }
        }
        Stage::Live => {}
    }
    Ok(())
}

fn greet(monitor: &Monitor, outbox: &mut VecDeque<Message>, from: Cursor, history: bool) {
    outbox.push_back(monitor.hello(from));
    outbox.extend(history.then(|| monitor.past()));
}

/// One step of catching up. True when the past is done.
async fn catch_up(
    monitor: &Monitor,
    outbox: &mut VecDeque<Message>,
    reading: &mut Reading,
    joining: &mut Option<oneshot::Receiver<Point>>,
    joined: &mut Option<Point>,
) -> Result<bool, Ended> {
    if let Reading::Working(work) = reading {
        match work.await {
            Ok((history, messages)) => {
                outbox.extend(messages);
                *reading = Reading::Idle(history);
            }
            Err(error) => {
                tracing::error!(%error, "a monitor that catches up ends");
                *reading = Reading::Dead;
            }
        }
        return Ok(false);
    }
    let Reading::Idle(history) = &*reading else { return Err(Ended::Left) };
    let place = history.place();
    if matches!(place, Place::At(at) if joined.is_some_and(|joined| at >= joined)) {
        return Ok(true);
    }
    let until = joined.unwrap_or_else(|| monitor.feed_position());
    let distance = until.position.0.saturating_sub(place.end().position.0);
    let near = distance <= JOIN_DISTANCE_BYTES || monitor.mode() == Mode::Sample;
    if joined.is_none() && near {
        *joined = Some(join(monitor, joining).await?);
        return Ok(false);
    }
    let turn = std::sync::Arc::clone(monitor.catch_ups()).acquire_owned().await;
    // With the turn: of those who wait for room, no more than have a turn go on at once. Not for long: what is waited for
    // may be in the queues of others who wait here.
    let has_room = timeout(ROOM_WAIT_MAX, monitor.room()).await.is_ok();
    if !has_room {
        limits::MONITOR_FRAMES.hit();
    }
    let Reading::Idle(mut history) = std::mem::replace(reading, Reading::Dead) else {
        return Err(Ended::Left);
    };
    let only_counts = monitor.mode() == Mode::Sample || !has_room;
    *reading = Reading::Working(tokio::task::spawn_blocking(move || {
        let messages = if only_counts { history.count(until) } else { history.step(until) };
        drop(turn);
        (history, messages)
    }));
    Ok(false)
}

/// Asks once for a place in the live feed and waits for it.
async fn join(
    monitor: &Monitor,
    joining: &mut Option<oneshot::Receiver<Point>>,
) -> Result<Point, Ended> {
    let answer = joining.get_or_insert_with(|| monitor.join());
    let point = answer.await.map_err(|_| Ended::Shutdown)?;
    *joining = None;
    Ok(point)
}

#[cfg(test)]
mod tests;
