//! Ways in for records: every form of a body, what is taken, and what is refused and how.

mod bad_input;
mod batching;
mod corpus;
mod csv_bodies;
mod encode_roundtrip;
mod exact_limits;
mod fairness;
mod fast_path;
mod http_layer;
mod idempotency;
mod large_bodies;
mod limits;
mod many_streams_in_one_request;
mod no_json;
mod odd_values;
mod quotas;
mod records;
mod times;
