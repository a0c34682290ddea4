//! Definitions of templates in YAML as recipes.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Context;
use super::super::compose::{Conversion, Warning};
use super::FILE;
use crate::failure::Failure;
use crate::recipe;
use crate::world::recipes;

/// The files of a definition that its recipe copies.
const REQUIREMENTS: &str = "requirements.txt";

/// How a definition is converted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConvertOptions {
    /// What the image starts from instead.
    pub base: Option<String>,
    /// The directory that gets the template.
    pub output: Option<PathBuf>,
    /// Whether a template in that directory is replaced.
    pub force: bool,
}

/// A definition that was converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConvertedTemplate {
    #[serde(flatten)]
    pub conversion: Conversion,
    /// The files that were written.
    pub written: Vec<PathBuf>,
}

/// Converts the definition in `file`. The recipe is read once before it is given.
///
/// # Errors
/// There is none, it is wrong, or files cannot be written.
pub fn convert(
    context: &Context,
    file: &Path,
    options: &ConvertOptions,
) -> Result<ConvertedTemplate, Failure> {
    if !file.is_file() {
        return Err(Failure::unknown("file", file.display())
            .with_help("name one: vmfab template convert template-definition.yaml"));
    }
    let converted = recipes::convert_template(context, file, options.base.as_deref())?;
    let shown = file.display().to_string();
    let kdl = recipe::format(&shown, &converted.kdl).map_err(Failure::recipe)?;
    let written = match &options.output {
        Some(directory) => write(file, directory, &kdl, options.force)?,
        None => Vec::new(),
    };
    let warnings = converted.warnings.iter().map(|warning| Warning {
        place: warning.place(),
        message: warning.to_string(),
    });
    Ok(ConvertedTemplate {
        conversion: Conversion {
            file: file.to_owned(),
            warnings: warnings.collect(),
            kdl,
        },
        written,
    })
}

fn write(file: &Path, directory: &Path, kdl: &str, force: bool) -> Result<Vec<PathBuf>, Failure> {
    let recipe = directory.join(FILE);
    if recipe.exists() && !force {
        return Err(Failure::usage(format!("{} exists", recipe.display()))
            .with_help("name another directory, or replace it with --force"));
    }
    fs::create_dir_all(directory).map_err(Failure::io("create", directory))?;
    fs::write(&recipe, kdl).map_err(Failure::io("write", &recipe))?;
    let mut written = vec![recipe];
    let copied = format!("\"./{REQUIREMENTS}\"");
    let (from, to) = (
        file.with_file_name(REQUIREMENTS),
        directory.join(REQUIREMENTS),
    );
    if kdl.contains(&copied) && from.canonicalize().ok() != to.canonicalize().ok() {
        fs::copy(&from, &to).map_err(Failure::io("copy", &from))?;
        written.push(to);
    }
    Ok(written)
}
