//! The load generator. Closed loops find how much goes through; open loops send by the clock and count from the moment
//! at which a request was due, so that a slow reply cannot hide the requests that it kept waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use crate::http::Connection;

/// Latencies in microseconds, up to a minute.
const LATENCY_MAX_MICROS: u64 = 60_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// Sends each request once, over so many connections at the same time; says how long it took until the last reply.
pub async fn send_all(
    address: &str,
    requests: &Arc<Vec<Bytes>>,
    connections: usize,
) -> anyhow::Result<Duration> {
    let connections = open(address, connections).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    let started = Instant::now();
    for mut connection in connections {
        let (next, requests) = (Arc::clone(&next), Arc::clone(requests));
        workers.spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                connection.send(request).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(started.elapsed())
}

/// What a closed loop found.
pub struct ClosedLoop {
    pub replies: u64,
    pub per_second: f64,
    /// Microseconds from each request to its reply, as its sender waits for it.
    pub latencies: Histogram<u64>,
}

/// Sends one of the requests after the other for a time, over so many connections; replies a second.
pub async fn rate(
    address: &str,
    requests: &Arc<Vec<Bytes>>,
    connections: usize,
    length: Duration,
) -> anyhow::Result<f64> {
    Ok(closed_loop(address, requests, connections, length).await?.per_second)
}

/// Sends one of the requests after the other for a time, over so many connections.
pub async fn closed_loop(
    address: &str,
    requests: &Arc<Vec<Bytes>>,
    connections: usize,
    length: Duration,
) -> anyhow::Result<ClosedLoop> {
    let connections = open(address, connections).await?;
    let mut workers = JoinSet::new();
    let started = Instant::now();
    let end = started + length;
    for (number, mut connection) in connections.into_iter().enumerate() {
        let requests = Arc::clone(requests);
        workers.spawn(async move {
            let mut latencies = histogram();
            let mut turn = requests.iter().cycle().skip(number % requests.len());
            let mut now = Instant::now();
            while now < end {
                let request = turn.next().context("there are no requests")?;
                connection.send(request).await?;
                let sent = std::mem::replace(&mut now, Instant::now());
                record(&mut latencies, now - sent);
            }
            anyhow::Ok(latencies)
        });
    }
    let mut of_workers = Vec::new();
    while let Some(worker) = workers.join_next().await {
        of_workers.push(worker??);
    }
    let took = started.elapsed();
    let mut latencies = histogram();
    for of_worker in of_workers {
        latencies.add(of_worker)?;
    }
    let replies = latencies.len();
    #[expect(clippy::cast_precision_loss, reason = "far fewer replies than 2^52")]
    let per_second = replies as f64 / took.as_secs_f64();
    Ok(ClosedLoop { replies, per_second, latencies })
}

/// Sends so many requests a second, each when it is due and a connection is free; the histogram has microseconds from when
/// it was due to the reply.
pub async fn latencies(
    address: &str,
    requests: &Arc<Vec<Bytes>>,
    connections: usize,
    per_second: f64,
    length: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let connections = open(address, connections).await?;
    let schedule = Schedule { started: Instant::now(), per_second, length };
    let (due, next) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let pacing = {
        let (due, connections) = (Arc::clone(&due), connections.len());
        task::spawn_blocking(move || schedule.pace(&due, connections))
    };
    let mut workers = JoinSet::new();
    for mut connection in connections {
        let (requests, due, next) = (Arc::clone(requests), Arc::clone(&due), Arc::clone(&next));
        workers.spawn(async move {
            let mut histogram = histogram();
            loop {
                due.acquire().await?.forget();
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(due) = schedule.due(number) else { break };
                connection.send(&requests[number % requests.len()]).await?;
                record(&mut histogram, due.elapsed());
            }
            anyhow::Ok(histogram)
        });
    }
    let mut all = histogram();
    while let Some(worker) = workers.join_next().await {
        all.add(worker??)?;
    }
    pacing.await?;
    Ok(all)
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_MICROS, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants that fit")
}

pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
}

/// A quantile in seconds.
pub fn quantile_seconds(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_micros(histogram.value_at_quantile(quantile)).as_secs_f64()
}

async fn open(address: &str, connections: usize) -> anyhow::Result<Vec<Connection>> {
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        opened.push(Connection::open(address).await?);
    }
    Ok(opened)
}

/// When each request of an open loop is due.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    started: Instant,
    per_second: f64,
    length: Duration,
}

impl Schedule {
    fn due(self, number: usize) -> Option<Instant> {
        #[expect(clippy::cast_precision_loss, reason = "far fewer requests than 2^52")]
        let after = Duration::from_secs_f64(number as f64 / self.per_second);
        (after < self.length).then(|| self.started + after)
    }

    /// Adds a permit for every request when it is due, and in the end one for each worker, that it sees the end. A thread
    /// sleeps more exactly than the runtime's timer, which ticks in milliseconds.
    fn pace(self, permits: &Semaphore, workers: usize) {
        for due in (0..).map_while(|number| self.due(number)) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            permits.add_permits(1);
        }
        permits.add_permits(workers);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that keeps its first reply back.
    async fn slow_once(listener: TcpListener, pause: Duration) {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 1];
        let mut pause = Some(pause);
        while stream.read_exact(&mut request).await.is_ok() {
            if let Some(pause) = pause.take() {
                tokio::time::sleep(pause).await;
            }
            let sent =
                stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
            sent.expect("the client reads");
        }
    }

    #[tokio::test]
    async fn a_stall_counts_for_every_request_that_was_due_in_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let mut server = JoinSet::new();
        server.spawn(slow_once(listener, Duration::from_millis(200)));
        let requests = Arc::new(vec![Bytes::from_static(b"x")]);
        let length = Duration::from_millis(400);
        let histogram = latencies(&address, &requests, 1, 100.0, length).await.expect("replies");
        assert_eq!(histogram.len(), 40);
        // About 20 requests were due while nothing was answered, on average for 100 ms.
        let late = histogram.len() - histogram.count_between(0, 50_000);
        assert!(late >= 10, "only {late} requests were late");
    }

    #[test]
    fn requests_are_due_evenly_and_end_with_the_time() {
        let schedule = Schedule {
            started: Instant::now(),
            per_second: 1_000.0,
            length: Duration::from_secs(2),
        };
        assert_eq!(schedule.due(500), Some(schedule.started + Duration::from_millis(500)));
        assert!(schedule.due(1_999).is_some());
        assert_eq!(schedule.due(2_000), None);
    }
}
