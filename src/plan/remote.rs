//! What an image in a registry or a layout is, as far as plans need it.

use std::collections::BTreeMap;

use crate::image::ImageConfig;

/// What an image in a registry or a layout is.
#[derive(Debug, Clone, PartialEq)]
pub enum Remote {
    /// An image of vmfab, and where those of its objects can be had that are not in the store: `digest` is that of
    /// its manifest, `size` is not used.
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
    /// The environment of its processes.
    pub env: BTreeMap<String, String>,
    /// What whoever made it says of it.
    pub labels: BTreeMap<String, String>,
    /// The digest of its manifest, with `sha256:`.
    pub digest: String,
}

/// A layer of a container image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLayer {
    /// The SHA-256 of its tar, with `sha256:`.
    pub diff_id: String,
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
    /// The repository: `HOST/NAME`, `oci:DIR` or `oci-archive:FILE`.
    pub repository: String,
    /// The SHA-256 of its bytes there, with `sha256:`.
    pub digest: String,
    /// How many there are.
    pub size: u64,
}

impl BlobPlace {
    /// Whether it is in a file of this host.
    #[must_use]
    pub fn is_local(&self) -> bool {
        ["oci:", "oci-archive:"]
            .iter()
            .any(|scheme| self.repository.starts_with(scheme))
    }

    /// What it is called in messages, and what partial files are named by.
    #[must_use]
    pub fn address(&self) -> String {
        match self.is_local() {
            true => format!("{}@{}", self.repository, self.digest),
            false => format!("oci://{}@{}", self.repository, self.digest),
        }
    }
}
