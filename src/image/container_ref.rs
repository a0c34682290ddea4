//! A container image, as those who use container engines name it. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::checked::Line;
use crate::digest::Digest;

/// The container image that a machine was made of.
///
/// As text it is `ID REFERENCE`: so it travels in the arguments of the machine's QEMU, where it is
/// found when the machine's record is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRef {
    /// The id that container engines give the image: the digest of its config. Without a container
    /// the id of vmfab's own image.
    pub id: Digest,
    /// How the user named it.
    pub reference: Line,
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.reference)
    }
}

/// The text is no id with a reference behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoContainerRef;

impl FromStr for ContainerRef {
    type Err = NoContainerRef;

    fn from_str(text: &str) -> Result<Self, NoContainerRef> {
        let (id, reference) = text.split_once(' ').ok_or(NoContainerRef)?;
        Ok(Self {
            id: id.parse().map_err(|_| NoContainerRef)?,
            reference: reference.parse().map_err(|_| NoContainerRef)?,
        })
    }
}
