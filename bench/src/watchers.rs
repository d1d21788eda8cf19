//! Watchers: many WebSocket connections that count what they are sent. They run on the same cores as what is measured, so
//! they do as little as can be done with the bytes: all of them are read, in a buffer that is shared by a thread, and none
//! is kept.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::BytesMut;
use hdrhistogram::Histogram;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::frames::{FrameCounter, Tally};
use crate::http::{self, Connection};
use crate::load;

/// Read buffer of a thread, in bytes.
const READ_BYTES: usize = 64 << 10;
/// Watchers that connect at the same time.
const CONNECTING: usize = 32;
/// Longest wait for what was announced.
const ANNOUNCED_WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at the counters.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A masked pong without a payload.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Watchers that are connected, until dropped.
pub struct Watchers {
    counts: Vec<Arc<Count>>,
    latencies: Arc<Latencies>,
    tasks: JoinSet<anyhow::Result<()>>,
}

/// What one of them got.
#[derive(Debug, Default)]
struct Count {
    records: AtomicU64,
    omitted: AtomicU64,
    greeted: AtomicBool,
}

/// From when a record was due until it was read here.
struct Latencies {
    /// What the records' times count from.
    since: Instant,
    histogram: Mutex<Histogram<u64>>,
}

/// What all of them got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    pub records: u64,
    /// Announced as left out.
    pub omitted: u64,
}

/// Whom to watch.
pub struct Door<'a> {
    pub address: &'a str,
    pub path: &'a str,
    pub token: &'a str,
}

impl Watchers {
    /// Connects so many, of which the first `timed` read the time of each record.
    pub async fn connect(door: &Door<'_>, number: usize, timed: usize) -> anyhow::Result<Watchers> {
        let request = http::websocket(door.address, door.path, door.token);
        let mut connecting = JoinSet::new();
        let mut opened = Vec::with_capacity(number);
        for _ in 0..number {
            if connecting.len() >= CONNECTING {
                opened.extend(connecting.join_next().await);
            }
            let (address, request) = (door.address.to_owned(), request.clone());
            connecting
                .spawn(async move { Connection::open(&address).await?.upgrade(&request).await });
        }
        while let Some(connected) = connecting.join_next().await {
            opened.push(connected);
        }
        let histogram = Mutex::new(load::histogram());
        let mut watchers = Watchers {
            counts: Vec::with_capacity(number),
            latencies: Arc::new(Latencies { since: Instant::now(), histogram }),
            tasks: JoinSet::new(),
        };
        for connected in opened {
            let (stream, early) = connected??;
            let count = Arc::new(Count::default());
            let with_times = watchers.counts.len() < timed;
            watchers.counts.push(Arc::clone(&count));
            let watcher = Watcher {
                stream,
                counter: FrameCounter::new(with_times),
                tally: Tally::default(),
                count,
                latencies: Arc::clone(&watchers.latencies),
            };
            watchers.tasks.spawn(watcher.run(early));
        }
        Ok(watchers)
    }

    /// What the times in records count from.
    pub fn since(&self) -> Instant {
        self.latencies.since
    }

    /// Waits until each has its place in the stream.
    pub async fn wait_greeted(&mut self) -> anyhow::Result<()> {
        self.wait_for("a hello", |count| count.greeted.load(Ordering::Relaxed)).await
    }

    /// Waits until each was given exactly `sent` records, those that gaps told of among them.
    pub async fn wait_given(&mut self, sent: u64) -> anyhow::Result<()> {
        self.wait_for("all records", |count| count.given() >= sent).await?;
        for count in &self.counts {
            ensure!(count.given() == sent, "{sent} records were sent, and given: {count:?}");
        }
        Ok(())
    }

    async fn wait_for(
        &mut self,
        what: &str,
        is_there: impl Fn(&Count) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + ANNOUNCED_WAIT_MAX;
        let mut waiting: Vec<Arc<Count>> = self.counts.clone();
        loop {
            waiting.retain(|count| !is_there(count));
            let Some(one) = waiting.first() else { return Ok(()) };
            ensure!(
                Instant::now() < deadline,
                "{} watchers wait for {what}, such as {one:?}",
                waiting.len()
            );
            if let Some(ended) = self.tasks.try_join_next() {
                ended?.context("a watcher ended")?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub fn total(&self) -> Total {
        let add = |total: Total, count: &Arc<Count>| Total {
            records: total.records + count.records.load(Ordering::Relaxed),
            omitted: total.omitted + count.omitted.load(Ordering::Relaxed),
        };
        self.counts.iter().fold(Total::default(), add)
    }

    /// Microseconds from when a record was due until a timed watcher read it; those since the last call.
    pub fn take_latencies(&self) -> Histogram<u64> {
        std::mem::replace(&mut *self.latencies.histogram(), load::histogram())
    }
}

impl Count {
    fn given(&self) -> u64 {
        self.records.load(Ordering::Relaxed) + self.omitted.load(Ordering::Relaxed)
    }
}

impl Latencies {
    fn histogram(&self) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.histogram.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, due_micros: &mut Vec<u64>) {
        let now = self.since.elapsed();
        let mut histogram = self.histogram();
        for due in due_micros.drain(..) {
            load::record(&mut histogram, now.saturating_sub(Duration::from_micros(due)));
        }
    }
}

struct Watcher {
    stream: TcpStream,
    counter: FrameCounter,
    tally: Tally,
    count: Arc<Count>,
    latencies: Arc<Latencies>,
}

impl Watcher {
    /// Reads until the server ends it, which no server shall.
    async fn run(mut self, early: BytesMut) -> anyhow::Result<()> {
        self.take(&early)?;
        drop(early);
        loop {
            let read = std::future::poll_fn(|context| {
                BUFFER.with_borrow_mut(|buffer| self.poll_read(context, buffer))
            });
            ensure!(read.await? > 0, "the server closed the connection");
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<anyhow::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        self.take(buffer.filled())?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.counter.take(bytes, &mut self.tally)?;
        let Tally { records, omitted, greeted, pings, times } = &mut self.tally;
        self.count.records.store(*records, Ordering::Relaxed);
        self.count.omitted.store(*omitted, Ordering::Relaxed);
        self.count.greeted.store(*greeted, Ordering::Relaxed);
        for _ in 0..std::mem::take(pings) {
            ensure!(self.stream.try_write(&PONG)? == PONG.len(), "a pong was not sent");
        }
        if !times.is_empty() {
            self.latencies.add(times);
        }
        Ok(())
    }
}
