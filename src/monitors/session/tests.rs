//! The promises of watching, from the journal to the session, with a real journal and paused time.
//!
//! [`Told`] holds the main one in every test: it panics unless the records and gaps of each stream are exactly what
//! comes next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_record::{Position, UnixMicros};

use crate::hub::testing::{Bench, STREAMS, Told, name};
use crate::hub::{
    Content, Cursor, Ended, HubLimits, Message, Mode, Place, Selection, SubscribeError,
};
use crate::monitors::{MonitorRequest, Session};

fn open(bench: &Bench, since: Option<Cursor>) -> Session {
    open_with(bench, Selection::All, Mode::Full, since)
}

fn open_with(bench: &Bench, selection: Selection, mode: Mode, since: Option<Cursor>) -> Session {
    let request = MonitorRequest { mode, since, ..MonitorRequest::default() };
    Session::open(&bench.hub, None, selection, &request).unwrap()
}

/// The next message that is not statistics. Time is paused, so that a message which never comes is missed at once.
async fn next(session: &mut Session) -> Message {
    let not_stats = async {
        loop {
            let message = session.next().await.unwrap();
            if message.content != Content::Notice || message.cursor.is_some() {
                return message;
            }
        }
    };
    let wait_max = Duration::from_mins(1);
    tokio::time::timeout(wait_max, not_stats).await.expect("there is more to tell")
}

async fn next_value(session: &mut Session) -> Value {
    serde_json::from_str(next(session).await.text.as_str()).unwrap()
}

/// Listens until everything that was accepted was told.
async fn hear_all(bench: &Bench, session: &mut Session, told: &mut Told) {
    while !told.is_complete(bench) {
        told.hear(&next(session).await);
    }
}

fn run<F: Future<Output = ()>>(test: F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap().block_on(test);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_shown_as_it_was_sent() {
    let mut bench = Bench::start(HubLimits::default());
    let mut session = open(&bench, None);
    let hello = next_value(&mut session).await;
    let start = bench.cursor(bench.journal.synced()).to_string();
    let expected = json!({"type": "hello", "cursor": start, "streams": STREAMS, "mode": "full", "node": "node-1"});
    assert_eq!(hello, expected);

    bench.append(&[(2, 2)]);
    let message = next(&mut session).await;
    let cursor = bench.cursor(bench.journal.synced());
    let record = |number: u64| {
        let id = format!("00000000-0000-0000-0000-0000000000{:02x}", 0);
        let id = format!("{}{:02x}02", &id[..32], number);
        let user = r#"ada \"the\" 1st"#;
        format!(
            r#"{{"id":"{id}","received_at":"2000-01-01T00:00:00.000000Z","source":"http","user":"{user}","data":{{"n": {number}}}}}"#
        )
    };
    let records = [record(0), record(1)].join(",");
    assert_eq!(
        message.text.as_str(),
        format!(
            r#"{{"type":"records","stream":"quakes","cursor":"{cursor}","records":[{records}]}}"#
        )
    );
    assert_eq!(message.cursor, Some(cursor));
}

#[tokio::test(start_paused = true)]
async fn the_first_record_comes_at_once_and_the_next_ones_together() {
    let mut bench = Bench::start(HubLimits::default());
    let mut session = open(&bench, None);
    next(&mut session).await;
    // Out of step with the statistics.
    tokio::time::advance(Duration::from_millis(300)).await;
    let begin = tokio::time::Instant::now();
    bench.append(&[(1, 1)]);
    assert_eq!(next(&mut session).await.content, Content::Records(1));
    assert!(begin.elapsed() < Duration::from_millis(5), "{:?}", begin.elapsed());
    for _ in 0..5 {
        bench.append(&[(1, 1)]);
    }
    assert_eq!(next(&mut session).await.content, Content::Records(5));
    let waited = begin.elapsed();
    assert!((5..10).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn quarantined_and_broken_entries_do_no_harm() {
    let mut bench = Bench::start(HubLimits::default());
    let mut session = open(&bench, None);
    let mut told = Told::default();
    next(&mut session).await;
    bench.append(&[(1, 3), (2, 1)]);
    bench.append_quarantined(1);
    bench.append_broken(1, 7);
    bench.append(&[(1, 2), (99, 4), (3, 1)]);
    hear_all(&bench, &mut session, &mut told).await;
    assert_eq!((told.shown, told.omitted), (7, 7));
    // The same from the past.
    let mut told = Told::default();
    let mut session = open(&bench, Some(bench.cursor(Position(0))));
    hear_all(&bench, &mut session, &mut told).await;
    assert_eq!((told.shown, told.omitted), (7, 7));
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_far_behind_counts_and_goes_on_at_the_end() {
    let limits = HubLimits { lag_bytes_max: 20_000, ..HubLimits::default() };
    for mode in [Mode::Full, Mode::Sample] {
        let mut bench = Bench::start(limits);
        let mut session = open_with(&bench, Selection::All, mode, None);
        let mut told = Told::default();
        told.hear(&next(&mut session).await);
        bench.append_padded(&[(1, 10), (3, 20), (1, 5)], 1000);
        hear_all(&bench, &mut session, &mut told).await;
        assert_eq!((told.shown, told.omitted), (0, 35));
        bench.append(&[(1, 1), (2, 1), (3, 1)]);
        hear_all(&bench, &mut session, &mut told).await;
        assert_eq!((told.shown, told.omitted), (3, 35));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_retained_is_a_gap_without_a_count() {
    let mut bench = Bench::start(HubLimits::default());
    for _ in 0..20 {
        bench.append_padded(&[(1, 10), (2, 2)], 1000);
    }
    let old = bench.cursor(Position(0));
    let first = bench.journal.trim(bench.journal.synced(), UnixMicros(i64::MAX)).unwrap();
    assert!(first > Position(0), "something was trimmed");
    for mode in [Mode::Full, Mode::Sample] {
        let mut session = open_with(&bench, Selection::only([name("quakes")]), mode, Some(old));
        assert_eq!(next(&mut session).await.cursor, Some(old));
        let gap = next_value(&mut session).await;
        let to = bench.cursor(first).to_string();
        assert_eq!((&gap["stream"], &gap["count"]), (&json!("quakes"), &Value::Null));
        assert_eq!(gap["from"], old.to_string());
        let known = gap["to"].as_str().unwrap().parse::<Cursor>().unwrap().place.start();
        assert!(known.position >= first, "{gap} {to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_of_another_journal_or_of_the_future_is_a_gap_and_then_live() {
    let mut bench = Bench::start(HubLimits::default());
    bench.append(&[(1, 3)]);
    let here = bench.cursor(bench.journal.synced()).to_string();
    let other: Cursor = format!("{:08x}.0", 0x0bad_cafe).parse().unwrap();
    let future = bench.cursor(Position(bench.journal.synced().0 + 8));
    for since in [other, future] {
        let mut session = open(&bench, Some(since));
        next(&mut session).await;
        for (index, stream) in STREAMS.iter().enumerate() {
            let gap = next_value(&mut session).await;
            // Only the last one moves the cursor.
            let to = if index == 2 { here.clone() } else { since.to_string() };
            let expected = json!({"type": "gap", "stream": stream, "from": since.to_string(), "to": to, "count": null});
            assert_eq!(gap, expected);
        }
    }
    let mut session = open(&bench, Some(future));
    for _ in 0..4 {
        next(&mut session).await;
    }
    let mut told = Told::starting_at(&[("flights", 3)]);
    bench.append(&[(1, 2)]);
    hear_all(&bench, &mut session, &mut told).await;
    assert_eq!(told.shown, 2);
}

#[tokio::test(start_paused = true)]
async fn stats_are_exact_and_tell_only_of_selected_streams() {
    let bench = Bench::start(HubLimits::default());
    for (id, rows) in [(1, 10), (2, 20)] {
        let counters = bench.counters.of(tidegate_record::StreamId(id));
        counters.add_accepted(tidegate_record::Source::Http, rows, rows * 100);
        counters.add_committed(rows - 1, 1);
    }
    let total = |rows: u64| json!({"accepted": rows, "committed": rows - 1, "duplicates": 1, "quarantined": 0, "not_kept": 0, "refused": 0, "bytes": rows * 100});
    let mut all = open(&bench, None);
    let mut some = open_with(&bench, Selection::only([name("quakes")]), Mode::Full, None);
    let stats = |message: Message| serde_json::from_str::<Value>(message.text.as_str()).unwrap();
    for session in [&mut all, &mut some] {
        next(session).await;
    }
    // Those from the time before both were there are passed over.
    let (mut to_all, mut to_some) = (Value::Null, Value::Null);
    while to_all["node"]["monitors"] != 2 || to_some["node"]["monitors"] != 2 {
        to_all = stats(all.next().await.unwrap());
        to_some = stats(some.next().await.unwrap());
    }
    let node = json!({"backlog_bytes": 77, "commit_lag_seconds": 0.5, "monitors": 2, "started_at": "2027-01-15T08:00:00.000000Z"});
    let expected = |streams: Value| json!({"type": "stats", "at": "2027-01-15T08:00:00.000000Z", "streams": streams, "node": node});
    assert_eq!(to_all, expected(json!({"flights": total(10), "quakes": total(20)})));
    assert_eq!(to_some, expected(json!({"quakes": total(20)})));
}

#[tokio::test(start_paused = true)]
async fn history_comes_after_hello_where_it_is_asked_for() {
    let bench = Bench::start(HubLimits::default());
    bench.counters.of(tidegate_record::StreamId(2)).add_accepted(
        tidegate_record::Source::Http,
        30,
        1,
    );
    tokio::time::sleep(Duration::from_secs(6)).await;
    let request = MonitorRequest { history: true, ..MonitorRequest::default() };
    let mut session = Session::open(&bench.hub, None, Selection::All, &request).unwrap();
    assert!(next(&mut session).await.text.contains("hello"));
    let mut history = Value::Null;
    while history["type"] != "history" {
        let message = session.next().await.unwrap();
        history = serde_json::from_str(message.text.as_str()).unwrap();
    }
    assert_eq!(history["streams"], json!({"quakes": {"accepted": [30], "committed": [0]}}));
}

#[tokio::test(start_paused = true)]
async fn monitors_are_counted_and_limited() {
    let bench = Bench::start(HubLimits { monitors_max: 2, ..HubLimits::default() });
    let one = open(&bench, None);
    let _two = open(&bench, None);
    let third = Session::open(&bench.hub, None, Selection::All, &MonitorRequest::default());
    assert_eq!(third.err(), Some(SubscribeError::TooMany { monitors_max: 2 }));
    assert_eq!(bench.hub.monitors(), 2);
    drop(one);
    assert_eq!(bench.hub.monitors(), 1);
    open(&bench, None);
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_takes_nothing_is_ended_and_its_queue_freed() {
    let limits = HubLimits { stuck_after: Duration::from_secs(5), ..HubLimits::default() };
    let mut bench = Bench::start(limits);
    let mut stuck = open(&bench, None);
    let mut well = open(&bench, None);
    next(&mut stuck).await;
    bench.append(&[(1, 1)]);
    // Statistics come every second, and with them the look at who is stuck.
    let mut seconds = 0;
    while seconds < 8 {
        seconds += u32::from(well.next().await.unwrap().text.contains("stats"));
    }
    assert_eq!(stuck.next().await.err(), Some(Ended::Stuck));
}

#[tokio::test(start_paused = true)]
async fn all_sessions_end_with_the_hub() {
    let bench = Bench::start(HubLimits::default());
    let mut live = open(&bench, None);
    next(&mut live).await;
    let mut fresh = open(&bench, None);
    bench.shutdown.cancel();
    assert_eq!(live.next().await.err(), Some(Ended::Shutdown));
    assert_eq!(fresh.next().await.err(), Some(Ended::Shutdown));
    let late = Session::open(&bench.hub, None, Selection::All, &MonitorRequest::default());
    assert_eq!(late.err(), Some(SubscribeError::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_made_once_for_all_monitors() {
    let mut bench = Bench::start(HubLimits::default());
    let mut sessions: Vec<_> = (0..3).map(|_| open(&bench, None)).collect();
    for session in &mut sessions {
        next(session).await;
    }
    bench.append(&[(1, 3)]);
    let mut places = Vec::new();
    for session in &mut sessions {
        places.push(next(session).await.text.as_str().as_ptr());
    }
    assert!(places.iter().all(|place| *place == places[0]));
    let metrics = bench.hub.metrics();
    assert_eq!((metrics.frames(), metrics.deliveries(), metrics.gaps()), (3, 9, 0));
}

#[tokio::test(start_paused = true)]
async fn a_sample_shows_at_most_its_rate_and_counts_the_rest() {
    let mut bench = Bench::start(HubLimits { sample_rate: 8, ..HubLimits::default() });
    let mut session = open_with(&bench, Selection::All, Mode::Sample, None);
    let mut told = Told::default();
    told.hear(&next(&mut session).await);
    let start = bench.clock.now();
    for second in 0..3 {
        let before = told.shown;
        for step in 0..50 {
            bench.clock.set(UnixMicros(start.0 + second * 1_000_000 + step * 20_000));
            bench.append(&[(1, 20), (2, u32::from(step % 25 == 0))]);
            tokio::time::advance(Duration::from_millis(20)).await;
            while let Ok(message) =
                tokio::time::timeout(Duration::from_micros(1), next(&mut session)).await
            {
                told.hear(&message);
            }
        }
        let shown = told.shown - before;
        assert!((6..=8 + 2).contains(&shown), "{shown} records in a second");
    }
    hear_all(&bench, &mut session, &mut told).await;
    assert!(told.omitted >= 3 * (1000 - 8));
    // One of records and one gap a stream and quarter of a second.
    let metrics = bench.hub.metrics();
    assert!(metrics.gaps() <= 14, "{} gaps", metrics.gaps());
}

/// Sizes of entries, as stream and rows; each inner list is one group.
fn any_groups() -> impl Strategy<Value = Vec<Vec<(i32, u32)>>> {
    prop::collection::vec(prop::collection::vec((1..=3_i32, 1..30_u32), 1..5), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A monitor that is cut off after any message, again and again, and resumes with its last cursor, is told of
    /// everything exactly once, while more is appended. What it watches may change from full to sample and back.
    #[test]
    fn a_cut_monitor_resumes_exactly(
        past in any_groups(),
        live in any_groups(),
        cuts in prop::collection::vec((0..6_usize, prop::bool::weighted(0.2)), 1..40),
        padding in prop_oneof![4 => 0..200_usize, 1 => 0..8000_usize],
    ) {
        run(async move {
            let mut bench = Bench::start(HubLimits::default());
            let mut told = Told::default();
            told.cursor = Some(bench.cursor(Position(0)).to_string());
            for group in &past {
                bench.append_padded(group, padding);
            }
            let mut live = live.iter();
            for (messages, sample) in cuts {
                let since = told.cursor.as_ref().unwrap().parse().unwrap();
                let mode = if sample { Mode::Sample } else { Mode::Full };
                let mut session = open_with(&bench, Selection::All, mode, Some(since));
                for _ in 0..=messages {
                    if let Some(group) = live.next() {
                        bench.append_padded(group, padding);
                    }
                    if told.is_complete(&bench) {
                        break;
                    }
                    told.hear(&next(&mut session).await);
                }
            }
            for group in live {
                bench.append_padded(group, padding);
            }
            let since = told.cursor.as_ref().unwrap().parse().unwrap();
            hear_all(&bench, &mut open(&bench, Some(since)), &mut told).await;
            assert_eq!(told.unknown_gaps, 0);
        });
    }

    /// However slowly monitors take their messages, and however small their queues are, each is told of everything.
    #[test]
    fn slow_monitors_are_told_exactly_what_they_missed(
        groups in any_groups(),
        queue_bytes_max in 500..20_000_usize,
        pace in prop::collection::vec(0..3_usize, 1..12),
        mode in prop_oneof![Just(Mode::Full), Just(Mode::Sample)],
        padding in 0..200_usize,
        frames_bytes_max in prop_oneof![1_000..50_000_usize, Just(1 << 20)],
    ) {
        run(async move {
            let limits = HubLimits { queue_bytes_max, frames_bytes_max, ..HubLimits::default() };
            let mut bench = Bench::start(limits);
            let mut session = open_with(&bench, Selection::All, mode, None);
            let mut told = Told::default();
            told.hear(&next(&mut session).await);
            for (group, messages) in groups.iter().zip(pace.iter().cycle()) {
                bench.append_padded(group, padding);
                for _ in 0..*messages {
                    if !told.is_complete(&bench) {
                        told.hear(&next(&mut session).await);
                    }
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            hear_all(&bench, &mut session, &mut told).await;
        });
    }

    /// A monitor that catches up while records keep coming meets the live feed without a seam: an entry is appended
    /// for each message that it takes, until some time after it is live.
    #[test]
    fn the_seam_between_past_and_live_is_exact(
        past in any_groups(),
        live in any_groups(),
        chosen in prop::bool::ANY,
        padding in prop_oneof![2 => 0..200_usize, 1 => 0..8000_usize],
    ) {
        run(async move {
            let mut bench = Bench::start(HubLimits { queue_bytes_max: 64 << 20, ..HubLimits::default() });
            for group in &past {
                bench.append_padded(group, padding);
            }
            let selection = if chosen { Selection::only([name("quakes")]) } else { Selection::All };
            let since = Some(bench.cursor(Position(0)));
            let mut session = open_with(&bench, selection, Mode::Full, since);
            let mut told = Told::default();
            let complete = |told: &Told, bench: &Bench| {
                if chosen { told.of("quakes") == bench.accepted(2) } else { told.is_complete(bench) }
            };
            told.hear(&next(&mut session).await);
            for group in &live {
                bench.append_padded(group, padding);
                if !complete(&told, &bench) {
                    told.hear(&next(&mut session).await);
                }
            }
            while !complete(&told, &bench) {
                told.hear(&next(&mut session).await);
            }
            assert_eq!(told.omitted + told.unknown_gaps, 0, "history never overflows a queue");
        });
    }
}

/// Monitors that take nothing hold a bounded part of memory together, and neither one that keeps up nor exactness suffers.
#[tokio::test(start_paused = true)]
async fn monitors_that_take_nothing_hold_no_more_than_the_budget() {
    let frames_bytes_max = 200_000;
    let mut bench = Bench::start(HubLimits { frames_bytes_max, ..HubLimits::default() });
    let mut keeps_up = open(&bench, None);
    let mut told = Told::default();
    told.hear(&next(&mut keeps_up).await);
    let mut stuck: Vec<(Session, Told)> = Vec::new();
    for round in 0..40 {
        // Each has waiting what came since it was there.
        if round < 10 {
            let mut session = open(&bench, None);
            let mut told = told.clone();
            let greeting = next(&mut session).await;
            told.hear(&greeting);
            stuck.push((session, told));
        }
        bench.append_padded(&[(1, 10)], 1_000);
        while !told.is_complete(&bench) {
            told.hear(&next(&mut keeps_up).await);
        }
        let bytes = bench.hub.frames_bytes();
        assert!(bytes <= frames_bytes_max + 20_000, "round {round}: {bytes}");
    }
    assert_eq!(told.omitted, 0, "one that keeps up gets all of it");
    assert!(bench.hub.frames_bytes() >= frames_bytes_max / 2, "the others hold what they may");

    // Who catches up now gets a gap, and goes on from there.
    let since = Some(bench.cursor(Position(0)));
    let (mut late, mut late_told) = (open(&bench, since), Told::default());
    hear_all(&bench, &mut late, &mut late_told).await;
    assert_eq!(late_told.shown, 0);
    for (session, told) in &mut stuck {
        hear_all(&bench, session, told).await;
        assert!(told.shown > 0 && told.omitted > 0, "records, and then gaps");
    }
    drop((stuck, late, keeps_up));
    assert_eq!(bench.hub.frames_bytes(), 0);
}

/// An entry larger than a tick is given in parts, each with a cursor that resumes exactly.
#[tokio::test(start_paused = true)]
async fn a_large_entry_is_split_and_resumes_in_its_middle() {
    // The queue takes all that is made while others resume.
    let mut bench = Bench::start(HubLimits { queue_bytes_max: 16 << 20, ..HubLimits::default() });
    let mut live = open(&bench, None);
    next(&mut live).await;
    bench.append_padded(&[(1, 400), (2, 1)], 5_000);
    let mut told = Told::default();
    let mut parts = 0;
    while !told.is_complete(&bench) {
        let message = next(&mut live).await;
        assert!(message.text.len() < 300 * 1024, "{} bytes", message.text.len());
        told.hear(&message);
        parts += 1;

        let since = message.cursor.unwrap();
        if let Place::At(point) = since.place {
            assert!(point.row < 400);
        }
        let mut rest = told.clone();
        hear_all(&bench, &mut open(&bench, Some(since)), &mut rest).await;
    }
    assert!(parts > 5, "{parts}");
    assert_eq!(told.omitted, 0);
}

/// Dropping a call to `next` at any point loses nothing: transports select between it and other events.
#[tokio::test(start_paused = true)]
async fn next_is_cancel_safe() {
    let mut bench = Bench::start(HubLimits::default());
    for _ in 0..30 {
        bench.append_padded(&[(1, 10), (2, 10), (3, 1)], 3000);
    }
    let since = Some(bench.cursor(Position(0)));
    let mut session = open(&bench, since);
    let mut told = Told::default();
    let mut polls = 0;
    while !told.is_complete(&bench) {
        let once = futures::poll!(std::pin::pin!(session.next()));
        polls += 1;
        match once {
            std::task::Poll::Ready(message) => told.hear(&message.unwrap()),
            // Time stands still while a task is busy.
            std::task::Poll::Pending => tokio::time::advance(Duration::from_millis(1)).await,
        }
        if polls % 50 == 0 && polls < 2000 {
            bench.append(&[(2, 1)]);
        }
    }
}

/// The hub does not read in vain: without monitors it only moves on, and a stream without one is not decoded.
#[tokio::test(start_paused = true)]
async fn what_is_not_watched_is_not_decoded() {
    let mut bench = Bench::start(HubLimits::default());
    bench.append_broken(1, 5);
    let mut session = open_with(&bench, Selection::only([name("quakes")]), Mode::Full, None);
    let mut told = Told::default();
    told.hear(&next(&mut session).await);
    bench.append_broken(1, 5);
    bench.append(&[(2, 2)]);
    told.hear(&next(&mut session).await);
    assert_eq!((told.of("quakes"), told.of("flights")), (2, 0));
    assert_eq!(bench.hub.metrics().gaps(), 0);
}

/// Many monitors come and go while records arrive; each is told exactly of what came after its own hello.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn monitors_that_come_and_go_are_each_told_exactly() {
    let bench = Arc::new(tokio::sync::Mutex::new(Bench::start(HubLimits::default())));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let lifecycle = crate::lifecycle::Lifecycle::new();
    let appending = lifecycle.spawn("append", {
        let (bench, stop) = (Arc::clone(&bench), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::SeqCst) {
                bench.lock().await.append(&[(1, 3), (2, 1)]);
                tokio::task::yield_now().await;
            }
        }
    });
    let hub = bench.lock().await.hub.clone();
    let mut visits = Vec::new();
    for _ in 0..8 {
        let hub = hub.clone();
        visits.push(lifecycle.spawn("visit", async move {
            for round in 0..10 {
                let mut session =
                    Session::open(&hub, None, Selection::All, &MonitorRequest::default()).unwrap();
                let mut told = Told::default();
                for _ in 0..round {
                    let message = next(&mut session).await;
                    let value: Value = serde_json::from_str(message.text.as_str()).unwrap();
                    // The first record tells where this monitor begins; from there on nothing may be missing.
                    if let (Some(stream), Some(first)) =
                        (value["stream"].as_str(), value["records"][0]["data"]["n"].as_u64())
                        && told.of(stream) == 0
                    {
                        let other = if stream == "flights" { "quakes" } else { "flights" };
                        told = Told::starting_at(&[(stream, first), (other, told.of(other))]);
                    }
                    told.hear(&message);
                }
            }
        }));
    }
    for visit in visits {
        visit.await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    appending.await.unwrap();
}
