//! Which addresses a request may reach. The user who names an address must not get further with it than from the
//! internet: not to the machine itself, not into private networks, not to a cloud's metadata.
//!
//! Promises: a name is looked up here and only here, and a connection goes to an address that was checked, so that a
//! name whose address changes gains nothing; an address in the URL itself is checked as well ([`Guard::check_host`]).
//! An address that is neither public nor allowed is refused.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::asking::Asking;
use super::lookups::{BusyLookups, LOOKUPS_MAX, Lookups};
use super::public_addresses::{is_public, unwrapped};

/// Says yes or no to addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard {
    allowed: Arc<[IpNet]>,
    lookup: Lookup,
}

/// Where the addresses of names come from.
#[derive(Debug, Clone)]
enum Lookup {
    /// The machine's resolver, with a permit for each look-up under way.
    System(Lookups),
    #[cfg(test)]
    Scripted(Arc<std::sync::Mutex<std::collections::VecDeque<Vec<IpAddr>>>>),
}

/// The address, or every address of the name, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} lies in a private or reserved network, which jobs do not ask; TIDEGATE_ALLOW_NETWORKS can allow it"
)]
pub struct RefusedHost {
    pub host: String,
}

/// The name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the host {host} is not known: {reason}")]
pub struct UnknownHost {
    pub host: String,
    pub reason: String,
}

impl Guard {
    /// Refuses what is not public, but for `allowed`.
    pub fn new(allowed: Vec<IpNet>) -> Guard {
        Guard { allowed: allowed.into(), lookup: Lookup::System(Lookups::new(LOOKUPS_MAX)) }
    }

    /// With names whose addresses are given, look by look.
    #[cfg(test)]
    pub(super) fn scripted(allowed: Vec<IpNet>, looks: Vec<Vec<IpAddr>>) -> Guard {
        let looks = Arc::new(std::sync::Mutex::new(looks.into()));
        Guard { allowed: allowed.into(), lookup: Lookup::Scripted(looks) }
    }

    /// Whether a connection to the address may be made.
    pub fn allows(&self, address: IpAddr) -> bool {
        let inner = unwrapped(address);
        let listed = |net: &IpNet| net.contains(&address) || net.contains(&inner);
        self.allowed.iter().any(listed) || is_public(address)
    }

    /// The check of an address that stands in a URL: such a one is connected to without being looked up.
    pub fn check_host(&self, url: &Url) -> Result<(), RefusedHost> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.allows(address) {
            return Ok(());
        }
        Err(RefusedHost { host: address.to_string() })
    }

    async fn addresses(self, host: String, asking: Asking) -> Result<Vec<SocketAddr>, BoxedError> {
        let found = self.lookup.addresses(&host, &asking).await?;
        let unknown =
            |reason: io::Error| UnknownHost { host: host.clone(), reason: reason.to_string() };
        let found = found.map_err(unknown)?;
        let allowed: Vec<SocketAddr> =
            found.into_iter().filter(|address| self.allows(address.ip())).collect();
        if allowed.is_empty() {
            return Err(RefusedHost { host }.into());
        }
        Ok(allowed)
    }
}

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.clone().addresses(name.as_str().to_owned(), Asking::current());
        Box::pin(async move { Ok(Box::new(addresses.await?.into_iter()) as Addrs) })
    }
}

impl Lookup {
    async fn addresses(
        &self,
        host: &str,
        asking: &Asking,
    ) -> Result<io::Result<Vec<SocketAddr>>, BusyLookups> {
        let found: io::Result<Vec<SocketAddr>> = match self {
            Lookup::System(lookups) => {
                let host = host.to_owned();
                let look = move || (host, 0).to_socket_addrs().map(Iterator::collect);
                lookups.run(asking, look).await?.flatten()
            }
            #[cfg(test)]
            Lookup::Scripted(looks) => {
                let next = looks.lock().unwrap().pop_front().unwrap_or_default();
                Ok(next.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
            }
        };
        let known = |found: Vec<SocketAddr>| {
            if found.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(found) }
        };
        Ok(found.and_then(known))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn guard(allowed: &[&str]) -> Guard {
        Guard::new(allowed.iter().map(|net| net.parse().unwrap()).collect())
    }

    #[test]
    fn networks_are_allowed_one_by_one() {
        let guard = guard(&["127.0.0.0/8", "fd00::/8"]);
        for address in ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd12::1", "1.1.1.1"] {
            assert!(guard.allows(address.parse().unwrap()), "{address}");
        }
        for address in ["10.0.0.1", "::1", "169.254.169.254", "fc00::1"] {
            assert!(!guard.allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn addresses_are_found_in_every_spelling_of_a_url() {
        let guard = guard(&[]);
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://0/",
            "http://１２７.0.0.1/",
            "http://127.0.0.1./",
        ] {
            assert!(guard.check_host(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
        assert_eq!(guard.check_host(&Url::parse("http://api.test/").unwrap()), Ok(()));
    }

    #[tokio::test]
    async fn names_are_refused_by_what_they_stand_for() {
        let error =
            guard(&[]).addresses("localhost".to_owned(), Asking::of(None)).await.unwrap_err();
        assert!(error.downcast_ref::<RefusedHost>().is_some(), "{error}");
        let found = guard(&["127.0.0.0/8"])
            .addresses("localhost".to_owned(), Asking::of(None))
            .await
            .unwrap();
        assert!(found.iter().all(|address| address.ip() == Ipv4Addr::LOCALHOST), "{found:?}");
        let error =
            guard(&[]).addresses("nowhere.invalid".to_owned(), Asking::of(None)).await.unwrap_err();
        assert!(error.downcast_ref::<UnknownHost>().is_some(), "{error}");
    }

    #[tokio::test]
    async fn of_several_addresses_only_the_public_ones_are_left() {
        let looks = vec![vec!["10.0.0.1".parse().unwrap(), "1.1.1.1".parse().unwrap()]];
        let guard = Guard::scripted(Vec::new(), looks);
        let found = guard.addresses("api.test".to_owned(), Asking::of(None)).await.unwrap();
        assert_eq!(found, [SocketAddr::from(([1, 1, 1, 1], 0))]);
    }
}
