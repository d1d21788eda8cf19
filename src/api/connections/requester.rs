//! Who has the gateway hold bytes: whoever is at an address, until credentials say more.
//!
//! A connection has one requester, which is known from the first request on whose credentials were good: whoever sends
//! large requests over it one after the other is no stranger. Behind a trusted proxy each request has its own.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::Extensions;

use crate::api::bodies::held_bytes::Holder;

/// See the module; clones are the same.
#[derive(Debug, Clone)]
pub struct Requester(Arc<Standing>);

#[derive(Debug)]
struct Standing {
    address: IpAddr,
    is_known: AtomicBool,
}

impl Requester {
    /// `address`: as limits by address go by it, see [`ClientAddress::group`](crate::api::connections::client_address::ClientAddress::group).
    pub fn new(address: IpAddr) -> Requester {
        Requester(Arc::new(Standing { address, is_known: AtomicBool::new(false) }))
    }

    /// Its credentials were good.
    pub fn recognize(&self) {
        // Only which part of the budget is asked hangs on it.
        self.0.is_known.store(true, Ordering::Relaxed);
    }

    /// The same for whoever sent a request with these extensions.
    pub fn recognize_sender(extensions: &Extensions) {
        if let Some(requester) = extensions.get::<Requester>() {
            requester.recognize();
        }
    }

    /// Who sent a request with these extensions. The router's requests have a requester: only one that a test made by hand
    /// has none.
    pub fn sender(extensions: &Extensions) -> Requester {
        let nobody = || Requester::new(Ipv6Addr::UNSPECIFIED.into());
        extensions.get().cloned().unwrap_or_else(nobody)
    }

    pub fn holder(&self) -> Holder {
        if self.0.is_known.load(Ordering::Relaxed) {
            Holder::Known
        } else {
            Holder::Stranger(self.0.address)
        }
    }
}
