//! What recipes ask for and steps do, in the same words: parameters that go from a recipe into a
//! step as they are.
//!
//! Their JSON is hashed into action keys: see [`encoding`](crate::derivation).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod add;
mod bootc;
mod exec;
mod glob;
mod mode;
mod pattern;
mod repository;

pub use add::{Add, AddSource, Git};
pub use bootc::{BootcFilesystem, BootcInstall, Bootloader, TargetTransport, is_bootable};
pub use exec::{
    CacheMount, Exec, Ids, Mount, Network, Origin, SCRIPTS, ScriptFile, SecretMount, Sharing,
    SshMount,
};
pub use glob::{Glob, Malformed};
pub use mode::{BadMode, ModeChange};
pub use pattern::{BadPattern, SourcePath};
pub use repository::{Address, Repository, commit, is_url};

/// Packages, to be installed with the image's own package manager.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Packages {
    /// Names as the package manager takes them; at least one, unless `on` has them for all systems
    /// that are meant.
    pub names: Vec<String>,
    /// Names on other systems, by the `ID` of their os-release(5); these instead of `names`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub on: BTreeMap<String, Vec<String>>,
    /// Whether recommended packages come along.
    pub recommends: bool,
    #[serde(default, skip_serializing_if = "StepLimits::is_default")]
    pub limits: StepLimits,
}

/// A script, of `run` and `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Run {
    pub command: String,
    /// The program and its arguments that the script is given to, such as `["/bin/sh", "-ec"]`.
    pub shell: Vec<String>,
    /// Variables of the environment, beyond the sandbox's own.
    pub env: BTreeMap<String, String>,
    /// Working directory in the tree; made when it does not exist.
    pub workdir: Option<String>,
    /// Whether it may use the network.
    pub network: bool,
    #[serde(default, skip_serializing_if = "StepLimits::is_default")]
    pub limits: StepLimits,
    /// The account that it runs as, `user[:group]`; root's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What people call it. It changes nothing and is not hashed.
    #[serde(skip)]
    pub name: Option<String>,
}

/// Limits of a step. Absent means the default of the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepLimits {
    /// Wall time in seconds.
    pub seconds: Option<u64>,
    /// Resident memory of all processes together, in bytes.
    pub memory: Option<u64>,
    /// Number of processes.
    pub processes: Option<u64>,
}

impl StepLimits {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A user account. When the account is there already, groups and keys are added, sudo is granted
/// if asked for, and shell and password hash are changed if given; nothing is taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct User {
    /// Login name.
    pub name: String,
    /// Supplementary groups; made when they do not exist.
    pub groups: Vec<String>,
    /// Whether it may use sudo without a password.
    pub sudo: bool,
    /// Login shell; that of the system's useradd(8) when absent.
    pub shell: Option<String>,
    /// Numeric id of a new account.
    pub uid: Option<u32>,
    /// Password hash in crypt(5) form; locked when absent.
    pub password_hash: Option<String>,
    /// Lines of `authorized_keys`.
    pub authorized_keys: Vec<String>,
}

/// A service that is enabled or disabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Service {
    /// Unit or service name.
    pub name: String,
    /// Whether it starts at boot.
    pub enable: bool,
}
