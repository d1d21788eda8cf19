//! Which streams are parked: their table cannot be written now, so their entries go to the table `parked`, and follow
//! from there in order.
//!
//! Invariant: while anything of a stream is parked, everything that comes later for it is parked as well. A stream stops
//! being parked only when nothing of it is in the table and no transaction is under way that would put something there.
//! With busy writers there would never be such a moment; so once little is left, those that are about to park more wait a
//! little for the drainer ([`Parking::let_drain`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_record::StreamId;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::db::parked::ParkedStream;

/// Longest wait of a writer for a stream that is nearly drained, and of the drainer for the writers.
const NEARLY_DRAINED_WAIT: Duration = Duration::from_secs(1);

/// The streams that are parked; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Parking(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    streams: Mutex<BTreeMap<StreamId, State>>,
    changed: Notify,
    /// A stream began or ceased to be nearly drained, or a transaction of one ended.
    drained: watch::Sender<()>,
}

/// What is known of a parked stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedState {
    /// Why its table could not be written, in PostgreSQL's words.
    pub reason: String,
    /// Records that wait.
    pub records: u64,
}

#[derive(Debug)]
struct State {
    shown: ParkedState,
    /// Transactions that are about to park something.
    under_way: usize,
    /// How many of them there were, ever.
    begun: u64,
    backoff: Backoff,
    next_try: Instant,
    /// What was left was little: writers that would park more wait for the rest to go.
    nearly_drained: bool,
}

impl State {
    fn new(reason: String, records: u64) -> State {
        State {
            shown: ParkedState { reason, records },
            under_way: 0,
            begun: 0,
            backoff: Backoff::new(),
            next_try: Instant::now(),
            nearly_drained: false,
        }
    }

    fn announce(&mut self) {
        self.under_way += 1;
        self.begun += 1;
    }
}

/// A transaction that is about to park entries of a stream; dropping it says that it is over.
#[derive(Debug)]
pub struct Parked {
    parking: Parking,
    stream: StreamId,
}

/// A moment in which no transaction was about to park anything of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Quiet {
    begun: u64,
}

impl Parking {
    /// Begins a session with what PostgreSQL holds; what this process believed does not count.
    pub fn reset(&self, found: &[ParkedStream]) {
        let state = |parked: &ParkedStream| {
            let reason = "parked before this session began".to_owned();
            (parked.stream, State::new(reason, parked.records.unsigned_abs()))
        };
        *self.lock() = found.iter().map(state).collect();
        self.0.changed.notify_one();
    }

    /// From now on the stream is parked; announces the transaction that parks the first of it.
    pub fn park(&self, stream: StreamId, reason: String) -> Parked {
        self.lock().entry(stream).or_insert_with(|| State::new(reason, 0)).announce();
        self.0.changed.notify_one();
        Parked { parking: self.clone(), stream }
    }

    /// If the stream is parked, announces a transaction that parks more of it.
    pub fn join(&self, stream: StreamId) -> Option<Parked> {
        self.lock().get_mut(&stream)?.announce();
        Some(Parked { parking: self.clone(), stream })
    }

    pub fn is_parked(&self, stream: StreamId) -> bool {
        self.lock().contains_key(&stream)
    }

    /// What is parked, for the status page.
    pub fn show(&self) -> BTreeMap<StreamId, ParkedState> {
        self.lock().iter().map(|(stream, state)| (*stream, state.shown.clone())).collect()
    }

    /// The stream to try next, and when; waits until there is one.
    pub async fn next(&self) -> StreamId {
        loop {
            let next = self.lock().iter().map(|(id, state)| (state.next_try, *id)).min();
            match next {
                Some((at, stream)) if at <= Instant::now() => return stream,
                Some((at, _)) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.0.changed.notified() => {}
                },
                None => self.0.changed.notified().await,
            }
        }
    }

    /// The table still cannot be written: try again with exponential backoff.
    pub fn postpone(&self, stream: StreamId, reason: Option<String>) {
        if let Some(state) = self.lock().get_mut(&stream) {
            if let Some(reason) = reason {
                state.shown.reason = reason;
            }
            state.next_try = Instant::now() + state.backoff.next_wait();
            state.nearly_drained = false;
        }
        self.0.drained.send_replace(());
    }

    /// A moment in which no transaction is about to park anything of the stream; waited for, not for long, where little
    /// of it is left.
    pub async fn quiet_soon(&self, stream: StreamId) -> Option<Quiet> {
        let mut drained = self.0.drained.subscribe();
        let quiet = async {
            loop {
                let is_near = self.lock().get(&stream).is_some_and(|state| state.nearly_drained);
                let quiet = self.quiet(stream);
                if quiet.is_some() || !is_near {
                    return quiet;
                }
                if drained.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(NEARLY_DRAINED_WAIT, quiet).await.ok().flatten()
    }

    /// Lets the drainer finish the streams that are nearly drained; waits for that, but not for long.
    pub async fn let_drain(&self, mut is_wanted: impl FnMut(StreamId) -> bool) {
        let mut drained = self.0.drained.subscribe();
        let wait = async {
            loop {
                let is_under_way = self
                    .lock()
                    .iter()
                    .any(|(stream, state)| state.nearly_drained && is_wanted(*stream));
                if !is_under_way || drained.changed().await.is_err() {
                    return;
                }
            }
        };
        // A writer that waits in vain parks what it has.
        let _ = tokio::time::timeout(NEARLY_DRAINED_WAIT, wait).await;
    }

    /// Records left the table `parked`. Once no more than `few` are left there, writers wait before they park more.
    pub fn drained(&self, stream: StreamId, records: u64, few: u64) {
        if let Some(state) = self.lock().get_mut(&stream) {
            state.shown.records = state.shown.records.saturating_sub(records);
            state.nearly_drained = state.shown.records <= few;
            state.backoff = Backoff::new();
            // The others have their turn before the rest of it.
            state.next_try = Instant::now();
        }
    }

    /// `Some` while no transaction is about to park anything of the stream.
    pub fn quiet(&self, stream: StreamId) -> Option<Quiet> {
        let streams = self.lock();
        let state = streams.get(&stream)?;
        (state.under_way == 0).then_some(Quiet { begun: state.begun })
    }

    /// Nothing was found parked after the quiet moment: the stream goes its normal way again, unless more was
    /// parked in the meantime. Says whether it does.
    pub fn release(&self, stream: StreamId, quiet: Quiet) -> bool {
        let mut streams = self.lock();
        let still = streams
            .get(&stream)
            .is_some_and(|state| state.under_way == 0 && state.begun == quiet.begun);
        if still {
            streams.remove(&stream);
        }
        drop(streams);
        self.0.drained.send_replace(());
        still
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, State>> {
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parked {
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The transaction is committed.
    pub fn committed(self, records: u64) {
        if let Some(state) = self.parking.lock().get_mut(&self.stream) {
            state.shown.records += records;
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if let Some(state) = self.parking.lock().get_mut(&self.stream) {
            state.under_way = state.under_way.saturating_sub(1);
        }
        self.parking.0.drained.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId(7);

    #[tokio::test]
    async fn a_stream_is_released_only_when_none_parks() {
        let parking = Parking::default();
        assert!(parking.join(STREAM).is_none(), "nothing is parked yet");
        drop(parking.park(STREAM, "locked".to_owned()));
        assert_eq!(parking.next().await, STREAM);

        let quiet = parking.quiet(STREAM).expect("none parks");
        let parked = parking.join(STREAM).expect("it is parked");
        assert!(parking.quiet(STREAM).is_none(), "one parks");
        assert!(!parking.release(STREAM, quiet), "one is about to park");
        parked.committed(5);
        assert!(!parking.release(STREAM, quiet), "one has parked since");
        assert_eq!(parking.show()[&STREAM].records, 5);

        let quiet = parking.quiet(STREAM).expect("none parks");
        parking.drained(STREAM, 5, 0);
        assert!(parking.release(STREAM, quiet));
        assert!(parking.join(STREAM).is_none());
        assert!(parking.show().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn writers_wait_for_a_stream_that_is_nearly_drained_and_no_longer() {
        let parking = Parking::default();
        let under_way = parking.park(STREAM, "locked".to_owned());
        let started = Instant::now();
        parking.let_drain(|_| true).await;
        assert_eq!(started.elapsed(), Duration::ZERO, "much is left");
        parking.drained(STREAM, 1, 0);
        parking.let_drain(|stream| stream != STREAM).await;
        assert_eq!(started.elapsed(), Duration::ZERO, "another stream");

        let (parked, drainer) = (parking.clone(), parking.clone());
        let writer = async move { parked.let_drain(|_| true).await };
        let drain = async move {
            let quiet = drainer.quiet_soon(STREAM).await.expect("none else parks");
            assert!(drainer.release(STREAM, quiet));
        };
        tokio::join!(writer, drain, async move { drop(under_way) });
        assert!(parking.show().is_empty());
        assert_eq!(started.elapsed(), Duration::ZERO, "neither had to wait for a time");

        drop(parking.park(STREAM, "locked".to_owned()));
        parking.drained(STREAM, 1, 0);
        parking.let_drain(|_| true).await;
        assert!(
            started.elapsed() >= NEARLY_DRAINED_WAIT,
            "a drainer that does not come is not waited for"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_table_is_tried_again_with_exponential_backoff() {
        let parking = Parking::default();
        drop(parking.park(STREAM, "locked".to_owned()));
        let started = Instant::now();
        for _ in 0..40 {
            assert_eq!(parking.next().await, STREAM);
            parking.postpone(STREAM, None);
        }
        let waited = started.elapsed();
        assert!(waited > crate::backoff::WAIT_MAX * 20, "{waited:?}");
        assert!(waited < crate::backoff::WAIT_MAX * 80, "{waited:?}");
    }
}
