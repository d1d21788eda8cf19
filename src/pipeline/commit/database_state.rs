//! What is last known of PostgreSQL, for the status page and the readiness probe.

use tidegate_record::Position;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseState {
    pub reachable: bool,
    /// PostgreSQL's version, as the writers last saw it.
    pub version: Option<String>,
    pub last_error: Option<String>,
    /// Why commits do not come back, although PostgreSQL can be reached.
    pub stalled: Option<String>,
    /// Parts of the journal that were committed once, that PostgreSQL has lost since (it was set back), and that the
    /// journal does not keep any more: from, up to, not including. Told for as long as the process lives.
    pub lost: Vec<(Position, Position)>,
}
