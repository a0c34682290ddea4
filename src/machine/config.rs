//! `machine.json`: what was asked for. What is running is never in a file.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::directory::check_entries;
use super::directory::files::overlay_of;
use super::error::{MachineError, io_error};
use super::name::MachineName;
use super::snapshot::LayerId;
use crate::checked::{self, AccountName, Name, PublicKey};
use crate::digest::ObjectId;
use crate::host::beneath::read_unlinked;
use crate::host::file::{Durability, Replace};
use crate::image::{
    ContainerRef, Devices, DiskFile, Firmware, FirstBoot, Hardware, Mount, Network, Port, Protocol,
    Requires, Seed, Uplink,
};
use crate::qemu::{AccelChoice, disk_node};

/// The version that this program writes, and the newest that it reads. Version 1 has the size of
/// the one disk (`disk-size`) in place of the list; version 2 knows no layers.
const VERSION: u32 = 3;
/// Its file in the machine's directory.
pub(super) const FILE: &str = "machine.json";

/// What was asked for when the machine was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineConfig {
    /// Version of this format.
    pub version: u32,
    /// The image below the overlay.
    pub image: ObjectId,
    /// The image's name, for people.
    pub image_name: Name,
    /// Tells this machine from all others, to its guest. Machines of earlier versions have none,
    /// and their guests are not told; in the file it is empty then.
    #[serde(default, with = "instance")]
    pub instance: Option<Uuid>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// Its disks; the first is over the image's.
    #[serde(alias = "disk-size", deserialize_with = "disks")]
    pub disks: Vec<MachineDisk>,
    /// Port of 127.0.0.1 that leads to the guest's SSH server. Chosen free, and chosen anew at a
    /// start that finds it taken.
    #[serde(deserialize_with = "checked::port")]
    pub ssh_port: u16,
    /// The account that `vmfab ssh` uses.
    pub ssh_user: AccountName,
    /// Other forwarded ports.
    pub ports: Vec<Forwarded>,
    pub accel: AccelChoice,
    /// What starts the operating system.
    pub firmware: Firmware,
    /// How its guest learns its name and whose key to let in.
    #[serde(default, skip_serializing_if = "Seed::is_usual")]
    pub seed: Seed,
    /// What it is connected to.
    #[serde(default, skip_serializing_if = "Network::is_usual")]
    pub network: Network,
    /// What its guest mounts at each boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Keys that open it, beside its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<PublicKey>,
    #[serde(default, skip_serializing_if = "FirstBoot::is_empty")]
    pub first_boot: FirstBoot,
    /// Files of the host that are further disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disk_files: Vec<DiskFile>,
    /// Devices that differ from the usual.
    #[serde(default, skip_serializing_if = "Devices::are_usual")]
    pub devices: Devices,
    /// Whether the machine goes when it is stopped.
    pub remove_when_stopped: bool,
    /// The container image that it was made of, if its user asked for it as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerRef>,
    /// Whether its disk has the identity of another machine: the next start renews it first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renew_identity: bool,
}

/// A port of the host that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// Port on the host.
    #[serde(deserialize_with = "checked::port")]
    pub host: u16,
    /// Port in the guest.
    #[serde(deserialize_with = "checked::port")]
    pub guest: u16,
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
    /// The address of the host that it listens on.
    #[serde(default = "localhost", skip_serializing_if = "Ipv4Addr::is_loopback")]
    pub address: Ipv4Addr,
    /// Whether the image asks for it and not the user: another port of the host does as well.
    #[serde(
        default,
        rename = "from-image",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub from_image: bool,
}

impl Forwarded {
    /// A TCP port that the user asked for.
    #[must_use]
    pub const fn tcp(host: u16, guest: u16) -> Self {
        Self {
            host,
            guest,
            protocol: Protocol::Tcp,
            address: Ipv4Addr::LOCALHOST,
            from_image: false,
        }
    }

    /// A port that the user asked for.
    #[must_use]
    pub fn asked(port: &Port) -> Option<Self> {
        Some(Self {
            protocol: port.protocol,
            address: port.address.unwrap_or(Ipv4Addr::LOCALHOST),
            ..Self::tcp(port.host?, port.guest)
        })
    }

    /// Whether both cannot listen at once.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        let everywhere = |one: &Self| one.address.is_unspecified();
        (self.host, self.protocol) == (other.host, other.protocol)
            && (self.address == other.address || everywhere(self) || everywhere(other))
    }
}

const fn localhost() -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

impl fmt::Display for Forwarded {
    /// `forwards 127.0.0.1:8080 to port 80`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            guest,
            address,
            ..
        } = self;
        let protocol = self.protocol.suffix();
        write!(
            formatter,
            "forwards {address}:{host} to port {guest}{protocol}"
        )
    }
}

/// A disk of a machine, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineDisk {
    /// Bytes.
    pub size: u64,
    /// Frozen overlays that snapshots share, over the image's disk, the lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerId>,
    /// The overlay that the guest writes to. Without one it is that of a machine that was never
    /// frozen, or over layers none yet: the next start makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<LayerId>,
}

impl MachineDisk {
    /// A disk of a machine that is made.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self {
            size,
            layers: Vec::new(),
            top: None,
        }
    }

    /// The file of the overlay that the guest of disk `number` writes to, in the machine's
    /// directory; none when the next start makes it.
    #[must_use]
    pub fn overlay(&self, number: usize) -> Option<String> {
        self.overlay_after(&overlay_of(number))
    }

    /// The same for one whose file is `first` before it was ever frozen.
    pub(in crate::machine) fn overlay_after(&self, first: &str) -> Option<String> {
        match &self.top {
            Some(id) => Some(id.overlay()),
            None if self.layers.is_empty() => Some(first.to_owned()),
            None => None,
        }
    }

    /// The name of its node in a QEMU that was started with it, or that it was put into.
    #[must_use]
    pub fn node(&self, number: usize) -> String {
        self.node_of(&disk_node(number))
    }

    /// The same for one whose node is `first` before it was ever frozen.
    pub(in crate::machine) fn node_of(&self, first: &str) -> String {
        match &self.top {
            Some(id) => format!("{first}-{}", id.short()),
            None => first.to_owned(),
        }
    }

    /// The disk as it is without what was written since it was frozen.
    pub(in crate::machine) fn frozen(&self) -> Self {
        Self {
            top: None,
            ..self.clone()
        }
    }
}

/// The disks of a machine, or the size of the one that machines of version 1 have.
fn disks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<MachineDisk>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Size(u64),
        List(Vec<MachineDisk>),
    }
    match Stored::deserialize(deserializer)? {
        Stored::Size(size) => Ok(vec![MachineDisk::new(size)]),
        Stored::List(disks) if disks.is_empty() => Err(D::Error::custom("it has no disk")),
        Stored::List(disks) => Ok(disks),
    }
}

/// A UUID as text, and none as an empty one.
mod instance {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use uuid::Uuid;

    #[allow(clippy::ref_option, reason = "the signature that serde wants")]
    pub(super) fn serialize<S: Serializer>(
        instance: &Option<Uuid>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = instance.map(|instance| instance.to_string());
        serializer.serialize_str(&text.unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Uuid>, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Ok(None),
            text => Uuid::try_parse(text).map(Some).map_err(Error::custom),
        }
    }
}

impl MachineConfig {
    /// The size of the disk over the image's, in bytes.
    #[must_use]
    pub fn disk_size(&self) -> u64 {
        self.disks.first().map_or(0, |disk| disk.size)
    }

    /// Takes over what can change between two starts.
    pub fn follow(&mut self, hardware: &Hardware, requires: &Requires) {
        self.memory_mib = requires.memory_mib(hardware.memory_mib);
        self.cpus = requires.cpus(hardware.cpus);
        self.network = hardware.network.clone().unwrap_or_default();
        self.mounts.clone_from(&hardware.mounts);
        self.devices.clone_from(&hardware.devices);
        self.ssh_keys.clone_from(&hardware.ssh_keys);
        self.first_boot.clone_from(&hardware.first_boot);
    }

    /// Gives up what only this host's user may give: directories, volumes and files of the host,
    /// keys, networks, and addresses that others reach. For a config that came from elsewhere.
    pub fn forget_grants(&mut self) {
        self.mounts.clear();
        self.disk_files.clear();
        self.devices.cdrom = None;
        self.ssh_keys.clear();
        self.network.group = false;
        if self.network.uplink != Uplink::None {
            self.network.uplink = Uplink::User;
        }
        self.first_boot = FirstBoot::default();
        for port in &mut self.ports {
            port.address = Ipv4Addr::LOCALHOST;
        }
    }

    /// Takes over what the user of this host gave to a machine.
    pub(super) fn take_grants(&mut self, given: &Self) {
        self.mounts.clone_from(&given.mounts);
        self.disk_files.clone_from(&given.disk_files);
        self.devices.cdrom.clone_from(&given.devices.cdrom);
        self.ssh_keys.clone_from(&given.ssh_keys);
        self.network.clone_from(&given.network);
        self.first_boot.clone_from(&given.first_boot);
        self.ports.clone_from(&given.ports);
    }

    /// The version to write.
    pub(super) const VERSION: u32 = VERSION;

    /// Reads the config in a machine's directory.
    pub(super) fn read(name: &MachineName, directory: &Path) -> Result<Self, MachineError> {
        let path = directory.join(FILE);
        let damaged = |why: String| MachineError::Damaged {
            name: name.clone(),
            path: path.clone(),
            why,
        };
        check_entries(directory).map_err(damaged)?;
        let bytes = read_unlinked(&path).map_err(|error| damaged(error.to_string()))?;
        // The version first: what is in a newer one may not be what is read here.
        let mut stored: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if let Some(version) = stored["version"].as_u64()
            && version > u64::from(VERSION)
        {
            return Err(damaged(format!(
                "it has version {version}, this vmfab supports up to {VERSION}"
            )));
        }
        // Earlier versions knew the usual network and none.
        if stored["isolated"] == true {
            stored["network"] = "none".into();
        }
        let mut config: Self =
            serde_json::from_value(stored).map_err(|error| damaged(error.to_string()))?;
        config.version = VERSION;
        Ok(config)
    }

    /// Writes it to a machine's directory, in one piece. It is not forced to disk: a machine that a
    /// crash of the host tore is shown as damaged and can be removed.
    pub(in crate::machine) fn write(&self, directory: &Path) -> Result<(), MachineError> {
        self.write_with(directory, Durability::None)
    }

    /// The same, for a config that names files that were made for it.
    pub(in crate::machine) fn write_with(
        &self,
        directory: &Path,
        durability: Durability,
    ) -> Result<(), MachineError> {
        let path = directory.join(FILE);
        let write = || {
            let mut json = serde_json::to_vec_pretty(self)?;
            json.push(b'\n');
            Replace::new(&path, durability).with(&json)
        };
        write().map_err(io_error("write", &path))
    }
}

#[cfg(test)]
pub(in crate::machine) mod tests {
    use std::fs;

    use super::*;
    use crate::digest::Hasher;
    use crate::image::Mounted;

    pub(crate) fn sample() -> MachineConfig {
        MachineConfig {
            version: VERSION,
            image: ObjectId::new(Hasher::new("test").finish()),
            image_name: "docker".parse().unwrap(),
            instance: Some(uuid::uuid!("0b61ac6a-4a4e-4b62-ae8a-7b1f4e0c2d55")),
            created: 1_700_000_000,
            memory_mib: 1024,
            cpus: 2,
            disks: vec![MachineDisk::new(1 << 30)],
            ssh_port: 40001,
            ssh_user: "vm".parse().unwrap(),
            ports: vec![Forwarded::tcp(8080, 80)],
            accel: AccelChoice::Auto,
            firmware: Firmware::Direct,
            seed: Seed::Nocloud,
            network: Network::default(),
            mounts: Vec::new(),
            devices: Devices::default(),
            ssh_keys: Vec::new(),
            first_boot: FirstBoot::default(),
            disk_files: Vec::new(),
            remove_when_stopped: false,
            container: None,
            renew_identity: false,
        }
    }

    #[test]
    fn machines_of_version_1_have_one_disk() {
        let directory = tempfile::tempdir().unwrap();
        let mut stored = serde_json::to_value(sample()).unwrap();
        let fields = stored.as_object_mut().unwrap();
        fields.remove("disks");
        fields.insert("version".into(), 1.into());
        fields.insert("disk-size".into(), (1 << 30).into());
        fs::write(directory.path().join(FILE), stored.to_string()).unwrap();
        let name: MachineName = "docker".parse().unwrap();
        let read = MachineConfig::read(&name, directory.path()).unwrap();
        assert_eq!(read, sample());
    }

    #[test]
    fn machines_of_earlier_versions_are_isolated_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut stored = serde_json::to_value(sample()).unwrap();
        let name: MachineName = "docker".parse().unwrap();
        for (isolated, network) in [(false, "user"), (true, "none")] {
            stored["isolated"] = isolated.into();
            fs::write(directory.path().join(FILE), stored.to_string()).unwrap();
            let read = MachineConfig::read(&name, directory.path()).unwrap();
            assert_eq!(read.network.to_string(), network);
        }
    }

    #[test]
    fn a_config_from_elsewhere_has_nothing_of_this_host() {
        let mut config = sample();
        config.ports = vec![Forwarded::tcp(8080, 80)];
        let plain = config.clone();
        config.mounts = ["data:/srv", "/:/host"]
            .iter()
            .map(|text| {
                let (what, at) = text.split_once(':').unwrap();
                Mount {
                    what: match what.parse() {
                        Ok(name) => Mounted::Volume(name),
                        Err(_) => Mounted::Share(what.into()),
                    },
                    at: at.parse().unwrap(),
                    read_only: false,
                }
            })
            .collect();
        config.devices.cdrom = Some("/etc/shadow".into());
        config.ports[0].address = Ipv4Addr::UNSPECIFIED;
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ40bVItbth04dBcCmp7Xiupg9mfyiA3cj7aNgv1hOVQ me";
        config.ssh_keys = vec![key.parse().unwrap()];
        config.network = "bridge,group".parse().unwrap();
        config.disk_files = vec![DiskFile {
            path: "/etc/shadow".into(),
            qcow2: false,
            writable: true,
        }];
        config.first_boot.password = Some("$6$salt$hash".parse().unwrap());
        assert_ne!(config, plain);
        config.forget_grants();
        assert_eq!(config, plain);
    }

    #[test]
    fn the_file() {
        let directory = tempfile::tempdir().unwrap();
        let name: MachineName = "docker".parse().unwrap();
        sample().write(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join(FILE)).unwrap();
        insta::assert_snapshot!(text);
        assert_eq!(
            MachineConfig::read(&name, directory.path()).unwrap(),
            sample()
        );
        fs::write(
            directory.path().join(FILE),
            text.replace("\"version\": 3", "\"version\": 4"),
        )
        .unwrap();
        let error = MachineConfig::read(&name, directory.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("it has version 4, this vmfab supports up to 3"),
            "{error}"
        );
        fs::write(directory.path().join(FILE), &text[..20]).unwrap();
        assert!(matches!(
            MachineConfig::read(&name, directory.path()),
            Err(MachineError::Damaged { .. })
        ));
    }
}
