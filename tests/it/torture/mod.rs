//! Torture: rounds of load in which the gateway is killed and everything below it breaks, over and over, with the
//! oracle watching.
//!
//! `make test` runs a bounded share. `make torture SECONDS=1800` runs the same code for as long as it is told, and
//! prints the figures. Everything is drawn from one seed; `TIDEGATE_TEST_SEED` gives it again.

mod alterations;
mod altering;
mod faults;
mod figures;
mod polled;

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use uuid::Uuid;

use self::altering::{Altering, Taken};
use self::faults::Deck;
use self::figures::Figures;
use self::polled::Polled;
use crate::support::{
    ALLOW_LOOPBACK, ChaosProxy, Gateway, Load, Oracle, OwnCluster, Seed, eventually,
};

/// The variable that says how many seconds a run shall last.
const VARIABLE: &str = "TIDEGATE_TORTURE_SECONDS";
/// How long it lasts otherwise, in seconds.
const SECONDS_DEFAULT: u64 = 25;
/// Faults in one round at most; a gateway that was just started tries again at once, one that failed often waits.
const FAULTS_PER_ROUND_MAX: u32 = 3;
/// Records that are acknowledged before each fault, at most.
const RECORDS_BEFORE_MAX: u64 = 300;
/// After so many rounds everything is verified and removed, so that a long run looks at each row once.
const ROUNDS_PER_SEASON: u64 = 4;
/// One round in so many ends with a shutdown, the others with a kill.
const SHUTDOWN_ONE_IN: u32 = 6;
/// What the plan of a run is drawn for, apart from what is sent.
const PLAN_PURPOSE: u64 = 1 << 61;
const DECK_PURPOSE: u64 = PLAN_PURPOSE + 1;

/// Many small batches and segments for a fault to fall into, and timeouts and leases that faults can outlast.
const FLAGS: [&str; 11] = [
    "--writers=3",
    "--batch-rows=200",
    "--batch-interval-ms=15",
    "--journal-segment-bytes=1048576",
    "--statement-timeout-seconds=1",
    "--lock-timeout-ms=250",
    "--commit-wait-ms=400",
    "--shutdown-seconds=2",
    "--polling-lease-seconds=3",
    ALLOW_LOOPBACK[0],
    ALLOW_LOOPBACK[1],
];

/// Everything that takes part.
pub struct Scene {
    // The gateway ends before its line, the line before its server.
    gateway: Gateway,
    journal: Uuid,
    /// Runs jobs, too; no sender sends to it.
    neighbour: Gateway,
    neighbours_journal: Uuid,
    proxy: ChaosProxy,
    cluster: OwnCluster,
    seed: Seed,
    numbers: StdRng,
    /// Tables that are worked at.
    taken: Taken,
}

impl Scene {
    async fn set(seed: Seed) -> Scene {
        let cluster = OwnCluster::start().await;
        let proxy = ChaosProxy::before(cluster.url()).await;
        let url = proxy.url(cluster.url());
        let gateway = Gateway::through(url.clone(), cluster.url(), &FLAGS).await;
        let journal = latest_journal(&gateway, 1).await;
        let neighbour = Gateway::through(url, cluster.url(), &FLAGS).await;
        let neighbours_journal = latest_journal(&gateway, 2).await;
        let numbers = seed.numbers(PLAN_PURPOSE);
        let taken = Taken::default();
        Altering::prepare(&gateway).await;
        Scene {
            gateway,
            journal,
            neighbour,
            neighbours_journal,
            proxy,
            cluster,
            seed,
            numbers,
            taken,
        }
    }

    /// One life of the gateway: load, jobs that run, faults, and an end.
    async fn round(
        &mut self,
        oracle: &mut Oracle,
        polled: &Polled,
        deck: &mut Deck,
        figures: &mut Figures,
    ) {
        let load = oracle.load(&self.gateway);
        let gateways = [&self.gateway, &self.neighbour];
        let wakes = polled.wake(&gateways, self.seed, figures.rounds);
        for _ in 0..self.numbers.random_range(1..=FAULTS_PER_ROUND_MAX) {
            self.let_something_pass(&load, polled).await;
            let fault = deck.draw();
            self.inflict(fault).await;
            *figures.faults.entry(fault).or_default() += 1;
        }
        self.let_something_pass(&load, polled).await;
        if self.numbers.random_ratio(1, SHUTDOWN_ONE_IN) {
            self.gateway.ask_to_end();
            load.finish(oracle).await;
            self.gateway.ended().await;
            figures.shutdowns += 1;
        } else {
            self.gateway.kill9().await;
            load.finish(oracle).await;
            figures.kills += 1;
        }
        wakes.finish().await;
        self.gateway.restart().await;
        figures.rounds += 1;
    }

    /// What comes next comes while records are on their way, and now and then just after a job has asked.
    async fn let_something_pass(&mut self, load: &Load, polled: &Polled) {
        load.acknowledges(self.numbers.random_range(1..RECORDS_BEFORE_MAX)).await;
        if self.numbers.random() {
            polled.is_asked().await;
        }
    }
}

/// The journal that began to be written last, of so many.
async fn latest_journal(gateway: &Gateway, journals: usize) -> Uuid {
    eventually("the journal is known", async || {
        let sql = "select id from tidegate.journals order by created_at";
        let known: Vec<Uuid> = gateway.column(sql).await;
        known.get(journals - 1).copied()
    })
    .await
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_whatever_breaks() {
    let seconds = std::env::var(VARIABLE).map_or(SECONDS_DEFAULT, |text| {
        text.parse().expect("TIDEGATE_TORTURE_SECONDS is a whole number")
    });
    let seed = Seed::draw();
    let began = Instant::now();
    let mut scene = Scene::set(seed).await;
    let mut oracle = Oracle::seeded(&scene.gateway, seed).await;
    let mut polled = Polled::start(&scene.gateway, seed).await;
    let mut deck = Deck::new(seed.numbers(DECK_PURPOSE));
    let mut figures = Figures::new(seed);
    let mut altering = None;
    while began.elapsed() < Duration::from_secs(seconds)
        || !figures.rounds.is_multiple_of(ROUNDS_PER_SEASON)
    {
        altering.get_or_insert_with(|| {
            Altering::start(&scene.gateway, seed, figures.rounds, &scene.taken)
        });
        scene.round(&mut oracle, &polled, &mut deck, &mut figures).await;
        if !figures.rounds.is_multiple_of(ROUNDS_PER_SEASON) {
            continue;
        }
        if let Some(altering) = altering.take() {
            altering.finish(&mut figures.alterations).await;
        }
        polled.settle(&scene.gateway).await;
        for gateway in [&scene.gateway, &scene.neighbour] {
            gateway.wait_all_committed().await;
            gateway.wait_nothing_parked().await;
        }
        let of_polled = polled.verdict(&scene.gateway).await;
        let verdict = oracle.verdict(&scene.gateway).await;
        figures.add(&verdict);
        figures.add(&of_polled);
        (figures.counts, figures.polled) = (oracle.counts(), polled.counts());
        figures.took = began.elapsed();
        assert!(verdict.is_clean() && of_polled.is_clean(), "{verdict}{of_polled}\n{figures}");
        // The jobs begin again when the quarantine is empty.
        oracle.new_season(&scene.gateway).await;
        polled.new_season(&scene.gateway).await;
    }
    eprintln!("{figures}");
    assert!(figures.kills > 0 && figures.all_faults() > 0 && figures.counts.acknowledged > 0);
    assert!(figures.polled.rows > 0 && figures.all_alterations() > 0);
}
