//! Planning with the lock file of the recipe's directory.

use std::collections::BTreeSet;

use miette::Diagnostic;

use super::lock_file::{self, Place};
use super::resolve::{Pins, Remembered};
use super::templates::Versions;
use super::{Context, RecipeChoice, recipes};
use crate::event::Event;
use crate::failure::Failure;
use crate::lock::Lock;
use crate::plan::{PackageStep, Plan};

/// Steps are to be locked and are not.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
struct NotLocked {
    message: String,
    #[help]
    help: String,
}

/// Plans an image of a recipe. A lock file beside the recipe holds, when it has something for this
/// recipe; about steps that are not in it there is a warning, or an error when the options say so.
///
/// # Errors
/// There is no such recipe, it or its lock is wrong.
pub(crate) fn plan(context: &Context, choice: &RecipeChoice) -> Result<Plan, Failure> {
    let place = Place::of(&choice.recipe);
    let path = place.path();
    let lock = lock_file::read(&path)?.filter(|lock| lock.knows(&place.recipe));
    if lock.is_none() && choice.locked {
        return Err(Failure::recipe(NotLocked {
            message: format!("{} has nothing for {}", path.display(), place.recipe),
            help: format!("run \"vmfab lock {}\" first", choice.recipe),
        }));
    }
    let resolver = Remembered(context);
    let pins = Pins::new(lock.as_ref(), Some(&resolver)).with_templates(
        &place.recipe,
        &choice.settings,
        |_| false,
    );
    let mut plan = recipes::plan_with(context, choice, &pins)?;
    let Some(lock) = &lock else {
        return Ok(plan);
    };
    let steps = package_steps(context, &plan, &place);
    let missing = apply(&mut plan, &steps, lock);
    let sources = pins.asked();
    let missing_sources = sources
        .iter()
        .filter(|url| !lock.sources.contains_key(*url));
    let templates = unlocked_templates(&pins);
    let missing: BTreeSet<&str> = missing
        .iter()
        .map(|step| step.label.as_str())
        .chain(missing_sources.map(String::as_str))
        .chain(templates.iter().map(String::as_str))
        .collect();
    if missing.is_empty() {
        return Ok(plan);
    }
    let names: Vec<String> = missing.iter().map(|name| format!("\"{name}\"")).collect();
    let message = format!("{} does not have {}", path.display(), names.join(", "));
    let command = format!("\"vmfab lock {}\" adds what is missing", choice.recipe);
    if choice.locked {
        return Err(Failure::recipe(NotLocked {
            message,
            help: command,
        }));
    }
    context.emit(Event::Warning {
        message: format!("{message}, so the build uses today's; {command}"),
    });
    Ok(plan)
}

/// What a recipe needs of a lock.
pub(crate) struct Needs {
    /// The image's name.
    pub(crate) image: String,
    /// Steps that install packages.
    pub(crate) steps: Vec<PackageStep>,
    /// Addresses of content that it gives no checksum of.
    pub(crate) sources: BTreeSet<String>,
    /// Templates that it is built on.
    pub(crate) templates: Versions,
}

/// What a recipe needs of a lock; nobody is asked about content from outside.
pub(crate) fn needs(
    context: &Context,
    place: &Place,
    choice: &RecipeChoice,
    lock: &Lock,
) -> Result<Needs, Failure> {
    let pins =
        Pins::new(Some(lock), None).with_templates(&place.recipe, &choice.settings, |_| false);
    let plan = recipes::plan_with(context, choice, &pins)?;
    Ok(Needs {
        steps: package_steps(context, &plan, place),
        sources: pins.asked(),
        templates: pins.told_templates.take(),
        image: plan.image_name,
    })
}

/// Templates that a recipe is built on and that its lock does not have, in these versions.
fn unlocked_templates(pins: &Pins<'_>) -> Vec<String> {
    let told = pins.told_templates.borrow();
    let pinned = &pins.templates.pinned;
    let unlocked = told.iter().filter(|(name, template)| {
        let pinned = pinned.get(*name).map(|pinned| &pinned.version);
        pinned != Some(&template.version)
    });
    unlocked
        .map(|(name, template)| format!("{name} {}", template.version))
        .collect()
}

/// The steps of a plan that install packages. A file of a template has the same name in every home.
pub(crate) fn package_steps(context: &Context, plan: &Plan, place: &Place) -> Vec<PackageStep> {
    let templates = context.home.unpacked_templates();
    plan.package_steps(&|path| match path.strip_prefix(&templates) {
        Ok(below) => format!("template:{}", below.display()),
        Err(_) => place.name(path),
    })
}

/// Locks the steps that a lock has; gives back the others.
pub(crate) fn apply<'a>(
    plan: &mut Plan,
    steps: &'a [PackageStep],
    lock: &Lock,
) -> Vec<&'a PackageStep> {
    let mut missing = Vec::new();
    for step in steps {
        match lock.steps.get(&step.key) {
            Some(pinned) => {
                if let Some(packages) = &pinned.packages {
                    plan.lock(step.node, packages);
                }
            }
            None => missing.push(step),
        }
    }
    missing
}
