//! The recipe model: what a recipe says, with the places where it says so. Parameters are
//! substituted, includes are merged and `from` is resolved; sizes, modes and times are numbers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::source::{Span, Spanned};

/// A recipe file with everything that it includes and inherits from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the recipe says about itself.
    pub recipe: Arc<Recipe>,
    /// Its parameters with the values that hold, those of included files too.
    pub parameters: Vec<Parameter>,
    /// Its images, in the order of the file, those of included files too.
    pub images: Vec<Arc<Image>>,
    /// The machines of a project, in the order of the file, those of included files too.
    pub machines: Vec<Machine>,
    /// The files that were read, in the order in which they were; built-in recipes are not among
    /// them.
    pub files: Vec<PathBuf>,
}

/// What a recipe says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Its name; the file's name without `.kdl` when it does not give one.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// What it is, a phrase.
    pub description: Option<String>,
    /// Free annotations.
    pub metadata: BTreeMap<String, String>,
}

/// A parameter with the value that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: Spanned<String>,
    /// What it takes.
    pub kind: ParameterKind,
    /// The value that holds, as it is substituted.
    pub value: String,
    /// The value when it is not set.
    pub default: Option<String>,
    /// The only values that it takes; any when empty.
    pub choices: Vec<String>,
    /// What it is for, a phrase.
    pub description: Option<String>,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// Any text.
    String,
    /// A size such as `10G`.
    Size,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A port number.
    Port,
}

impl ParameterKind {
    /// All of them, with the names that they have in recipes.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("string", Self::String),
        ("size", Self::Size),
        ("integer", Self::Integer),
        ("boolean", Self::Boolean),
        ("port", Self::Port),
    ];
}

/// An image of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: Spanned<String>,
    /// The recipe that it is in.
    pub recipe: Arc<Recipe>,
    /// What it starts from.
    pub base: Base,
    /// What is done to it, in order.
    pub instructions: Vec<Instruction>,
    /// Its disk.
    pub disk: Disk,
    /// Its kernel, when it is not the newest in `/boot`.
    pub kernel: Option<Kernel>,
    /// How it boots.
    pub boot: Boot,
    /// Ports that it serves.
    pub ports: Vec<Spanned<Port>>,
    /// Commands that must succeed in the finished image.
    pub checks: Vec<Run>,
}

/// What an image starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// An empty tree, filled from a distribution's archive.
    Bootstrap(Bootstrap),
    /// Another image of a recipe.
    Image(Arc<Image>),
    /// An image in the store, by its tag without `@`.
    Tag(Spanned<String>),
}

/// A root filesystem from a distribution's archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Where it is written.
    pub span: Span,
    /// `debian` or `ubuntu`.
    pub distribution: String,
    /// The suite, such as `bookworm`.
    pub suite: String,
    /// Archive components; never empty.
    pub components: Vec<String>,
    /// Archive address.
    pub mirror: Option<String>,
    /// Key ring file on the host.
    pub keyring: Option<String>,
}

/// One thing that is done to an image. Each becomes a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Installs packages.
    Packages(Packages),
    /// Runs a script.
    Run(Run),
    /// Writes a file.
    File(File),
    /// Copies local files.
    Copy(Copy),
    /// Makes a user, or adds to one that is there.
    User(User),
    /// Sets environment variables for later steps and all logins.
    Env(BTreeMap<String, String>),
    /// Sets the host name.
    Hostname(Spanned<String>),
    /// Enables or disables a service.
    Service(Service),
}

/// Packages to install with the image's own package manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    /// Names as the package manager takes them; at least one.
    pub names: Vec<String>,
    /// Whether recommended packages come along.
    pub recommends: bool,
    /// Limits of the step.
    pub limits: Limits,
}

/// A script, of `run` and `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The script.
    pub command: Spanned<String>,
    /// The program and its arguments that the script is given to.
    pub shell: Vec<String>,
    /// Variables for this script only.
    pub env: BTreeMap<String, String>,
    /// Working directory in the tree.
    pub workdir: Option<String>,
    /// Whether it may use the network.
    pub network: bool,
    /// Limits of the step.
    pub limits: Limits,
}

/// Limits of a step; absent means the sandbox's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Wall time in seconds.
    pub seconds: Option<u64>,
    /// Memory of each process in bytes.
    pub memory: Option<u64>,
    /// Number of processes.
    pub processes: Option<u64>,
}

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute path in the tree.
    pub path: String,
    /// What is in it.
    pub content: Content,
    /// Permission bits; 0644 for inline content and the source's for a local file when absent.
    pub mode: Option<u32>,
    /// `user[:group]`, by name or number.
    pub owner: Option<String>,
}

/// Where a file's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The recipe.
    Inline(String),
    /// A local file.
    Local(Spanned<PathBuf>),
}

/// Local files that are copied into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The file or directory; a relative one counts from the directory of its recipe file.
    pub source: Spanned<PathBuf>,
    /// Absolute path in the tree: of the file, or of the directory whose content the source's
    /// becomes. It never ends with `/`.
    pub destination: String,
    /// Permission bits for files, instead of the source's.
    pub mode: Option<u32>,
    /// `user[:group]`, by name or number; root when absent.
    pub owner: Option<String>,
}

/// A user account. When the account is there already (from the base image or an earlier node), what
/// is given here is added to it or replaces it; what is not given stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// Whether it may use sudo without a password.
    pub sudo: bool,
    /// Numeric id of a new account.
    pub uid: Option<u32>,
    /// Login shell.
    pub shell: Option<String>,
    /// Password hash in crypt(5) form.
    pub password_hash: Option<String>,
    /// Lines of `authorized_keys`.
    pub authorized_keys: Vec<String>,
}

/// A service that is enabled or disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Unit or service name.
    pub name: String,
    /// Whether it starts at boot.
    pub enable: bool,
}

/// What an image says about its disk. What it does not say comes from its base image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// Size in bytes, a multiple of 1 MiB.
    pub size: Option<Spanned<u64>>,
    /// File system of the root.
    pub filesystem: Option<Spanned<String>>,
    /// Label of the root file system.
    pub label: Option<Spanned<String>>,
    /// Whether the disk has a boot loader for UEFI.
    pub uefi: Option<Spanned<bool>>,
}

/// A kernel in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Absolute path of the kernel.
    pub path: String,
    /// Absolute path of its initrd.
    pub initrd: Option<String>,
}

/// What an image says about how it boots. What it does not say comes from its base image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// Arguments of the kernel command line beyond, or instead of, the usual ones.
    pub command_line: Option<Spanned<String>>,
    /// How a machine boots it unless told otherwise.
    pub firmware: Option<Spanned<Firmware>>,
}

/// What starts the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// QEMU loads kernel and initrd itself.
    Direct,
    /// OVMF starts the boot loader of the disk.
    Uefi,
}

/// A TCP port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Port in the guest.
    pub guest: u16,
    /// Port on 127.0.0.1 of the host that is forwarded to it.
    pub host: Option<u16>,
}

/// A machine of a project, or several alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name; with a count, what the names of its machines begin with.
    pub name: Spanned<String>,
    /// Its image; always there in what [`load`](super::load) gives.
    pub image: Option<MachineImage>,
    /// How many there are. They have numbers then, even when there is one.
    pub count: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: Option<u32>,
    /// Virtual processors.
    pub cpus: Option<u32>,
    /// Size of its disk in bytes.
    pub disk_size: Option<u64>,
    /// What runs its instructions.
    pub accel: Option<Accel>,
    /// What starts the operating system.
    pub firmware: Option<Firmware>,
    /// Forwarded ports, each with one of the host.
    pub ports: Vec<Spanned<Port>>,
    /// Parameters of the image's recipe.
    pub settings: BTreeMap<String, String>,
    /// The machines that must be ready before it starts, by the names of their nodes.
    pub depends_on: Vec<Spanned<String>>,
}

impl Machine {
    /// The names of its machines: `web`, or `web-1`, `web-2` when there is a count.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self.count {
            None => vec![self.name.value.clone()],
            Some(count) => (1..=count)
                .map(|number| format!("{}-{number}", self.name.value))
                .collect(),
        }
    }
}

/// What a machine is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MachineImage {
    /// An image in the store, by its tag without `@`.
    Tag(String),
    /// An image of the same file.
    Own(String),
    /// An image of another recipe.
    Recipe {
        /// The recipe's path, or the name of a built-in one.
        recipe: PathBuf,
        /// Which image of it; when absent the one named like the recipe, or the only one.
        image: Option<String>,
    },
}

/// What runs a machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The fastest that works.
    Auto,
    /// Linux's KVM.
    Kvm,
    /// The hypervisor of macOS.
    Hvf,
    /// QEMU itself.
    Tcg,
}

impl Accel {
    /// All of them, with the names that they have in recipes.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("auto", Self::Auto),
        ("kvm", Self::Kvm),
        ("hvf", Self::Hvf),
        ("tcg", Self::Tcg),
    ];
}
