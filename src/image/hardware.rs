//! What a machine is to have, in the words of options, of `machine` nodes and of images. Pure.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Firmware, FirstBoot, Network};
use crate::checked::{DirectoryBelow, MachineType, MountPoint, Name, PublicKey};

/// What a machine is to have; what is absent is left to its image, or to what is usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardware {
    pub memory_mib: Option<u32>,
    /// Virtual processors.
    pub cpus: Option<u32>,
    /// Size of the disk in bytes; the image's when absent, and never less.
    pub disk_size: Option<u64>,
    /// Its disks besides the first.
    pub disks: Vec<FurtherDisk>,
    /// What starts the operating system.
    pub firmware: Option<Firmware>,
    /// What it is connected to.
    pub network: Option<Network>,
    /// What is mounted in the guest at each boot.
    pub mounts: Vec<Mount>,
    pub devices: Devices,
    /// Keys that open it, beside its own.
    pub ssh_keys: Vec<PublicKey>,
    pub first_boot: FirstBoot,
}

/// Devices that differ from the usual, such as those for people who install by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Devices {
    #[serde(flatten)]
    pub platform: Platform,
    /// An image of a CD in its drive, by its absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cdrom: Option<PathBuf>,
    pub display: Display,
    /// Whether it has a TPM.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tpm: bool,
}

impl Devices {
    /// Whether nothing differs.
    #[must_use]
    pub fn are_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What a guest needs drivers for: an image says it when its guest lacks those of virtio.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Platform {
    /// What QEMU calls the machine; `q35` when nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_type: Option<MachineType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bus: Option<DiskBus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<Nic>,
}

impl Platform {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `base` says, where this says nothing.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        let machine_type = self.machine_type.as_ref().or(base.machine_type.as_ref());
        Self {
            machine_type: machine_type.cloned(),
            disk_bus: self.disk_bus.or(base.disk_bus),
            nic: self.nic.or(base.nic),
        }
    }

    /// Its rows in what people read.
    #[must_use]
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let bus = |bus| name(&DiskBus::NAMES, bus);
        let nic = |nic| name(&Nic::NAMES, nic);
        let machine_type = self.machine_type.as_ref().map(ToString::to_string);
        let rows = [
            ("machine type", machine_type),
            ("disk bus", self.disk_bus.map(bus)),
            ("network card", self.nic.map(nic)),
        ];
        let said = rows.into_iter();
        said.filter_map(|(row, value)| Some((row, value?)))
            .collect()
    }
}

fn name<T: PartialEq>(names: &[(&'static str, T)], value: T) -> String {
    let found = names.iter().find(|(_, other)| *other == value);
    found.map_or("", |(name, _)| *name).to_owned()
}

/// How a guest reaches its disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBus {
    #[default]
    Virtio,
    /// By a virtio controller.
    Scsi,
    /// IDE where the machine type has no SATA.
    Sata,
    Nvme,
}

impl DiskBus {
    /// Each by its name.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("virtio", Self::Virtio),
        ("scsi", Self::Scsi),
        ("sata", Self::Sata),
        ("nvme", Self::Nvme),
    ];
}

/// A guest's network card.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nic {
    #[default]
    Virtio,
    E1000,
    E1000e,
    Rtl8139,
}

impl Nic {
    /// Each by its name.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("virtio", Self::Virtio),
        ("e1000", Self::E1000),
        ("e1000e", Self::E1000e),
        ("rtl8139", Self::Rtl8139),
    ];
}

/// Where a guest's screen is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Display {
    #[default]
    None,
    /// To a viewer that connects to a unix socket.
    Vnc,
}

impl Display {
    /// Each by its name.
    pub const NAMES: [(&'static str, Self); 2] = [("none", Self::None), ("vnc", Self::Vnc)];
}

impl Hardware {
    /// The memory of a machine when nobody says.
    pub const MEMORY_MIB: u32 = 1024;
    /// The processors of a machine when nobody says.
    pub const CPUS: u32 = 2;
}

/// A disk besides the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FurtherDisk {
    /// An empty one, the machine's own, of so many bytes.
    Empty(u64),
    /// A file of the host.
    File {
        path: PathBuf,
        /// Whether the guest may write to it.
        writable: bool,
    },
}

/// A file of the host that is a disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskFile {
    /// Absolute.
    pub path: PathBuf,
    /// Whether it is a qcow2, and not the bytes of the disk.
    pub qcow2: bool,
    /// Whether the guest may write to it.
    pub writable: bool,
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

/// A directory of the host that an image asks for. Only the user of the host gives it one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AskedShare {
    /// Below the directory that the user is in.
    pub host: DirectoryBelow,
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

impl Mount {
    /// The volume that is mounted.
    #[must_use]
    pub const fn volume(&self) -> Option<&Name> {
        match &self.what {
            Mounted::Volume(name) => Some(name),
            Mounted::Share(_) => None,
        }
    }
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
