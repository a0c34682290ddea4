//! The typed parameters of every kind of step. `plan` makes them, `builder` reads them.
//!
//! A type's serialised form is what is hashed: a field may be added when it is optional, and is
//! left out when it is `None` (see [`encoding`](super::encoding)).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{Checksum, Digest, ObjectId};
use crate::image::{Access, ContainerConfig, ContainerTree, ImageTemplate, Manner};
pub use crate::instruction::{Add, Exec, Git, Run, Service, StepLimits, User};

/// What one derivation does. The variant names the builder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "builder", content = "params", rename_all = "kebab-case")]
pub enum Step {
    /// A root filesystem from a distribution's archive. Outputs `layer`, `packages`.
    Bootstrap(Bootstrap),
    /// Packages installed by the image's own package manager. Inputs `layer`…; output `layer`, and
    /// `packages` where the package manager is apt.
    Packages(Packages),
    /// A shell command in the sandbox. Inputs `layer`…; output `layer`.
    Run(Run),
    /// A process as container engines run it. Inputs `layer`…, and those that its mounts name;
    /// output `layer`.
    Exec(Exec),
    /// Files by docker's rules. Inputs `layer`…, and those that its sources name; output `layer`.
    Add(Add),
    /// A directory, where there is none. Inputs `layer`…; output `layer`.
    Workdir(Workdir),
    /// A file with content from the recipe. Inputs `layer`…; output `layer`.
    File(File),
    /// Local files copied into the tree. Inputs `layer`…, `source`; output `layer`.
    Copy(Copy),
    /// A user account. Inputs `layer`…; output `layer`.
    User(User),
    /// A service enabled or disabled. Inputs `layer`…; output `layer`.
    Service(Service),
    /// Environment variables of all logins. Inputs `layer`…; output `layer`.
    Env(Env),
    /// The host name. Inputs `layer`…; output `layer`.
    Hostname(Hostname),
    /// What the tree of a container image lacks to be a machine: kernel, init, SSH server, network.
    /// Inputs `layer`…; output `layer`, and `packages` where the package manager is apt.
    Bootable(Bootable),
    /// The process of a container image as a service. Inputs `layer`…; output `layer`.
    Entrypoint(Box<Entrypoint>),
    /// What every guest needs and no recipe should have to say: file system table, network, host
    /// keys at first boot. Inputs `layer`…; output `layer`.
    System(System),
    /// A command that must succeed in the finished tree. Inputs `layer`…; output `ok`, an empty
    /// object.
    Check(Run),
    /// Layers to a disk, a kernel and an initrd. Inputs `layer`…; outputs `disk`, `kernel`,
    /// `initrd`.
    Disk(Disk),
    /// The tree of a bootable container as a disk that installs it. Inputs `layer`…; outputs `disk`,
    /// `kernel`, `initrd`.
    BootcInstaller(BootcInstaller),
    /// What `bootc install to-disk` writes in a machine with that disk. Inputs `disk`, `kernel`,
    /// `initrd`, `layer`…; output `disk`.
    BootcInstall(Box<BootcInstall>),
    /// The image config. Inputs `layer`…, `disk`, `kernel`, `initrd`, `check`…, the last of which
    /// only make it wait; output `config`.
    Image(Box<Image>),
    /// The list of local files. Output `listing`.
    Local(Local),
    /// Files of a git repository as a tar. Output `source`.
    Git(Git),
    /// An object that is in the store already. Output `object`.
    Object(Object),
    /// Content from outside. Output `blob`.
    Fetch(Fetch),
    /// A layer of a container image, as the tar that it is when it is decompressed. Output `blob`.
    OciLayer(OciLayer),
    /// Another form of content. Input `blob`, and `layer`… of `unpack` and `apply`, whose output is
    /// a `layer`; that of the others is a `blob`.
    Transform(Transform),
    /// A step inside a booted machine. Inputs `disk`, `kernel`, `initrd`, `source` of `copy`, and
    /// `check`…, which only make it wait; output `disk`, or `ok` of a check.
    Guest(Box<Guest>),
}

impl Step {
    /// Builder name, builder version and parameters, as they are hashed.
    #[must_use]
    pub fn to_parts(&self) -> (String, u32, Value) {
        let value = serde_json::to_value(self).expect("steps serialise to JSON");
        let name = value["builder"].as_str().unwrap_or_default().to_owned();
        let params = value.get("params").cloned().unwrap_or(Value::Null);
        (name, self.version(), params)
    }

    /// The typed step of a derivation.
    ///
    /// # Errors
    /// Parameters of another shape than the builder's.
    pub fn from_parts(builder: &str, params: &Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(serde_json::json!({ "builder": builder, "params": params }))
    }

    /// Raised when a builder begins to give another output for the same parameters.
    fn version(&self) -> u32 {
        match self {
            Self::Check(_)
            | Self::Exec(_)
            | Self::Workdir(_)
            | Self::Git(_)
            | Self::Bootable(_)
            | Self::Entrypoint(_)
            | Self::BootcInstaller(_)
            | Self::BootcInstall(_)
            | Self::Image(_)
            | Self::Object(_)
            | Self::Fetch(_)
            | Self::OciLayer(_) => 1,
            // 2: directories below the destination take modes and owners of the source; names of one
            // file are links within one source.
            Self::Add(_) => 2,
            // 2: modes are those of the source, times follow from the content.
            Self::Local(_) => 2,
            // 2: a layer holds names, links, attributes, times and holes as they are, and nothing
            // of the build's files.
            Self::Run(_) | Self::User(_) | Self::Service(_) => 2,
            // 2: the time of a file follows from its content. 3: layers as above.
            Self::File(_) | Self::Copy(_) | Self::Env(_) => 3,
            // As these. 4: /etc/hosts names localhost, too.
            Self::Hostname(_) => 4,
            // 2: they have a second output, the packages that they installed. 3: layers as above.
            Self::Bootstrap(_) | Self::Packages(_) => 3,
            // 2: the root partition of a disk for UEFI grows. 3: times follow from the content. 4:
            // layers as above. 5: volumes and shares are mounted. 6: machines have a private network.
            Self::System(_) => 6,
            // 2: versions of an image share the id of their file system. 3: directories are side by
            // side. 4: how much mke2fs wrote is forgotten. 5: vmfab puts the files in, and large
            // directories have an index.
            Self::Disk(_) => 5,
            Self::Transform(transform) => match transform {
                // 2: what has no marks of a disk is not taken for a raw one.
                Transform::Convert { .. } => 2,
                // 2: the time of the file follows from its content.
                Transform::Pack { .. } => 2,
                // 2: archives are read by the book, and layers are as above.
                Transform::Unpack | Transform::Apply => 2,
                _ => 1,
            },
            Self::Guest(guest) => match guest.action {
                // 2: owners, modes and times are those that the same step gives a tree.
                GuestAction::File(_)
                | GuestAction::Copy(_)
                | GuestAction::Env(_)
                | GuestAction::Hostname(_)
                | GuestAction::Unpack => 2,
                _ => 1,
            },
        }
    }
}

/// Parameters of `bootstrap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bootstrap {
    /// `debian` or `ubuntu`.
    pub distribution: String,
    /// The suite, such as `bookworm`.
    pub suite: String,
    /// Archive components, such as `main`.
    pub components: Vec<String>,
    /// Debian's name of the architecture: `amd64`, `arm64`.
    pub architecture: String,
    /// Archive address; the distribution's own when absent.
    pub mirror: Option<String>,
    /// Key ring file on the host that archives are verified with. Its path counts, not its content:
    /// it decides what is trusted, not what is installed.
    pub keyring: Option<String>,
    /// Packages beyond the minimal base.
    pub packages: Vec<String>,
    /// The exact list of packages that is installed: the digest of a `lock::PackageSet`, which is
    /// looked up by it. Absent when it is what the archive has on the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<Digest>,
}

/// Parameters of `packages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Packages {
    /// What the recipe asks for.
    #[serde(flatten)]
    pub wanted: crate::instruction::Packages,
    /// The exact list of packages that is installed, as for [`Bootstrap`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<Digest>,
}

/// Parameters of `workdir`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Workdir {
    /// Absolute path in the tree. What is made of it has the mode 0755.
    pub path: String,
    /// Whose it is, as `USER` says; root's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Parameters of `file` with inline content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct File {
    /// Absolute path in the tree.
    pub path: String,
    pub content: String,
    /// Permission bits.
    pub mode: u32,
    /// `user[:group]`, by name or number.
    pub owner: Option<String>,
    /// The time of files that the user chose, in seconds since 1970; it follows from their content
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
}

/// Parameters of `copy`, and of `file` from a local path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Copy {
    /// Absolute destination in the tree, without `/` at its end unless it is the root: of the file,
    /// or of the directory that the source's content goes to.
    pub destination: String,
    /// Permission bits for files, instead of the source's.
    pub mode: Option<u32>,
    /// `user[:group]`, by name or number; root when absent.
    pub owner: Option<String>,
}

/// Parameters of `env`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Env {
    /// All variables that hold from this step on, those of earlier `env` steps too.
    pub variables: BTreeMap<String, String>,
}

/// Parameters of `hostname`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hostname {
    pub name: String,
}

/// Parameters of `bootable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bootable {
    /// Whether the tree is to have a kernel in `/boot`: the recipe names no other.
    pub kernel: bool,
    /// What the step does: [`scripts::bootable`](super::scripts::bootable).
    pub scripts: Digest,
    /// The exact list of packages that is installed, as for [`Bootstrap`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<Digest>,
}

/// Parameters of `entrypoint`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entrypoint {
    /// What runs, and how. Labels and triggers are left out: they change no file. So are ports,
    /// but for an init of vmfab's own.
    pub config: ContainerConfig,
    /// What the step does: [`scripts::entrypoint`](super::scripts::entrypoint).
    pub scripts: Digest,
    /// What no image says of it.
    #[serde(skip_serializing_if = "Manner::is_usual", default)]
    pub manner: Manner,
}

/// Parameters of the system step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct System {
    /// Label of the root file system.
    pub label: String,
    /// File system of the root, such as `ext4`.
    pub filesystem: String,
    /// Whether the disk has an EFI system partition.
    pub uefi: bool,
    /// The host name that the machine starts with.
    pub hostname: String,
}

/// Parameters of `disk`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// Size in bytes.
    pub size: u64,
    /// File system, `ext4`.
    pub filesystem: String,
    /// Label of the file system.
    pub label: String,
    /// Whether it is a GPT disk with an EFI system partition and systemd-boot.
    pub uefi: bool,
    /// Kernel in the tree; the newest of /boot when absent.
    pub kernel: Option<String>,
    /// Initrd in the tree; the one that belongs to the kernel when absent.
    pub initrd: Option<String>,
    /// Kernel command line for the boot loader, without the root device unless the recipe names one
    /// of its own.
    pub command_line: String,
}

/// Parameters of `bootc-installer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BootcInstaller {
    /// What the disk has beside the tree: [`scripts::bootc_installer`](super::scripts::bootc_installer).
    pub scripts: Digest,
}

impl BootcInstaller {
    /// Label of the file system with the tree.
    pub const LABEL: &str = "vmfab-installer";
}

/// Parameters of `bootc-install`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BootcInstall {
    /// What `bootc` is told.
    pub install: crate::instruction::BootcInstall,
    /// Size of the target disk in bytes; what podman-bootc takes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The container of the layers.
    pub container: ContainerTree,
    /// What runs in the machine: [`scripts::bootc_install`](super::scripts::bootc_install).
    pub scripts: Digest,
}

/// Parameters of the image step: all of the image config that the inputs do not give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    pub template: ImageTemplate,
}

/// The output of a `local` step. Steps that read local files take them from the host, and fail if
/// they are not as listed.
pub const LISTING: &str = "listing";

/// Parameters of local files. The path is not here: it is looked up by the digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Local {
    /// Digest of the list of paths, types, permission bits and contents.
    pub tree: Digest,
}

/// Parameters of an object that is in the store already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Object {
    pub id: ObjectId,
    /// Its size in bytes.
    pub size: u64,
}

/// Parameters of content from outside. Its address is not here: it is looked up by the checksum,
/// and any place that has the content will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fetch {
    pub checksum: Checksum,
}

/// Parameters of a layer of a container image. Neither the repository nor the blob is here: they
/// are looked up by the digest, and the same tar is the same layer however it is compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OciLayer {
    /// The SHA-256 of the tar, as the config of the image names it.
    pub diff_id: Checksum,
}

/// What is done to content from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "transform", rename_all = "kebab-case")]
pub enum Transform {
    /// A fixed VHD without its footer: a raw disk.
    StripVhdFooter,
    Decompress {
        /// `gz`, `xz`, `zst`, `bz2`; recognised by content when absent. `any` leaves what is not
        /// compressed as it is.
        format: Option<String>,
    },
    /// A disk as raw bytes, whatever format it comes in.
    Convert {
        /// The name of a [`DiskFormat`](crate::image::DiskFormat); recognised by content when
        /// absent.
        from: Option<String>,
    },
    /// The same under another name.
    Rename { name: String },
    /// One member of a tar, compressed or not, or of a zip.
    Extract {
        /// Its path in the archive.
        member: String,
    },
    /// The files of a tar, compressed or not, over the layers below, as a layer.
    Unpack,
    /// The files of a tar, compressed or not, as a tar for a machine.
    Files,
    /// A layer of a container image over the layers below, as a layer.
    Apply,
    /// The one file below `disk/` of a tar: the disk in a containerdisk.
    Containerdisk,
    /// One file of an ext4 file system on a disk.
    File {
        /// Its absolute path.
        path: String,
    },
    /// One file as a tar that `copy` takes.
    Pack {
        /// As for [`Local`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<i64>,
    },
    /// A disk with zeros behind its end.
    Grow {
        /// Its size in bytes.
        size: u64,
    },
}

/// Parameters of a step inside a booted machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Guest {
    pub access: Access,
    /// What is done in it.
    pub action: GuestAction,
}

/// What a step does in a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", content = "params", rename_all = "kebab-case")]
pub enum GuestAction {
    /// Installs packages.
    Packages(Packages),
    /// Runs a script.
    Run(Run),
    /// Writes a file.
    File(File),
    /// Copies the files of the input `source`.
    Copy(Copy),
    /// Makes or changes a user account.
    User(User),
    /// Enables or disables a service.
    Service(Service),
    /// Sets environment variables of all logins.
    Env(Env),
    /// Sets the host name.
    Hostname(Hostname),
    /// Unpacks the tar `source`, compressed or not.
    Unpack,
    /// Runs a script that must succeed.
    Check(Run),
    /// Takes away what is the build's and switches the machine off.
    Finish,
}
