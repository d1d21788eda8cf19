//! Which addresses a job may reach. A job's owner must not get further with it than they could from the internet: not to
//! the machine itself, not into private networks, not to a cloud's metadata.
//!
//! Promises: a name is looked up here and only here, and a connection goes to an address that was checked, so that a
//! name whose address changes gains nothing; an address in the URL itself is checked as well ([`Guard::check_host`]); an
//! IPv4 address inside an IPv6 one counts as what it is. What is not known to be public is refused.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::{Host, Url};

/// Addresses that are not, or not only, of the public internet (the registries of RFC 6890), and one that clouds use for
/// themselves although it is public.
const REFUSED_V4: [([u8; 4], u8); 17] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([168, 63, 129, 16], 32),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Most names that are looked up at a time. Each takes a thread until the name server answers or is given up, for many
/// seconds, of those that all blocking work shares.
const LOOKUPS_MAX: usize = 32;

/// All of public IPv6.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Parts of it that are not: protocols' own (Teredo among them), and documentation.
const REFUSED_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Says yes or no to addresses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard {
    allowed: Arc<[IpNet]>,
    lookup: Lookup,
}

/// Who knows the addresses of names.
#[derive(Debug, Clone)]
enum Lookup {
    /// With places for look-ups.
    System(Arc<Semaphore>),
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
#[derive(Debug, thiserror::Error)]
#[error("the host {host} is not known: {reason}")]
pub struct UnknownHost {
    pub host: String,
    pub reason: io::Error,
}

impl Guard {
    /// Refuses what is not public, but for `allowed`.
    pub fn new(allowed: Vec<IpNet>) -> Guard {
        Guard {
            allowed: allowed.into(),
            lookup: Lookup::System(Arc::new(Semaphore::new(LOOKUPS_MAX))),
        }
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
        self.allowed.iter().any(listed) || is_public(inner)
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

    async fn addresses(self, host: String) -> Result<Vec<SocketAddr>, BoxedError> {
        let found = self.lookup.addresses(&host).await;
        let found = match found {
            Ok(found) => found,
            Err(reason) => return Err(Box::new(UnknownHost { host, reason })),
        };
        let allowed: Vec<SocketAddr> =
            found.into_iter().filter(|address| self.allows(address.ip())).collect();
        if allowed.is_empty() {
            return Err(Box::new(RefusedHost { host }));
        }
        Ok(allowed)
    }
}

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.clone().addresses(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(addresses.await?.into_iter()) as Addrs) })
    }
}

impl Lookup {
    async fn addresses(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = match self {
            Lookup::System(places) => {
                let host = host.to_owned();
                in_place(places, move || (host, 0).to_socket_addrs()).await??.collect()
            }
            #[cfg(test)]
            Lookup::Scripted(looks) => {
                let next = looks.lock().unwrap().pop_front().unwrap_or_default();
                next.into_iter().map(|address| SocketAddr::new(address, 0)).collect()
            }
        };
        if found.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(found) }
    }
}

/// Does blocking work in one of the places. The wait for it can be dropped, the work cannot: it keeps its place to its end.
async fn in_place<T: Send + 'static>(
    places: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let work = move || {
        let done = work();
        drop(place);
        done
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, translated (NAT64) or tunnelled (6to4).
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let last_four =
        |octets: [u8; 16]| Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    match v6.segments() {
        // `::` and `::1` are IPv6's own; 0.0.0.0 and 0.0.0.1 are refused all the same.
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            IpAddr::V4(last_four(v6.octets()))
        }
        [0x2002, high, low, ..] => {
            IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => address,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !REFUSED_V4.iter().any(|&(network, length)| {
            Ipv4Net::new_assert(network.into(), length).contains(&address)
        }),
        IpAddr::V6(address) => {
            let within = |&(network, length): &(Ipv6Addr, u8)| {
                Ipv6Net::new_assert(network, length).contains(&address)
            };
            within(&PUBLIC_V6) && !REFUSED_V6.iter().any(within)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::super::answer::client;
    use super::*;

    fn guard(allowed: &[&str]) -> Guard {
        Guard::new(allowed.iter().map(|net| net.parse().unwrap()).collect())
    }

    #[test]
    fn what_is_not_public_is_refused_in_every_disguise() {
        let nothing_allowed = guard(&[]);
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(!nothing_allowed.allows(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(nothing_allowed.allows(address.parse().unwrap()), "{address}");
        }
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
        let error = guard(&[]).addresses("localhost".to_owned()).await.unwrap_err();
        assert!(error.downcast_ref::<RefusedHost>().is_some(), "{error}");
        let found = guard(&["127.0.0.0/8"]).addresses("localhost".to_owned()).await.unwrap();
        assert!(found.iter().all(|address| address.ip() == Ipv4Addr::LOCALHOST), "{found:?}");
        let error = guard(&[]).addresses("nowhere.invalid".to_owned()).await.unwrap_err();
        assert!(error.downcast_ref::<UnknownHost>().is_some(), "{error}");
    }

    #[tokio::test]
    async fn of_several_addresses_only_the_public_ones_are_left() {
        let looks = vec![vec!["10.0.0.1".parse().unwrap(), "1.1.1.1".parse().unwrap()]];
        let guard = Guard::scripted(Vec::new(), looks);
        let found = guard.addresses("api.test".to_owned()).await.unwrap();
        assert_eq!(found, [SocketAddr::from(([1, 1, 1, 1], 0))]);
    }

    #[tokio::test]
    async fn a_look_up_that_nobody_waits_for_keeps_its_place() {
        let places = Arc::new(Semaphore::new(1));
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let stuck = in_place(&places, move || {
            begun.send(()).unwrap();
            released.recv().unwrap();
        });
        tokio::select! {
            _ = stuck => panic!("nobody has released it"),
            begun = begins => begun.unwrap(),
        }
        assert_eq!(places.available_permits(), 0, "the wait was dropped, the work was not");
        release.send(()).unwrap();
        assert_eq!(in_place(&places, || 7).await.unwrap(), 7);
    }

    /// Answers every connection once, and ends it.
    async fn answer_all(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let head = b"HTTP/1.1 204 Fine\r\nconnection: close\r\n\r\n";
            stream.write_all(head).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_name_whose_address_changes_gains_nothing() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://api.test:{}/", listener.local_addr().unwrap().port());
        let mut answering = JoinSet::new();
        answering.spawn(answer_all(listener));
        let (allowed, private) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        let looks = vec![vec![allowed], vec![private], vec![private, allowed]];
        let guard = Guard::scripted(vec!["127.0.0.1/32".parse().unwrap()], looks);
        let client = client(&guard, 0, &[]).unwrap();
        assert_eq!(client.get(&url).send().await.unwrap().status(), 204);
        let error = client.get(&url).send().await.unwrap_err();
        let (mut chain, mut cause) = (Vec::new(), Some(&error as &dyn Error));
        while let Some(error) = cause {
            chain.push(error.to_string());
            cause = error.source();
        }
        assert!(chain.iter().any(|cause| cause.starts_with("api.test lies in")), "{chain:?}");
        assert_eq!(client.get(&url).send().await.unwrap().status(), 204, "only the allowed one");
    }
}
