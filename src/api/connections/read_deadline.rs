//! Until when more bytes of a connection are waited for.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that moves. Its timer does not move along, but is set anew when it rings too early: most waits are far shorter.
pub struct ReadDeadline {
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
}

impl ReadDeadline {
    pub fn until(deadline: Instant) -> ReadDeadline {
        ReadDeadline { deadline, timer: Box::pin(sleep_until(deadline)) }
    }

    /// Moves the deadline, either way.
    pub fn set(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Moves the deadline forward, but never back.
    pub fn hurry(&mut self, deadline: Instant) {
        self.set(self.deadline.min(deadline));
    }

    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            if self.timer.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    /// How long it lasts from now on.
    async fn lasts(deadline: &mut ReadDeadline) -> Duration {
        let from = Instant::now();
        poll_fn(|context| deadline.poll(context)).await;
        Duration::from_secs(from.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_be_moved_and_dripping_buys_no_time() {
        let after = |seconds| Instant::now() + Duration::from_secs(seconds);
        let mut deadline = ReadDeadline::until(after(30));
        tokio::time::advance(Duration::from_secs(20)).await;
        deadline.set(after(30));
        assert_eq!(lasts(&mut deadline).await, Duration::from_secs(30));
        deadline.set(after(30));
        tokio::time::advance(Duration::from_secs(20)).await;
        deadline.hurry(after(2));
        tokio::time::advance(Duration::from_secs(1)).await;
        deadline.hurry(after(2));
        assert_eq!(lasts(&mut deadline).await, Duration::from_secs(1));
        deadline.set(after(30));
        assert_eq!(lasts(&mut deadline).await, Duration::from_secs(30));
    }
}
