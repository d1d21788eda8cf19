//! What a run goes on from: kept when the run before it ended well, after all of its rows were committed.

use serde::{Deserialize, Serialize};

use crate::polling::jobs::SinceValue;

/// Where the next run begins. `Default`: at the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resume {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// Which request the two above answered; to any other they say nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<SinceValue>,
    /// Most digits that the fraction of a second had in the since-field.
    pub since_digits: u8,
}
