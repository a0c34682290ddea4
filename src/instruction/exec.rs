//! A process as container engines run it: `RUN` of a Dockerfile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::StepLimits;

/// The directory in which steps see [`ScriptFile`]s.
pub const SCRIPTS: &str = "/dev/pipes";

/// A process with the environment, user and mounts of an image, and nothing of vmfab's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exec {
    /// Program and arguments. The program is looked up in `PATH` if its name has no `/`.
    pub argv: Vec<String>,
    /// A file that `argv` names, such as a here-document with an interpreter of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptFile>,
    /// The whole environment. `PATH`, and `HOME` from the tree's `/etc/passwd`, are added if
    /// absent.
    pub env: BTreeMap<String, String>,
    /// `user[:group]`, by name or number, as in the tree's `/etc/passwd` and `/etc/group`; root if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// An absolute path; made if it does not exist, and root's then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    #[serde(default, skip_serializing_if = "Network::is_default")]
    pub network: Network,
    /// In this order: a later one may lie within an earlier one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    #[serde(default, skip_serializing_if = "StepLimits::is_default")]
    pub limits: StepLimits,
}

/// A program with mode 0755 in [`SCRIPTS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScriptFile {
    pub name: String,
    pub content: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// That of the host, as for steps of recipes with `network=#true`.
    #[default]
    Default,
    None,
    Host,
}

impl Network {
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

/// Where a step reads files that are not of its own tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The files of a tar: the input of this role.
    Files(String),
    /// The tree of a stage or an image: the inputs of this role are its layers, lowest first. No
    /// inputs are an empty tree.
    Layers(String),
}

/// Something that a process sees in its tree and that is not of its layer. Targets are absolute
/// paths; what is missing above them and at them is made, and removed after the step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Mount {
    /// A file or directory of another tree.
    Bind {
        from: Origin,
        /// Absolute path in `from`.
        source: String,
        target: String,
        /// Whether the process may write to it; what it writes is thrown away.
        writable: bool,
    },
    /// A directory of the home that steps share.
    Cache(CacheMount),
    /// A file system in memory.
    Tmpfs {
        target: String,
        /// In bytes; half of the host's memory if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// A secret that the user gives with the build. Its content is no part of the action key.
    Secret(SecretMount),
    /// The socket of an SSH agent that the user gives with the build.
    Ssh(SshMount),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CacheMount {
    /// Steps with the same id see the same directory.
    pub id: String,
    pub target: String,
    #[serde(default)]
    pub sharing: Sharing,
    pub writable: bool,
    /// The first content: an origin, and an absolute path there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<(Origin, String)>,
    /// Of the directory when it is made.
    pub mode: u32,
    #[serde(flatten)]
    pub owner: Ids,
}

/// What steps that use a cache at the same time do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// All write to it.
    #[default]
    Shared,
    /// Each further one gets another directory.
    Private,
    /// One waits for the other.
    Locked,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SecretMount {
    pub id: String,
    /// A file with the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A variable with the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Whether the step fails without the secret; else it runs without the mount.
    pub required: bool,
    pub mode: u32,
    #[serde(flatten)]
    pub owner: Ids,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SshMount {
    /// `default` is the agent that is given without an id.
    pub id: String,
    /// The path of the socket, which `SSH_AUTH_SOCK` names if it is the first.
    pub target: String,
    pub required: bool,
    pub mode: u32,
    #[serde(flatten)]
    pub owner: Ids,
}
