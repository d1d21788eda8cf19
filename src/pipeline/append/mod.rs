//! Into the journal: what waits is written in groups, with one fsync each, and then answered.

pub(crate) mod appender;
mod outage;
#[cfg(test)]
mod tests;
