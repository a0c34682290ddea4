//! Packages of languages: `python`, `npm` and `cargo`. Each becomes a script with the network.

use std::path::PathBuf;

use super::error::Problem;
use super::instruction::limits;
use super::reader::Reader;
use super::reference::normalise;
use super::source::{Files, Spanned};
use super::value;
use crate::instruction::Run;

/// What all of them are told: nothing of the installation stays but what is installed.
const QUIET: &str = "export HOME=/tmp PIP_NO_INPUT=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
                     PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1 PYTHONDONTWRITEBYTECODE=1 \
                     npm_config_cache=/tmp/npm npm_config_update_notifier=false CARGO_HOME=/tmp/cargo\n";
const BEGIN: &str = "set -eu\n";
/// Has the text of a file of requirements.
const REQUIREMENTS: &str = "VMFAB_REQUIREMENTS";
/// The longest of them, in bytes: Linux takes no longer variable (execve(2), MAX_ARG_STRLEN is
/// 128 KiB).
const LONGEST: usize = 120 << 10;

/// A command without what each command of these nodes begins with.
#[must_use]
pub fn without_preamble(command: &str) -> &str {
    let rest = command.strip_prefix(BEGIN);
    rest.and_then(|rest| rest.strip_prefix(QUIET))
        .unwrap_or(command)
}

/// Reads a `python`, `npm` or `cargo` node. The files that it reads are added to `read`.
pub(super) fn read(node: &Reader<'_>, files: &dyn Files, read: &mut Vec<PathBuf>) -> Option<Run> {
    let (mut packages, mut env) = (Vec::new(), std::collections::BTreeMap::new());
    for child in node.children() {
        match child.shape.name {
            "packages" => packages.extend(child.arguments(value::language_package)),
            _ => env.extend(child.map(value::variable, value::variable_value)),
        }
    }
    let manager = node.shape.name;
    let workdir = node.parsed("workdir", value::image_path);
    let venv = node.parsed("venv", value::image_path);
    let asked = node.text("requirements");
    let is_bare = node.children().next().is_none();
    if is_bare && !node.has("workdir") && !node.has("requirements") {
        let what = match manager {
            "python" => "packages or requirements=",
            _ => "packages or workdir=",
        };
        node.lacks(what);
        return None;
    }
    let requirements = match asked {
        Some(path) => Some(requirements(node, &path, files, read)?),
        None => None,
    };
    let words: Vec<String> = packages.iter().map(|one| format!("'{one}'")).collect();
    let words = words.join(" ");
    let mut command = format!("{BEGIN}{QUIET}");
    match manager {
        "python" => {
            let pip = venv.map_or_else(
                || "python3 -m pip".to_owned(),
                |venv| {
                    let venv = quoted(&venv.value);
                    command += &format!("[ -x {venv}/bin/pip ] || python3 -m venv {venv}\n");
                    format!("{venv}/bin/pip")
                },
            );
            if let Some(text) = requirements {
                env.insert(REQUIREMENTS.to_owned(), text);
                command += &format!(
                    "printf '%s\\n' \"${REQUIREMENTS}\" > /tmp/requirements.txt\n\
                     {pip} install --no-compile -r /tmp/requirements.txt\n"
                );
            }
            if !words.is_empty() {
                command += &format!("{pip} install --no-compile {words}\n");
            }
        }
        "npm" => {
            if workdir.is_some() {
                command += "npm ci --no-audit --no-fund\n";
            }
            if !words.is_empty() {
                command += &format!("npm install --global --no-audit --no-fund {words}\n");
            }
        }
        _ => {
            if workdir.is_some() {
                command += "cargo install --locked --root /usr/local --path .\n";
            }
            if !words.is_empty() {
                command += &format!("cargo install --locked --root /usr/local {words}\n");
            }
        }
    }
    let what = match packages.is_empty() {
        true => "as locked".to_owned(),
        false => packages.join(" "),
    };
    Some(Run {
        command,
        shell: vec!["/bin/sh".to_owned(), "-ec".to_owned()],
        env,
        workdir: workdir.map(|workdir| workdir.value),
        network: true,
        limits: limits(node),
        user: None,
        name: Some(format!("{manager} {what}")),
    })
}

fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// The text of a file of requirements. It is a part of the step, so that nothing of it stays in the
/// image; what names further files would not find them there.
fn requirements(
    node: &Reader<'_>,
    path: &Spanned<String>,
    files: &dyn Files,
    read: &mut Vec<PathBuf>,
) -> Option<String> {
    let wrong = |message: String, label: &str, help: &str| {
        let problem = Problem::new(&path.span, message, label).with_help(help);
        node.scope.report(problem);
        None
    };
    let Some(directory) = &node.scope.directory else {
        return wrong(
            "a built-in recipe cannot use local files".to_owned(),
            "it has no directory",
            "write the recipe to your own file",
        );
    };
    let file = normalise(&directory.join(&path.value));
    if !node.scope.may_read(&file, &path.span) {
        return None;
    }
    if file.extension().is_none_or(|ending| ending != "txt") {
        return wrong(
            format!("{} is not a file of requirements", file.display()),
            "it lacks the extension \".txt\"",
            "name a file such as \"./requirements.txt\"",
        );
    }
    let text = match files.read(&file) {
        Ok(text) => text,
        Err(error) => {
            return wrong(
                format!("cannot read {}: {error}", file.display()),
                "not readable",
                "paths are relative to the directory of the recipe file",
            );
        }
    };
    let names_files = |line: &&str| {
        let line = line.trim_start();
        let options = [
            "-r",
            "--requirement",
            "-c",
            "--constraint",
            "-e",
            "--editable",
        ];
        let is_option = options.iter().any(|option| {
            let rest = line.strip_prefix(option);
            rest.is_some_and(|rest| rest.starts_with([' ', '=', '\t']))
        });
        is_option || line.starts_with(['.', '/']) || line.starts_with("file:")
    };
    // Messages go to logs, which are read by many: they show no text of other files.
    if let Some(line) = text.lines().position(|line| names_files(&line)) {
        return wrong(
            format!("line {} of {} names another file", line + 1, file.display()),
            "this file must be whole",
            "merge the files, or copy the directory and use run \"pip install …\" network=#true",
        );
    }
    if text.len() > LONGEST {
        let most = LONGEST >> 10;
        return wrong(
            format!("{} has more than {most} KiB", file.display()),
            "too long for a step",
            "copy the file and use run \"pip install -r …\" network=#true",
        );
    }
    read.push(file);
    Some(text)
}
