//! Projects: what their machines are to be, and making that so.

mod compare;
mod down;
mod foresee;
mod order;
mod up;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

pub use compare::{Action, Compared, compare};
pub(super) use down::group;
pub use down::{Down, DownMachine, DownOptions, Outcome, down, targets};
pub use foresee::{Foreseen, ForeseenMachine, foresee};
pub use up::{Up, UpMachine, up};

use super::cache::CacheOptions;
use super::machine::cloud_init;
use super::{Context, RecipeChoice};
use crate::checked::HostName;
use crate::compose;
use crate::event::Event;
use crate::failure::Failure;
use crate::host::SecretSource;
use crate::image::{FurtherDisk, Hardware, Mounted, Network};
use crate::machine::{Forwarded, MachineName, NewHost, Project, Until};
use crate::qemu::AccelChoice;
use crate::recipe::{self, Condition, Machine, MachineImage};
use crate::world::{recipes, usual_dockerfile};

/// What a project without a file has a machine of.
pub const DEFAULT_IMAGE: &str = "alpine";

/// What is to be up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpOptions {
    /// Machines, or nodes of the file that stand for several; all when empty. Those that they
    /// depend on come too.
    pub names: Vec<String>,
    /// What to make the machine of a project without a file of.
    pub image: Option<String>,
    /// Values of parameters; of a project without a file, and with a Dockerfile, build arguments.
    pub settings: BTreeMap<String, String>,
    /// What else the Dockerfile of a project without a file is given.
    pub dockerfile: RecipeChoice,
    /// Caches of builds.
    pub cache: CacheOptions,
    /// Acceleration, in place of what the file says.
    pub accel: Option<AccelChoice>,
    /// Make the named machines anew.
    pub recreate: bool,
    /// Take over machines that this home knows nothing of.
    pub adopt: bool,
    /// What is waited for.
    pub until: Until,
    /// How long, for each machine.
    pub timeout: std::time::Duration,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// An image of the store, by tag or id.
    Named(String),
    Recipe(RecipeChoice),
    /// Whatever the machine has; the default when there is no machine yet.
    Any(RecipeChoice),
}

/// A machine as it is to be.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    name: MachineName,
    source: Source,
    /// What it is called besides in the private network.
    aliases: Vec<HostName>,
    /// Positions of those that it waits for, and until when.
    after: Vec<(usize, Condition)>,
    /// What the file says; nothing without a file.
    settings: Option<Settings>,
}

/// What the file says of a machine's QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    hardware: Hardware,
    ports: Vec<Forwarded>,
    /// Whether the ports that the image forwards are forwarded, too.
    image_ports: bool,
    /// Whether each directory that the image asks for must be among the machine's own.
    image_shares: bool,
    accel: AccelChoice,
}

/// The project that the user is in.
fn project(context: &Context) -> Result<&Project, Failure> {
    context
        .project
        .as_ref()
        .ok_or_else(|| Failure::usage("cannot find a project: no working directory"))
}

/// Tells which file says what the machines are to be unless it is the usual one, and what of it has
/// no effect.
fn tell(context: &Context, project: &Project) -> Result<(), Failure> {
    let Some(file) = project.file().filter(|file| compose::is_compose(file)) else {
        return Ok(());
    };
    let file = shortest(&file);
    context.emit(Event::Note {
        message: format!("no {} found, using {}", Project::FILE, file.display()),
    });
    for warning in recipes::convert(context, &file)?.warnings {
        let place = warning
            .place()
            .map_or_else(String::new, |place| format!("{place}: "));
        context.emit(Event::Warning {
            message: format!("{place}{warning}"),
        });
    }
    Ok(())
}

/// The context with the secrets of a Compose file. Those that the user gives take precedence.
fn lent(context: &Context, project: &Project) -> Result<Context, Failure> {
    let mut secrets = context.secrets.clone();
    if let Some(file) = project.file().filter(|file| compose::is_compose(file)) {
        for (id, source) in recipes::convert(context, &shortest(&file))?.secrets {
            let Entry::Vacant(entry) = secrets.secrets.entry(id) else {
                continue;
            };
            let source = match source {
                SecretSource::File(path) => {
                    SecretSource::File(secret_file(&path, &file, entry.key())?)
                }
                variable => variable,
            };
            entry.insert(source);
        }
    }
    Ok(context.clone().with_secrets(secrets))
}

/// All machines that the project is to have.
fn wanted(
    context: &Context,
    project: &Project,
    options: &UpOptions,
) -> Result<Vec<Wanted>, Failure> {
    let Some(file) = project.file() else {
        return Ok(vec![without_file(context, project, options)]);
    };
    if let Some(image) = &options.image {
        return Err(Failure::usage(format!(
            "--image {image}: the file {} already names the images",
            file.display()
        ))
        .with_help("use --image only in a directory without that file"));
    }
    let file = shortest(&file);
    let loaded = recipes::load(context, &file, &options.settings)?;
    if loaded.machines.is_empty() {
        return Err(
            Failure::usage(format!("{} describes no machines", file.display()))
                .with_help("add one, for example: machine \"web\" image=\"debian-12\""),
        );
    }
    expand(&loaded.machines, &file, options)
}

/// A path as a user in the project's directory writes it, for messages.
fn shortest(file: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    match here
        .ok()
        .and_then(|here| Some(file.strip_prefix(here).ok()?.to_owned()))
    {
        Some(short) => short,
        None => file.to_owned(),
    }
}

/// The one machine of a directory.
fn without_file(context: &Context, project: &Project, options: &UpOptions) -> Wanted {
    let directory = project.root().file_name().unwrap_or_default();
    let choice = |recipe: &str| RecipeChoice {
        recipe: recipe.to_owned(),
        settings: options.settings.clone(),
        ..options.dockerfile.clone()
    };
    Wanted {
        name: MachineName::like(&directory.to_string_lossy()),
        source: match &options.image {
            None => Source::Any(match usual_dockerfile(project.root()) {
                Some(path) => choice(&path.to_string_lossy()),
                None => choice(DEFAULT_IMAGE),
            }),
            Some(image) if recipes::names_recipe(context, image) => Source::Recipe(choice(image)),
            Some(image) => Source::Named(image.clone()),
        },
        aliases: Vec::new(),
        after: Vec::new(),
        settings: None,
    }
}

impl Wanted {
    /// The machine in the private network, if it is to be in that.
    fn host(&self) -> Option<NewHost> {
        let network = self.settings.as_ref()?.hardware.network.as_ref()?;
        network.group.then(|| NewHost {
            name: self.name.clone(),
            aliases: self.aliases.clone(),
        })
    }
}

/// The machines of the nodes of a file.
fn expand(nodes: &[Machine], file: &Path, options: &UpOptions) -> Result<Vec<Wanted>, Failure> {
    let mut positions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut next = 0;
    for node in nodes {
        let count = node.names().len();
        positions.insert(&node.name.value, (next..next + count).collect());
        next += count;
    }
    let mut wanted = Vec::new();
    for node in nodes {
        let after = node.depends_on.iter().flat_map(|on| {
            let positions = positions.get(on.name.value.as_str());
            let positions = positions.into_iter().flatten();
            positions.map(|position| (*position, on.condition))
        });
        let after: Vec<_> = after.collect();
        let mut settings = settings(node, file, options.accel)?;
        // As with containers: those of one file find each other.
        settings.hardware.network.get_or_insert(Network {
            group: next > 1,
            ..Network::default()
        });
        let mut aliases = node.aliases.clone();
        if node.count.is_some() {
            aliases.extend(node.name.value.parse::<HostName>().ok());
        }
        for name in node.names() {
            wanted.push(Wanted {
                name: name.parse().map_err(|error: crate::machine::NameError| {
                    Failure::from(crate::machine::MachineError::from(error))
                })?,
                source: source(node, file),
                aliases: aliases.clone(),
                after: after.clone(),
                settings: Some(settings.clone()),
            });
        }
    }
    Ok(wanted)
}

fn source(node: &Machine, file: &Path) -> Source {
    let (recipe, image) = match &node.image {
        Some(MachineImage::Tag(tag)) => return Source::Named(format!("@{tag}")),
        Some(MachineImage::Recipe { recipe, image }) => (recipe.as_path(), image.clone()),
        Some(MachineImage::Own(image)) => (file, Some(image.clone())),
        // A file that was loaded has one for each.
        None => (file, None),
    };
    Source::Recipe(RecipeChoice {
        recipe: recipe.to_string_lossy().into_owned(),
        image,
        settings: node.settings.clone(),
        process: node.process.clone(),
        ..RecipeChoice::default()
    })
}

fn settings(node: &Machine, file: &Path, accel: Option<AccelChoice>) -> Result<Settings, Failure> {
    let ports = node
        .ports
        .iter()
        .filter_map(|port| Forwarded::asked(&port.value));
    let mut hardware = node.hardware.clone();
    for mount in &mut hardware.mounts {
        if let Mounted::Share(path) = &mut mount.what {
            *path = shared(path, file, Shared::Directory)?;
        }
    }
    for disk in &mut hardware.disks {
        if let FurtherDisk::File { path, .. } = disk {
            *path = shared(path, file, Shared::File)?;
        }
    }
    if let Some(path) = &mut hardware.devices.cdrom {
        *path = shared(path, file, Shared::File)?;
    }
    if let Some(path) = &node.cloud_init {
        let files = cloud_init(path, &|path| shared(path, file, Shared::Any))?;
        hardware.first_boot.cloud_init = Some(files);
    }
    Ok(Settings {
        hardware,
        ports: ports.collect(),
        image_ports: node.image_ports,
        image_shares: node.image_shares,
        accel: accel.unwrap_or(match node.accel {
            None | Some(recipe::Accel::Auto) => AccelChoice::Auto,
            Some(recipe::Accel::Kvm) => AccelChoice::Kvm,
            Some(recipe::Accel::Hvf) => AccelChoice::Hvf,
            Some(recipe::Accel::Tcg) => AccelChoice::Tcg,
        }),
    })
}

/// What a project gives to its machines.
#[derive(Clone, Copy)]
enum Shared {
    Directory,
    File,
    Any,
}

/// What is below the directory of the file, wherever links in it lead: a file that came from
/// elsewhere is not to choose what machines see of the host.
fn shared(path: &Path, file: &Path, what: Shared) -> Result<PathBuf, Failure> {
    let nouns = match what {
        Shared::Directory => "directories",
        Shared::File | Shared::Any => "files",
    };
    let help = format!("a machine can have {nouns} below the directory of its vmfab.kdl");
    let directory = directory_of(file);
    let whole = directory.join(path);
    let real = real_below(&whole, directory, &help)?;
    let noun = match what {
        Shared::Directory if !real.is_dir() => "directory",
        Shared::File if !real.is_file() => "file",
        _ => return Ok(real),
    };
    let message = format!("{} is not a {noun}", whole.display());
    Err(Failure::usage(message).with_help(help))
}

/// The file of a secret that a Compose file names: one below its directory, wherever links lead.
fn secret_file(path: &Path, file: &Path, id: &str) -> Result<PathBuf, Failure> {
    let help = format!("give it yourself: vmfab up --secret id={id},src=FILE");
    real_below(path, directory_of(file), &help)
}

fn directory_of(file: &Path) -> &Path {
    let directory = file.parent().filter(|parent| *parent != Path::new(""));
    directory.unwrap_or(Path::new("."))
}

/// Where a path leads to, which must be below a directory.
fn real_below(path: &Path, directory: &Path, help: &str) -> Result<PathBuf, Failure> {
    let real = |path: &Path| path.canonicalize().map_err(Failure::io("open", path));
    let (directory, real) = (real(directory)?, real(path)?);
    if real.starts_with(&directory) {
        return Ok(real);
    }
    let (path, real) = (path.display(), real.display());
    let message = format!("{path} leads out of the project, to {real}");
    Err(Failure::usage(message).with_help(help))
}

/// Positions of the machines that names stand for. The name of a node with a count stands for all
/// of its machines.
fn select(wanted: &[Wanted], names: &[String]) -> Result<Vec<usize>, Failure> {
    let mut found = Vec::new();
    for name in names {
        let numbered = |wanted: &Wanted| {
            let rest = wanted.name.as_str().strip_prefix(name.as_str());
            let number = rest.and_then(|rest| rest.strip_prefix('-'));
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let exact = wanted
            .iter()
            .position(|wanted| wanted.name.as_str() == name);
        let matching: Vec<usize> = match exact {
            Some(position) => vec![position],
            None => (0..wanted.len())
                .filter(|&at| numbered(&wanted[at]))
                .collect(),
        };
        if matching.is_empty() {
            let known = wanted.iter().map(|wanted| wanted.name.as_str());
            return Err(Failure::not_found("machine", name, known)
                .or_help(format!("{} does not describe it", Project::FILE)));
        }
        found.extend(matching);
    }
    Ok(found)
}
