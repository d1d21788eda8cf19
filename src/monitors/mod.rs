//! Monitors: how people watch records arrive.
//!
//! A [`MonitorRequest`] says what is wanted, a [`Session`] is one monitor's life (hello, catching up, live), and
//! [`websocket`] and [`events`] carry its messages over the two transports. They promise the same messages in the same
//! order on both, that a stuck monitor is let go, and that watching ends with the permission to watch.
//!
//! They refuse to know who the caller is: the opener of a session says which streams are allowed.

pub mod events;
mod frame;
mod incoming;
mod request;
mod session;
#[cfg(test)]
mod tests;
mod upgrade;
pub mod websocket;

use std::future::Future;
use std::time::Duration;

pub use request::{MonitorRequest, MonitorRequestError};
pub use session::Session;
pub use upgrade::{NotAnUpgrade, SUBPROTOCOL, Upgrade, WEBSOCKET_VERSION};

/// A monitor's permission is looked up this often: it is over within five seconds of its end.
const PERMISSION_INTERVAL: Duration = Duration::from_secs(3);

/// Ends when the caller's permission does.
async fn until_revoked<A, F>(interval: Duration, mut still_allowed: A)
where
    A: FnMut() -> F,
    F: Future<Output = bool>,
{
    loop {
        tokio::time::sleep(interval).await;
        if !still_allowed().await {
            return;
        }
    }
}
