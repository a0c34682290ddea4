//! What a machine is to have, in the words of options, of `machine` nodes and of images. Pure.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Firmware, FirstBoot, Network};
use crate::checked::{DirectoryBelow, MachineType, MountPoint, Name, PublicKey};
use crate::text::shown_size;

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

/// The least that a machine of an image needs, as its recipe says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Requires {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Size of the disk in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
    /// Virtual processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
}

impl Requires {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What both need.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            memory_mib: self.memory_mib.max(other.memory_mib),
            disk: self.disk.max(other.disk),
            cores: self.cores.max(other.cores),
        }
    }

    /// The memory of a machine, of which `asked` was asked for.
    #[must_use]
    pub fn memory_mib(&self, asked: Option<u32>) -> u32 {
        let usual = Hardware::MEMORY_MIB.max(self.memory_mib.unwrap_or_default());
        asked.unwrap_or(usual)
    }

    /// The processors of a machine, of which `asked` were asked for.
    #[must_use]
    pub fn cpus(&self, asked: Option<u32>) -> u32 {
        let usual = Hardware::CPUS.max(self.cores.unwrap_or_default());
        asked.unwrap_or(usual)
    }

    /// The size of a machine's disk over that of an image of `image` bytes.
    #[must_use]
    pub fn disk(&self, asked: Option<u64>, image: u64) -> u64 {
        asked.unwrap_or(image.max(self.disk.unwrap_or_default()))
    }

    /// What hardware that was asked for has less of: the name of its option, what it has, and what
    /// it needs.
    #[must_use]
    pub fn lacking(&self, asked: &Hardware) -> Vec<(&'static str, String, String)> {
        let size = |bytes: u64| shown_size(bytes);
        let mib = |mib: u32| shown_size(u64::from(mib) << 20);
        let mut lacking = Vec::new();
        if let (Some(has), Some(needs)) = (asked.memory_mib, self.memory_mib)
            && has < needs
        {
            lacking.push(("memory", mib(has), mib(needs)));
        }
        if let (Some(has), Some(needs)) = (asked.cpus, self.cores)
            && has < needs
        {
            lacking.push(("cpus", has.to_string(), needs.to_string()));
        }
        if let (Some(has), Some(needs)) = (asked.disk_size, self.disk)
            && has < needs
        {
            lacking.push(("disk-size", size(has), size(needs)));
        }
        lacking
    }

    /// It, for people: `memory 2G, 2 cores, disk 20G`.
    #[must_use]
    pub fn describe(&self) -> String {
        let parts = [
            self.memory_mib
                .map(|mib| format!("memory {}", shown_size(u64::from(mib) << 20))),
            self.cores.map(|cores| match cores {
                1 => "1 core".to_owned(),
                cores => format!("{cores} cores"),
            }),
            self.disk.map(|disk| format!("disk {}", shown_size(disk))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join(", ")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_get_what_is_required_unless_told_otherwise() {
        let own = Requires {
            memory_mib: Some(2048),
            disk: None,
            cores: Some(1),
        };
        let base = Requires {
            memory_mib: Some(512),
            disk: Some(20 << 30),
            cores: None,
        };
        let both = own.and(base);
        assert_eq!(both.describe(), "memory 2G, 1 core, disk 20G");
        assert_eq!(
            (both.memory_mib(None), both.memory_mib(Some(64))),
            (2048, 64)
        );
        assert_eq!((both.cpus(None), both.cpus(Some(1))), (Hardware::CPUS, 1));
        assert_eq!(both.disk(None, 10 << 30), 20 << 30);
        assert_eq!(both.disk(None, 30 << 30), 30 << 30);
        let asked = Hardware {
            memory_mib: Some(1024),
            cpus: Some(1),
            disk_size: Some(10 << 30),
            ..Hardware::default()
        };
        let lacking: Vec<_> = both.lacking(&asked).into_iter().map(|one| one.0).collect();
        assert_eq!(lacking, ["memory", "disk-size"]);
    }
}
