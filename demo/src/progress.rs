//! What is shown while the demo runs: bars on a terminal, one line a second elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::book::Book;

const BARS_INTERVAL: Duration = Duration::from_millis(100);
const LINES_INTERVAL: Duration = Duration::from_secs(1);
const BAR_TEMPLATE: &str = "{prefix:<20} {bar:40} {human_pos:>13} {msg}";

/// The numbers that move.
#[derive(Debug, Clone, Copy, Default)]
struct Snapshot {
    acknowledged: u64,
    committed: u64,
    seen: u64,
    gaps: u64,
    unknown: u64,
    repeats: u64,
}

impl Snapshot {
    fn take(book: &Book) -> Snapshot {
        let mut snapshot = Snapshot::default();
        {
            let ledger = book.ledger();
            snapshot.acknowledged = ledger.acknowledged_count();
            snapshot.unknown = ledger.streams.sum(|stream| stream.unknown);
            snapshot.repeats = ledger.repeats;
        }
        let sightings = book.sightings();
        snapshot.committed = sightings.streams.sum(|stream| stream.committed.total());
        snapshot.seen = sightings.streams.sum(|stream| stream.seen.count());
        snapshot.gaps = sightings.streams.sum(|stream| stream.gap_records);
        snapshot
    }
}

/// Shows the progress until `done`. `planned` is how many records will be sent, where that is known.
pub async fn show(book: Arc<Book>, planned: Option<u64>, done: CancellationToken) {
    let started = Instant::now();
    let display = Display::new(planned);
    let mut ticks = interval(display.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, when there is nothing to tell.
    ticks.tick().await;
    while done.run_until_cancelled(ticks.tick()).await.is_some() {
        display.update(Snapshot::take(&book), planned, started.elapsed());
    }
    display.finish(Snapshot::take(&book), planned, started.elapsed());
}

enum Display {
    Bars { acknowledged: ProgressBar, committed: ProgressBar, seen: ProgressBar },
    Lines,
}

impl Display {
    fn new(planned: Option<u64>) -> Display {
        if !std::io::stderr().is_terminal() {
            return Display::Lines;
        }
        let Ok(style) = ProgressStyle::with_template(BAR_TEMPLATE) else {
            return Display::Lines;
        };
        let bars = MultiProgress::new();
        let bar = |name| {
            let bar = ProgressBar::new(planned.unwrap_or(0)).with_style(style.clone());
            bars.add(bar.with_prefix(name))
        };
        Display::Bars {
            acknowledged: bar("acknowledged"),
            committed: bar("committed"),
            seen: bar("seen on the monitor"),
        }
    }

    fn interval(&self) -> Duration {
        match self {
            Display::Bars { .. } => BARS_INTERVAL,
            Display::Lines => LINES_INTERVAL,
        }
    }

    fn update(&self, now: Snapshot, planned: Option<u64>, elapsed: Duration) {
        match self {
            Display::Bars { acknowledged, committed, seen } => {
                let length = planned.unwrap_or(0).max(now.acknowledged);
                let pairs = [
                    (acknowledged, now.acknowledged),
                    (committed, now.committed),
                    (seen, now.seen),
                ];
                for (bar, position) in pairs {
                    bar.set_length(length);
                    bar.set_position(position);
                }
                acknowledged.set_message(troubles(now));
                seen.set_message(gaps(now));
            }
            Display::Lines => eprintln!(
                "{:>4} s  acknowledged {:>11}  committed {:>11}  seen on the monitor {:>11}  {}{}",
                elapsed.as_secs(),
                HumanCount(now.acknowledged).to_string(),
                HumanCount(now.committed).to_string(),
                HumanCount(now.seen).to_string(),
                gaps(now),
                troubles(now),
            ),
        }
    }

    /// Leaves the last state on the screen.
    fn finish(&self, last: Snapshot, planned: Option<u64>, elapsed: Duration) {
        self.update(last, planned, elapsed);
        if let Display::Bars { acknowledged, committed, seen } = self {
            for bar in [acknowledged, committed, seen] {
                bar.abandon();
            }
        }
    }
}

fn gaps(now: Snapshot) -> String {
    if now.gaps == 0 { String::new() } else { format!("gaps {}  ", HumanCount(now.gaps)) }
}

fn troubles(now: Snapshot) -> String {
    let mut troubles = Vec::new();
    if now.repeats > 0 {
        troubles.push(format!("refused and sent again {}", HumanCount(now.repeats)));
    }
    if now.unknown > 0 {
        troubles.push(format!("unknown {}", HumanCount(now.unknown)));
    }
    troubles.join("  ")
}
