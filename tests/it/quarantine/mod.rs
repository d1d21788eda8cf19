//! What cannot be in its table, or not yet: quarantine and parking.

mod keeping;
mod parking;
mod poison;
mod quarantine_api;
