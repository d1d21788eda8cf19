//! What asks others for records.

pub mod poll;
