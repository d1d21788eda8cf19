//! Into the journal: what waits is written in groups, with one fsync each, and then answered. From then on it cannot be lost.

mod appender;
mod outage;
#[cfg(test)]
mod tests;

pub use self::appender::AppenderThread;
