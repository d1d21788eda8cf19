//! What serves HTTP: connections are accepted, begin on the fast path, and go on with the general server and the entrance.

pub mod accept;
mod cross_origin;
pub mod entrance;
mod explained;
mod fast_path;
mod general;
mod heads;
mod prefixed;
