//! Templates: recipes that say enough of themselves for others to use them.

mod asked;
pub mod convert;
mod inside;
pub mod new;
pub mod packages;
pub mod repositories;
pub mod search;
pub mod test;
pub mod validate;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Context;
use crate::event::Event;
use crate::failure::Failure;
use crate::template::TemplateRef;
use crate::world::{recipes, templates};

pub(super) use asked::consent;
use inside::inside;

/// The recipe of a directory that is a template.
pub const FILE: &str = "template.kdl";

/// A template that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What recipes are named by: a path, or the name of one that comes with vmfab.
    pub recipe: String,
    /// Whether others published it.
    is_of_repository: bool,
}

/// The template of a name: its path, the name of a recipe that comes
/// with vmfab, or `[NAMESPACE/]NAME[@VERSION]` of a repository, which is unpacked into the cache.
///
/// # Errors
/// There is no such template, or it is not signed as it must be.
pub fn find(context: &Context, name: &str) -> Result<Template, Failure> {
    let path = Path::new(name);
    if !path.exists()
        && let Some(wanted) = of_repository(context, name)
    {
        return Ok(Template {
            recipe: unpacked(context, &wanted)?.to_string_lossy().into_owned(),
            is_of_repository: true,
        });
    }
    if path.exists() || recipes::is_path(name) {
        let file = file_of(path)?;
        let has_slash = file.components().count() > 1;
        let file = if has_slash {
            file
        } else {
            Path::new(".").join(file)
        };
        return Ok(Template {
            recipe: file.to_string_lossy().into_owned(),
            is_of_repository: false,
        });
    }
    recipes::check_name(context, name)?;
    Ok(Template {
        recipe: name.to_owned(),
        is_of_repository: false,
    })
}

impl Template {
    /// Makes sure that one of a repository reads no file from outside of its package, with these
    /// values of its parameters.
    ///
    /// # Errors
    /// It does, or it is wrong.
    pub fn check(
        &self,
        context: &Context,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        if !self.is_of_repository {
            return Ok(());
        }
        let file = Path::new(&self.recipe);
        inside(file, &recipes::load(context, file, settings)?)
    }
}

/// The template of a repository that a name can mean: it has a namespace or a version, or no recipe
/// that comes with vmfab has it.
fn of_repository(context: &Context, name: &str) -> Option<TemplateRef> {
    let wanted: TemplateRef = name.parse().ok()?;
    let is_told = wanted.namespace.is_some() || name.contains('@');
    (is_told || recipes::check_name(context, name).is_err()).then_some(wanted)
}

/// The recipe of a template from a repository. What it reads is in its package.
fn unpacked(context: &Context, wanted: &TemplateRef) -> Result<PathBuf, Failure> {
    let found = templates::find(context, wanted)?;
    let package = templates::package(context, &found)?;
    let file = templates::unpacked(context, &package)?.join(package.recipe());
    context.emit(Event::Note {
        message: format!("template {} {}", found.name, package.version()),
    });
    Ok(file)
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
