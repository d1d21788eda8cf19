//! Monitors of every temper while records arrive and the gateway is killed: each is told of exactly what was accepted.
//!
//! A monitor resumes where its last message said, whatever ended its connection. What it saw and the gaps that it was
//! told of, laid end to end, must be the stream: in order, nothing missing, nothing twice, every gap's count exact.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::watcher::{Watcher, cursor_of};
use crate::support::{Gateway, Oracle, soon};

const ROUNDS: usize = 5;
/// Small queues and frames, so that slow monitors have gaps.
const FLAGS: [&str; 4] = [
    "--monitor-queue-bytes=65536",
    "--monitor-sample-rate=5",
    "--journal-segment-bytes=1048576",
    "--commit-wait-ms=500",
];
/// The version of the record that ends every stream; the oracle's are not negative.
const LAST: i64 = -1;
/// How long a slow monitor thinks about each message.
const SLOW: Duration = Duration::from_millis(30);
/// The receive buffer of those that shall not hide their slowness, in bytes.
const SMALL_BUFFER: u32 = 8_192;

/// How a monitor behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temper {
    Quick,
    Sampling,
    Slow,
    /// Reads a little, and then nothing more until it is thrown out or the gateway is gone.
    Stuck,
    /// Hangs up after every few messages.
    Restless,
}

/// Where the gateway can be found, and the header that it wants; none while it is down.
type Door = Option<(String, String)>;

/// What a monitor was told of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Version(i64),
    Gap(u64),
}

/// How many records each stream has; none while it is unknown.
type Goal = Option<BTreeMap<&'static str, u64>>;

struct Follower {
    temper: Temper,
    door: watch::Receiver<Door>,
    goal: watch::Receiver<Goal>,
    cursor: String,
    told: BTreeMap<String, Vec<Told>>,
    connections: u64,
}

impl Follower {
    /// Follows until it was told of everything.
    async fn run(mut self) -> Follower {
        while !self.is_done() {
            let door = self.door.wait_for(Option::is_some).await.expect("the test goes on").clone();
            let (address, bearer) = door.expect("it was waited for");
            let socket = TcpSocket::new_v4().expect("a socket");
            if matches!(self.temper, Temper::Slow | Temper::Stuck) {
                socket.set_recv_buffer_size(SMALL_BUFFER).expect("a small buffer");
            }
            let mode = if self.temper == Temper::Sampling { "sample" } else { "full" };
            let query = format!("mode={mode}&since={}", self.cursor);
            let headers = [("authorization", bearer.as_str())];
            match Watcher::try_come(socket, &address, &query, &headers).await {
                Ok(Ok(watcher)) => {
                    self.connections += 1;
                    self.follow(watcher).await;
                }
                // It is on its way down, or up again with another token.
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        self
    }

    /// One connection.
    async fn follow(&mut self, mut watcher: Watcher) {
        let mut read = 0;
        while !self.is_done() {
            tokio::select! {
                end = watcher.read() => if end.is_some() { return },
                changed = self.goal.changed() => changed.expect("the test goes on"),
            }
            for message in &watcher.messages[read..] {
                self.note(message);
            }
            read = watcher.messages.len();
            let goes_on = self.goal.borrow().is_none();
            match self.temper {
                Temper::Restless if read > 3 => return,
                Temper::Slow if goes_on => tokio::time::sleep(SLOW).await,
                Temper::Stuck if goes_on && read == 10 => {
                    tokio::select! {
                        changed = self.door.changed() => changed.expect("the test goes on"),
                        changed = self.goal.changed() => changed.expect("the test goes on"),
                    }
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, message: &Value) {
        if let Some(cursor) = cursor_of(message) {
            cursor.clone_into(&mut self.cursor);
        }
        let items: Vec<Told> = match message["type"].as_str() {
            Some("records") => {
                message["records"].as_array().expect("a list").iter().map(version).collect()
            }
            Some("gap") => vec![Told::Gap(message["count"].as_u64().expect("the count is known"))],
            _ => return,
        };
        let stream = message["stream"].as_str().expect("a name");
        self.told.entry(stream.to_owned()).or_default().extend(items);
    }

    /// How many records of a stream it saw or was told of.
    fn count(&self, stream: &str) -> u64 {
        let told = self.told.get(stream).into_iter().flatten();
        told.map(|told| if let Told::Gap(count) = told { *count } else { 1 }).sum()
    }

    fn is_done(&self) -> bool {
        let goal = self.goal.borrow();
        goal.as_ref()
            .is_some_and(|goal| goal.iter().all(|(stream, count)| self.count(stream) >= *count))
    }

    fn missed(&self) -> u64 {
        let told = self.told.values().flatten();
        told.map(|told| if let Told::Gap(count) = told { *count } else { 0 }).sum()
    }

    /// Lays everything that was told end to end along the stream.
    fn verify(&self, stream: &str, versions: &[i64]) {
        let temper = self.temper;
        let mut at = 0;
        for told in &self.told[stream] {
            match told {
                Told::Version(version) => {
                    let expected = versions.get(at);
                    assert_eq!(expected, Some(version), "{temper:?}, {stream}: at record {at}");
                    at += 1;
                }
                Told::Gap(count) => at += usize::try_from(*count).expect("a count of records"),
            }
        }
        assert_eq!(at, versions.len(), "{temper:?}, {stream}: records and gaps add up");
    }
}

/// A version is text where it came as CSV.
fn version(record: &Value) -> Told {
    let version = &record["data"]["version"];
    let text = || version.as_str().and_then(|text| text.parse().ok());
    Told::Version(version.as_i64().or_else(text).expect("every record has a version"))
}

fn address_and_bearer(gateway: &Gateway) -> (String, String) {
    (gateway.address().to_owned(), format!("Bearer {}", gateway.token()))
}

/// What every stream has, in order, as a monitor sees it that begins at the beginning and has all the time.
async fn arrivals(gateway: &Gateway, since: &str) -> BTreeMap<&'static str, Vec<i64>> {
    for stream in Oracle::streams() {
        gateway.commit(stream, &json!({"key": LAST, "version": LAST})).await;
    }
    let mut watcher = Watcher::local(gateway, &format!("since={since}")).await;
    let is_last = |record: &&Value| record["data"]["version"] == LAST;
    watcher
        .until("the last of every stream", |it| {
            Oracle::streams().iter().all(|stream| it.records(stream).last().is_some_and(is_last))
        })
        .await;
    assert_eq!(watcher.of_type("gap").count(), 0, "it read as fast as it could");
    let versions = |stream: &'static str| {
        let records = watcher.records(stream);
        let told = records.iter().map(|record| version(record));
        let versions =
            told.map(|told| if let Told::Version(version) = told { version } else { LAST });
        (stream, versions.collect())
    };
    Oracle::streams().into_iter().map(versions).collect()
}

#[tokio::test]
async fn records_and_gaps_are_exactly_what_was_accepted() {
    let mut gateway = Gateway::with(&FLAGS).await;
    let mut oracle = Oracle::prepare(&gateway).await;
    let begin = Watcher::local(&gateway, "").await.cursor();
    let doors = watch::Sender::new(Some(address_and_bearer(&gateway)));
    let goals = watch::Sender::new(None);
    let mut followers = JoinSet::new();
    for temper in [Temper::Quick, Temper::Sampling, Temper::Slow, Temper::Stuck, Temper::Restless] {
        let follower = Follower {
            temper,
            door: doors.subscribe(),
            goal: goals.subscribe(),
            cursor: begin.clone(),
            told: BTreeMap::new(),
            connections: 0,
        };
        followers.spawn(follower.run());
    }
    for round in 0..ROUNDS {
        let load = oracle.load(&gateway);
        load.acknowledges(2_500).await;
        if round + 1 < ROUNDS {
            doors.send_replace(None);
            gateway.kill9().await;
            load.finish(&mut oracle).await;
            gateway.restart().await;
            doors.send_replace(Some(address_and_bearer(&gateway)));
        } else {
            load.finish(&mut oracle).await;
        }
    }
    gateway.wait_all_committed().await;
    oracle.verify(&gateway).await;
    let mut versions = arrivals(&gateway, &begin).await;
    let goal = versions.iter().map(|(stream, versions)| (*stream, versions.len() as u64)).collect();
    goals.send_replace(Some(goal));
    let followers = soon("every monitor is told of everything", followers.join_all()).await;
    for follower in &followers {
        for (stream, versions) in &versions {
            follower.verify(stream, versions);
        }
        let expected = match follower.temper {
            Temper::Restless => 2 * ROUNDS as u64,
            Temper::Quick | Temper::Sampling => ROUNDS as u64,
            // They may miss a whole life of the gateway.
            Temper::Slow | Temper::Stuck => 2,
        };
        assert!(follower.connections >= expected, "{:?}", follower.temper);
    }
    let missed = |temper: Temper| {
        followers.iter().filter(|it| it.temper == temper).map(Follower::missed).sum::<u64>()
    };
    assert!(missed(Temper::Sampling) > 0, "there were gaps to be counted");
    for (stream, versions) in &mut versions {
        assert_eq!(versions.pop(), Some(LAST));
        oracle.verify_arrivals(stream, versions);
    }
}
