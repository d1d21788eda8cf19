//! What asks others for records ([`poll`]), and how records are written ([`formats`]).

pub mod formats;
pub mod poll;
