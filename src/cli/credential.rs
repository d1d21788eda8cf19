//! What a command comes to a running gateway with.

use anyhow::Context;

use crate::auth::LocalToken;
use crate::config::DataDir;

/// The token that was given, or else the local one.
pub(super) fn credential(token: Option<&str>, data: &DataDir) -> anyhow::Result<String> {
    if let Some(token) = token {
        return Ok(token.to_owned());
    }
    LocalToken::read(&data.data_dir).with_context(|| {
        let dir = data.data_dir.display();
        format!("there is no token: give one with --token or TIDEGATE_TOKEN, or --data-dir of a gateway that runs on this machine ({dir} has none)")
    })
}
