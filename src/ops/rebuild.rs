//! Building an image again from what is kept of its build, and comparing.

use serde::Serialize;
use serde_json::Value;

use super::build::{BuildOptions, build};
use super::provenance::kept;
use super::{Context, RecipeChoice, images};
use crate::digest::ObjectId;
use crate::failure::Failure;

/// An image that was built twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    pub image: ObjectId,
    /// What the second build gave. Ids follow from content: equal ids are equal bits.
    pub again: ObjectId,
    pub steps: usize,
    /// Sources that are not what they were: recipe files, downloads, packages.
    pub sources: Vec<String>,
    /// Steps that gave something else, the first one first.
    pub differences: Vec<String>,
}

/// Builds an image again, with every step, and compares the results of all steps.
///
/// # Errors
/// Nothing says how it was made, that cannot be done again, or the build fails.
pub fn rebuild(context: &Context, image: &str) -> Result<Rebuilt, Failure> {
    let found = images::find(context, image)?;
    let before = kept(context, &found)?;
    if !before.untold.is_empty() {
        let name = found.display_name();
        let message = format!("{name} was built with {}", before.untold.join(", "));
        return Err(Failure::failed(message).with_help(
            "vmfab cannot repeat that: run the same vmfab build with --rebuild, and compare the ids",
        ));
    }
    let definition = &before.predicate["buildDefinition"];
    let told = &definition["externalParameters"];
    let text = |name: &str| told[name].as_str().map(str::to_owned);
    let options = BuildOptions {
        choice: RecipeChoice {
            recipe: before.recipe.clone(),
            image: text("image"),
            settings: serde_json::from_value(told["parameters"].clone()).unwrap_or_default(),
            no_service: told["service"] == false,
            architecture: text("architecture"),
            ..RecipeChoice::default()
        },
        untagged: true,
        rebuild: true,
        ..BuildOptions::default()
    };
    let built = build(context, &options)?;
    let again = images::find(context, &built.image.to_string())?;
    let after = kept(context, &again)?;
    let now = &after.predicate["buildDefinition"];
    let steps = |definition: &Value| list(&definition["internalParameters"]["steps"]);
    Ok(Rebuilt {
        image: found.image,
        again: built.image,
        steps: steps(now).len(),
        sources: changed_sources(definition, now),
        differences: differences(&steps(definition), &steps(now)),
    })
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn changed_sources(before: &Value, after: &Value) -> Vec<String> {
    let before = list(&before["resolvedDependencies"]);
    let after = list(&after["resolvedDependencies"]);
    let changed = before.into_iter().filter(|one| !after.contains(one));
    let name = |one: Value| {
        one["name"]
            .as_str()
            .or(one["uri"].as_str())
            .map(str::to_owned)
    };
    changed.filter_map(name).collect()
}

fn differences(before: &[Value], after: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for (one, other) in before.iter().zip(after) {
        if one["outputs"] != other["outputs"] {
            let name = other["name"].as_str().unwrap_or_default();
            let why = match one["action"] == other["action"] {
                true => "the same step gave another result",
                false => "the step or what it reads is another one",
            };
            found.push(format!("{name}: {why}"));
        }
    }
    if before.len() != after.len() {
        let (before, after) = (before.len(), after.len());
        found.push(format!("it had {before} steps, and has {after} now"));
    }
    found
}
