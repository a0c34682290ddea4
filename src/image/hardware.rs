//! What a machine is to have, in the words of options, of `machine` nodes and of images. Pure.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Firmware;
use crate::checked::{MountPoint, Name};

/// What a machine is to have; what is absent is left to its image, or to what is usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardware {
    pub memory_mib: Option<u32>,
    /// Virtual processors.
    pub cpus: Option<u32>,
    /// Size of the disk in bytes; the image's when absent, and never less.
    pub disk_size: Option<u64>,
    /// What starts the operating system.
    pub firmware: Option<Firmware>,
    /// Whether it reaches nothing over its network.
    pub isolated: bool,
    /// What is mounted in the guest at each boot.
    pub mounts: Vec<Mount>,
}

impl Hardware {
    /// The memory of a machine when nobody says.
    pub const MEMORY_MIB: u32 = 1024;
    /// The processors of a machine when nobody says.
    pub const CPUS: u32 = 2;
}

/// Something that a guest mounts at each boot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mount {
    #[serde(flatten)]
    pub what: Mounted,
    /// Where in the guest.
    pub at: MountPoint,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mounted {
    /// A volume of the home, by name.
    Volume(Name),
    /// A directory of the host, by its absolute path.
    Share(PathBuf),
}

impl fmt::Display for Mount {
    /// `data:/var/lib/data:ro`, as the option `--volume` takes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Mounted::Volume(name) => write!(formatter, "{name}")?,
            Mounted::Share(path) => write!(formatter, "{}", path.display())?,
        }
        let read_only = if self.read_only { ":ro" } else { "" };
        write!(formatter, ":{}{read_only}", self.at)
    }
}
