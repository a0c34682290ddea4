//! The image config: what an image is made of and how it boots. Pure.
//!
//! The config is a small object in the store, JSON with sorted keys; its object id is the image's
//! id, and tags point to it. It names all objects that the image needs.

mod container;
mod container_ref;
mod container_tree;
mod first_boot;
mod format;
mod hardware;
mod local;
mod network;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

pub use container::{
    ContainerConfig, ExposedPort, HEALTH_FAILED, HEALTH_READY, HEALTH_STARTING, Healthcheck,
    INIT_READY, INIT_UNHEALTHY, OWN_INIT, ParsePortError, ParseSignalError, Protocol, Signal,
};
pub use container_ref::ContainerRef;
pub use container_tree::{ContainerTree, HistoryEntry};
pub use first_boot::{CloudInit, FirstBoot, check_ignition};
pub use format::{DiskFormat, ParseFormatError};
pub use hardware::{
    AskedShare, Devices, DiskBus, DiskFile, Display, FurtherDisk, Hardware, Mount, Mounted, Nic,
    Platform, Requires,
};
pub use local::local_scheme;
pub use network::{Network, ParseNetworkError, Uplink};
pub use process::{Manner, Process, Restart};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::checked::{
    self, AccountName, GuestPath, HostName, KernelArguments, Label, Line, Name, Text, VariableName,
    VariableValue, Word,
};
use crate::digest::ObjectRef;
use crate::failure::Failure;

/// The version of the image config's format.
pub const CONFIG_VERSION: u32 = 1;

/// An image: all that is needed to boot it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageConfig {
    /// [`CONFIG_VERSION`].
    pub version: u32,
    /// What the recipe says.
    #[serde(flatten)]
    pub template: ImageTemplate,
    /// The bootable disk, raw.
    pub disk: ObjectRef,
    /// The kernel for direct boot.
    pub kernel: Option<ObjectRef>,
    pub initrd: Option<ObjectRef>,
    /// The layers that the disk was made from, lowest first; the last one is of the `system` step.
    /// Empty for a disk made elsewhere.
    pub layers: Vec<ObjectRef>,
}

impl ImageConfig {
    /// The bytes that are stored: JSON with keys in byte order, so that equal configs are one
    /// object.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // serde_json's map is ordered by key unless `preserve_order` is switched on.
        let value = serde_json::to_value(self).expect("configs serialise to JSON");
        serde_json::to_vec(&value).expect("JSON values serialise")
    }

    /// What the image is made from, as far as it is in the config.
    #[must_use]
    pub const fn made_from(&self) -> MadeFrom {
        // Configs of earlier versions say it so, too: a tree has at least the layer of `system`.
        match self.layers.is_empty() {
            true => MadeFrom::Disk,
            false => MadeFrom::Tree,
        }
    }

    /// What boots: disk, kernel and initrd.
    #[must_use]
    pub fn boot_objects(&self) -> Vec<ObjectRef> {
        let boot = [Some(self.disk), self.kernel, self.initrd];
        boot.into_iter().flatten().collect()
    }

    /// All objects that it names: what boots comes first.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectRef> {
        let mut objects = self.boot_objects();
        objects.extend(&self.layers);
        objects
    }

    /// Reads a stored config.
    ///
    /// # Errors
    /// Not JSON of this shape, or of a newer version than this program knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Failure> {
        let config: Self = serde_json::from_slice(bytes)
            .map_err(|error| Failure::failed(format!("not an image config: {error}")))?;
        if config.version > CONFIG_VERSION {
            return Err(Failure::failed(format!(
                "image config has version {}, this vmfab supports up to {CONFIG_VERSION}",
                config.version
            )));
        }
        Ok(config)
    }
}

/// Reads a map by numbers: below a flattened field, serde has its keys as text.
fn by_number<'de, D: Deserializer<'de>>(reader: D) -> Result<BTreeMap<u16, Name>, D::Error> {
    let by_text = BTreeMap::<String, Name>::deserialize(reader)?;
    let entries = by_text.into_iter();
    entries
        .map(|(key, name)| Ok((key.parse().map_err(D::Error::custom)?, name)))
        .collect()
}

/// What an image is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeFrom {
    /// Layers: the disk is made of them.
    Tree,
    /// A disk that was made elsewhere.
    Disk,
}

/// The part of an image config that is known before anything is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageTemplate {
    /// The image's name in its recipe.
    pub name: Name,
    pub recipe: RecipeRef,
    /// What the recipe says about itself.
    pub description: Option<Text>,
    /// Free annotations of the recipe.
    pub metadata: BTreeMap<Line, Text>,
    /// What its recipe and those of its bases say that a machine needs.
    #[serde(default, skip_serializing_if = "Requires::is_empty")]
    pub requires: Requires,
    /// `x86_64` or `aarch64`.
    pub architecture: Word,
    /// How it boots.
    pub boot: BootProfile,
    /// File system of the root; absent when the disk was made elsewhere.
    pub filesystem: Option<FilesystemRef>,
    /// The account that `vmfab ssh` uses unless told otherwise.
    pub ssh_user: AccountName,
    /// Accounts that a machine's key is put into, `root` among them, with their home directories.
    pub users: BTreeMap<AccountName, GuestPath>,
    /// Ports that the image serves; `boot` forwards the ones with a host port.
    pub ports: Vec<Port>,
    /// What they are for, by the number in the guest.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "by_number"
    )]
    pub port_names: BTreeMap<u16, Name>,
    /// Whether its service has a health check, which tells when a machine is ready.
    #[serde(default, skip_serializing_if = "is_false")]
    pub health: bool,
    /// Directories with what its service keeps: `VOLUME` of a container image.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<GuestPath>,
    /// Directories of the host that it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<AskedShare>,
    /// Environment of later steps.
    pub env: BTreeMap<VariableName, VariableValue>,
    /// The host name, when the recipe gives one.
    #[serde(default)]
    pub hostname: Option<HostName>,
    /// Where kernel and initrd are in the image, when the recipe names them. The key is not
    /// `kernel`: in a config that is the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_files: Option<KernelFiles>,
    /// The container that it is made from, without what makes a machine of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerTree>,
}

/// Files of the image that start the operating system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFiles {
    pub path: GuestPath,
    /// Its initrd; the one that belongs to it when absent.
    pub initrd: Option<GuestPath>,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeRef {
    /// Recipe name: any text, as it may be that of a file.
    pub name: Line,
    /// Recipe version.
    pub version: Option<Line>,
    #[serde(flatten)]
    pub about: About,
}

/// Who made a recipe, and under which terms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<Line>,
    /// Its licence, an SPDX expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<Line>,
    /// Where its source is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Line>,
    /// Words to find it by.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Name>,
}

/// How an image boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BootProfile {
    /// Kernel command line for direct boot, with the root device.
    pub command_line: KernelArguments,
    /// How a machine boots it unless told otherwise.
    pub firmware: Firmware,
    /// Whether the disk has a boot loader for UEFI.
    pub uefi: bool,
    /// Whether the disk has a boot loader for a BIOS.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bios: bool,
    /// How the guest learns its name and whose keys to let in.
    #[serde(default, skip_serializing_if = "Seed::is_usual")]
    pub seed: Seed,
    /// What it has drivers for, unless a machine says otherwise.
    #[serde(default, skip_serializing_if = "Platform::is_empty")]
    pub platform: Platform,
    /// A configuration for Ignition, JSON: what a guest gets that is given no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignition: Option<String>,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde wants"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// How a guest learns its name and whose keys to let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seed {
    /// By systemd's credentials in SMBIOS.
    #[default]
    Credentials,
    /// By cloud-init's data source NoCloud: a small disk with the label `cidata`.
    Nocloud,
    /// By the metadata service of Amazon EC2, which images for it ask.
    Ec2,
    /// Not at all: the image knows.
    None,
}

impl Seed {
    /// All of them, with the names that they have in recipes.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("credentials", Self::Credentials),
        ("nocloud", Self::Nocloud),
        ("ec2", Self::Ec2),
        ("none", Self::None),
    ];

    /// Its name in recipes.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, seed)| *seed == self);
        found.map_or("", |(name, _)| name)
    }

    /// Whether it is the one that images have unless told otherwise.
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde wants"
    )]
    #[must_use]
    pub const fn is_usual(&self) -> bool {
        matches!(self, Self::Credentials)
    }

    /// What it is, for people.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Credentials => "systemd credentials",
            Self::Nocloud => "NoCloud disk",
            Self::Ec2 => "EC2 metadata service",
            Self::None => "none",
        }
    }
}

/// How a machine with some disk is booted and entered: what steps inside it need of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Access {
    /// `x86_64` or `aarch64`.
    pub architecture: Word,
    /// How it boots.
    pub boot: BootProfile,
    /// The account that is entered.
    pub ssh_user: AccountName,
    /// Accounts that the machine's key is put into, with their home directories.
    pub users: BTreeMap<AccountName, GuestPath>,
}

/// What starts the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// QEMU loads kernel and initrd itself.
    Direct,
    /// OVMF starts the boot loader of the disk.
    Uefi,
    /// SeaBIOS starts the boot loader of the disk.
    Bios,
}

impl Firmware {
    /// All of them, with the names that they have in recipes and options.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("direct", Self::Direct),
        ("uefi", Self::Uefi),
        ("bios", Self::Bios),
    ];
}

/// The root file system on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemRef {
    /// `ext4`.
    #[serde(rename = "type")]
    pub kind: Word,
    pub label: Label,
}

/// A port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Port in the guest.
    #[serde(deserialize_with = "checked::port")]
    pub guest: u16,
    /// Port of the host that is forwarded to it.
    #[serde(default, deserialize_with = "checked::optional_port")]
    pub host: Option<u16>,
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
    /// The address of the host that it listens on; 127.0.0.1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A stored config, with and without kernel and where that is in the image.
    fn stored(kernel: &Value, files: Option<&Value>) -> Value {
        let object = |digit: &str| json!({ "id": digit.repeat(64), "size": 1 });
        let mut config = json!({
            "version": 1, "name": "web", "recipe": { "name": "web", "version": null },
            "description": null, "metadata": {}, "architecture": "x86_64",
            "boot": { "command-line": "ro", "firmware": "direct", "uefi": false },
            "filesystem": { "type": "ext4", "label": "root" }, "ssh-user": "vm",
            "users": { "root": "/root" }, "ports": [], "env": {}, "hostname": null,
            "disk": object("1"), "kernel": kernel, "initrd": null, "layers": [object("2")],
        });
        if let Some(files) = files {
            config["kernel-files"] = files.clone();
        }
        config
    }

    #[test]
    fn the_kernel_and_where_it_is_are_both_kept() {
        let object = json!({ "id": "3".repeat(64), "size": 2 });
        let files = json!({ "path": "/boot/own", "initrd": null });
        for kernel in [&Value::Null, &object] {
            let bytes = stored(kernel, Some(&files)).to_string().into_bytes();
            let config = ImageConfig::from_bytes(&bytes).unwrap();
            assert_eq!(config.kernel.is_some(), kernel.is_object());
            let own = config.template.kernel_files.as_ref().unwrap();
            assert_eq!((&*own.path, &own.initrd), ("/boot/own", &None));
            assert_eq!(config.to_bytes(), bytes);
            assert_eq!(ImageConfig::from_bytes(&config.to_bytes()).unwrap(), config);
        }
    }

    #[test]
    fn names_of_ports_are_kept() {
        let mut config = stored(&Value::Null, None);
        config["port-names"] = json!({ "8888": "notebook" });
        let config = ImageConfig::from_bytes(config.to_string().as_bytes()).unwrap();
        assert_eq!(&*config.template.port_names[&8888], "notebook");
        assert_eq!(ImageConfig::from_bytes(&config.to_bytes()).unwrap(), config);
        let mut wrong = stored(&Value::Null, None);
        wrong["port-names"] = json!({ "web": "notebook" });
        ImageConfig::from_bytes(wrong.to_string().as_bytes()).unwrap_err();
    }

    #[test]
    fn configs_from_before_there_were_kernel_files_stay_what_they_are() {
        let object = json!({ "id": "3".repeat(64), "size": 2 });
        for kernel in [&Value::Null, &object] {
            let bytes = stored(kernel, None).to_string().into_bytes();
            let config = ImageConfig::from_bytes(&bytes).unwrap();
            assert_eq!(config.template.kernel_files, None);
            // Byte for byte, as the bytes are the image's id.
            assert_eq!(config.to_bytes(), bytes);
        }
    }
}
