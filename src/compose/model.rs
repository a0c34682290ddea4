//! What a Compose file says, as far as machines can be it.

use std::collections::BTreeMap;

use crate::image::Port;

/// A service: a machine, or several alike, with an image of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Service {
    pub name: String,
    pub made: Made,
    pub command: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub env: BTreeMap<String, String>,
    pub ports: Vec<Port>,
    /// Directories that must exist.
    pub directories: Vec<String>,
    /// Volumes, where they are mounted, and whether they are only read.
    pub volumes: Vec<(String, String, bool)>,
    /// Local files and where they are in the guest.
    pub copies: Vec<(String, String)>,
    /// Names of services and of conditions.
    pub depends_on: Vec<(String, &'static str)>,
    pub health: Option<Health>,
    pub memory_mib: Option<u64>,
    pub cpus: Option<u64>,
    pub count: Option<u64>,
    pub isolated: bool,
    pub hostname: Option<String>,
    /// What others call it besides.
    pub aliases: Vec<String>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub stop_signal: Option<String>,
    /// In seconds.
    pub stop_timeout: Option<u64>,
    pub restart: &'static str,
}

/// What a service is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Made {
    /// As `from` takes it.
    Image(String),
    Build(Box<Build>),
}

impl Default for Made {
    fn default() -> Self {
        Self::Image(String::new())
    }
}

/// A Dockerfile and what it is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Build {
    pub dockerfile: String,
    /// The Dockerfile itself, instead.
    pub inline: Option<String>,
    /// Empty when it is that of the Dockerfile.
    pub context: String,
    pub target: Option<String>,
    pub args: BTreeMap<String, String>,
    pub contexts: BTreeMap<String, String>,
}

/// A health check. Times are in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// As the arguments of the node `health`.
    pub words: Vec<String>,
    pub interval: Option<u64>,
    pub timeout: Option<u64>,
    pub start_period: Option<u64>,
    pub start_interval: Option<u64>,
    pub retries: Option<u64>,
    pub disabled: bool,
}
