//! What a machine is to have, as options.

use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::super::prompt;
use crate::checked::{MachineType, PublicKey};
use crate::failure::Failure;
use crate::guest::hash_password;
use crate::host::Interrupt;
use crate::host::file::read_text;
use crate::image::{
    self, Devices, DiskBus, Display, FirstBoot, FurtherDisk, Hardware, Mount, Mounted, Network,
    Nic, ParseNetworkError, Platform, Uplink,
};

use crate::ops::machine::cloud_init;

/// A file of public keys has at most so many bytes.
const MOST: u64 = 1 << 20;
/// Heading of these options in help texts.
const HEADING: &str = "Hardware";

/// What a machine is to have.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct HardwareArgs {
    /// Set the memory [default: 1G]
    #[arg(short, long, value_name = "SIZE", value_parser = parse_memory, help_heading = HEADING)]
    pub(super) memory: Option<u32>,

    /// Set the number of virtual processors [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255), help_heading = HEADING)]
    pub(super) cpus: Option<u32>,

    /// Set the size of the disk [default: the image's]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = HEADING)]
    pub(super) disk_size: Option<u64>,

    /// Add a disk: an empty one of SIZE, or FILE, a raw or qcow2 file (repeatable)
    ///
    /// Snapshots and clones include an empty disk. The guest only reads FILE, unless :rw follows. Snapshots
    /// do not include it.
    #[arg(long = "disk", value_name = "SIZE|FILE[:rw]", value_parser = parse_disk, value_hint = clap::ValueHint::FilePath, help_heading = HEADING)]
    pub(super) disks: Vec<FurtherDisk>,

    /// Mount a volume, or share a directory of this host, at PATH of the machine (repeatable)
    ///
    /// The guest mounts it at each boot; :ro makes it read-only. vmfab creates the volume NAME if it
    /// does not exist. It outlives the machine; one machine at a time can use it. A directory begins
    /// with ".", "/" or "~"; the guest can do in it what you can do.
    #[arg(long = "volume", value_name = "NAME|DIRECTORY:PATH[:ro]", value_parser = parse_mount, help_heading = HEADING)]
    pub(super) mounts: Vec<Mount>,

    /// Connect the machine: user, passt, none, bridge[:NAME], and group [default: user]
    ///
    /// With none, the guest reaches neither this host nor the internet; forwarded ports still work. group
    /// adds a private network, in which the machines of a project (or those outside of projects) find each
    /// other by name: --network none,group is that network alone.
    #[arg(long, value_name = "NETWORK", value_parser = parse_network, help_heading = HEADING)]
    pub(super) network: Option<Network>,

    /// Choose how to start the system: direct, uefi or bios [default: as the image says]
    #[arg(long, value_name = "WHICH", value_enum, hide_possible_values = true, help_heading = HEADING)]
    pub(super) firmware: Option<Firmware>,

    /// Attach disks by virtio, scsi, sata or nvme [default: as the image says, else virtio]
    #[arg(long, value_name = "BUS", value_parser = choice(&DiskBus::NAMES), hide_possible_values = true, help_heading = HEADING)]
    pub(super) disk_bus: Option<DiskBus>,

    /// Use a network card of virtio, e1000, e1000e or rtl8139 [default: as the image says, else virtio]
    #[arg(long, value_name = "MODEL", value_parser = choice(&Nic::NAMES), hide_possible_values = true, help_heading = HEADING)]
    pub(super) nic: Option<Nic>,

    /// Use a type of machine, such as pc [default: as the image says, else q35]
    #[arg(long, value_name = "TYPE", value_parser = parse_machine_type, help_heading = HEADING)]
    pub(super) machine_type: Option<MachineType>,

    /// Put FILE, an image of a CD or DVD, into the machine's drive
    #[arg(long, value_name = "FILE", value_parser = parse_cdrom, value_hint = clap::ValueHint::FilePath, help_heading = HEADING)]
    pub(super) cdrom: Option<PathBuf>,

    /// Let the SSH key of FILE in, too: a public key, such as ~/.ssh/id_ed25519.pub (repeatable)
    #[arg(long = "ssh-key", value_name = "FILE", value_parser = parse_public_keys, value_hint = clap::ValueHint::FilePath, help_heading = HEADING)]
    pub(super) ssh_keys: Vec<PublicKeys>,

    /// Read a password for the account of vmfab ssh from standard input
    ///
    /// The password is for logins at the console and the screen. The guest's SSH server decides whether it
    /// accepts passwords. vmfab keeps only a hash (SHA-512), which the guest takes over at its first boot.
    #[arg(long, help_heading = HEADING)]
    pub(super) password_stdin: bool,

    /// Give cloud-init a file with user data, or a directory with user-data, meta-data, network-config and
    /// vendor-data
    ///
    /// vmfab merges them with its own: your settings win, and vmfab adds its accounts and keys to yours. The
    /// machine keeps a copy.
    #[arg(long, value_name = "FILE|DIRECTORY", value_hint = clap::ValueHint::AnyPath, help_heading = HEADING)]
    pub(super) cloud_init: Option<PathBuf>,

    /// Let podman, skopeo and bootc of the machine reach the registry at PORT of this host (repeatable)
    ///
    /// In the machine, localhost:PORT is that of this host for them, with or without TLS. It works with
    /// --network user. systemd must be 252 or later.
    #[arg(long = "registry-access", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), help_heading = HEADING)]
    pub(super) registries: Vec<u16>,

    /// Give the machine a TPM 2.0, which keeps its state (needs swtpm)
    #[arg(long, help_heading = HEADING)]
    pub(super) tpm: bool,

    /// Show the screen: vnc listens on a unix socket that vmfab inspect shows; none does not
    #[arg(long, value_name = "WHERE", value_parser = choice(&Display::NAMES), hide_possible_values = true, help_heading = HEADING)]
    pub(super) display: Option<Display>,
}

/// The keys of a file.
#[derive(Debug, Clone)]
pub(super) struct PublicKeys(Vec<PublicKey>);

/// The lines of a file, but for empty ones and comments.
pub(super) fn parse_public_keys(path: &str) -> Result<PublicKeys, String> {
    let text = read_text(path.as_ref(), MOST).map_err(|error| format!("{path}: {error}"))?;
    if text.contains("PRIVATE KEY") {
        return Err(format!(
            "{path} is a private key: name its public half, {path}.pub"
        ));
    }
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<PublicKey> = lines
        .map(|line| line.parse().map_err(told))
        .collect::<Result<_, _>>()?;
    match keys.is_empty() {
        true => Err(format!("{path} has no public key")),
        false => Ok(PublicKeys(keys)),
    }
}

/// A parser of names that stand for values.
fn choice<T: Copy + Send + Sync + 'static>(
    names: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    let known = names.iter().map(|(name, _)| *name);
    PossibleValuesParser::new(known).try_map(move |chosen| {
        let found = names.iter().find(|(name, _)| *name == chosen);
        found.map(|(_, value)| *value).ok_or("unknown")
    })
}

fn parse_machine_type(text: &str) -> Result<MachineType, String> {
    text.parse().map_err(told)
}

pub(super) fn parse_network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|_| ParseNetworkError::HELP.to_owned())
}

/// `20G`, `./data.img`, `data.qcow2:rw`.
fn parse_disk(text: &str) -> Result<FurtherDisk, String> {
    if let Ok(size) = parse_size(text) {
        return match size % (1 << 20) {
            0 => Ok(FurtherDisk::Empty(size)),
            _ => Err("write whole mebibytes, such as 512M or 20G".to_owned()),
        };
    }
    let (path, writable) = match text.strip_suffix(":rw") {
        Some(path) => (path, true),
        None => (text.strip_suffix(":ro").unwrap_or(text), false),
    };
    let path = parse_cdrom(path)?;
    Ok(FurtherDisk::File { path, writable })
}

/// The absolute path of a file.
fn parse_cdrom(text: &str) -> Result<PathBuf, String> {
    let path = fs::canonicalize(text).map_err(|error| format!("{text}: {error}"))?;
    match path.is_file() {
        true => Ok(path),
        false => Err(format!("{text} is not a file")),
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Firmware {
    Direct,
    Uefi,
    Bios,
}

impl HardwareArgs {
    pub(super) fn hardware(self, interrupt: &Interrupt) -> Result<Hardware, Failure> {
        for (index, mount) in self.mounts.iter().enumerate() {
            if self.mounts[..index]
                .iter()
                .any(|other| other.at == mount.at)
            {
                let message = format!("two things are to be mounted at {}", mount.at);
                return Err(Failure::usage(message).with_help("give one of them another path"));
            }
            let twice = |other: &Mount| match &mount.what {
                Mounted::Volume(_) => other.what == mount.what,
                Mounted::Share(_) => false,
            };
            if self.mounts[..index].iter().any(twice) {
                let message = format!("--volume {mount}: it is mounted elsewhere already");
                return Err(Failure::usage(message).with_help("mount a volume once"));
            }
        }
        let uplink = self.network.as_ref().map(|network| &network.uplink);
        if !self.registries.is_empty() && uplink.is_some_and(|uplink| *uplink != Uplink::User) {
            let message = "--registry-access needs the network \"user\", which leads to this host";
            return Err(Failure::usage(message).with_help("leave out --network"));
        }
        let password = match self.password_stdin {
            true => Some(hash_password(&prompt::standard_input(interrupt)?)?),
            false => None,
        };
        let real = |path: &Path| path.canonicalize().map_err(Failure::io("open", path));
        let cloud_init = self.cloud_init.map(|path| cloud_init(&path, &real));
        Ok(Hardware {
            memory_mib: self.memory,
            cpus: self.cpus,
            disk_size: self.disk_size,
            disks: self.disks,
            firmware: self.firmware.map(|firmware| match firmware {
                Firmware::Direct => image::Firmware::Direct,
                Firmware::Uefi => image::Firmware::Uefi,
                Firmware::Bios => image::Firmware::Bios,
            }),
            network: self.network,
            mounts: self.mounts,
            ssh_keys: self.ssh_keys.into_iter().flat_map(|keys| keys.0).collect(),
            first_boot: FirstBoot {
                password,
                cloud_init: cloud_init.transpose()?,
                ignition: None,
                registries: self.registries.into_iter().collect(),
            },
            devices: Devices {
                platform: Platform {
                    machine_type: self.machine_type,
                    disk_bus: self.disk_bus,
                    nic: self.nic,
                },
                cdrom: self.cdrom,
                display: self.display.unwrap_or_default(),
                tpm: self.tpm,
            },
        })
    }
}

/// The absolute path of a directory of this host.
fn directory(text: &str) -> Result<PathBuf, String> {
    let path = fs::canonicalize(text).map_err(|error| format!("{text}: {error}"))?;
    match path.is_dir() {
        true => Ok(path),
        false => Err(format!(
            "{text} is not a directory: name the one that it is in"
        )),
    }
}

/// `data:/var/lib/data`, `./src:/src:ro`: what begins with `.`, `/` or `~` is a directory.
pub(super) fn parse_mount(text: &str) -> Result<Mount, String> {
    let (text, read_only) = match text.strip_suffix(":ro") {
        Some(text) => (text, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    };
    let (what, at) = text
        .rsplit_once(':')
        .ok_or("write NAME:PATH, such as data:/var/lib/postgresql")?;
    let what = match what.starts_with(['.', '/', '~']) {
        true => Mounted::Share(directory(what)?),
        false => Mounted::Volume(what.parse().map_err(told)?),
    };
    let at = at.parse().map_err(told)?;
    Ok(Mount {
        what,
        at,
        read_only,
    })
}

fn told(wrong: crate::checked::Unfit) -> String {
    format!("{wrong}: {}", wrong.help())
}

/// Bytes of `10G`, `512M`, `1T`, `4096K`: powers of 1024, with or without `iB` or `B`.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b'));
    let shift = match unit.unwrap_or(&text[digits..].to_ascii_lowercase()) {
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => 64,
    };
    number
        .parse::<u64>()
        .ok()
        .filter(|number| *number > 0 && shift < 64)
        .and_then(|number| number.checked_mul(1 << (shift % 64)))
        .ok_or_else(|| "write a number and K, M, G or T, such as 512M or 10G".to_owned())
}

/// MiB of a size that a machine's memory can have.
pub(super) fn parse_memory(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text)?;
    let mib = u32::try_from(bytes >> 20).ok();
    mib.filter(|mib| *mib >= 32 && bytes % (1 << 20) == 0)
        .ok_or_else(|| "a machine needs at least 32M of memory, in whole M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("10G", 10 << 30),
            ("512m", 512 << 20),
            ("1GiB", 1 << 30),
            ("2tb", 2 << 40),
            ("4K", 4096),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "10",
            "G",
            "0G",
            "1.5G",
            "-1G",
            "99999999999T",
            "1X",
            "1ib",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_memory("1G"), Ok(1024));
        for bad in ["16M", "33000K", "9000000T"] {
            assert!(parse_memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn public_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let said = |text: &str| {
            fs::write(&path, text).unwrap();
            parse_public_keys(path.to_str().unwrap()).map(|keys| keys.0.len())
        };
        // ssh-keygen made it.
        let ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ40bVItbth04dBcCmp7Xiupg9mfyiA3cj7aNgv1hOVQ me@laptop";
        assert_eq!(said(&format!("# mine\n{ed25519}\n\n{ed25519}\n")), Ok(2));
        for bad in [
            "",
            "# nothing",
            "ssh-ed25519",
            "ssh-ed25519 AAAA me",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJ40bVItbth04dBcCmp7Xiupg9mfyiA3cj7aNgv1hOVQ",
            "command=\"x\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0v",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        ] {
            assert!(said(bad).is_err(), "{bad}");
        }
        assert!(parse_public_keys("/gone").is_err());
    }

    #[test]
    fn disks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("10G.img");
        fs::write(&path, []).unwrap();
        let text = path.to_str().unwrap();
        let file = |writable| FurtherDisk::File {
            path: path.clone(),
            writable,
        };
        for (text, disk) in [
            ("10G".to_owned(), FurtherDisk::Empty(10 << 30)),
            (text.to_owned(), file(false)),
            (format!("{text}:ro"), file(false)),
            (format!("{text}:rw"), file(true)),
        ] {
            assert_eq!(parse_disk(&text), Ok(disk), "{text}");
        }
        for bad in ["", "0G", "10K", "/gone", "/usr", ":rw"] {
            assert!(parse_disk(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts() {
        for text in ["data:/var/lib/data", "data:/srv:ro", "/usr:/src:ro"] {
            assert_eq!(parse_mount(text).unwrap().to_string(), text);
        }
        for bad in [
            "",
            "data",
            "data:",
            ":/srv",
            "data:srv",
            "data:/",
            "a b:/srv",
            "data:/a b",
            "/gone:/x",
            "/etc/hostname:/x",
        ] {
            assert!(parse_mount(bad).is_err(), "{bad}");
        }
    }
}
