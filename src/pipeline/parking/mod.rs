//! Parking: entries of a stream whose table cannot be written now wait in the table `parked`, in order.
//!
//! [`streams`] knows which streams these are, and [`entries`] how an entry gets there and back. Writers park, and
//! `commit/drainer.rs` brings what is parked home.

mod entries;
mod streams;

pub use self::streams::{ParkedState, Parking};

pub(super) use self::entries::{UNKNOWN_STREAM, parked_entry, rest_of, unparked_entry};
pub(super) use self::streams::Parked;
