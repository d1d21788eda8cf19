//! The sender of a request: the client at the other end of its connection, or the one that a trusted proxy names.
//!
//! Until credentials say more, what is held for a requester counts for its address. A connection has one requester, which
//! stays known from the first request on whose credentials were good: a sender of large requests one after the other is no
//! stranger. Behind a trusted proxy each request has its own. A requester that becomes known tells the connection's place,
//! which knows the caller of the request under way and of no other.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::Extensions;

use super::Place;

/// See the module; clones are the same.
#[derive(Debug, Clone)]
pub struct Requester(Arc<Standing>);

#[derive(Debug)]
struct Standing {
    address: IpAddr,
    is_known: AtomicBool,
    /// The connection's; none of a request that a test made by hand.
    place: Option<Arc<Place>>,
}

impl Requester {
    /// The other end of a connection.
    pub fn of_connection(place: &Arc<Place>) -> Requester {
        Requester::new(place.group(), Some(Arc::clone(place)))
    }

    /// A client of the proxy that is at the other end. `address`: as limits by address go by it, see
    /// [`ClientAddress::group`](super::ClientAddress::group).
    pub fn behind_proxy(address: IpAddr, place: &Arc<Place>) -> Requester {
        Requester::new(address, Some(Arc::clone(place)))
    }

    fn new(address: IpAddr, place: Option<Arc<Place>>) -> Requester {
        Requester(Arc::new(Standing { address, is_known: AtomicBool::new(false), place }))
    }

    /// The sender of a request with these extensions. Every request that a connection brought has it there.
    pub fn of(extensions: &Extensions) -> Requester {
        let unknown = || Requester::new(Ipv6Addr::UNSPECIFIED.into(), None);
        extensions.get().cloned().unwrap_or_else(unknown)
    }

    /// Its credentials were good.
    pub fn recognize(&self) {
        // Only which part of the budget is asked hangs on it.
        self.0.is_known.store(true, Ordering::Relaxed);
        if let Some(place) = &self.0.place {
            place.know_caller();
        }
    }

    /// Were its credentials good, in this request or, over its own connection, in an earlier one?
    pub fn is_known(&self) -> bool {
        self.0.is_known.load(Ordering::Relaxed)
    }

    pub fn address(&self) -> IpAddr {
        self.0.address
    }

    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_deref()
    }

    /// Waits for what the request still lacks, as [`Place::asking`] says.
    pub async fn asking<T>(&self, rest: impl Future<Output = T>) -> T {
        match self.place() {
            Some(place) => place.asking(rest).await,
            None => rest.await,
        }
    }
}
