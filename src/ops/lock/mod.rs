//! Locking: what the recipes of a directory stand for, kept in a file beside them.

mod pin;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use semver::Version;
use serde::Serialize;

pub use update::{
    PackageChange, SourceChange, StepChange, TemplateChange, UpdateOptions, Updated, update,
};

use super::{Context, RecipeChoice};
use crate::digest::Sha256;
use crate::failure::Failure;
use crate::lock::{Lock, PinnedTemplate, Target};
use crate::template::TemplateName;
use crate::world::lock_file::{self, Place};
use crate::world::recipes::STANDARD_INPUT;
use crate::world::templates::Versions;
use crate::world::{self, Today};
use pin::Pinning;

/// What a lock has for an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Locked {
    pub file: PathBuf,
    /// The image's name in the recipe.
    pub image: String,
    /// Steps that install packages.
    pub steps: Vec<LockedStep>,
    /// Content from outside that the recipe gives no checksum of.
    pub sources: Vec<LockedSource>,
    /// Templates that it is built on.
    pub templates: Vec<LockedTemplate>,
    /// How many entries were not needed any more.
    pub dropped: usize,
    /// Whether the file changed.
    pub changed: bool,
}

/// A step that installs packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockedStep {
    pub name: String,
    /// How many packages are locked; absent when its package manager does not tell which it
    /// installs.
    pub packages: Option<usize>,
    /// Whether it was not in the lock before.
    pub new: bool,
}

/// Content from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockedSource {
    pub url: String,
    pub checksum: String,
    /// Whether it was not in the lock before.
    pub new: bool,
}

/// A template that an image is built on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockedTemplate {
    pub name: TemplateName,
    pub version: Version,
    /// Of its package.
    pub digest: Sha256,
    /// Whether this version was not in the lock before.
    pub new: bool,
}

fn locked_templates(versions: &Versions, before: &Lock) -> Vec<LockedTemplate> {
    let known = |name: &TemplateName, version: &Version| {
        let key = (name.clone(), version.clone());
        before.templates.contains_key(&key)
    };
    versions
        .iter()
        .map(|(name, template)| LockedTemplate {
            new: !known(name, &template.version),
            name: name.clone(),
            version: template.version.clone(),
            digest: template.digest,
        })
        .collect()
}

/// Brings the lock file of a recipe into accord with it: what is missing is added, for which the
/// steps are built whose packages are to be known; what is there stays; what is not needed any more
/// goes.
///
/// # Errors
/// The recipe is wrong, a step fails, the lock file cannot be read or written, the user gives up.
pub fn lock(context: &Context, choice: &RecipeChoice) -> Result<Locked, Failure> {
    if choice.recipe == STANDARD_INPUT {
        return Err(
            Failure::usage("a recipe from standard input cannot have a lock file")
                .with_help("write the recipe to a file and lock it"),
        );
    }
    let store = context.store()?;
    let place = Place::of(&choice.recipe);
    let before = lock_file::read(&place.path())?.unwrap_or_default();
    let pinned = Pinning {
        context,
        store: &store,
        place: &place,
        choice,
        resolver: &Today(context),
        afresh: &|_| false,
    }
    .pin(&before)?;
    let entries = |lock: &Lock| lock.steps.len() + lock.sources.len() + lock.templates.len();
    let templates: BTreeMap<_, _> = by_version(&pinned.templates).collect();
    let mut dropped = 0;
    let changed = lock_file::change(&place.directory, |lock| {
        let added = pinned
            .steps
            .keys()
            .filter(|key| !lock.steps.contains_key(*key));
        let added = added.count()
            + pinned
                .sources
                .keys()
                .filter(|url| !lock.sources.contains_key(*url))
                .count()
            + templates
                .keys()
                .filter(|key| !lock.templates.contains_key(*key))
                .count();
        let most = entries(lock) + added;
        // What another process locked meanwhile is as good.
        for (key, step) in &pinned.steps {
            lock.steps.entry(*key).or_insert_with(|| step.clone());
        }
        for (url, source) in &pinned.sources {
            lock.sources
                .entry(url.clone())
                .or_insert_with(|| source.clone());
        }
        for (key, template) in &templates {
            let entry = lock.templates.entry(key.clone());
            entry.or_insert_with(|| template.clone());
        }
        lock.put_target(pinned.target.clone());
        dropped = most - entries(lock);
    })?;
    Ok(Locked {
        file: place.path(),
        image: pinned.target.image.clone(),
        steps: pinned
            .order
            .iter()
            .filter_map(|key| Some((key, pinned.steps.get(key)?)))
            .map(|(key, step)| LockedStep {
                name: step.label.clone(),
                packages: step.packages.as_ref().map(|set| set.packages.len()),
                new: !before.steps.contains_key(key),
            })
            .collect(),
        sources: pinned
            .sources
            .iter()
            .map(|(url, source)| LockedSource {
                url: url.clone(),
                checksum: source.checksum.clone(),
                new: !before.sources.contains_key(url),
            })
            .collect(),
        templates: locked_templates(&pinned.templates, &before),
        dropped,
        changed,
    })
}

/// Looks whether a lock file has what a recipe needs, and nothing else for it. Nothing is built or
/// written.
///
/// # Errors
/// A [`Verification`](crate::failure::Kind::Verification) when it is not so; the recipe or the lock
/// file is wrong.
pub fn check(context: &Context, choice: &RecipeChoice) -> Result<Locked, Failure> {
    let place = Place::of(&choice.recipe);
    let lock = lock_file::read(&place.path())?.unwrap_or_default();
    let needs = world::needs(context, &place, choice, &lock)?;
    let mut wrong: Vec<String> = Vec::new();
    for step in &needs.steps {
        if !lock.steps.contains_key(&step.key) {
            wrong.push(format!("step \"{}\" is not locked", step.label));
        }
    }
    for url in &needs.sources {
        if !lock.sources.contains_key(url) {
            wrong.push(format!("{url} is not locked"));
        }
    }
    for (name, version) in by_version(&needs.templates).map(|(key, _)| key) {
        if !lock
            .templates
            .contains_key(&(name.clone(), version.clone()))
        {
            wrong.push(format!("template {name} {version} is not locked"));
        }
    }
    let target = Target {
        templates: by_version(&needs.templates).map(|(key, _)| key).collect(),
        recipe: place.recipe.clone(),
        image: needs.image.clone(),
        settings: choice.settings.clone(),
        sources: needs.sources.clone(),
        steps: needs.steps.iter().map(|step| step.key).collect(),
    };
    let own = lock.targets.iter().find(|other| {
        (&other.recipe, &other.image, &other.settings)
            == (&target.recipe, &target.image, &target.settings)
    });
    match own {
        None if wrong.is_empty() => wrong.push("it was not locked with these parameters".into()),
        Some(own) => {
            let labels = own.steps.difference(&target.steps).map(|key| {
                let step = lock.steps.get(key);
                step.map_or("a step", |step| step.label.as_str())
            });
            wrong.extend(labels.map(|label| format!("step \"{label}\" is no longer needed")));
            let urls = own.sources.difference(&target.sources);
            wrong.extend(urls.map(|url| format!("{url} is no longer needed")));
            let names = own.templates.keys();
            let unneeded = names.filter(|name| !target.templates.contains_key(*name));
            wrong.extend(unneeded.map(|name| format!("template {name} is no longer needed")));
        }
        None => {}
    }
    let path = place.path();
    if !wrong.is_empty() {
        return Err(Failure::verification(format!(
            "{} is out of date for {}:\n  {}",
            path.display(),
            choice.recipe,
            wrong.join("\n  ")
        ))
        .with_help(format!("run \"vmfab lock {}\"", choice.recipe)));
    }
    let mut seen = BTreeSet::new();
    Ok(Locked {
        file: path,
        image: needs.image,
        steps: needs
            .steps
            .iter()
            .filter(|step| seen.insert(step.key))
            .filter_map(|step| lock.steps.get(&step.key))
            .map(|step| LockedStep {
                name: step.label.clone(),
                packages: step.packages.as_ref().map(|set| set.packages.len()),
                new: false,
            })
            .collect(),
        sources: needs
            .sources
            .iter()
            .filter_map(|url| Some((url, lock.sources.get(url)?)))
            .map(|(url, source)| LockedSource {
                url: url.clone(),
                checksum: source.checksum.clone(),
                new: false,
            })
            .collect(),
        templates: locked_templates(&needs.templates, &lock),
        dropped: 0,
        changed: false,
    })
}

/// Templates as locks have them.
fn by_version(
    versions: &Versions,
) -> impl Iterator<Item = ((TemplateName, Version), PinnedTemplate)> {
    let key = |(name, template): (&TemplateName, &PinnedTemplate)| {
        ((name.clone(), template.version.clone()), template.clone())
    };
    versions.iter().map(key)
}
