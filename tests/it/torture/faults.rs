//! What happens to PostgreSQL, to the line to it, and to gateways that share it, while records are on their way.
//!
//! A new fault is a variant of [`Fault`], a name, and an arm of [`Scene::inflict`]. A fault is over when its call
//! returns: what it took away is back.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use sqlx::{AssertSqlSafe, Executor};
use tokio::time::{sleep, timeout};

use super::Scene;
use super::polled::Polled;
use crate::support::{Cut, Oracle, eventually, soon};

/// Longest time for which something is stalled, frozen or locked: some are longer than the gateway waits for a
/// statement (see `FLAGS` in [`super`]), some are shorter.
const HELD_MS_MAX: u64 = 1_500;
/// Longest time for which a gateway is frozen until another has taken its jobs over; more than a lease.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(5);
/// Longest delay of each message.
const DELAY_MS_MAX: u64 = 40;

/// One way to trouble the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `pg_terminate_backend` on the gateway's connections.
    TerminateBackends,
    /// `pg_cancel_backend` on what they are at.
    CancelStatements,
    /// Every process of the server dies at once.
    KillServer,
    /// `pg_ctl restart -m fast`.
    RestartFast,
    /// `pg_ctl restart -m immediate`.
    RestartImmediate,
    /// The gateway's backends stop for a while, as on a machine that swaps.
    FreezeBackends,
    /// The server takes connections and does not answer them for a while.
    FreezePostmaster,
    /// An `access exclusive` lock on a stream's table for a while.
    LockTable,
    /// A stream's table has another name for a while.
    HideTable,
    CutWithReset,
    CutWithClose,
    HalfOpen,
    StallLine,
    DelayLine,
    /// A batch is committed, and the reply does not arrive.
    CutBeforeReplyToCommit,
    /// A COMMIT reaches the server only when the writers are back.
    HoldCommit,
    /// The gateway stops where it is, until the neighbour has taken its jobs over or for a shorter while, and goes on.
    FreezeGateway,
    /// The same with the neighbour.
    FreezeNeighbour,
    /// The neighbour is killed, and is back after a while.
    KillNeighbour,
}

/// All faults in random order, again and again: each comes equally often.
#[derive(Debug)]
pub struct Deck {
    numbers: StdRng,
    cards: Vec<Fault>,
}

impl Fault {
    pub const ALL: [Fault; 19] = [
        Fault::TerminateBackends,
        Fault::CancelStatements,
        Fault::KillServer,
        Fault::RestartFast,
        Fault::RestartImmediate,
        Fault::FreezeBackends,
        Fault::FreezePostmaster,
        Fault::LockTable,
        Fault::HideTable,
        Fault::CutWithReset,
        Fault::CutWithClose,
        Fault::HalfOpen,
        Fault::StallLine,
        Fault::DelayLine,
        Fault::CutBeforeReplyToCommit,
        Fault::HoldCommit,
        Fault::FreezeGateway,
        Fault::FreezeNeighbour,
        Fault::KillNeighbour,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::TerminateBackends => "backends terminated",
            Fault::CancelStatements => "statements cancelled",
            Fault::KillServer => "server killed",
            Fault::RestartFast => "server restarted, fast",
            Fault::RestartImmediate => "server restarted, immediate",
            Fault::FreezeBackends => "backends frozen",
            Fault::FreezePostmaster => "postmaster frozen",
            Fault::LockTable => "table locked",
            Fault::HideTable => "table renamed and back",
            Fault::CutWithReset => "line cut, reset",
            Fault::CutWithClose => "line cut, closed",
            Fault::HalfOpen => "line half open",
            Fault::StallLine => "line stalled",
            Fault::DelayLine => "line delayed",
            Fault::CutBeforeReplyToCommit => "cut between commit and reply",
            Fault::HoldCommit => "commit held beyond a session",
            Fault::FreezeGateway => "gateway frozen",
            Fault::FreezeNeighbour => "neighbour frozen",
            Fault::KillNeighbour => "neighbour killed",
        }
    }
}

impl Deck {
    pub fn new(numbers: StdRng) -> Deck {
        Deck { numbers, cards: Vec::new() }
    }

    pub fn draw(&mut self) -> Fault {
        if self.cards.is_empty() {
            self.cards = Fault::ALL.to_vec();
            self.cards.shuffle(&mut self.numbers);
        }
        self.cards.pop().expect("it was just filled")
    }
}

impl Scene {
    /// Does it, waits as long as it shall last, and repairs it.
    pub async fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::TerminateBackends => self.signal_backends("pg_terminate_backend").await,
            Fault::CancelStatements => self.signal_backends("pg_cancel_backend").await,
            Fault::KillServer => {
                self.cluster.kill();
                self.cluster.start_again().await;
            }
            Fault::RestartFast => {
                self.cluster.stop().await;
                self.cluster.start_again().await;
            }
            Fault::RestartImmediate => {
                self.cluster.stop_immediately().await;
                self.cluster.start_again().await;
            }
            Fault::FreezeBackends => {
                let backends = self.backends().await;
                self.freeze(backends).await;
            }
            Fault::FreezePostmaster => self.freeze(vec![self.cluster.pid()]).await,
            Fault::LockTable => self.lock_table().await,
            Fault::HideTable => self.hide_table().await,
            Fault::CutWithReset => self.proxy.cut(Cut::Reset),
            Fault::CutWithClose => self.proxy.cut(Cut::Close),
            Fault::HalfOpen => self.proxy.cut(Cut::HalfOpen),
            Fault::StallLine => {
                self.proxy.stall();
                self.while_it_lasts().await;
                self.proxy.pass();
            }
            Fault::DelayLine => {
                let delay = self.numbers.random_range(1..DELAY_MS_MAX);
                self.proxy.delay(Duration::from_millis(delay));
                self.while_it_lasts().await;
                self.proxy.pass();
            }
            Fault::CutBeforeReplyToCommit => {
                let happened = self.proxy.cut_before_reply_to_commit();
                soon("a commit", happened).await;
            }
            Fault::HoldCommit => {
                let held = soon("a commit", self.proxy.hold_commit()).await;
                self.while_it_lasts().await;
                // Now and then the line dies instead.
                if self.numbers.random_ratio(3, 4) {
                    held.deliver().await;
                }
            }
            Fault::FreezeGateway => self.freeze_gateway(false).await,
            Fault::FreezeNeighbour => self.freeze_gateway(true).await,
            Fault::KillNeighbour => {
                self.neighbour.kill9().await;
                self.while_it_lasts().await;
                self.neighbour.restart().await;
            }
        }
    }

    async fn while_it_lasts(&mut self) {
        sleep(Duration::from_millis(self.numbers.random_range(1..HELD_MS_MAX))).await;
    }

    async fn signal_backends(&self, function: &str) {
        self.gateway
            .execute(&format!(
                "select {function}(pid) from pg_stat_activity
                 where datname = current_database() and application_name = 'tidegate'"
            ))
            .await;
    }

    async fn backends(&self) -> Vec<i32> {
        let sql = "select pid from pg_stat_activity
                   where datname = current_database() and application_name = 'tidegate'";
        self.gateway.column(sql).await
    }

    /// Stops processes of this server for a while.
    async fn freeze(&mut self, processes: Vec<i32>) {
        let signal = |signal: Signal| {
            for process in &processes {
                // One that has ended meanwhile is no failure.
                let _ = kill(Pid::from_raw(*process), signal);
            }
        };
        signal(Signal::SIGSTOP);
        self.while_it_lasts().await;
        signal(Signal::SIGCONT);
    }

    /// Half of the time until the other has taken the leases over. One that is frozen in the middle of a batch keeps its
    /// locks, and no gateway takes the jobs of that batch over.
    async fn freeze_gateway(&mut self, neighbour: bool) {
        let (gateway, journal) = if neighbour {
            (&self.neighbour, self.neighbours_journal)
        } else {
            (&self.gateway, self.journal)
        };
        gateway.freeze(true);
        if self.numbers.random() {
            let leases = format!(
                "select count(*) from tidegate.polling_jobs
                 where lease_owner = '{journal}' and lease_until is not null"
            );
            let taken_over = eventually("the leases are taken over", async || {
                (gateway.scalar::<i64>(&leases).await == 0).then_some(())
            });
            let _ = timeout(TAKEN_OVER_WITHIN, taken_over).await;
        } else {
            let held = self.numbers.random_range(1..HELD_MS_MAX);
            sleep(Duration::from_millis(held)).await;
        }
        gateway.freeze(false);
    }

    fn any_stream(&mut self) -> &'static str {
        let streams = [&Oracle::streams()[..], &Polled::streams()].concat();
        streams.choose(&mut self.numbers).expect("there are streams")
    }

    async fn hide_table(&mut self) {
        // Not one that has just been put aside.
        let (stream, _hold) = loop {
            let stream = self.any_stream();
            if let Some(hold) = self.taken.take(stream) {
                break (stream, hold);
            }
        };
        self.gateway.execute(&format!("alter table streams.{stream} rename to hidden")).await;
        self.while_it_lasts().await;
        self.gateway.execute(&format!("alter table streams.hidden rename to {stream}")).await;
    }

    async fn lock_table(&mut self) {
        let stream = self.any_stream();
        let mut transaction = self.gateway.pool().begin().await.expect("a transaction");
        let sql = format!("lock table streams.{stream} in access exclusive mode");
        transaction.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("the table is there");
        self.while_it_lasts().await;
        transaction.rollback().await.expect("the lock is given back");
    }
}
