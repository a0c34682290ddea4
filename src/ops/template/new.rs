//! The beginning of a template.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Context;
use super::{FILE, file_of};
use crate::checked::Name;
use crate::failure::Failure;
use crate::world::recipes;

/// What an image starts from when nobody says.
const BASE: &str = "debian-12";
/// Files of a template that is copied are not deeper.
const DEEPEST: usize = 16;

/// A template that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewTemplate {
    pub name: String,
    pub directory: PathBuf,
    pub files: Vec<PathBuf>,
}

/// Writes a template to the directory `name` below `parent`: a copy of the one at the path `from`,
/// or one whose image starts from the recipe or image of that name.
///
/// # Errors
/// The directory exists, there is no such template, or files cannot be written.
pub fn new(
    context: &Context,
    parent: &Path,
    name: &Name,
    from: Option<&str>,
) -> Result<NewTemplate, Failure> {
    let directory = parent.join(&**name);
    if directory.exists() {
        return Err(Failure::usage(format!("{} exists", directory.display()))
            .with_help("choose another name, or remove it"));
    }
    let other = from.map(Path::new).filter(|path| path.exists());
    let mut files = Vec::new();
    match other {
        Some(other) => copy(other, name, &directory, &mut files)?,
        None => {
            let base = from.unwrap_or(BASE);
            // Images have a tag, a host or a scheme; whether they exist is seen when it is built.
            if !base.contains([':', '/', '@']) {
                recipes::check_name(context, base)?;
            }
            fs::create_dir(&directory).map_err(Failure::io("create", &directory))?;
            write(&directory.join(FILE), &recipe(name, base), &mut files)?;
            write(&directory.join("README.md"), &readme(name), &mut files)?;
        }
    }
    Ok(NewTemplate {
        name: name.to_string(),
        directory,
        files,
    })
}

fn write(path: &Path, text: &str, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    fs::write(path, text).map_err(Failure::io("write", path))?;
    files.push(path.to_owned());
    Ok(())
}

fn recipe(name: &str, base: &str) -> String {
    format!(
        r#"recipe "{name}" version="0.1.0" {{
    description "What {name} is for"
    author "Your Name <you@example.org>"
    license "MIT"
    tags "{name}"
    requires memory="1G" disk="10G" cores=2
    readme "./README.md"
    param "greeting" default="hello" description="What /etc/motd says"
}}

image "{name}" {{
    from "{base}"
    file "/etc/motd" {{
        content "${{greeting}}\n"
    }}
    test "the machine greets" {{
        run "test -n \"$(cat /etc/motd)\""
        file "/etc/motd" contains="${{greeting}}"
    }}
}}
"#
    )
}

fn readme(name: &str) -> String {
    format!(
        "# {name}\n\n\
         ```sh\n\
         vmfab template test .\n\
         vmfab create my-{name} --template . --start\n\
         ```\n"
    )
}

/// Copies a template and gives recipe and image the new name.
fn copy(
    other: &Path,
    name: &str,
    directory: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    let file = file_of(other)?;
    let text = fs::read_to_string(&file).map_err(Failure::io("read", &file))?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let old = text
        .lines()
        .find_map(|line| line.strip_prefix("recipe \"")?.split('"').next())
        .unwrap_or(&stem)
        .to_owned();
    let renamed = text
        .replace(&format!("recipe \"{old}\""), &format!("recipe \"{name}\""))
        .replace(&format!("image \"{old}\""), &format!("image \"{name}\""));
    fs::create_dir(directory).map_err(Failure::io("create", directory))?;
    if other.is_dir() {
        copy_files(other, directory, &file, 0, files)?;
    }
    write(&directory.join(FILE), &renamed, files)
}

/// Regular files and directories; links may lead anywhere.
fn copy_files(
    from: &Path,
    to: &Path,
    without: &Path,
    depth: usize,
    files: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    for entry in fs::read_dir(from).map_err(Failure::io("list", from))? {
        let entry = entry.map_err(Failure::io("list", from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Failure::io("read", &path))?;
        if path == without || entry.file_name() == ".git" {
            continue;
        }
        if kind.is_dir() && depth < DEEPEST {
            fs::create_dir(&target).map_err(Failure::io("create", &target))?;
            copy_files(&path, &target, without, depth + 1, files)?;
        } else if kind.is_file() {
            fs::copy(&path, &target).map_err(Failure::io("copy", &path))?;
            files.push(target);
        }
    }
    Ok(())
}
