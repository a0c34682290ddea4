//! The recipe model: what a recipe says, with the places where it says so. Parameters are
//! substituted, includes are merged and `from` is resolved; sizes, modes and times are numbers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use semver::Version;

use super::error::RecipeError;
use super::source::{Source, Span, Spanned};
use crate::checked::{AccountName, HostName, Line, Name};
use crate::digest::Checksum;
use crate::image::{
    About, AskedShare, DiskFormat, Firmware, Hardware, Platform, Port, Process, Requires, Seed,
};
use crate::instruction::{BootcInstall, Packages, Run, Service, User};
use crate::limits::Limits;

/// A recipe file with everything that it includes and inherits from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the recipe says about itself.
    pub recipe: Arc<Recipe>,
    /// Its parameters with the values that hold, those of included files too.
    pub parameters: Vec<Parameter>,
    /// Its images, in the order of the file, those of included files too.
    pub images: Vec<Arc<Image>>,
    /// Its images that need parameters without a value, by name, with what to say when they are
    /// wanted.
    pub incomplete: Vec<(String, RecipeError)>,
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
    pub version: Option<Version>,
    /// What it is, a phrase.
    pub description: Option<String>,
    /// Who made it, and under which terms.
    pub about: About,
    /// What machines of its images need.
    pub requires: Requires,
    /// A text about it for people: a file below the directory of the recipe.
    pub readme: Option<Spanned<PathBuf>>,
    /// Free annotations.
    pub metadata: BTreeMap<String, String>,
}

impl Recipe {
    /// A recipe that says nothing about itself.
    #[must_use]
    pub fn named(name: String) -> Self {
        Self {
            name,
            version: None,
            description: None,
            about: About::default(),
            requires: Requires::default(),
            readme: None,
            metadata: BTreeMap::new(),
        }
    }
}

/// A parameter with the value that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub name: Spanned<String>,
    /// What it takes.
    pub kind: ParameterKind,
    /// The value that holds, as it is substituted.
    pub value: String,
    /// The value when it is not set.
    pub default: Option<String>,
    pub bounds: ValueBounds,
    /// What it is for, a phrase.
    pub description: Option<String>,
}

/// Which values of its type a parameter takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValueBounds {
    /// The only ones; any when empty.
    pub choices: Vec<String>,
    /// The least, of a size, a number or a port.
    pub min: Option<String>,
    /// The greatest, of a size, a number or a port.
    pub max: Option<String>,
    /// A regular expression that the whole text matches.
    pub pattern: Option<String>,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
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
    pub name: Spanned<String>,
    /// The recipe that it is in.
    pub recipe: Arc<Recipe>,
    /// What it starts from.
    pub base: Base,
    /// What is done to it, in order.
    pub instructions: Vec<Instruction>,
    pub disk: Disk,
    /// Its kernel, when it is not the newest in `/boot`.
    pub kernel: Option<Kernel>,
    /// Its initrd from outside, beside a kernel from outside.
    pub initrd: Option<Fetched>,
    /// How it boots.
    pub boot: Boot,
    /// Ports that it serves.
    pub ports: Vec<Spanned<Port>>,
    /// Directories of the host that it asks for.
    pub shares: Vec<AskedShare>,
    /// Commands that must succeed in the finished image.
    pub checks: Vec<Run>,
    /// What must hold in a machine of it.
    pub tests: Vec<Test>,
    /// What its ports are for, by the number in the guest.
    pub port_names: BTreeMap<u16, Name>,
}

/// What must hold in a machine of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// What is tested, a phrase.
    pub name: Line,
    pub expectations: Vec<Expectation>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// The command succeeds; root runs it when no user is named.
    Run {
        command: String,
        user: Option<AccountName>,
    },
    /// Something accepts connections to the port.
    Port(u16),
    /// The file exists, and has this text in it.
    File {
        path: String,
        contains: Option<String>,
    },
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
    /// A disk that was made elsewhere.
    Disk(Fetched),
    /// A disk that was made elsewhere and is a local file.
    DiskFile(DiskFile),
    /// A root filesystem that was made elsewhere, as a tar.
    Layer(Fetched),
    /// An image in a registry or a layout.
    Registry(RegistryImage),
    /// A stage of a Dockerfile.
    Dockerfile(Box<Dockerfile>),
    /// A bootable container, installed to a disk.
    Bootc(Box<Bootc>),
}

/// A bootable container as a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootc {
    /// The container.
    pub source: Spanned<Base>,
    /// How `bootc` installs it; its tree boots as it is when absent.
    pub install: Option<BootcInstall>,
    /// A configuration for Ignition, which reads it at the first boot of each machine.
    pub ignition: Option<String>,
}

/// A Dockerfile, and what its build is given. Only planning reads what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Where it is asked for.
    pub span: Span,
    /// What the image of the file is called, unless a stage is wanted.
    pub name: String,
    /// The file with its text.
    pub source: Source,
    /// The file of what is left out of the context, with its text.
    pub ignore: Option<Source>,
    /// The directory that `COPY` and `ADD` read.
    pub context: PathBuf,
    /// Build arguments with their values.
    pub args: Vec<(Spanned<String>, String)>,
    /// The stage that is wanted; the last one when absent.
    pub target: Option<Spanned<String>>,
    /// Whether the process of the stage runs as a service of the machine.
    pub service: bool,
    /// How much the file may take.
    pub limits: Limits,
    /// What `FROM` and `--from` find under other names than those of stages.
    pub contexts: Vec<(Spanned<String>, Context)>,
}

impl Dockerfile {
    /// A file that is given nothing.
    pub(super) const fn new(
        span: Span,
        name: String,
        source: Source,
        ignore: Option<Source>,
        context: PathBuf,
        limits: Limits,
    ) -> Self {
        Self {
            span,
            name,
            source,
            ignore,
            context,
            args: Vec::new(),
            target: None,
            service: true,
            limits,
            contexts: Vec::new(),
        }
    }
}

/// What a name in a Dockerfile stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    Directory(Spanned<PathBuf>),
    Image(Box<Base>),
}

/// A disk that is a local file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFile {
    pub path: Spanned<PathBuf>,
    /// Its format; recognised by content when absent.
    pub format: Option<DiskFormat>,
}

/// An image in a registry or a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryImage {
    /// As it is written, without `oci://`: for people.
    pub shown: Spanned<String>,
    /// Where it is: `HOST/NAME:TAG`, or `oci:DIR:TAG` with the path from where the recipe is read.
    pub location: String,
    /// The build context of the Dockerfile that names it. A layout or archive must lie in it.
    pub context: Option<PathBuf>,
    /// Whether a machine is made of it that runs its process.
    pub service: bool,
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

/// Content from outside, and what is done to it in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is written.
    pub span: Span,
    /// Where the content comes from.
    pub fetch: Fetch,
    /// What is done to it.
    pub transforms: Vec<Spanned<Transform>>,
}

/// Where content comes from, and how it is known to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// An `http`, `https` or `file` URL.
    pub url: Spanned<String>,
    /// Other URLs of the same content, tried when this one fails.
    pub mirrors: Vec<String>,
    /// How it is known; only a lock file can say when absent.
    pub pin: Option<Pin>,
    /// Its size in bytes.
    pub size: Option<u64>,
}

/// How content from outside is known to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    Checksum(Checksum),
    /// By what is there when it is first asked for.
    FirstUse,
    /// By a file of checksums beside it, which may change.
    Checksums {
        /// URL of that file, or its name beside the content.
        url: Spanned<String>,
        /// URL or name of its detached OpenPGP signature.
        signature: Option<Spanned<String>>,
        /// The key ring on this host that the signature must be by.
        keyring: Option<PathBuf>,
    },
}

/// What is done to content from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transform {
    /// Takes the footer off a fixed VHD: what is left is a raw disk.
    StripVhdFooter,
    /// Decompresses; the format is recognised by content when absent.
    Decompress(Option<Compression>),
    /// Makes a raw disk; the format is recognised by content when absent.
    Convert(Option<DiskFormat>),
    /// Gives it another name.
    Rename(String),
    /// Takes one member out of a tar or zip.
    Extract(String),
    /// Makes a layer of a tar.
    Unpack,
}

/// Compression formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gz,
    /// The format of xz-utils.
    Xz,
    /// RFC 8878.
    Zst,
    /// The format of bzip2.
    Bz2,
}

impl Compression {
    /// All of them, with the names that they have in recipes.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("gz", Self::Gz),
        ("xz", Self::Xz),
        ("zst", Self::Zst),
        ("bz2", Self::Bz2),
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gz => "gz",
            Self::Xz => "xz",
            Self::Zst => "zst",
            Self::Bz2 => "bz2",
        }
    }
}

/// One thing that is done to an image. Each becomes a layer, or a change of its disk.
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
    /// Copies files of another image.
    CopyFrom(Box<CopyFrom>),
    /// Makes a user, or adds to one that is there.
    User(User),
    /// Sets environment variables for later steps and all logins.
    Env(BTreeMap<String, String>),
    /// Sets the host name.
    Hostname(Spanned<String>),
    /// Enables or disables a service.
    Service(Service),
    /// Unpacks a tar from outside.
    Layer(Box<Fetched>),
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
    Inline(String),
    /// A local file.
    Local(Spanned<PathBuf>),
    /// Content from outside.
    Fetched(Box<Fetched>),
}

/// Local files that are copied into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The file or directory; a relative path starts at the directory of its recipe file.
    pub source: Spanned<PathBuf>,
    /// Absolute path in the tree: of the file, or of the directory whose content the source's
    /// becomes. It never ends with `/`.
    pub destination: String,
    /// Permission bits for files, instead of the source's.
    pub mode: Option<u32>,
    /// `user[:group]`, by name or number; root when absent.
    pub owner: Option<String>,
    /// What is left out of a directory, as lines of gitignore(5).
    pub exclude: Vec<String>,
}

/// Files of another image that are copied into the image, by the rules of `COPY --from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFrom {
    pub from: Spanned<Base>,
    /// An absolute path or pattern in the other image.
    pub path: String,
    /// Absolute path in the tree; with a final `/` always a directory.
    pub destination: String,
    /// `user[:group]`, by name or number; the owners of the files when absent.
    pub owner: Option<String>,
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

/// A kernel that QEMU loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kernel {
    Tree {
        /// Absolute path of the kernel.
        path: String,
        /// Absolute path of its initrd.
        initrd: Option<String>,
    },
    /// From outside.
    Fetched(Box<Fetched>),
}

/// What an image says about how it boots. What it does not say comes from its base image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// Arguments of the kernel command line beyond, or instead of, the usual ones.
    pub command_line: Option<Spanned<String>>,
    /// How a machine boots it unless told otherwise.
    pub firmware: Option<Spanned<Firmware>>,
    /// How the guest learns whom to let in.
    pub seed: Option<Spanned<Seed>>,
    /// What the guest has drivers for.
    pub platform: Platform,
    /// The account of a disk that was made elsewhere that `vmfab ssh` enters as.
    pub user: Option<Spanned<String>>,
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
    pub hardware: Hardware,
    /// A file or a directory for cloud-init, below the directory of the file.
    pub cloud_init: Option<PathBuf>,
    /// What runs its instructions.
    pub accel: Option<Accel>,
    /// Forwarded ports, each with one of the host.
    pub ports: Vec<Spanned<Port>>,
    /// Whether the ports that its image serves are forwarded, too.
    pub image_ports: bool,
    /// Whether directories that the image asks for must be among its own.
    pub image_shares: bool,
    /// Parameters of the image's recipe.
    pub settings: BTreeMap<String, String>,
    /// What it runs otherwise than its image says.
    pub process: Process,
    /// What it is called besides in the private network of its project.
    pub aliases: Vec<HostName>,
    /// The machines that it waits for before it starts.
    pub depends_on: Vec<Dependency>,
}

/// A machine that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The name of its node.
    pub name: Spanned<String>,
    pub condition: Condition,
}

/// How far a machine must have come before those start that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It can be entered.
    Started,
    /// It can be entered, and its health check succeeds if it has one.
    Healthy,
    /// Its process has ended, with code 0.
    Completed,
}

impl Condition {
    /// All of them, with the names that they have in recipes.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("started", Self::Started),
        ("healthy", Self::Healthy),
        ("completed", Self::Completed),
    ];
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
