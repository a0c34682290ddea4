//! Recipes that need no path: what there is, and what one takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Context;
use crate::failure::Failure;
use crate::image::{About, Requires};
use crate::recipe::{self, Files as _, ParameterKind};
use crate::world::recipes;

/// A recipe of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AvailableRecipe {
    /// The name to build it by.
    pub name: String,
    pub description: String,
    /// Its file, when it is one of the user's and not built in.
    pub file: Option<PathBuf>,
}

/// The recipes of the catalogue, sorted by name: those of the user's directory, and the built-in
/// ones that none of them stands before.
///
/// # Errors
/// A recipe of the user's is wrong.
pub fn available(context: &Context) -> Result<Vec<AvailableRecipe>, Failure> {
    let files = recipes::host_files(context);
    let mut found = BTreeMap::new();
    for built_in in recipe::catalogue() {
        let available = AvailableRecipe {
            name: built_in.name.to_owned(),
            description: built_in.description.to_owned(),
            file: None,
        };
        found.insert(built_in.name.to_owned(), available);
    }
    for (name, path) in files.catalogue() {
        let loaded = recipe::load(&path, &files, &BTreeMap::new()).map_err(Failure::recipe)?;
        let available = AvailableRecipe {
            name: name.clone(),
            description: loaded.recipe.description.clone().unwrap_or_default(),
            file: Some(path),
        };
        found.insert(name, available);
    }
    Ok(found.into_values().collect())
}

/// All about a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecipeDetails {
    pub name: String,
    pub version: Option<String>,
    pub description: Option<String>,
    #[serde(flatten)]
    pub about: About,
    /// What a machine needs.
    pub requires: Requires,
    /// A text about it, below its directory.
    pub readme: Option<PathBuf>,
    /// The names of its images.
    pub images: Vec<String>,
    /// What can be set with `--set`.
    pub parameters: Vec<ParameterDetails>,
}

/// A parameter of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParameterDetails {
    pub name: String,
    /// `string`, `size`, `integer`, `boolean` or `port`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The value when it is not set.
    pub default: Option<String>,
    /// The only values that it takes; any when empty.
    pub choices: Vec<String>,
    /// The least value, of a size, a number or a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// The greatest value, of a size, a number or a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// A regular expression that the whole value matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// Whether a parameter of a recipe takes a value.
///
/// # Errors
/// It does not, or the recipe is wrong.
pub fn check(context: &Context, recipe: &str, name: &str, value: &str) -> Result<(), Failure> {
    let settings = BTreeMap::from([(name.to_owned(), value.to_owned())]);
    recipes::load(context, Path::new(recipe), &settings).map(drop)
}

/// All about the recipe that a path or a name of the catalogue names.
///
/// # Errors
/// There is no such recipe, or it is wrong.
pub fn describe(context: &Context, recipe: &str) -> Result<RecipeDetails, Failure> {
    recipes::check_name(context, recipe)?;
    let loaded = recipes::load(context, Path::new(recipe), &BTreeMap::new())?;
    let parameters = loaded.parameters.into_iter();
    let readme = loaded.recipe.readme.as_ref();
    Ok(RecipeDetails {
        name: loaded.recipe.name.clone(),
        version: loaded.recipe.version.as_ref().map(ToString::to_string),
        description: loaded.recipe.description.clone(),
        about: loaded.recipe.about.clone(),
        requires: loaded.recipe.requires,
        readme: readme.map(|readme| readme.value.clone()),
        images: loaded
            .images
            .iter()
            .map(|image| image.name.value.clone())
            .chain(loaded.incomplete.into_iter().map(|(name, _)| name))
            .collect(),
        parameters: parameters
            .map(|parameter| ParameterDetails {
                name: parameter.name.value,
                kind: match parameter.kind {
                    ParameterKind::String => "string",
                    ParameterKind::Size => "size",
                    ParameterKind::Integer => "integer",
                    ParameterKind::Boolean => "boolean",
                    ParameterKind::Port => "port",
                },
                default: parameter.default,
                choices: parameter.bounds.choices,
                min: parameter.bounds.min,
                max: parameter.bounds.max,
                pattern: parameter.bounds.pattern,
                description: parameter.description,
            })
            .collect(),
    })
}
