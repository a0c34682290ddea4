//! What a worker is asked to do, and what it answers: plain values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::confinement::Confinement;
use super::edit::Edit;
use super::layer::Form;
use crate::host::Secret;
use crate::image::ContainerConfig;
use crate::instruction::{Ids, Network, Packages, ScriptFile, StepLimits};
use crate::limits::StepBounds;

/// One step, as the worker gets it on its standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    /// An existing directory on the file system of the layers; `upper`, `work`, `tree` and
    /// `outcome.json` are made in it.
    pub(super) scratch: PathBuf,
    /// What this host lets it have.
    pub(super) confinement: Confinement,
    /// The layers below, lowest first.
    pub(super) layers: Vec<LayerSource>,
    /// What tasks read beside the tree.
    pub(super) beside: Vec<BesideSource>,
    /// What to do with the tree, in order.
    pub(super) tasks: Vec<Task>,
    /// Directories of this host that outlive the step, by the ids of caches.
    pub(super) caches: BTreeMap<String, PathBuf>,
    /// What commands with network have in their environment to find the host's proxies. The worker
    /// has nothing of the caller's environment.
    pub(super) proxies: BTreeMap<String, String>,
    /// How to pack what was changed; nothing is packed when absent.
    pub(super) pack: Option<Pack>,
    /// What each task may take, whatever its own limits are.
    pub(super) most: Option<StepBounds>,
}

/// A layer below the step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerSource {
    /// Where it is unpacked, or will be.
    pub(super) directory: PathBuf,
    /// Its tar in the scratch directory, when it is not unpacked yet.
    pub(super) archive: Option<PathBuf>,
}

/// Files that a step reads beside its tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum BesideSource {
    /// The layers of a tree, lowest first.
    Layers(Vec<LayerSource>),
    /// A tar.
    Archive(PathBuf),
    /// The files of a list, below a directory of this host.
    Local { listing: PathBuf, root: PathBuf },
}

/// How to pack the upper directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pack {
    /// What the tar is written to, from front to back; it exists and is empty.
    pub(super) archive: PathBuf,
    /// Whether build identity is removed first (see `identity`).
    pub(super) clean: bool,
    /// File times at or after the start of the worker become this, in seconds since 1970.
    pub(super) epoch: i64,
}

impl Request {
    /// Where a file of the job is.
    pub(super) fn path(&self, of: &JobPath) -> PathBuf {
        of.below(&self.scratch)
    }
}

/// The path of a file or directory of a job, below its directory: a job knows no other paths of the
/// host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPath(String);

impl JobPath {
    /// The path on a host where the job has this directory.
    pub(super) fn below(&self, directory: &Path) -> PathBuf {
        directory.join(&self.0)
    }
}

impl From<String> for JobPath {
    fn from(name: String) -> Self {
        Self(name)
    }
}

impl From<&str> for JobPath {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// Something to do with the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// A command in the sandbox: it sees the tree and nothing else.
    Command(Command),
    /// A process as container engines run it, in the sandbox.
    Process(Process),
    /// Files by docker's rules.
    Add(AddFiles),
    /// Packages by the tree's own package manager, in the sandbox. Its lists are below
    /// `packages/lists` of the scratch directory afterwards and what it downloaded below
    /// `packages/archives`; where it is apt, packages again below `packages/archives/kept`, and in
    /// `packages/archives/targets` a line for each list that it used: path, path in the archive,
    /// address of the archive, with `|` between them.
    Packages(Install),
    /// What the tree of a container image lacks to be a machine, and its services set up. Packages
    /// leave what those of [`Packages`](Self::Packages) leave.
    Bootable(Bootable),
    /// The process of a container image as a service: of the init of vmfab's own where the tree has
    /// that, else by other tasks.
    Service {
        config: Box<ContainerConfig>,
        usual: Vec<Task>,
    },
    /// Edits of the tree, done with the tree as root directory.
    Edit(Vec<Edit>),
    /// The tree, put into the empty ext4 file system at `offset` in a file.
    FileSystem {
        file: JobPath,
        /// Where the file system begins.
        offset: u64,
        /// The time of what the tree does not have, in seconds since 1970.
        time: u32,
    },
    /// A program of the host; `{tree}` in its arguments is the tree, and `{job}` the directory of
    /// the job, which is `VMFAB_JOB` in its environment.
    Host(HostCommand),
    /// The kernel and the initrd of the tree, copied to files `kernel` and `initrd` of the job.
    Kernel {
        /// Kernel in the tree; the newest of /boot when absent.
        kernel: Option<String>,
        /// Initrd in the tree; the kernel's own when absent.
        initrd: Option<String>,
    },
    /// The same of a bootable container, which has them below `/usr/lib/modules`. Fails when it
    /// lacks something else that `bootc` needs.
    BootableContainer,
    /// A tar of others, put over the tree.
    Apply {
        archive: JobPath,
        /// How it is meant.
        form: Form,
    },
    /// A file of the tree, copied when it is there.
    Fetch {
        /// Absolute path in the tree.
        path: String,
        to: JobPath,
    },
}

/// Packages to install.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// What is asked for.
    pub wanted: Packages,
    /// More names: of each list the first one that the archive has, and none when it has none.
    pub choices: Vec<Vec<String>>,
    /// Whether they come from the archives that `packages/archives/vmfab/sources.list` of the
    /// scratch directory names, and from nowhere else: there is no network then. Only with apt.
    pub locked: bool,
}

/// How a tree becomes one of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootable {
    /// Whether it is to have a kernel in `/boot`.
    pub kernel: bool,
    /// As for [`Install`].
    pub locked: bool,
}

/// A command in the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What it is called when it fails; its last argument when absent.
    pub label: Option<String>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables beyond the sandbox's own.
    pub env: BTreeMap<String, String>,
    /// Working directory, made when it does not exist.
    pub workdir: Option<String>,
    /// Whether the host's network is reachable.
    pub network: bool,
    /// Directories of the job that are seen in the tree.
    pub binds: Vec<Bind>,
    pub limits: StepLimits,
}

/// A directory of the job that is seen, and can be written, in the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    pub from: JobPath,
    /// Absolute path in the tree.
    pub to: String,
}

/// A process with the environment, user and mounts of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// What it is called when it fails.
    pub label: String,
    /// Program and arguments; the program is looked up in `PATH`.
    pub argv: Vec<String>,
    /// A file in the directory for scripts.
    pub script: Option<ScriptFile>,
    /// Its environment; `PATH` and `HOME` are added if absent.
    pub env: BTreeMap<String, String>,
    /// `user[:group]`; root when empty.
    pub user: String,
    /// Working directory, made when it does not exist.
    pub workdir: String,
    pub network: Network,
    /// What it sees beyond its tree, in this order.
    pub shown: Vec<Shown>,
    pub limits: StepLimits,
}

/// Something that a process sees at a path of its tree, and that no layer gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Absolute path.
    pub target: String,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A file or directory of a tree beside the own one.
    Tree {
        /// Which of them.
        tree: usize,
        /// Absolute path in it.
        source: String,
        writable: bool,
    },
    /// A directory of the host that outlives the step.
    Cache {
        id: String,
        writable: bool,
        /// The first content: a tree beside the own one, and an absolute path in it.
        from: Option<(usize, String)>,
        mode: u32,
        owner: Ids,
    },
    /// A file system in memory.
    Memory { size: Option<u64> },
    /// A file that is in memory only.
    Secret {
        content: Secret,
        mode: u32,
        owner: Ids,
    },
    /// A socket of the job.
    Socket {
        path: JobPath,
        mode: u32,
        owner: Ids,
    },
}

/// Files to be put into the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddFiles {
    pub sources: Vec<Put>,
    /// An absolute path; with a final `/` always a directory.
    pub destination: String,
    /// `user[:group]`.
    pub owner: Option<String>,
    /// The tree beside the own one that has the names of owners; the own one if absent.
    pub names: Option<usize>,
    /// Octal or symbolic.
    pub mode: Option<String>,
    pub parents: bool,
    pub keep_paths: bool,
    pub whole: bool,
    pub exclude: Vec<String>,
}

/// What is put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Put {
    /// What a path or pattern stands for in a tree beside the own one.
    Path {
        tree: usize,
        path: String,
        unpack: bool,
    },
    /// A file of the job.
    File {
        file: JobPath,
        name: String,
        mode: u32,
        /// In seconds since 1970.
        time: i64,
        unpack: bool,
    },
}

/// A program of the host that works on the tree. It can write to the directory of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment, beyond `PATH`.
    pub env: BTreeMap<String, String>,
    /// Whether the host's network is reachable.
    pub network: bool,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// All tasks are done.
    Done,
    /// A command failed.
    Failed {
        /// The command, as a user would type it.
        command: String,
        /// `exited with code 3`, `used more than 100 processes`, …
        how: String,
    },
    /// The tree does not have what the step needs.
    Unsatisfiable {
        /// What is missing.
        message: String,
        /// What to do next.
        help: String,
    },
    /// The worker itself failed.
    Error {
        /// What was tried, on what, and why it failed.
        message: String,
        /// What to do next, when that is known.
        help: Option<String>,
    },
}
