//! Completion: what a shell asks this program, and which names an argument can have.
//!
//! A shell's script calls the program with `COMPLETE` set, so that tags, machines and recipes are those of the moment.

use std::sync::Arc;

use clap::Arg;
use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::Shells;

use super::commands;
use crate::event::Silent;
use crate::host::{Home, Interrupt};
use crate::machine::Project;
use crate::ops::format::DiskFormat;
use crate::ops::{self, Context, Error};

/// The variable by which scripts of shells ask for completions.
const VARIABLE: &str = "COMPLETE";

/// What an argument names.
#[derive(Clone, Copy)]
enum Names {
    Tags,
    Machines,
    /// Built-in recipes and files.
    Recipes,
    /// Tags, built-in recipes and files.
    Bootable,
    Formats,
}

/// Arguments with names that only the moment knows: the command, the argument's id, what it names.
const ARGUMENTS: &[(&[&str], &str, Names)] = &[
    (&["boot"], "image", Names::Bootable),
    (&["build"], "recipe", Names::Recipes),
    (&["build"], "tags", Names::Tags),
    (&["build"], "format", Names::Formats),
    (&["plan"], "recipe", Names::Recipes),
    (&["explain"], "recipe", Names::Recipes),
    (&["lock"], "recipe", Names::Recipes),
    (&["images"], "available", Names::Recipes),
    (&["image", "inspect"], "image", Names::Tags),
    (&["image", "history"], "image", Names::Tags),
    (&["image", "tag"], "image", Names::Tags),
    (&["image", "rm"], "tags", Names::Tags),
    (&["push"], "image", Names::Tags),
    (&["up"], "names", Names::Machines),
    (&["down"], "names", Names::Machines),
    (&["ssh"], "name", Names::Machines),
    (&["start"], "name", Names::Machines),
    (&["stop"], "names", Names::Machines),
    (&["rm"], "names", Names::Machines),
    (&["inspect"], "name", Names::Machines),
    (&["logs"], "name", Names::Machines),
    (&["console"], "name", Names::Machines),
];

/// Answers a shell that asks for completions; tells whether one did.
pub(super) fn answer() -> clap::error::Result<bool> {
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), directory.as_deref())
}

/// The script by which a shell asks.
pub(super) fn script(shell: &str) -> std::io::Result<Option<String>> {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(shell) else {
        return Ok(None);
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "vmfab", "vmfab", "vmfab", &mut script)?;
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
            Self::Recipes | Self::Bootable => {
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
            Self::Machines => machines(),
            Self::Recipes => recipes(),
            Self::Bootable => tags().and_then(|mut found| {
                found.extend(recipes()?);
                Ok(found)
            }),
            Self::Formats => Ok(DiskFormat::ALL.map(|format| format.as_str().into()).into()),
        };
        found.unwrap_or_default()
    }
}

fn context() -> Result<Context, Error> {
    let home = Home::from_env()?;
    let interrupt = Interrupt::new().map_err(Error::io("make", "a pipe".as_ref()))?;
    let mut context = Context::new(home, Arc::new(Silent), interrupt);
    let directory = std::env::current_dir().ok();
    context.project = directory.and_then(|directory| Project::around(&directory).ok());
    Ok(context)
}

fn tags() -> Result<Vec<CompletionCandidate>, Error> {
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

fn machines() -> Result<Vec<CompletionCandidate>, Error> {
    let names = ops::machine::names(&context()?)?.into_iter();
    Ok(names.map(CompletionCandidate::new).collect())
}

fn recipes() -> Result<Vec<CompletionCandidate>, Error> {
    let recipes = ops::available::available(&context()?)?.into_iter();
    let candidate = |recipe: ops::available::AvailableRecipe| {
        CompletionCandidate::new(recipe.name).help(Some(recipe.description.into()))
    };
    Ok(recipes.map(candidate).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
