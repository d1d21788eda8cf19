//! Senders, as far as the pipeline tells them apart: they share its room fairly.

/// One sender: a credential, not a connection, so that a hundred connections get no more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SenderId {
    /// A process that can read the data directory.
    Local,
    /// A token, by its number.
    Token(i64),
    /// A user with their password or a session, by number.
    User(i64),
}
