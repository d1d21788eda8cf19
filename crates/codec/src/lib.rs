//! Streams and their codec: what a stream is, how the bytes of a body become its records ([`formats`]), how a record becomes a
//! COPY tuple ([`encode`]), and how it is read back ([`decode`]).
//!
//! Everything here is pure: no I/O, no clock. [`Streams`] is the snapshot that the hot path looks names up in.

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
