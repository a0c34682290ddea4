//! The file of a snapshot.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::layer::LayerId;
use super::name::SnapshotName;
use crate::checked::{Name, Text};
use crate::digest::{ObjectId, ObjectRef};
use crate::machine::MachineName;
use crate::machine::config::{MachineConfig, MachineDisk};
use crate::machine::suspend::SavedMemory;
use crate::machine::volume::FileSystemId;

/// The newest version that this program reads. A snapshot without volumes has version 1, which
/// earlier programs read, too.
const VERSION: u32 = 2;

/// A machine at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    pub(super) version: u32,
    pub name: SnapshotName,
    /// In seconds since 1970.
    pub created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Text>,
    /// Whether vmfab made it by itself, before a restore.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
    pub frozen: Frozen,
    /// What the guest had in memory, in a file beside this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<SavedMemory>,
    /// The machine's name at that moment.
    pub machine: MachineName,
    /// What was asked for then. The overlay that its disks name is not part of the snapshot.
    pub settings: MachineConfig,
    /// The volumes that its machine had, as they were at that moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<SnapshotVolume>,
    /// The layers that were frozen for it.
    pub own: Vec<LayerId>,
    /// The host keys that the guest had shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub known_hosts: String,
    /// The UEFI variables, when it had some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware_vars: Option<ObjectRef>,
}

/// A volume at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotVolume {
    pub name: Name,
    /// The UUID of its file system: another volume of that name has another one.
    pub filesystem: FileSystemId,
    /// Its size and layers.
    #[serde(flatten)]
    pub disk: MachineDisk,
}

/// What the machine did at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frozen {
    /// It was stopped.
    Stopped,
    /// It ran: the disks are as after a power failure at that moment.
    Running,
    /// It ran, and its file systems were written back and frozen.
    Quiesced,
    /// It ran or was paused, and what it had in memory is part of the snapshot.
    WithMemory,
}

impl Frozen {
    /// For people.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Stopped => "the machine was stopped",
            Self::Running => "the machine was running",
            Self::WithMemory => "the machine was running, with its memory",
            Self::Quiesced => "the machine was running, its file systems frozen",
        }
    }
}

impl Snapshot {
    /// One of now.
    pub(super) fn of(
        name: SnapshotName,
        machine: MachineName,
        settings: MachineConfig,
        volumes: Vec<SnapshotVolume>,
        frozen: Frozen,
    ) -> Self {
        let age = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            version: if volumes.is_empty() { 1 } else { VERSION },
            name,
            created: age.map_or(0, |age| age.as_secs()),
            description: None,
            automatic: false,
            frozen,
            memory: None,
            machine,
            settings,
            volumes,
            own: Vec::new(),
            known_hosts: String::new(),
            firmware_vars: None,
        }
    }

    /// The objects of the store that it needs; what they name is needed, too.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectId> {
        let vars = self.firmware_vars.map(|vars| vars.id);
        [self.settings.image].into_iter().chain(vars).collect()
    }

    /// All layers of its disks and volumes.
    #[must_use]
    pub fn layers(&self) -> Vec<LayerId> {
        let volumes = self.volumes.iter().map(|volume| &volume.disk);
        let disks = self.settings.disks.iter().chain(volumes);
        disks.flat_map(|disk| disk.layers.iter().copied()).collect()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("snapshots serialise to JSON");
        json.push(b'\n');
        json
    }

    /// # Errors
    /// It is none of this version; a phrase.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let snapshot = Self::from_value(stored)?;
        let mut volumes = snapshot.volumes.iter();
        match volumes.find(|volume| volume.disk.layers.is_empty()) {
            Some(volume) => Err(format!("volume \"{}\" has no layer", volume.name)),
            None => Ok(snapshot),
        }
    }

    /// # Errors
    /// See [`from_bytes`](Self::from_bytes).
    pub(super) fn from_value(stored: serde_json::Value) -> Result<Self, String> {
        match stored["version"].as_u64() {
            Some(version) if version > u64::from(VERSION) => Err(format!(
                "it has version {version}, this vmfab supports up to {VERSION}"
            )),
            _ => serde_json::from_value(stored).map_err(|error| error.to_string()),
        }
    }
}
