//! What the sender and the monitor write side by side, and the progress reads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ledger::Ledger;
use crate::sightings::Sightings;

/// The ledger and the sightings of a run. Neither is held across an `.await`.
#[derive(Debug)]
pub struct Book {
    ledger: Mutex<Ledger>,
    sightings: Mutex<Sightings>,
}

impl Book {
    pub fn new() -> anyhow::Result<Book> {
        let (ledger, sightings) = (Mutex::new(Ledger::new()?), Mutex::new(Sightings::new()?));
        Ok(Book { ledger, sightings })
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sightings(&self) -> MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
