//! Where accounts are at home: the places from which their passwords were right lately.
//!
//! It promises bounded memory, and that signing in again and again without a browser's cookie, as a script does, pushes no
//! browser out that came back.

use std::net::IpAddr;
use std::time::Duration;

use tidegate_record::UnixMicros;

use crate::auth::expiring_map::ExpiringMap;
use crate::auth::secret::SecretHash;

/// How long after its latest right password an account is at home at a place.
pub const AT_HOME_FOR: Duration = Duration::from_hours(7 * 24);
/// Most addresses, and most browsers, where an account is at home. A new address takes the place of the oldest; a new
/// browser first that of one that never came back, as a script without a cookie makes one each time.
pub const HOMES_MAX: usize = 32;
/// Most accounts whose homes are remembered.
const ACCOUNTS_AT_HOME_MAX: usize = 20_000;

/// What is known of where a password comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whence {
    /// An address, or the network of one, that one caller has to themselves.
    pub address: IpAddr,
    /// The cookie of a browser where a user signed in before. It opens nothing.
    pub browser: Option<SecretHash>,
}

/// What counts as one place. A browser is one only for accounts that are at home in it, or a client without a cookie would
/// have a new place each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    Address(IpAddr),
    Browser(SecretHash),
}

/// A name, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name(pub u64);

/// How an account and a place go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The account's password was right from there lately.
    AtHome,
    New,
}

/// A place where an account is at home.
#[derive(Debug, Clone, Copy)]
struct Home {
    place: Place,
    since: UnixMicros,
    /// The address at that time.
    address: IpAddr,
    /// Was a browser used again?
    came_back: bool,
}

/// See the module. Only accounts that are there get in, so made-up names cannot crowd them out.
#[derive(Debug)]
pub struct Homes(ExpiringMap<Name, Vec<Home>>);

impl Default for Homes {
    fn default() -> Homes {
        Homes(ExpiringMap::new(ACCOUNTS_AT_HOME_MAX, AT_HOME_FOR))
    }
}

impl Homes {
    pub fn standing(&self, name: Name, place: Place, now: UnixMicros) -> Standing {
        let is_it = |home: &Home| home.place == place && is_lately(home.since, now);
        let homes = self.0.get(&name, now);
        let is_home = homes.is_some_and(|homes| homes.iter().any(is_it));
        if is_home { Standing::AtHome } else { Standing::New }
    }

    /// The password was right at a place.
    pub fn came(&mut self, name: Name, place: Place, address: IpAddr, now: UnixMicros) {
        self.settle(name, Home { place, since: now, address, came_back: true }, None);
    }

    /// A browser is known by another cookie from now on.
    pub fn know_browser(&mut self, name: Name, whence: Whence, now: SecretHash, at: UnixMicros) {
        let before = whence.browser.map(Place::Browser);
        let is_home = |before| self.standing(name, before, at) == Standing::AtHome;
        let came_back = before.is_some_and(is_home);
        let place = Place::Browser(now);
        let home = Home { place, since: at, address: whence.address, came_back };
        self.settle(name, home, before);
    }

    fn settle(&mut self, name: Name, home: Home, instead_of: Option<Place>) {
        let mut places = self.0.take(&name, home.since).unwrap_or_default();
        places.retain(|other| {
            other.place != home.place
                && Some(other.place) != instead_of
                && is_lately(other.since, home.since)
        });
        if let Some(index) = makes_room(&places, &home) {
            places.remove(index);
        }
        places.push(home);
        self.0.insert(name, places, home.since);
    }
}

fn is_lately(since: UnixMicros, now: UnixMicros) -> bool {
    let at_home_for = i64::try_from(AT_HOME_FOR.as_micros()).unwrap_or(i64::MAX);
    now.0.saturating_sub(since.0) < at_home_for
}

/// Which home goes for a new one, if there are as many of its kind as there may be.
fn makes_room(homes: &[Home], new: &Home) -> Option<usize> {
    let is_browser = |home: &Home| matches!(home.place, Place::Browser(_));
    let is_like_it = |home: &Home| is_browser(home) == is_browser(new);
    if homes.iter().filter(|home| is_like_it(home)).count() < HOMES_MAX {
        return None;
    }
    // Of a script that signs in again and again without a cookie, only the first few stay.
    let never_came_back = |home: &Home| is_browser(home) && is_browser(new) && !home.came_back;
    let from_there = |home: &Home| never_came_back(home) && home.address == new.address;
    let newest = homes.iter().rposition(from_there);
    newest
        .or_else(|| homes.iter().rposition(never_came_back))
        .or_else(|| homes.iter().position(is_like_it))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: Name = Name(1);

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn is_home(homes: &Homes, place: Place) -> bool {
        homes.standing(ADA, place, UnixMicros(0)) == Standing::AtHome
    }

    fn came(homes: &mut Homes, number: u32) {
        homes.came(ADA, Place::Address(address(number)), address(number), UnixMicros(0));
    }

    fn signs_in(
        homes: &mut Homes,
        number: u32,
        before: Option<SecretHash>,
        cookie: &str,
    ) -> SecretHash {
        let (whence, now) =
            (Whence { address: address(number), browser: before }, SecretHash::of(cookie));
        homes.know_browser(ADA, whence, now, UnixMicros(0));
        now
    }

    #[test]
    fn an_account_has_so_many_homes_and_keeps_the_latest() {
        let mut homes = Homes::default();
        for number in 1..=100 {
            came(&mut homes, number);
            came(&mut homes, 0);
        }
        let lives_at = |number| is_home(&homes, Place::Address(address(number)));
        assert!(lives_at(0) && lives_at(100) && !lives_at(1));
        assert_eq!(homes.0.get(&ADA, UnixMicros(0)).unwrap().len(), HOMES_MAX);
    }

    #[test]
    fn signing_in_without_a_cookie_again_and_again_pushes_no_browser_out() {
        let mut homes = Homes::default();
        let script = |homes: &mut Homes, number: u32, round: &str| {
            for count in 0..100 {
                signs_in(homes, number, None, &format!("{round} {count}"));
            }
        };
        came(&mut homes, 1);
        let first = signs_in(&mut homes, 1, None, "first");
        let used = signs_in(&mut homes, 1, Some(first), "used again");
        script(&mut homes, 2, "before");
        // There is no room left, and it never came back yet.
        let new = signs_in(&mut homes, 3, None, "new");
        script(&mut homes, 2, "after");
        let is_known = |homes: &Homes, browser| is_home(homes, Place::Browser(browser));
        assert!(is_known(&homes, used) && is_known(&homes, new) && !is_known(&homes, first));
        let new = signs_in(&mut homes, 3, Some(new), "new, used again");
        for number in 4..100 {
            script(&mut homes, number, &format!("from {number}"));
        }
        assert!(is_known(&homes, used) && is_known(&homes, new));
        assert!(is_home(&homes, Place::Address(address(1))));
        assert_eq!(homes.0.get(&ADA, UnixMicros(0)).unwrap().len(), HOMES_MAX + 1);
    }
}
