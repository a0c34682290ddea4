//! Completion: what a shell asks this program, and which names an argument can have.
//!
//! A shell's script calls the program with `COMPLETE` set, so that tags, machines and recipes are
//! those of the moment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Arg;
use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::Shells;

use super::{commands, podman_bootc};
use crate::config::CacheMode;
use crate::config::Config;
use crate::dockerfile::{self, Dockerfile};
use crate::event::Silent;
use crate::failure::Failure;
use crate::host::{Home, Interrupt, file};
use crate::image::{DiskFormat, Network};
use crate::limits::Limits;
use crate::machine::Project;
use crate::ops::hypervisor::Hypervisor;
use crate::ops::{self, Context};
use crate::recipe::is_dockerfile;
use crate::world::usual_dockerfile;

/// The variable by which scripts of shells ask for completions.
const VARIABLE: &str = "COMPLETE";
/// The same for completions without descriptions.
const PLAIN: &str = "COMPLETE_PLAIN";

/// What an argument names.
#[derive(Clone, Copy)]
enum Names {
    Tags,
    Machines,
    /// Machines of container images.
    Containers,
    /// Container images that were installed.
    ContainerImages,
    Volumes,
    /// Volumes, before the path where they are mounted.
    Mounts,
    /// `MACHINE:` and files.
    InMachines,
    /// Built-in recipes and files.
    Recipes,
    /// Tags, built-in recipes and files.
    Bootable,
    /// Snapshots of machines.
    Snapshots,
    /// Snapshots of machines, and tags.
    Restorable,
    /// Machines, and tags.
    Cloneable,
    /// Roots of the store.
    Roots,
    /// Builds, those that ended too.
    Builds,
    /// Builds that run.
    RunningBuilds,
    /// Images that were built.
    BuiltImages,
    Formats,
    Hypervisors,
    Networks,
    CacheModes,
    /// Stages of the Dockerfile.
    Stages,
    /// Arguments that the Dockerfile declares.
    BuildArguments,
    /// Keys of one's own.
    Keys,
}

/// Arguments with names that only the moment knows: the command, the argument's id, what it names.
const ARGUMENTS: &[(&[&str], &str, Names)] = &[
    (&["boot"], "image", Names::Bootable),
    (&["boot"], "save_base", Names::Tags),
    (&["boot"], "network", Names::Networks),
    (&["boot"], "target", Names::Stages),
    (&["boot"], "build_args", Names::BuildArguments),
    (&["build"], "recipe", Names::Recipes),
    (&["build"], "target", Names::Stages),
    (&["build"], "build_args", Names::BuildArguments),
    (&["build"], "tags", Names::Tags),
    (&["build"], "format", Names::Formats),
    (&["to-disk"], "format", Names::Formats),
    (&["build"], "hypervisor", Names::Hypervisors),
    (&["build"], "mode", Names::CacheModes),
    (&["builds", "logs"], "id", Names::Builds),
    (&["builds", "follow"], "id", Names::RunningBuilds),
    (&["builds", "cancel"], "ids", Names::RunningBuilds),
    (&["report"], "build", Names::Builds),
    (&["history"], "image", Names::BuiltImages),
    (&["plan"], "recipe", Names::Recipes),
    (&["plan"], "target", Names::Stages),
    (&["plan"], "build_args", Names::BuildArguments),
    (&["explain"], "recipe", Names::Recipes),
    (&["explain"], "target", Names::Stages),
    (&["explain"], "build_args", Names::BuildArguments),
    (&["lock"], "recipe", Names::Recipes),
    (&["lock"], "target", Names::Stages),
    (&["lock"], "build_args", Names::BuildArguments),
    (&["images"], "available", Names::Recipes),
    (&["image", "export"], "image", Names::Tags),
    (&["image", "export"], "format", Names::Formats),
    (&["image", "export"], "hypervisor", Names::Hypervisors),
    (&["image", "inspect"], "image", Names::Tags),
    (&["image", "history"], "image", Names::Tags),
    (&["image", "tree"], "image", Names::Tags),
    (&["image", "sbom"], "image", Names::Tags),
    (&["image", "check-updates"], "image", Names::Tags),
    (&["image", "provenance"], "image", Names::Tags),
    (&["image", "record-boot"], "image", Names::Tags),
    (&["image", "diff"], "before", Names::Tags),
    (&["image", "diff"], "after", Names::Tags),
    (&["image", "tag"], "image", Names::Tags),
    (&["image", "tag"], "tags", Names::Tags),
    (&["image", "rm"], "tags", Names::Tags),
    (&["pull"], "tags", Names::Tags),
    (&["push"], "sign", Names::Keys),
    (&["sign"], "key", Names::Keys),
    (&["template", "push"], "sign", Names::Keys),
    (&["key", "export"], "name", Names::Keys),
    (&["key", "trust"], "key", Names::Keys),
    (&["key", "revoke"], "key", Names::Keys),
    (&["push"], "image", Names::Tags),
    (&["store", "get"], "object", Names::Tags),
    (&["store", "restore"], "tags", Names::Tags),
    (&["store", "add"], "keep", Names::Roots),
    (&["store", "unkeep"], "names", Names::Roots),
    (&["up"], "names", Names::Machines),
    (&["up"], "image", Names::Bootable),
    (&["up"], "target", Names::Stages),
    (&["up"], "build_args", Names::BuildArguments),
    (&["down"], "names", Names::Machines),
    (&["commit"], "machine", Names::Machines),
    (&["commit"], "tag", Names::Tags),
    (&["create"], "image", Names::Bootable),
    (&["create"], "save_base", Names::Tags),
    (&["create"], "network", Names::Networks),
    (&["create"], "target", Names::Stages),
    (&["create"], "build_args", Names::BuildArguments),
    (&["create"], "target", Names::Stages),
    (&["create"], "build_args", Names::BuildArguments),
    (&["clone"], "source", Names::Cloneable),
    (&["pb", "run"], "image", Names::ContainerImages),
    (&["pb", "run"], "mounts", Names::Mounts),
    (&["pb", "run"], "network", Names::Networks),
    (&["ephemeral", "run"], "image", Names::ContainerImages),
    (&["ephemeral", "run"], "mounts", Names::Mounts),
    (&["ephemeral", "run"], "network", Names::Networks),
    (&["ephemeral", "ssh"], "image", Names::ContainerImages),
    (&["ephemeral", "ssh"], "mounts", Names::Mounts),
    (&["ephemeral", "ssh"], "network", Names::Networks),
    (&["to-disk"], "image", Names::ContainerImages),
    (&["pb", "ssh"], "machine", Names::Containers),
    (&["pb", "start"], "machine", Names::Containers),
    (&["pb", "stop"], "machine", Names::Containers),
    (&["pb", "rm"], "machine", Names::Containers),
    (&["pb", "inspect"], "machine", Names::Containers),
    (&["ssh"], "name", Names::Machines),
    (&["start"], "names", Names::Machines),
    (&["stop"], "names", Names::Machines),
    (&["watch"], "names", Names::Machines),
    (&["restart"], "names", Names::Machines),
    (&["pause"], "names", Names::Machines),
    (&["resume"], "names", Names::Machines),
    (&["suspend"], "names", Names::Machines),
    (&["rename"], "name", Names::Machines),
    (&["ssh-config"], "names", Names::Machines),
    (&["exec"], "name", Names::Machines),
    (&["wait"], "names", Names::Machines),
    (&["port"], "name", Names::Machines),
    (&["screenshot"], "name", Names::Machines),
    (&["cp"], "source", Names::InMachines),
    (&["cp"], "destination", Names::InMachines),
    (&["rm"], "names", Names::Machines),
    (&["snapshot", "create"], "machine", Names::Machines),
    (&["snapshot", "inspect"], "name", Names::Snapshots),
    (&["snapshot", "diff"], "before", Names::Restorable),
    (&["snapshot", "diff"], "after", Names::Restorable),
    (&["snapshot", "restore"], "name", Names::Restorable),
    (&["snapshot", "restore"], "machine", Names::Machines),
    (&["snapshot", "export"], "name", Names::Restorable),
    (&["snapshot", "export"], "since", Names::Tags),
    (&["snapshot", "delete"], "names", Names::Snapshots),
    (&["set"], "name", Names::Machines),
    (&["inspect"], "name", Names::Machines),
    (&["logs"], "name", Names::Machines),
    (&["console"], "name", Names::Machines),
    (&["volume", "inspect"], "name", Names::Volumes),
    (&["volume", "resize"], "name", Names::Volumes),
    (&["volume", "rm"], "names", Names::Volumes),
    (&["boot"], "mounts", Names::Mounts),
    (&["create"], "mounts", Names::Mounts),
];

/// Answers a shell that asks for completions; tells whether one did.
pub(super) fn answer() -> clap::error::Result<bool> {
    let directory = std::env::current_dir().ok();
    let ask = |variable: &'static str, factory: fn() -> clap::Command| {
        CompleteEnv::with_factory(factory)
            .var(variable)
            .try_complete(std::env::args_os(), directory.as_deref())
    };
    match podman_bootc::is_called() {
        true => Ok(ask(VARIABLE, of_podman_bootc)? || ask(PLAIN, without_descriptions)?),
        false => ask(VARIABLE, command),
    }
}

/// The script by which a shell asks for the program under the name `podman-bootc`.
pub(super) fn script_of_podman_bootc(
    shell: &str,
    descriptions: bool,
) -> std::io::Result<Option<String>> {
    let variable = if descriptions { VARIABLE } else { PLAIN };
    script_of(shell, variable, podman_bootc::NAME)
}

fn of_podman_bootc() -> clap::Command {
    podman_bootc::command(command())
}

fn without_descriptions() -> clap::Command {
    fn plain(command: clap::Command) -> clap::Command {
        let command = command
            .about(None::<&str>)
            .mut_args(|arg| arg.help(None::<&str>));
        command.mut_subcommands(plain)
    }
    plain(of_podman_bootc())
}

/// The script by which a shell asks.
pub(super) fn script(shell: &str) -> std::io::Result<Option<String>> {
    script_of(shell, VARIABLE, "vmfab")
}

fn script_of(shell: &str, variable: &str, name: &str) -> std::io::Result<Option<String>> {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(shell) else {
        return Ok(None);
    };
    let mut script = Vec::new();
    shell.write_registration(variable, name, name, name, &mut script)?;
    Ok(Some(String::from_utf8_lossy(&script).into_owned()))
}

/// The command line, with candidates for its arguments.
fn command() -> clap::Command {
    ARGUMENTS
        .iter()
        .fold(commands::root(), |root, (path, argument, names)| {
            add(root, path, argument, *names)
        })
}

fn add(command: clap::Command, path: &[&str], argument: &str, names: Names) -> clap::Command {
    match path {
        [first, rest @ ..] => {
            command.mut_subcommand(*first, |inner| add(inner, rest, argument, names))
        }
        // `mut_arg` would move it behind the others, and so positional ones change places.
        [] => command.mut_args(|arg| match arg.get_id() == argument {
            true => names.add_to(arg),
            false => arg,
        }),
    }
}

impl Names {
    fn add_to(self, arg: Arg) -> Arg {
        match self {
            Self::Recipes | Self::Bootable | Self::InMachines | Self::ContainerImages => {
                arg.add(ArgValueCompleter::new(move |typed: &std::ffi::OsStr| {
                    let begins = typed.to_string_lossy();
                    let mut found = self.candidates();
                    found.retain(|one| one.get_value().to_string_lossy().starts_with(&*begins));
                    found.extend(PathCompleter::file().complete(typed));
                    found
                }))
            }
            _ => arg.add(ArgValueCandidates::new(move || self.candidates())),
        }
    }

    /// What there is; nothing where that cannot be read.
    fn candidates(self) -> Vec<CompletionCandidate> {
        let found = match self {
            Self::Tags => tags(),
            Self::Machines => machines(""),
            Self::Containers => containers(),
            Self::ContainerImages => container_images(),
            Self::InMachines => machines(":"),
            Self::Volumes => volumes(""),
            Self::Mounts => volumes(":"),
            Self::Recipes => recipes(),
            Self::Bootable => tags().and_then(|mut found| {
                found.extend(recipes()?);
                Ok(found)
            }),
            Self::Snapshots => snapshots(),
            Self::Restorable => snapshots().and_then(|mut found| {
                found.extend(tags()?);
                Ok(found)
            }),
            Self::Cloneable => machines("").and_then(|mut found| {
                found.extend(tags()?);
                Ok(found)
            }),
            Self::Roots => roots(),
            Self::Builds => builds(true),
            Self::RunningBuilds => builds(false),
            Self::BuiltImages => built_images(),
            Self::Formats => Ok(DiskFormat::NAMES.map(|(name, _)| name.into()).into()),
            Self::Networks => Ok(Network::EXAMPLES.map(Into::into).into()),
            Self::Hypervisors => Ok(Hypervisor::NAMES.map(|(name, _)| name.into()).into()),
            Self::CacheModes => Ok(CacheMode::NAMES.map(|(name, _)| name.into()).into()),
            Self::Stages => Ok(stages()),
            Self::BuildArguments => Ok(build_arguments()),
            Self::Keys => keys(),
        };
        found.unwrap_or_default()
    }
}

fn context() -> Result<Context, Failure> {
    let home = Home::from_env()?;
    let interrupt = Interrupt::new().map_err(Failure::io("make", "a pipe".as_ref()))?;
    let mut context = Context::new(home, Arc::new(Silent), interrupt);
    let directory = std::env::current_dir().ok();
    context.project = directory.and_then(|directory| Project::around(&directory).ok());
    Ok(context)
}

fn tags() -> Result<Vec<CompletionCandidate>, Failure> {
    let context = context()?;
    // Who completes a word makes no store.
    if !context.home.store().exists() {
        return Ok(Vec::new());
    }
    let tags = ops::images::tags(&context)?.into_iter();
    Ok(tags
        .map(|tag| CompletionCandidate::new(tag.to_string()))
        .collect())
}

fn keys() -> Result<Vec<CompletionCandidate>, Failure> {
    // Who names a repository wrongly hears of it when a command reads it.
    let config = Config::from_env(&|_| Ok(()))?;
    let keys = ops::keys::list(&context()?.with_config(config, true))?;
    let names = keys.own.into_iter().filter_map(|key| key.name);
    Ok(names.map(CompletionCandidate::new).collect())
}

fn roots() -> Result<Vec<CompletionCandidate>, Failure> {
    let context = context()?;
    if !context.home.store().exists() {
        return Ok(Vec::new());
    }
    let roots = ops::store::roots(&context)?.into_iter();
    Ok(roots
        .map(|root| CompletionCandidate::new(root.name))
        .collect())
}

fn builds(all: bool) -> Result<Vec<CompletionCandidate>, Failure> {
    let candidate = |build: ops::builds::BuildState| {
        let what = build.image.unwrap_or(build.command);
        CompletionCandidate::new(build.id.to_string()).help(Some(what.into()))
    };
    let builds = ops::builds::list(&context()?, all).into_iter();
    Ok(builds.map(candidate).collect())
}

fn snapshots() -> Result<Vec<CompletionCandidate>, Failure> {
    let names = ops::snapshot::names(&context()?)?.into_iter();
    Ok(names.map(CompletionCandidate::new).collect())
}

/// The names of machines of container images.
fn containers() -> Result<Vec<CompletionCandidate>, Failure> {
    let machines = ops::pb::list(&context()?)?.into_iter();
    let candidate = |machine: ops::pb::PbMachine| {
        let reference = machine.container.reference.to_string();
        CompletionCandidate::new(machine.name.to_string()).help(Some(reference.into()))
    };
    Ok(machines.map(candidate).collect())
}

/// The names of bootable container images.
fn container_images() -> Result<Vec<CompletionCandidate>, Failure> {
    let images = ops::pb::images(&context()?).into_iter();
    let name = |image: ops::pb::ContainerImage| {
        let repository = image.repository?;
        Some(match image.tag {
            Some(tag) => format!("{repository}:{tag}"),
            None => repository,
        })
    };
    let names = images.filter_map(name);
    Ok(names.map(CompletionCandidate::new).collect())
}

fn built_images() -> Result<Vec<CompletionCandidate>, Failure> {
    let builds = ops::builds::history(&context()?, Duration::MAX, None)?;
    let images: BTreeSet<String> = builds.into_iter().filter_map(|one| one.image).collect();
    Ok(images.into_iter().map(CompletionCandidate::new).collect())
}

/// The names of machines, with what is to follow.
fn machines(end: &str) -> Result<Vec<CompletionCandidate>, Failure> {
    let names = ops::machine::names(&context()?)?.into_iter();
    Ok(names
        .map(|name| CompletionCandidate::new(name + end))
        .collect())
}

fn recipes() -> Result<Vec<CompletionCandidate>, Failure> {
    let recipes = ops::available::available(&context()?)?.into_iter();
    let candidate = |recipe: ops::available::AvailableRecipe| {
        CompletionCandidate::new(recipe.name).help(Some(recipe.description.into()))
    };
    Ok(recipes.map(candidate).collect())
}

/// The Dockerfile that the words of the line name, else that of the directory.
fn dockerfile() -> Option<Dockerfile> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let mut named = words.map(PathBuf::from).filter_map(|path| {
        if path.is_dir() {
            return usual_dockerfile(&path);
        }
        (is_dockerfile(&path) && path.is_file()).then_some(path)
    });
    let path = named.next().or_else(|| usual_dockerfile(Path::new(".")))?;
    let limits = Limits::default();
    let text = file::read_text(&path, limits.recipe_size).ok()?;
    dockerfile::parse(&path.to_string_lossy(), &text, &limits).ok()
}

fn volumes(behind: &str) -> Result<Vec<CompletionCandidate>, Failure> {
    let names = ops::volume::names(&context()?)?.into_iter();
    Ok(names
        .map(|name| CompletionCandidate::new(format!("{name}{behind}")))
        .collect())
}

fn stages() -> Vec<CompletionCandidate> {
    let file = dockerfile();
    let stages = file.iter().flat_map(|file| &file.stages);
    stages
        .filter_map(|stage| stage.name())
        .map(CompletionCandidate::new)
        .collect()
}

fn build_arguments() -> Vec<CompletionCandidate> {
    let file = dockerfile();
    let names: BTreeSet<&str> = file.iter().flat_map(Dockerfile::declared).collect();
    let candidates = names.into_iter().map(|name| format!("{name}="));
    candidates.map(CompletionCandidate::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that a user makes up, or that only a server knows: by the name in the help, or by
    /// command and id.
    const FREE: &[&str] = &[
        "ARGUMENT",
        "CMD",
        "COMMAND",
        "DATE",
        "DEED",
        "[ADDRESS:]HOST:GUEST[/udp]",
        "ID[=SOCKET]",
        "HASH",
        "KEY=VALUE",
        "N",
        "NAME=VALUE",
        "NAME=VALUE,VALUE",
        "NAME=WHAT",
        "NAMESPACE",
        "NEW-KEY",
        "NEW-TEMPLATE",
        "NEW-VOLUME",
        "OS/ARCH",
        "PATTERN",
        "REF",
        "REF|FILE",
        "REFERENCE",
        "REGISTRY",
        "REPOSITORY",
        "SECONDS",
        "SIZE",
        "TEMPLATE-REF",
        "TEXT",
        "TIME",
        "TYPE",
        "USER|UID",
        "WORD",
        "id=NAME[,src=FILE]",
        // Of the recipe or the lock file that another argument names.
        "build IMAGE",
        "explain IMAGE",
        "image tree DIRECTORY",
        "plan IMAGE",
        "lock IMAGE",
        "rename NEW",
        "update NAME",
        "boot NAME",
        "ephemeral run NAME",
        "ephemeral ssh NAME",
        "ephemeral ssh USER",
        "pb run NAME",
        "pb run USER",
        "pb ssh USER",
        "login NAME",
        "create NAME",
        "clone NAME",
        "snapshot create NAME",
        "snapshot import NAME",
        "ssh USER",
        "exec USER",
        "cp USER",
        "HOST[/udp]",
        "PORT",
        "SERVICE",
    ];

    /// Arguments of a command and of those below it that a shell gets nothing for.
    fn without_names(path: &[&str], command: &clap::Command, found: &mut Vec<String>) {
        for inner in command.get_subcommands() {
            without_names(&[path, &[inner.get_name()]].concat(), inner, found);
        }
        for argument in command.get_arguments() {
            let of_files = !matches!(
                argument.get_value_hint(),
                clap::ValueHint::Unknown | clap::ValueHint::Other
            );
            let known = ARGUMENTS
                .iter()
                .any(|(at, id, _)| *at == path && argument.get_id() == *id);
            let listed = !argument.get_possible_values().is_empty();
            let free = argument.is_hide_set() || of_files || known || listed;
            if !argument.get_action().takes_values() || free {
                continue;
            }
            let name = argument.get_value_names().and_then(|names| names.first());
            let name = name.map_or("", clap::builder::Str::as_str);
            let whole = format!("{} {name}", path.join(" "));
            if !FREE.contains(&name) && !FREE.contains(&whole.as_str()) {
                found.push(whole);
            }
        }
    }

    #[test]
    fn no_argument_is_forgotten() {
        let mut found = Vec::new();
        let mut root = commands::root();
        root.build();
        without_names(&[], &root, &mut found);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn every_argument_in_the_table_exists() {
        let root = commands::root();
        for (path, argument, _) in ARGUMENTS {
            let command = path
                .iter()
                .try_fold(&root, |at, name| at.find_subcommand(name));
            let command = command.unwrap_or_else(|| panic!("{path:?}"));
            let mut arguments = command.get_arguments();
            assert!(
                arguments.any(|one| one.get_id() == *argument),
                "{path:?} {argument}"
            );
        }
    }
}
