//! Who may do what, and who is told what.

mod rights;
mod second_look;
pub mod sessions;
mod shut_out;
