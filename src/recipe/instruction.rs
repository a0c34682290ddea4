//! The nodes of an image that are steps, and scripts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::Problem;
use super::fetched;
use super::image::DraftCopyFrom;
use super::model::{Content, Copy, File};
use super::reader::Reader;
use super::reference::normalise;
use super::source::{Files, Spanned};
use super::value;
use crate::checked::Line;
use crate::instruction::{Packages, Run, Service, StepLimits, User};

pub(super) fn packages(node: &Reader<'_>) -> Option<Packages> {
    let names = node.arguments(value::package);
    let mut on = BTreeMap::new();
    for child in node.children() {
        let mut words = child.arguments(value::package).into_iter();
        if let Some(id) = words.next() {
            on.insert(id, words.collect());
        }
    }
    if names.is_empty() && on.is_empty() && node.positional().next().is_none() {
        node.lacks("package names");
    }
    let recommends = node.flag("recommends").is_some_and(|flag| flag.value);
    let limits = limits(node);
    (!names.is_empty() || !on.is_empty()).then_some(Packages {
        names,
        on,
        recommends,
        limits,
    })
}

pub(super) fn run(node: &Reader<'_>) -> Option<Run> {
    let command = node.argument(0);
    if let Some(command) = command.as_ref().filter(|command| command.trim().is_empty()) {
        node.scope.report(
            Problem::new(&command.span, "the script is empty", "nothing to run")
                .with_help(format!("for example: {}", node.shape.example)),
        );
    }
    let shell = node.parsed("shell", value::shell);
    let workdir = node.parsed("workdir", value::image_path);
    let network = node.flag("network").is_some_and(|flag| flag.value);
    let limits = limits(node);
    let user = node.parsed("user", value::owner);
    let name = node.parsed("name", value::fitting::<Line>("a line of text"));
    let env = node
        .children()
        .flat_map(|env| env.map(value::variable, value::variable_value))
        .collect();
    Some(Run {
        command: command?.value,
        shell: match shell {
            Some(shell) => shell.value,
            None => vec!["/bin/sh".to_owned(), "-ec".to_owned()],
        },
        env,
        workdir: workdir.map(|workdir| workdir.value),
        network,
        limits,
        user: user.map(|user| user.value),
        name: name.map(|name| name.value.into()),
    })
}

pub(super) fn limits(node: &Reader<'_>) -> StepLimits {
    let processes = node.number("processes", |text| {
        text.parse::<u64>()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| value::Wrong {
                message: format!("{text} is not a number of processes"),
                help: "write a number of at least 1",
            })
    });
    StepLimits {
        seconds: node
            .parsed("timeout", value::duration)
            .map(|limit| limit.value),
        memory: node.parsed("memory", value::size).map(|limit| limit.value),
        processes: processes.map(|limit| limit.value),
    }
}

pub(super) fn file(node: &Reader<'_>, files: &dyn Files) -> Option<File> {
    let path = node.parsed_argument(0, value::image_file);
    let mode = mode(node);
    let owner = node.parsed("owner", value::owner);
    let (contents, others): (Vec<_>, Vec<_>) = node
        .children()
        .partition(|child| child.shape.name == "content");
    let fetched = match others.is_empty() {
        true => None,
        false => Some(fetched::read(node)?),
    };
    let local = match node.text("source") {
        Some(source) => Some(local_path(node, source, files)?),
        None => None,
    };
    if let Some(local) = local
        .as_ref()
        .filter(|local| files.is_directory(&local.value))
    {
        node.scope.report(
            Problem::new(
                &local.span,
                format!("{} is a directory", local.value.display()),
                "\"file\" takes one file",
            )
            .with_help("use \"copy\" for directories: copy \"./site\" \"/srv/www\""),
        );
        return None;
    }
    let content = match (local, contents.as_slice(), fetched) {
        (Some(local), [], None) => Content::Local(local),
        (None, [content], None) => Content::Inline(content.argument(0)?.value),
        (None, [], Some(fetched)) => Content::Fetched(Box::new(fetched)),
        (None, [], None) => {
            if !node.has("source") && !node.has("content") {
                node.lacks("content");
            }
            return None;
        }
        (_, contents, _) => {
            let span = contents.last().map_or_else(|| node.span(), Reader::span);
            node.scope.report(
                Problem::new(&span, "a file has one content", "the second content")
                    .with_help("keep one of \"source\", \"content\" and \"fetch\""),
            );
            return None;
        }
    };
    Some(File {
        path: path?.value,
        content,
        mode,
        owner: owner.map(|owner| owner.value),
    })
}

fn mode(node: &Reader<'_>) -> Option<u32> {
    node.parsed("mode", value::mode).map(|mode| mode.value)
}

pub(super) fn copy(node: &Reader<'_>, files: &dyn Files) -> Option<Copy> {
    let source = node
        .argument(0)
        .and_then(|source| local_path(node, source, files));
    let destination = node.parsed_argument(1, value::image_path);
    let mode = mode(node);
    let owner = node.parsed("owner", value::owner);
    let mut exclude = node.words("exclude", value::pattern);
    for child in node.children() {
        exclude.extend(child.arguments(value::pattern));
    }
    let (source, destination) = (source?, destination?.value);
    let is_directory = files.is_directory(&source.value);
    let destination = match (destination.strip_suffix('/'), source.value.file_name()) {
        (Some(directory), Some(name)) if !is_directory => {
            format!("{directory}/{}", name.to_string_lossy())
        }
        (Some(""), _) => "/".to_owned(),
        (Some(directory), _) => directory.to_owned(),
        (None, _) => destination,
    };
    Some(Copy {
        source,
        destination,
        mode,
        owner: owner.map(|owner| owner.value),
        exclude,
    })
}

/// A copy from another image. What only suits local files is refused.
pub(super) fn copy_from(node: &Reader<'_>) -> Option<DraftCopyFrom> {
    let reference = node.text("from");
    let path = node.parsed_argument(0, value::image_path);
    let destination = node.parsed_argument(1, value::image_path);
    let owner = node.parsed("owner", value::owner);
    let unfit = ["mode", "exclude"];
    let mut unfit = unfit.into_iter().filter(|name| node.has(name));
    if let Some(name) = unfit.next() {
        let message = format!("a copy from another image has no \"{name}\"");
        let help = match name {
            "mode" => "files keep their modes; change them with run \"chmod …\"",
            _ => "name what is copied, in several copy nodes or with a pattern",
        };
        let problem = Problem::new(&node.span(), message, "for local files only");
        node.scope.report(problem.with_help(help));
        return None;
    }
    Some(DraftCopyFrom {
        reference: reference?,
        path: path?.value,
        destination: destination?.value,
        owner: owner.map(|owner| owner.value),
    })
}

/// A local path, relative to the recipe's directory; reports it when nothing is there.
fn local_path(
    node: &Reader<'_>,
    text: Spanned<String>,
    files: &dyn Files,
) -> Option<Spanned<PathBuf>> {
    let Some(directory) = &node.scope.directory else {
        node.scope.report(
            Problem::new(
                &text.span,
                "a built-in recipe cannot use local files",
                "it has no directory",
            )
            .with_help("write the recipe to your own file"),
        );
        return None;
    };
    let path = directory.join(&text.value);
    let path = normalise(&path);
    if !node.scope.may_read(&path, &text.span) {
        return None;
    }
    if text.value.is_empty() || !files.exists(&path) {
        node.scope.report(
            Problem::new(
                &text.span,
                format!("no file {} found", path.display()),
                "not found",
            )
            .with_help("paths are relative to the directory of the recipe file"),
        );
        return None;
    }
    Some(text.map(|_| path))
}

pub(super) fn user(node: &Reader<'_>) -> Option<User> {
    let name = node.parsed_argument(0, value::account);
    let mut groups = node.words("groups", value::account);
    let sudo = node.flag("sudo").is_some_and(|flag| flag.value);
    let uid = node.number("uid", |text| {
        text.parse::<u32>()
            .ok()
            .filter(|uid| *uid < u32::MAX)
            .ok_or_else(|| value::Wrong {
                message: format!("{text} is not a user id"),
                help: "a user id is a number from 0 to 4294967294; those of users begin at 1000",
            })
    });
    let shell = node.parsed("shell", value::image_file);
    let password_hash = node.parsed("password-hash", value::password_hash);
    let mut authorized_keys = Vec::new();
    for child in node.children() {
        match child.shape.name {
            "groups" => groups.extend(child.arguments(value::account)),
            _ => authorized_keys.extend(child.arguments(value::authorized_key)),
        }
    }
    Some(User {
        name: name?.value,
        groups,
        sudo,
        uid: uid.map(|uid| uid.value),
        shell: shell.map(|shell| shell.value),
        password_hash: password_hash.map(|hash| hash.value),
        authorized_keys,
    })
}

pub(super) fn service(node: &Reader<'_>) -> Option<Service> {
    let name = node.parsed_argument(0, value::service);
    let enable = node.flag("enable");
    Some(Service {
        name: name?.value,
        enable: enable.is_none_or(|flag| flag.value),
    })
}
