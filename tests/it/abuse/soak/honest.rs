//! Honest people: senders of each manner, monitors, a reader, a user who signs in. They do a little all the time, note
//! how long it takes, and keep a book of what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tidegate_record::clock::Clock;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::book::{Book, Outcome};
use super::phase::{Deed, Notebook};
use crate::support::people::{Outsider, PASSWORD, Token, add_user};
use crate::support::watcher::Watcher;
use crate::support::{Client, Gateway, eventually};

/// The stream of honest people.
pub const STREAM: &str = "honest";
/// The honest person whose token all send with, and whose password others guess.
pub const PERSON: &str = "honest_0";
/// Who signs in, one after another: a password that was right a moment ago costs nothing to check.
const PEOPLE: usize = 20;
/// Time between two records of one sender, two readings, two sign-ins.
const SEND_EVERY: Duration = Duration::from_millis(20);
const READ_EVERY: Duration = Duration::from_millis(100);
const SIGN_IN_EVERY: Duration = Duration::from_secs(1);
const MONITORS: usize = 2;

/// How a sender sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// As most do.
    Plain,
    /// With an `Idempotency-Key`; sent again until there is an answer.
    Keyed,
    /// With `ack=commit`.
    Commit,
    /// Each record on a connection of its own.
    NewConnection,
}

const MANNERS: [Manner; 4] = [Manner::Plain, Manner::Keyed, Manner::Commit, Manner::NewConnection];

/// Everybody, at work.
#[derive(Debug)]
pub struct Honest {
    pub notebook: Arc<Notebook>,
    stop: CancellationToken,
    senders: JoinSet<Book>,
    others: JoinSet<()>,
    _monitors: JoinSet<()>,
    /// Of each monitor, how many records it saw or was told that it missed.
    watched: Vec<Arc<AtomicU64>>,
}

impl Honest {
    pub async fn start(gateway: &Gateway) -> Honest {
        gateway.create_stream(&json!({"name": STREAM})).await;
        for number in 0..PEOPLE {
            add_user(gateway, &person(number), "member").await;
        }
        let token = Token::of(gateway, PERSON, &["ingest", "read", "monitor"], json!({})).await;
        let client = gateway.with_token(&token.text);
        let notebook = Arc::new(Notebook::default());
        let stop = CancellationToken::new();
        let (mut senders, mut others, mut monitors) =
            (JoinSet::new(), JoinSet::new(), JoinSet::new());
        let mut watched = Vec::new();
        for _ in 0..MONITORS {
            let count = Arc::new(AtomicU64::new(0));
            watched.push(Arc::clone(&count));
            let watcher = Watcher::with_token(gateway, &token.text, &query("")).await;
            let (address, notebook) = (gateway.address().to_owned(), Arc::clone(&notebook));
            let authorization = format!("Bearer {}", token.text);
            monitors.spawn(Watching { address, authorization, notebook, count }.run(watcher));
        }
        for (number, manner) in (0..).zip(MANNERS) {
            let (client, notebook) = (client.clone(), Arc::clone(&notebook));
            let book = Book::new(number);
            senders.spawn(Sender { client, manner, notebook, book }.run(stop.clone()));
        }
        others.spawn(read(client, Arc::clone(&notebook), stop.clone()));
        others.spawn(sign_in(Outsider::of(gateway), Arc::clone(&notebook), stop.clone()));
        Honest { notebook, stop, senders, others, _monitors: monitors, watched }
    }

    /// Ends everybody, the monitors when they know of as many records as the table has: what the senders were told.
    pub async fn finish(self, gateway: &Gateway) -> Vec<Book> {
        self.stop.cancel();
        let books = self.senders.join_all().await;
        self.others.join_all().await;
        gateway.wait_all_committed().await;
        gateway.wait_nothing_parked().await;
        let rows = u64::try_from(gateway.rows(STREAM).await).expect("a count");
        for count in &self.watched {
            let known = eventually("the monitors are told of everything", async || {
                let known = count.load(Ordering::Relaxed);
                (known >= rows).then_some(known)
            });
            assert_eq!(
                known.await,
                rows,
                "what a monitor saw, and what it was told that it missed"
            );
        }
        books
    }
}

#[derive(Debug)]
struct Sender {
    client: Client,
    manner: Manner,
    notebook: Arc<Notebook>,
    book: Book,
}

impl Sender {
    async fn run(mut self, stop: CancellationToken) -> Book {
        let mut ticks = every(SEND_EVERY);
        let deed = if self.manner == Manner::Commit { Deed::Commit } else { Deed::Ingest };
        while !stop.is_cancelled() {
            ticks.tick().await;
            let body = json!({
                "sender": self.book.sender,
                "n": self.book.next(),
                "text": self.book.text(),
                "sent_us": now_us(),
            });
            let outcome = loop {
                let began = Instant::now();
                match answer(self.request(&body)).await {
                    Ok((201 | 202, _)) => {
                        self.notebook.took(deed, began.elapsed());
                        break Outcome::Acknowledged;
                    }
                    Ok((_, words)) => {
                        self.notebook.refused(deed, &words);
                        break Outcome::Refused;
                    }
                    Err(words) => {
                        self.notebook.refused(deed, &words);
                        if self.manner != Manner::Keyed {
                            break Outcome::Unknown;
                        }
                    }
                }
            };
            self.book.note(outcome);
        }
        self.book
    }

    fn request(&self, body: &Value) -> RequestBuilder {
        let query = if self.manner == Manner::Commit { "?ack=commit" } else { "" };
        let path = format!("/v1/streams/{STREAM}/records{query}");
        let request = self.client.request(Method::POST, &path).json(body);
        match self.manner {
            Manner::Plain | Manner::Commit => request,
            Manner::Keyed => {
                let key = format!("{}-{}", self.book.sender, self.book.next());
                request.header("idempotency-key", key)
            }
            Manner::NewConnection => request.header("connection", "close"),
        }
    }
}

/// A monitor; one that was let go comes again where it was.
#[derive(Debug)]
struct Watching {
    address: String,
    authorization: String,
    notebook: Arc<Notebook>,
    count: Arc<AtomicU64>,
}

impl Watching {
    async fn run(self, mut watcher: Watcher) {
        loop {
            let cursor = self.watch(&mut watcher).await;
            watcher = loop {
                let socket = TcpSocket::new_v4().expect("a socket");
                let headers = [("authorization", self.authorization.as_str())];
                let query = query(&format!("&since={cursor}"));
                match Watcher::try_come(socket, &self.address, &query, &headers).await {
                    Ok(Ok(watcher)) => break watcher,
                    Ok(Err(refusal)) => self.notebook.refused(Deed::Watch, &refusal.code),
                    Err(error) => self.notebook.refused(Deed::Watch, &error.to_string()),
                }
            };
        }
    }

    /// Watches until the end: where to go on.
    async fn watch(&self, watcher: &mut Watcher) -> String {
        let mut cursor = watcher.cursor();
        loop {
            let end = watcher.read().await;
            for message in watcher.messages.drain(..) {
                if let Some(now_at) = crate::support::watcher::cursor_of(&message) {
                    now_at.clone_into(&mut cursor);
                }
                self.note(&message);
            }
            watcher.texts.clear();
            if let Some(end) = end {
                self.notebook.refused(Deed::Watch, &format!("{end:?}"));
                return cursor;
            }
        }
    }

    fn note(&self, message: &Value) {
        let now_us = now_us();
        for record in message["records"].as_array().into_iter().flatten() {
            let sent_us = record["data"]["sent_us"].as_u64().expect("every record says it");
            let time = Duration::from_micros(now_us.saturating_sub(sent_us));
            self.notebook.took(Deed::Watch, time);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        if message["type"] == "gap" {
            let missed = message["count"].as_u64().expect("what is missed is counted");
            self.count.fetch_add(missed, Ordering::Relaxed);
        }
    }
}

/// Asks for the newest records, over and over.
async fn read(client: Client, notebook: Arc<Notebook>, stop: CancellationToken) {
    let mut ticks = every(READ_EVERY);
    while !stop.is_cancelled() {
        ticks.tick().await;
        let path = format!("/v1/streams/{STREAM}/records?limit=20");
        note(&notebook, Deed::Read, 200, client.request(Method::GET, &path)).await;
    }
}

/// Has people sign in, one after another.
async fn sign_in(outsider: Outsider, notebook: Arc<Notebook>, stop: CancellationToken) {
    let mut ticks = every(SIGN_IN_EVERY);
    for number in (0..PEOPLE).cycle() {
        ticks.tick().await;
        if stop.is_cancelled() {
            return;
        }
        let body = json!({"user": person(number), "password": PASSWORD});
        let request = outsider.request(Method::POST, "/v1/sessions").json(&body);
        note(&notebook, Deed::SignIn, 201, request).await;
    }
}

async fn note(notebook: &Notebook, deed: Deed, status: u16, request: RequestBuilder) {
    let began = Instant::now();
    match answer(request).await {
        Ok((found, _)) if found == status => notebook.took(deed, began.elapsed()),
        Ok((_, words)) | Err(words) => notebook.refused(deed, &words),
    }
}

/// The status of an answer, and in words what it is.
async fn answer(request: RequestBuilder) -> Result<(u16, String), String> {
    let words = |error: reqwest::Error| format!("no answer: {error}");
    let response = request.send().await.map_err(words)?;
    let status = response.status().as_u16();
    let body: Value = response.json().await.map_err(words)?;
    Ok((status, format!("{status} {}", body["code"].as_str().unwrap_or_default())))
}

fn person(number: usize) -> String {
    format!("honest_{number}")
}

fn every(time: Duration) -> Interval {
    let mut ticks = tokio::time::interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn query(more: &str) -> String {
    format!("streams={STREAM}&mode=full{more}")
}

fn now_us() -> u64 {
    u64::try_from(Clock::System.now().0).expect("it is after 1970")
}
