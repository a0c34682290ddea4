//! Names of snapshots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::store::TagName;

/// The name of a project snapshot: of the same form as a tag's, without `@`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

/// The names of snapshots that exist while an image is made of their machine begin with this.
const COMMIT: &str = "commit-";

impl SnapshotName {
    /// A new name for the snapshot of a commit.
    #[must_use]
    pub fn for_commit() -> Self {
        Self(format!("{COMMIT}{}", uuid::Uuid::new_v4().simple()))
    }

    pub(super) fn is_for_commit(&self) -> bool {
        self.0.starts_with(COMMIT)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SnapshotName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('@') {
            return Err(format!(
                "{text} names an image; the name of a snapshot has no @"
            ));
        }
        match text.parse::<TagName>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(format!(
                "\"{text}\" cannot be a snapshot's name: use letters, digits, \".\", \"_\" and \"-\", \
                 beginning with a letter, digit or \"_\", at most 128"
            )),
        }
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.0
    }
}
