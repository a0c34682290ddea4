//! Programs that disks are written for, and what an image lacks for them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use ext4_view::Ext4;
use serde::Serialize;

use crate::disk::open_root;
use crate::image::{DiskFormat, ImageConfig, MadeFrom};

/// A program that runs machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hypervisor {
    /// VMware's, and ESXi.
    Vmware,
    /// Microsoft's, machines of generation 2.
    Hyperv,
    /// Oracle's.
    Virtualbox,
    /// Proxmox VE.
    Proxmox,
}

/// A part of a machine that a kernel needs a driver for: one of these will do.
struct Part {
    what: &'static str,
    drivers: &'static [&'static str],
}

impl Hypervisor {
    /// All of them, with their names.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("vmware", Self::Vmware),
        ("hyperv", Self::Hyperv),
        ("virtualbox", Self::Virtualbox),
        ("proxmox", Self::Proxmox),
    ];

    /// The format that it imports.
    #[must_use]
    pub const fn format(self) -> DiskFormat {
        match self {
            Self::Vmware => DiskFormat::Vmdk,
            Self::Hyperv => DiskFormat::Vhdx,
            Self::Virtualbox => DiskFormat::Vdi,
            Self::Proxmox => DiskFormat::Qcow2,
        }
    }

    /// The one that a format is of; none for what many take.
    #[must_use]
    pub const fn of_format(format: DiskFormat) -> Option<Self> {
        match format {
            DiskFormat::Vmdk => Some(Self::Vmware),
            DiskFormat::Vhdx | DiskFormat::Vhd => Some(Self::Hyperv),
            DiskFormat::Vdi => Some(Self::Virtualbox),
            _ => None,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Vmware => "VMware",
            Self::Hyperv => "Hyper-V",
            Self::Virtualbox => "VirtualBox",
            Self::Proxmox => "Proxmox",
        }
    }

    /// The controllers of disks and the network cards that it has, with the kernel's names of their
    /// drivers.
    const fn parts(self) -> &'static [Part] {
        match self {
            Self::Vmware => {
                const {
                    &[
                        part("disks on SATA", &["ahci"]),
                        part("disks on LSI Logic", &["mptspi", "mptsas"]),
                        part("disks on PVSCSI", &["vmw_pvscsi"]),
                        part("disks on NVMe", &["nvme"]),
                        part("the network card e1000", &["e1000", "e1000e"]),
                        part("the network card vmxnet3", &["vmxnet3"]),
                    ]
                }
            }
            Self::Hyperv => {
                const {
                    &[
                        part("disks", &["hv_storvsc"]),
                        part("the network card", &["hv_netvsc"]),
                    ]
                }
            }
            Self::Virtualbox => {
                const {
                    &[
                        part("disks on SATA", &["ahci"]),
                        part("disks on IDE", &["ata_piix"]),
                        part("disks on VirtIO", &["virtio_scsi", "virtio_blk"]),
                        part("disks on NVMe", &["nvme"]),
                        part("the network card e1000", &["e1000"]),
                        part("the network card VirtIO", &["virtio_net"]),
                    ]
                }
            }
            Self::Proxmox => {
                const {
                    &[
                        part("disks on VirtIO", &["virtio_scsi", "virtio_blk"]),
                        part("disks on SATA", &["ahci"]),
                        part("the network card VirtIO", &["virtio_net"]),
                        part("the network card e1000", &["e1000"]),
                    ]
                }
            }
        }
    }
}

const fn part(what: &'static str, drivers: &'static [&'static str]) -> Part {
    Part { what, drivers }
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, other)| other == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

/// The text names no hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown hypervisor \"{0}\": use vmware, hyperv, virtualbox or proxmox")]
pub struct ParseHypervisorError(String);

impl FromStr for Hypervisor {
    type Err = ParseHypervisorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = Self::NAMES.iter().find(|(name, _)| *name == text);
        name.map(|(_, found)| *found)
            .ok_or_else(|| ParseHypervisorError(text.to_owned()))
    }
}

/// What keeps an image from being used elsewhere, as sentences. `disk` is its raw disk; `kernel`
/// has the first bytes of its kernel.
pub(super) fn lacks(
    disk: &Path,
    config: &ImageConfig,
    kernel: Option<&[u8]>,
    hypervisor: Option<Hypervisor>,
) -> Vec<String> {
    let mut told = Vec::new();
    let boot = &config.template.boot;
    if let Some(hypervisor) = hypervisor {
        let made_here = config.made_from() == MadeFrom::Tree;
        let bios_will_do = boot.bios && hypervisor != Hypervisor::Hyperv;
        if made_here && !boot.uefi && !bios_will_do {
            told.push(format!(
                "the disk has no boot loader, and {} starts no kernel by itself; write \
                 `disk firmware=\"uefi\"` in the recipe",
                hypervisor.title()
            ));
        }
    }
    let Some(root) = File::open(disk).and_then(open_root).ok().flatten() else {
        if let Some(hypervisor) = hypervisor {
            told.push(format!(
                "whether the kernel has the drivers for {} is not known: the disk has no ext4 file \
                 system to look into",
                hypervisor.title()
            ));
        }
        return told;
    };
    if let Some(hypervisor) = hypervisor {
        told.extend(lacks_drivers(&root, config, kernel, hypervisor));
    }
    told.extend(lacks_login(&root));
    told
}

fn lacks_drivers(
    root: &Ext4,
    config: &ImageConfig,
    kernel: Option<&[u8]>,
    hypervisor: Hypervisor,
) -> Vec<String> {
    let versions = versions(root);
    let booted = kernel.and_then(version_of);
    let version = match booted {
        Some(version) if versions.contains(&version) => version,
        // Of several it is not known which one the disk boots.
        _ => match versions.as_slice() {
            [one] => one.clone(),
            _ => return Vec::new(),
        },
    };
    let drivers = drivers(root, &version);
    if drivers.is_empty() {
        return Vec::new();
    }
    let has = |part: &&Part| part.drivers.iter().any(|driver| drivers.contains(*driver));
    let mut told = Vec::new();
    for (kind, all) in [
        ("disks", "will not find its disk"),
        ("the network", "has no network"),
    ] {
        let parts = || {
            let parts = hypervisor.parts().iter();
            parts.filter(|part| part.what.starts_with(kind))
        };
        let missing: Vec<String> = parts()
            .filter(|part| !has(part))
            .map(|part| format!("{} ({})", part.what, part.drivers.join(", ")))
            .collect();
        let there: Vec<&str> = parts().filter(has).map(|part| part.what).collect();
        if missing.is_empty() {
            continue;
        }
        let then = match there.as_slice() {
            [] => format!("in {} it {all};", hypervisor.title()),
            there => format!(
                "give the machine in {} {}, or",
                hypervisor.title(),
                there.join(" or ")
            ),
        };
        told.push(format!(
            "the kernel {version} has no driver for {}: {then} {}",
            missing.join(", "),
            other_kernel(root, config, &version)
        ));
    }
    told
}

/// The line of a recipe that puts a kernel with more drivers in, where it is known.
fn other_kernel(root: &Ext4, config: &ImageConfig, version: &str) -> String {
    let release = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| root.read_to_string(*path).ok())
        .unwrap_or_default();
    let is = |id: &str| release.lines().any(|line| line == format!("ID={id}"));
    let architecture = match &*config.template.architecture {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    if is("debian") && version.contains("-cloud-") {
        format!(
            "put `packages \"linux-image-{architecture}\"` into the recipe in the place of \
             \"linux-image-cloud-{architecture}\""
        )
    } else if is("ubuntu") {
        "put `packages \"linux-image-generic\"` into the recipe in the place of \
         \"linux-image-virtual\""
            .to_owned()
    } else {
        "install a kernel with these drivers in the image".to_owned()
    }
}

/// The kernels that have modules.
fn versions(root: &Ext4) -> Vec<String> {
    let entries = root
        .read_dir("/lib/modules")
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().display().to_string());
    let mut versions: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
    versions.retain(|version| {
        root.exists(format!("/lib/modules/{version}/modules.dep").as_str())
            .unwrap_or(false)
    });
    versions
}

/// The version that a kernel for x86 tells: the kernel's documentation,
/// `Documentation/arch/x86/boot.rst`.
fn version_of(kernel: &[u8]) -> Option<String> {
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let at = usize::from(u16::from_le_bytes([
        *kernel.get(0x20E)?,
        *kernel.get(0x20F)?,
    ])) + 0x200;
    let text = kernel.get(at..)?.split(|byte| *byte == 0).next()?;
    let text = std::str::from_utf8(text).ok()?;
    Some(text.split_whitespace().next()?.to_owned())
}

/// The names of the drivers that a kernel has, as modules or built in.
fn drivers(root: &Ext4, version: &str) -> BTreeSet<String> {
    let mut drivers = BTreeSet::new();
    for list in ["modules.dep", "modules.builtin"] {
        let path = format!("/lib/modules/{version}/{list}");
        let text = root.read_to_string(path.as_str()).unwrap_or_default();
        for line in text.lines() {
            let path = line.split(':').next().unwrap_or(line);
            let file = path.rsplit('/').next().unwrap_or(path);
            if let Some((name, _)) = file.split_once(".ko") {
                drivers.insert(name.replace('-', "_"));
            }
        }
    }
    drivers
}

/// Whether nobody can log in.
fn lacks_login(root: &Ext4) -> Option<String> {
    let read = |path: &str| root.read_to_string(path).unwrap_or_default();
    let has_password = read("/etc/shadow")
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .any(|hash| !hash.starts_with(['!', '*']));
    let homes = read("/etc/passwd");
    let homes = homes.lines().filter_map(|line| line.split(':').nth(5));
    let has_key = homes.filter(|home| home.starts_with('/')).any(|home| {
        let files = ["authorized_keys", "authorized_keys2"];
        files.iter().any(|file| {
            let keys = read(&format!("{}/.ssh/{file}", home.trim_end_matches('/')));
            keys.lines()
                .any(|line| !line.trim().is_empty() && !line.starts_with('#'))
        })
    });
    let asks_elsewhere = root.exists("/usr/bin/cloud-init").unwrap_or(false);
    (!has_password && !has_key && !asks_elsewhere).then(|| {
        "nobody can log in to this disk outside of vmfab, which gives a key to each machine that it makes: no \
         account has a password or a key; write `user \"NAME\" { authorized-keys \"ssh-ed25519 …\" }` in the \
         recipe"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_tells_its_version() {
        let mut kernel = vec![0; 0x600];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x20E..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
        kernel[0x500..0x51a].copy_from_slice(b"6.1.0-41-cloud-amd64 (deb)");
        assert_eq!(version_of(&kernel).unwrap(), "6.1.0-41-cloud-amd64");
        assert_eq!(version_of(&kernel[..0x210]), None);
        assert_eq!(version_of(b"MZ"), None);
    }

    #[test]
    fn names() {
        for (name, hypervisor) in Hypervisor::NAMES {
            assert_eq!(name.parse(), Ok(hypervisor));
            assert_eq!(hypervisor.to_string(), name);
        }
        assert!("xen".parse::<Hypervisor>().is_err());
    }
}
