//! One monitor as the hub knows it: registered, later joined to the live feed, gone when dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::cursor::{Cursor, JournalTag, Place, Point};
use super::history::{History, unknown_gaps};
use super::message::Message;
use super::queue::{Ended, GapSet, Item, MonitorQueue};
use super::selection::Selection;
use super::{Joining, Shared};

/// How much a monitor wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Every record.
    #[default]
    Full,
    /// Some records a second and stream; the others are counted in gaps.
    Sample,
}

impl Mode {
    /// The word in requests and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Full => "full",
            Mode::Sample => "sample",
        }
    }
}

/// What to watch, and how.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Who watches; `None` is the local token.
    pub user: Option<i64>,
    pub selection: Selection,
    pub mode: Mode,
}

/// Why there can be no further monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    #[error("there are {monitors_max} monitors already, the most that are allowed")]
    TooMany { monitors_max: usize },
    #[error(
        "this user has {per_user_max} monitors already, as many as one user may; end some of them"
    )]
    TooManyOfUser { per_user_max: usize },
    #[error("the gateway is shutting down")]
    Ended,
}

/// What the hub keeps of a monitor.
#[derive(Debug)]
pub(super) struct Member {
    pub id: u64,
    pub user: Option<i64>,
    pub selection: Selection,
    pub mode: Mode,
    pub queue: MonitorQueue,
}

/// A monitor's side of the hub. Dropping it is leaving.
pub struct Monitor {
    shared: Arc<Shared>,
    member: Arc<Member>,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.member.queue.end(Ended::Left);
        self.shared.roster().remove(&self.member);
        self.shared.someone_left.store(true, Ordering::Release);
        self.shared.roster_changed.notify_one();
    }
}

impl Monitor {
    pub(super) fn register(
        shared: &Arc<Shared>,
        subscription: Subscription,
    ) -> Result<Monitor, SubscribeError> {
        let monitors_max = shared.limits.monitors_max;
        let mut roster = shared.roster();
        if roster.ended {
            return Err(SubscribeError::Ended);
        }
        if roster.members.len() >= monitors_max {
            return Err(SubscribeError::TooMany { monitors_max });
        }
        let Subscription { user, selection, mode } = subscription;
        let per_user_max = shared.limits.per_user_max();
        if roster.by_user.get(&user).is_some_and(|of_user| *of_user >= per_user_max) {
            return Err(SubscribeError::TooManyOfUser { per_user_max });
        }
        let id = roster.next_id;
        roster.next_id += 1;
        let queue = MonitorQueue::new(shared.limits.queue_bytes_max);
        let member = Arc::new(Member { id, user, selection, mode, queue });
        roster.add(&member);
        Ok(Monitor { shared: Arc::clone(shared), member })
    }

    /// Asks for a place in the live feed. The answer is where it begins; from there on records wait in the queue. No
    /// answer means that the hub ended.
    pub(crate) fn join(&self) -> oneshot::Receiver<Point> {
        let (reply, answer) = oneshot::channel();
        let mut roster = self.shared.roster();
        if !roster.ended {
            roster.joining.push(Joining { member: Arc::clone(&self.member), reply });
        }
        drop(roster);
        self.shared.roster_changed.notify_one();
        answer
    }

    /// Whether a cursor's positions mean something here: it is of this journal, and not from the future, as one is when
    /// the journal was put back to an older state.
    pub(crate) fn knows(&self, cursor: &Cursor) -> bool {
        cursor.journal == self.journal_tag()
            && cursor.place.end() <= Point::at(self.shared.journal.synced())
    }

    /// Where the live feed is now. A place in it that is given later is never before this.
    pub(crate) fn feed_position(&self) -> Point {
        self.shared.roster().position
    }

    /// Gaps that say that what was missed between the two is unknown.
    pub(crate) fn unknown_gaps(&self, from: Cursor, to: Point) -> Vec<Message> {
        let to = Cursor { journal: self.shared.journal_tag(), place: Place::At(to) };
        let streams = self.shared.streams.snapshot();
        unknown_gaps(&self.member.selection, &streams, from, to)
    }

    /// A reading of the past for this monitor.
    pub(crate) fn history(&self, from: Place) -> History {
        History::new(Arc::clone(&self.shared), self.member.selection.clone(), from)
    }

    pub(crate) fn hello(&self, cursor: Cursor) -> Message {
        let existing = self.member.selection.existing(&self.shared.streams.snapshot());
        let mut names: Vec<_> = existing.iter().map(|stream| stream.name.clone()).collect();
        names.sort();
        Message::hello(cursor, &names, self.member.mode.as_str(), &self.shared.node_name)
    }

    /// The counts of the last quarter of an hour.
    pub(crate) fn past(&self) -> Message {
        self.shared.past().message(&self.member.selection, &self.shared.streams.snapshot())
    }

    /// The next messages of the live feed, if there are some: one of records, or a set of gaps.
    pub(crate) fn pop(&self) -> Vec<Message> {
        match self.member.queue.pop() {
            Some(Item::Message(message)) => vec![message],
            Some(Item::Gaps(set)) => self.expand(set),
            None => Vec::new(),
        }
    }

    fn expand(&self, set: GapSet) -> Vec<Message> {
        let streams = self.shared.streams.snapshot();
        set.messages(self.shared.journal_tag(), &self.member.selection, &streams)
    }

    /// The latest statistics that were not taken.
    pub(crate) fn take_stats(&self) -> Option<Message> {
        let text = self.member.queue.take_stats()?;
        Some(Message { text, cursor: None, content: super::Content::Notice })
    }

    /// Waits for something to take, or the end.
    pub(crate) async fn changed(&self) {
        self.member.queue.changed().await;
    }

    /// Says that what was given is taken, which keeps the monitor from being ended as stuck.
    pub(crate) fn touch(&self) {
        self.member.queue.touch();
    }

    /// Why it is over, if it is.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.member.queue.ended()
    }

    /// Counts a message that is given to the monitor.
    pub(crate) fn note(&self, message: &Message) {
        self.shared.metrics.note(message.content);
    }

    pub(crate) fn mode(&self) -> Mode {
        self.member.mode
    }

    pub(crate) fn journal_tag(&self) -> JournalTag {
        self.shared.journal_tag()
    }

    /// Waits until there is memory for more of the past.
    pub(crate) async fn room(&self) {
        self.shared.frames.room().await;
    }

    /// Turns for reading the past.
    pub(crate) fn catch_ups(&self) -> &Arc<tokio::sync::Semaphore> {
        &self.shared.catch_ups
    }
}
