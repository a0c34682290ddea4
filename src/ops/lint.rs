//! Checking recipes and Dockerfiles without building them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::NamedSource;

use super::Context;
use crate::dockerfile::{self, Facts, Ignore};
use crate::failure::Failure;
use crate::host::file;
use crate::limits::Limits;
use crate::recipe;
use crate::registry::Platform;
use crate::text::{Finding, Source};
use crate::world::recipes;

/// What was found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub path: PathBuf,
    /// In the order of the file.
    pub findings: Vec<Finding>,
    /// Whether the file says that findings are errors.
    pub fails: bool,
}

/// The files that paths stand for: a directory stands for its recipes and Dockerfiles.
///
/// # Errors
/// A path does not exist or cannot be read.
pub fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = super::fmt::recipes_of(paths)?;
    for directory in paths.iter().filter(|path| path.is_dir()) {
        let entries = fs::read_dir(directory).map_err(Failure::io("list", directory))?;
        let mut inside = Vec::new();
        for entry in entries {
            let path = entry.map_err(Failure::io("list", directory))?.path();
            let is_ignore = path
                .extension()
                .is_some_and(|ending| ending == "dockerignore");
            if recipe::is_dockerfile(&path) && !is_ignore && path.is_file() {
                inside.push(path.strip_prefix(".").unwrap_or(&path).to_owned());
            }
        }
        inside.sort();
        found.append(&mut inside);
    }
    Ok(found)
}

/// Checks a recipe, or a Dockerfile if it is none.
///
/// # Errors
/// It cannot be read, or has mistakes.
pub fn lint(
    context: &Context,
    path: &Path,
    build_args: &BTreeMap<String, String>,
) -> Result<Report, Failure> {
    let is_recipe = path.extension().is_some_and(|ending| ending == "kdl");
    let (findings, fails) = match is_recipe {
        true => (recipe(context, path, build_args)?, false),
        false => dockerfile(context, path, build_args)?,
    };
    Ok(Report {
        path: path.to_owned(),
        findings,
        fails,
    })
}

fn recipe(
    context: &Context,
    path: &Path,
    settings: &BTreeMap<String, String>,
) -> Result<Vec<Finding>, Failure> {
    if !path.exists() {
        return Err(Failure::not_found("file", &path.display().to_string(), []));
    }
    let loaded = recipes::load(context, path, settings)?;
    let mut texts: Vec<Source> = Vec::new();
    for file in &loaded.files {
        let text = recipes::read_file(file, context.config.limits.recipe_size);
        let text = text.map_err(Failure::io("read", file))?;
        texts.push(Arc::new(NamedSource::new(file.display().to_string(), text)));
    }
    Ok(recipe::lint(&loaded, &texts))
}

fn dockerfile(
    context: &Context,
    path: &Path,
    build_args: &BTreeMap<String, String>,
) -> Result<(Vec<Finding>, bool), Failure> {
    let limits = &context.config.limits;
    let name = path.display().to_string();
    let (name, text) = match path == Path::new(recipes::STANDARD_INPUT) {
        true => ("Dockerfile".to_owned(), standard_input(limits)?),
        false => {
            let text = recipes::read_file(path, limits.recipe_size);
            (name, text.map_err(Failure::io("read", path))?)
        }
    };
    let parsed = dockerfile::parse(&name, &text, limits).map_err(Failure::recipe)?;
    let ignore = ignore(path, limits)?;
    let facts = Facts {
        ignore: ignore.as_ref(),
        build_args,
        platform: &Platform::host().to_string(),
        platform_of: &|base| platform_of(context, base),
    };
    let linted = dockerfile::lint(&parsed, &facts).map_err(Failure::recipe)?;
    Ok((linted.findings, linted.fails))
}

fn standard_input(limits: &Limits) -> Result<String, Failure> {
    let text = file::text(std::io::stdin(), limits.recipe_size);
    text.map_err(Failure::io("read", Path::new("standard input")))
}

/// What is left out of the context of a Dockerfile, which is its directory.
fn ignore(path: &Path, limits: &Limits) -> Result<Option<Ignore>, Failure> {
    let mut own = path.as_os_str().to_owned();
    own.push(".dockerignore");
    let usual = path.with_file_name(".dockerignore");
    let Some(path) = [PathBuf::from(own), usual]
        .into_iter()
        .find(|path| path.is_file())
    else {
        return Ok(None);
    };
    let text = file::read_text(&path, limits.recipe_size).map_err(Failure::io("read", &path))?;
    let ignore = Ignore::parse(&path.display().to_string(), &text);
    Ok(Some(ignore.map_err(Failure::recipe)?))
}

/// The platform of an image in the store.
fn platform_of(context: &Context, base: &str) -> Option<String> {
    let tag = base.strip_prefix('@')?.parse().ok()?;
    let store = context.store().ok()?;
    let image = store.tag(&tag).ok()??;
    let config = crate::world::image_config(&store, &image).ok()?;
    let architecture = &config.template.architecture;
    Some(Platform::linux(architecture).to_string())
}
