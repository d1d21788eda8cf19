//! What the log says of passwords that were not right: one line for each [`TELL_FAILURES_EVERY`] in which there were some,
//! with counts and a few of the names and places, however many there are.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::telemetry::metrics::PasswordCheck;

/// How often the log tells.
pub const TELL_FAILURES_EVERY: Duration = Duration::from_secs(10);
/// Most names, and most places, in one line.
const EXAMPLES_MAX: usize = 5;
/// Longest name in a line, in characters as they are shown.
const NAME_CHARACTERS_MAX: usize = 64;

/// What was not told yet.
#[derive(Debug, Default)]
pub struct FailureLog(Mutex<Untold>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Untold {
    wrong: u64,
    throttled: u64,
    busy: u64,
    users: Vec<String>,
    addresses: Vec<String>,
}

impl FailureLog {
    /// Notes one that was not right.
    pub fn note(&self, outcome: PasswordCheck, name: &str, address: IpAddr) {
        let count: fn(&mut Untold) -> &mut u64 = match outcome {
            PasswordCheck::Right => return,
            PasswordCheck::Wrong => |untold| &mut untold.wrong,
            PasswordCheck::Throttled => |untold| &mut untold.throttled,
            PasswordCheck::Busy => |untold| &mut untold.busy,
        };
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count(&mut untold) += 1;
        add(&mut untold.users, || shown(name));
        add(&mut untold.addresses, || shown_address(address));
    }

    /// How many wrong ones are not told yet?
    #[cfg(test)]
    pub fn wrong(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wrong
    }

    /// Tells, if there is anything.
    pub fn tell(&self) {
        let untold = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let Untold { wrong, throttled, busy, users, addresses } = untold;
        if wrong + throttled + busy > 0 {
            let (users, addresses) = (users.join(" "), addresses.join(" "));
            tracing::warn!(wrong, throttled, busy, users, addresses, "passwords were not right");
        }
    }
}

fn add(examples: &mut Vec<String>, example: impl FnOnce() -> String) {
    if examples.len() < EXAMPLES_MAX {
        let example = example();
        if !examples.contains(&example) {
            examples.push(example);
        }
    }
}

fn shown_address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(network) => format!("{network}/64"),
    }
}

/// A name as it was sent, by a client that may not have signed in: in quotes, without control characters, cut.
fn shown(name: &str) -> String {
    let mut escaped = name.chars().flat_map(char::escape_debug);
    let mut text: String = escaped.by_ref().take(NAME_CHARACTERS_MAX).collect();
    if escaped.next().is_some() {
        text.push('…');
    }
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_counts_and_a_few_examples_of_whatever_came() {
        let log = FailureLog::default();
        let place = |number: u32| IpAddr::V4(number.into());
        log.note(PasswordCheck::Right, "grace", place(1));
        log.note(PasswordCheck::Wrong, "ada\n2026-11-30 ERROR", place(2));
        log.note(PasswordCheck::Busy, &"x".repeat(10_000), place(2));
        for number in 0..100 {
            log.note(PasswordCheck::Throttled, &format!("user {number}"), place(number));
        }
        let untold = log.0.lock().unwrap();
        assert_eq!((untold.wrong, untold.throttled, untold.busy), (1, 100, 1));
        assert_eq!(untold.users[0], r#""ada\n2026-11-30 ERROR""#);
        assert_eq!(untold.users[1].chars().count(), NAME_CHARACTERS_MAX + 3);
        assert_eq!((untold.users.len(), untold.addresses.len()), (EXAMPLES_MAX, EXAMPLES_MAX));
        drop(untold);
        log.tell();
        assert_eq!(*log.0.lock().unwrap(), Untold::default(), "told once");
    }
}
