//! What serves HTTP: connections are accepted, begin on the fast path, and go on with the general server and the entrance.

mod accept;
mod cross_origin;
mod entrance;
mod explained;
mod fast_path;
mod general;
mod heads;
mod prefixed;
mod reply;

pub use accept::run as serve;
pub use entrance::Entrance;
