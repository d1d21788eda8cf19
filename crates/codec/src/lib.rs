//! Streams and their codec: what a stream is, how a record becomes a COPY tuple of one, and how it is read back.
//!
//! Everything here is pure: no I/O, no clock.
//!
//! Path of a record: [`formats`] (a body, cut into records) → [`encode`] over [`json`] or [`csv`] (a record, into a tuple)
//! → [`decode`] (a tuple, into JSON). `values` knows the bytes of each column type.
//!
//! Public:
//! - what a stream is: [`Stream`] with its [`StreamName`], [`Shape`], [`Key`] and [`columns`]; [`StreamView`], as it is
//!   shown; [`Streams`], the snapshot in which the hot path looks names up; [`definition`] and [`defaults`], how one is
//!   asked for and changed;
//! - bytes to records: [`formats::Framer`], which pushes them into a [`formats::RecordSink`];
//! - changes of records, which are tuples too: [`changes`];
//! - records to tuples: [`encode::RecordEncoder`] and its errors; tuples back: [`decode`]; rows of any result: [`rows`];
//! - what the others are built from, where callers need it too: [`json::Scanner`], [`csv::CsvOptions`], [`timestamps`];
//! - [`infer`], which proposes columns for a sample.

pub mod changes;
pub mod columns;
pub mod csv;
pub mod decode;
pub mod defaults;
pub mod definition;
mod directory;
pub mod encode;
pub mod formats;
pub mod infer;
pub mod json;
pub mod rows;
mod stream;
mod values;
mod view;

pub use directory::{Streams, StreamsSnapshot};
pub use stream::{
    COLUMNS_MAX, InvalidStreamName, KEY_FIELDS_MAX, Key, KeyField, MEMBER_BYTES_MAX,
    NAME_BYTES_MAX, OnDuplicate, PayloadType, Shape, Stream, StreamName, UnknownKeys,
    WIDENINGS_MAX, Widening,
};
pub use values::timestamps;
pub use view::StreamView;
