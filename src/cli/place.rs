//! Where a command finds what it works on.

use crate::config::{DataDir, Database};

/// Where the gateway's things are.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Place {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub database: Database,
}
