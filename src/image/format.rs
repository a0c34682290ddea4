//! The formats of disk files.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A format of disk files. QEMU reads and writes all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// QEMU, Proxmox, OpenStack, libvirt (<https://www.qemu.org/docs/master/interop/qcow2.html>).
    Qcow2,
    /// The bytes of the disk: everything, and `dd`.
    Raw,
    /// VMware and VirtualBox, one file with all that belongs to it.
    Vmdk,
    /// Hyper-V (MS-VHDX).
    Vhdx,
    Vdi,
    /// Virtual PC, Azure, Xen; fixed or dynamic.
    Vhd,
    /// QEMU before qcow2.
    Qcow,
    /// QEMU, given up for qcow2.
    Qed,
    Parallels,
}

impl DiskFormat {
    /// All of them with their names, in recipes and as file extensions.
    pub const NAMES: [(&'static str, Self); 9] = [
        ("raw", Self::Raw),
        ("qcow2", Self::Qcow2),
        ("vmdk", Self::Vmdk),
        ("vhd", Self::Vhd),
        ("vhdx", Self::Vhdx),
        ("vdi", Self::Vdi),
        ("qcow", Self::Qcow),
        ("qed", Self::Qed),
        ("parallels", Self::Parallels),
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        let find = Self::NAMES.iter().find(|(_, format)| *format == self);
        find.map_or("raw", |(name, _)| name)
    }

    #[must_use]
    pub fn qemu_name(self) -> &'static str {
        match self {
            Self::Vhd => "vpc",
            other => other.name(),
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let find = Self::NAMES.iter().find(|(other, _)| *other == name);
        find.map(|(_, format)| *format)
    }

    /// What the extension of a file name says. `.img` is raw.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "img" => Some(Self::Raw),
            other => Self::named(other),
        }
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for DiskFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The text names no disk format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown disk format \"{0}\": use {names}", names = names())]
pub struct ParseFormatError(String);

impl FromStr for DiskFormat {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::named(text).ok_or_else(|| ParseFormatError(text.to_owned()))
    }
}

fn names() -> String {
    let names = DiskFormat::NAMES.map(|(name, _)| name);
    let (last, others) = names.split_last().unwrap_or((&"", &[]));
    format!("{} or {last}", others.join(", "))
}
