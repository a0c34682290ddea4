//! Templates: recipes that say enough of themselves for others to use them.

pub mod convert;
mod inside;
pub mod new;
pub mod packages;
pub mod repositories;
pub mod search;
pub mod test;
pub mod validate;

use std::fs;
use std::path::{Path, PathBuf};

use super::Context;
use crate::failure::Failure;
use crate::world::recipes;

use inside::inside;

/// The recipe of a directory that is a template.
pub const FILE: &str = "template.kdl";

/// What recipes are named by for the template of a name: its path, or the name of a recipe that
/// comes with vmfab.
///
/// # Errors
/// There is no such template.
pub fn find(context: &Context, name: &str) -> Result<String, Failure> {
    let path = Path::new(name);
    if path.exists() || recipes::is_path(name) {
        let file = file_of(path)?;
        let has_slash = file.components().count() > 1;
        let file = if has_slash {
            file
        } else {
            Path::new(".").join(file)
        };
        return Ok(file.to_string_lossy().into_owned());
    }
    recipes::check_name(context, name)?;
    Ok(name.to_owned())
}

/// The recipe of a template, which is a file or a directory: `template.kdl` in it, or the only
/// recipe in it.
///
/// # Errors
/// It does not exist, or which recipe is meant is not clear.
pub fn file_of(path: &Path) -> Result<PathBuf, Failure> {
    if !path.exists() {
        return Err(Failure::unknown("template", path.display())
            .with_help("give the path of a recipe, or of a directory with one"));
    }
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let usual = path.join(FILE);
    if usual.is_file() {
        return Ok(usual);
    }
    let entries = fs::read_dir(path).map_err(Failure::io("list", path))?;
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(Failure::io("list", path))?.path();
        if file.extension().is_some_and(|ending| ending == "kdl") && file.is_file() {
            found.push(file);
        }
    }
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::unknown("template", path.display())
            .with_help(format!("it has no recipe: write one to {FILE}"))),
        _ => Err(
            Failure::usage(format!("{} has several recipes", path.display()))
                .with_help(format!("name one of them, or call it {FILE}")),
        ),
    }
}
