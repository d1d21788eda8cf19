//! A soak: honest people go about their business while attackers of each kind are at work, first each kind alone, then all
//! of them together.
//!
//! `make test` runs it for a short while and asserts what is promised, never times: nothing of honest people is lost, doubled
//! or wrong, none of them is refused, and the memory that attackers took comes back. `make soak SECONDS=900` runs the same for
//! as long as it is told, and prints how much slower honest people were.
//!
//! Before attacks were bounded, in a build for tests on two busy cores, all of them together made the p99 of an
//! acknowledgement 2,700 ms instead of 12, of a commit 4,500 instead of 18, of a sign-in 2,600 instead of 9. While 40 sockets
//! asked for `/metrics` and read nothing, no record was acknowledged for a second. Of 111 MiB of memory 424 became, and
//! 318 stayed.
//!
//! Since then, of an optimised build on two cores that everything shares, in a quarter of an hour: beside each kind of attacker
//! alone, the p99 of an acknowledgement is 0.5 to 3.0 times that of the quiet phase (5 ms), and of a commit 0.5 to 3.2 times (9
//! ms). All ten kinds together make it 48 and 93 ms, nine to ten times. The cores are what is short then: ten processes wait for
//! two, most of them PostgreSQL's; six endless loops that touch nothing make 2.8 and 4.7 times by themselves. Memory goes from
//! 48 MiB to 153 and back to 59.

mod book;
mod figures;
mod honest;
mod phase;

use std::time::{Duration, Instant};

use serde_json::json;

use self::book::{Book, Outcome, Verdict};
use self::figures::{Figures, Phase};
use self::honest::{Honest, PERSON, STREAM};
use super::attackers::{Attack, Attackers, Target};
use crate::support::{Gateway, eventually};

/// The variable that says how many seconds a run shall last.
const VARIABLE: &str = "TIDEGATE_SOAK_SECONDS";
/// How long it lasts otherwise, in seconds.
const SECONDS_DEFAULT: f64 = 20.0;
/// What a short run gives a machine that is busy with other tests: waits that end in a refusal are longer.
const LONG_WAITS: [&str; 2] = ["--intake-wait-ms=20000", "--commit-wait-ms=60000"];
/// Shares of the time.
const QUIET: f64 = 0.2;
const ALONE: f64 = 0.04;
const TOGETHER: f64 = 0.25;
const AFTERWARDS: f64 = 0.15;
/// Time between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How much more memory there may be afterwards than before, in bytes: what caches, tables and pools keep.
const MEMORY_KEPT_BYTES_MAX: u64 = 64 << 20;
/// Longest wait for memory to come back.
const MEMORY_WAIT_MAX: Duration = Duration::from_secs(30);

struct Soak {
    gateway: Gateway,
    honest: Honest,
    target: Target,
    seconds: f64,
    phases: Vec<Phase>,
}

impl Soak {
    async fn prepare(seconds: f64, flags: &[&str]) -> Soak {
        let gateway = Gateway::with(flags).await;
        let honest = Honest::start(&gateway).await;
        let target = Target::prepare(&gateway, PERSON).await;
        gateway.wait_all_committed().await;
        // What came before the first phase is not of it.
        honest.notebook.turn();
        Soak { gateway, honest, target, seconds, phases: Vec::new() }
    }

    /// A share of the time in which these attack.
    async fn phase(&mut self, name: &'static str, share: f64, attacks: &[Attack]) {
        let ends = tokio::time::Instant::now() + Duration::from_secs_f64(self.seconds * share);
        let attackers = Attackers::start(&self.target, attacks);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut memory_bytes = None;
        while tokio::time::Instant::now() < ends {
            looks.tick().await;
            memory_bytes = memory_bytes.max(self.gateway.memory_bytes());
        }
        attackers.end().await;
        self.phases.push(Phase { name, noticed: self.honest.notebook.turn(), memory_bytes });
    }

    /// Waits until the memory is back, if it comes back: how much there is then.
    async fn memory_afterwards(&self, start: Option<u64>) -> Option<u64> {
        let deadline = Instant::now() + MEMORY_WAIT_MAX;
        eventually("the memory is looked at", async || {
            let now = self.gateway.memory_bytes();
            let is_back = now <= start.map(|start| start + MEMORY_KEPT_BYTES_MAX);
            (is_back || Instant::now() > deadline).then_some(now)
        })
        .await
    }
}

#[tokio::test]
async fn the_books_see_what_is_lost_doubled_wrong_or_invented() {
    let gateway = Gateway::start().await;
    gateway.create_stream(&json!({"name": STREAM})).await;
    let mut book = Book::new(7);
    for outcome in
        [Outcome::Acknowledged, Outcome::Acknowledged, Outcome::Acknowledged, Outcome::Refused]
    {
        let record = json!({"sender": 7, "n": book.next(), "text": book.text()});
        gateway.commit(STREAM, &record).await;
        book.note(outcome);
    }
    let books = [book];
    let found = async || Verdict::of(&books, &gateway).await.counts();
    assert_eq!(found().await, [0, 0, 0, 1], "what was refused is there");
    for (change, counts) in [
        ("delete from streams.honest where payload->>'n' = '3'", [0, 0, 0, 0]),
        (
            "update streams.honest set payload = jsonb_set(payload, '{text}', '\"x\"') where payload->>'n' = '1'",
            [0, 0, 1, 0],
        ),
        (
            "insert into streams.honest select gen_random_uuid(), received_at, payload from streams.honest where payload->>'n' = '0'",
            [0, 1, 1, 0],
        ),
        ("delete from streams.honest where payload->>'n' = '2'", [1, 1, 1, 0]),
    ] {
        gateway.execute(change).await;
        assert_eq!(found().await, counts, "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_people_get_what_is_promised_while_attackers_of_every_kind_are_at_work() {
    let told = std::env::var(VARIABLE).ok();
    let seconds = told
        .as_ref()
        .map_or(SECONDS_DEFAULT, |text| text.parse().expect("TIDEGATE_SOAK_SECONDS is a number"));
    let flags: &[&str] = if told.is_some() { &[] } else { &LONG_WAITS };
    let began = Instant::now();
    let mut soak = Soak::prepare(seconds, flags).await;
    soak.phase("quiet", QUIET, &[]).await;
    let memory_start_bytes = soak.gateway.memory_bytes();
    for attack in Attack::ALL {
        soak.phase(attack.name(), ALONE, &[attack]).await;
    }
    soak.phase("all together", TOGETHER, &Attack::ALL).await;
    soak.phase("afterwards", AFTERWARDS, &[]).await;
    let memory_end_bytes = soak.memory_afterwards(memory_start_bytes).await;
    let books = soak.honest.finish(&soak.gateway).await;
    let verdict = Verdict::of(&books, &soak.gateway).await;
    let attempts = soak.target.attempts();
    let figures = Figures {
        took: began.elapsed(),
        attempts,
        phases: soak.phases,
        memory_start_bytes,
        memory_end_bytes,
    };
    eprintln!("{figures}{verdict}");
    assert!(verdict.is_clean(), "{verdict}");
    assert!(books.iter().all(|book| book.acknowledged() > 0), "every sender was heard");
    assert!(attempts > Attack::ALL.len() as u64, "attackers were at work");
    assert_eq!(figures.refused(), Vec::<String>::new(), "honest people are refused nothing");
    if let (Some(start), Some(end)) = (memory_start_bytes, memory_end_bytes) {
        assert!(end <= start + MEMORY_KEPT_BYTES_MAX, "{start} bytes became {end}");
    }
}
