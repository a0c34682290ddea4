//! Ids of layers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A layer, or the overlay that becomes one: 32 hexadecimal digits, drawn at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(Uuid);

impl LayerId {
    /// One that nobody has.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The file of the overlay in a machine's directory, as long as the machine writes to it.
    pub(in crate::machine) fn overlay(&self) -> String {
        format!("overlay-{self}.qcow2")
    }

    /// The digits that tell it from the others of a machine.
    pub(in crate::machine) fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl FromStr for LayerId {
    type Err = String;

    /// Only what [`Display`](fmt::Display) writes: it is the name of a file.
    fn from_str(text: &str) -> Result<Self, String> {
        let id = Uuid::try_parse(text).ok().map(Self);
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| format!("\"{text}\" is not the id of a layer"))
    }
}

impl TryFrom<String> for LayerId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> Self {
        id.to_string()
    }
}
