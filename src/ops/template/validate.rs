//! Whether a recipe says of itself what a template must say.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Context;
use super::super::available::{self, RecipeDetails};
use super::file_of;
use crate::failure::Failure;

/// A template, and what it does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Validated {
    /// Its recipe.
    pub file: PathBuf,
    #[serde(flatten)]
    pub details: RecipeDetails,
    /// What a template needs and this one lacks; nobody can share it.
    pub errors: Vec<String>,
    /// What its users miss.
    pub warnings: Vec<String>,
}

/// Checks a template without building it.
///
/// # Errors
/// There is none, or its recipe is wrong.
pub fn validate(context: &Context, path: &Path) -> Result<Validated, Failure> {
    let file = file_of(path)?;
    let details = available::describe(context, &file.to_string_lossy())?;
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    if details.version.is_none() {
        errors.push("it needs a version: recipe \"…\" version=\"1.0.0\"".to_owned());
    }
    if details.images.is_empty() {
        errors.push("it needs an image: image \"…\" { from \"debian-12\" }".to_owned());
    }
    if let Some(readme) = &details.readme {
        let readme = file.with_file_name("").join(readme);
        if !readme.is_file() {
            errors.push(format!("its readme {} does not exist", readme.display()));
        }
    }
    let missing = [
        (details.description.is_none(), "description \"…\""),
        (details.about.author.is_none(), "author \"…\""),
        (details.about.license.is_none(), "license \"MIT\""),
        (details.about.tags.is_empty(), "tags \"…\""),
        (
            details.requires.is_empty(),
            "requires memory=\"1G\" cores=2",
        ),
    ];
    for (_, node) in missing.iter().filter(|(is_missing, _)| *is_missing) {
        warnings.push(format!("it says no {node}"));
    }
    for parameter in details
        .parameters
        .iter()
        .filter(|one| one.description.is_none())
    {
        warnings.push(format!(
            "its parameter \"{}\" has no description=\"…\"",
            parameter.name
        ));
    }
    Ok(Validated {
        file,
        details,
        errors,
        warnings,
    })
}
