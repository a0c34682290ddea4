//! What an image in a registry or a layout is, as far as plans need it.

use std::collections::BTreeMap;

use crate::checked::Line;
use crate::digest::{Checksum, Sha256};
use crate::image::{ContainerConfig, HistoryEntry, ImageConfig, local_scheme};
use crate::recipe::unfit_for_logins;

/// What programs find their commands by in every sandbox: a variable with this value says nothing.
pub(super) const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image in a registry or a layout is.
#[derive(Debug, Clone, PartialEq)]
pub enum Remote {
    /// An image of vmfab, and where those of its objects can be had that are not in the store:
    /// `digest` is that of its manifest, `size` is not used.
    Image(BlobPlace, Box<ImageConfig>),
    /// A container image.
    Container(Container),
    Disk(RemoteDisk),
}

/// A container image: a tree in layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Its layers, lowest first.
    pub layers: Vec<ContainerLayer>,
    /// What it runs, and how.
    pub config: Box<ContainerConfig>,
    pub author: Option<Line>,
    /// What made it, as far as it says.
    pub history: Vec<HistoryEntry>,
    /// The digest of its manifest; nothing while it is not locked.
    pub digest: Option<Sha256>,
}

/// The variables of a container that hold in steps and for all logins. The usual PATH is left out,
/// and what logins could not have.
#[must_use]
pub fn login_env(config: &ContainerConfig) -> BTreeMap<String, String> {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let variables = config.env.iter();
    variables
        .filter(|(name, value)| is_name(name) && unfit_for_logins(value).is_none())
        .filter(|(name, value)| (name.as_str(), value.as_str()) != ("PATH", USUAL_PATH))
        .cloned()
        .collect()
}

/// A layer of a container image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLayer {
    /// The hash of its tar.
    pub diff_id: Sha256,
    /// Where it can be had.
    pub place: BlobPlace,
}

/// A disk in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteDisk {
    /// The blob is the disk, compressed or not.
    Blob(BlobPlace),
    /// It is the one file below `disk/` of a layer.
    Containerdisk(ContainerLayer),
}

/// Where a blob can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobPlace {
    /// What it is, for people: `layer 2 of debian:12`.
    pub name: String,
    /// The repository: `HOST/NAME`, or one of this host, such as `oci:DIR`.
    pub repository: String,
    /// The hash of its bytes there.
    pub digest: Sha256,
    /// How many there are.
    pub size: u64,
}

impl BlobPlace {
    /// Whether it is on this host.
    #[must_use]
    pub fn is_local(&self) -> bool {
        local_scheme(&self.repository).is_some()
    }

    /// What it is called in messages, and what partial files are named by.
    #[must_use]
    pub fn address(&self) -> String {
        let digest = Checksum::from(self.digest);
        match self.is_local() {
            true => format!("{}@{digest}", self.repository),
            false => format!("oci://{}@{digest}", self.repository),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments() {
        let read = |lines: &[&str]| {
            let config = serde_json::json!({ "Env": lines });
            login_env(&serde_json::from_value(config).unwrap())
        };
        let variables = read(&[
            "A=1",
            "B=x=y",
            "PATH=/bin",
            "C",
            "D=",
            "E E=1",
            "F=a\tb",
            "=1",
        ]);
        let shown: Vec<_> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(shown, ["A=1", "B=x=y", "D=", "PATH=/bin"]);
        assert!(read(&[&format!("PATH={USUAL_PATH}")]).is_empty());
    }
}
