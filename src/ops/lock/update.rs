//! Moving locks to what there is today.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use semver::Version;
use serde::Serialize;

use super::super::{Context, RecipeChoice};
use super::by_version;
use super::pin::{Entry, Pinning};
use crate::checked::{Name, Token};
use crate::digest::Digest;
use crate::event::Event;
use crate::failure::Failure;
use crate::lock::{FILE_NAME, Lock, Package, PackageSet, Target};
use crate::template::TemplateName;
use crate::world::lock_file::{self, Place};
use crate::world::{Today, pins, templates};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateOptions {
    /// Where the lock file is; the current directory when empty.
    pub directory: PathBuf,
    /// Names of images, steps, addresses or packages; everything when empty.
    pub names: Vec<String>,
    /// Whether the lock file stays as it is.
    pub dry_run: bool,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Updated {
    pub file: PathBuf,
    /// Steps whose packages changed.
    pub steps: Vec<StepChange>,
    /// Content from outside that changed.
    pub sources: Vec<SourceChange>,
    /// Templates that moved.
    pub templates: Vec<TemplateChange>,
    /// How many steps, addresses and templates were looked at.
    pub looked_at: usize,
    /// Whether the file was written.
    pub written: bool,
}

/// A step whose packages changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepChange {
    pub name: String,
    /// The packages, sorted by name.
    pub packages: Vec<PackageChange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    pub name: String,
    pub architecture: String,
    /// The version that was locked; absent when it was none.
    pub was: Option<String>,
    /// The version that is locked now; absent when there is none. The same as before when only the
    /// content is another.
    pub is: Option<String>,
}

/// Content from outside that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceChange {
    pub url: String,
    /// The checksum that was locked.
    pub was: Option<String>,
    /// The checksum that is locked now.
    pub is: Option<String>,
    /// The size in bytes now, when it is known.
    pub size: Option<u64>,
}

/// A template that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TemplateChange {
    pub name: TemplateName,
    /// The versions that were locked, each for a recipe or more.
    pub was: Vec<Version>,
    /// The versions that are locked now.
    pub is: Vec<Version>,
}

/// Moves locks to what there is today.
///
/// # Errors
/// There is no lock file, nothing in it has one of the names, a recipe is wrong, a step fails, the
/// user gives up.
pub fn update(context: &Context, options: &UpdateOptions) -> Result<Updated, Failure> {
    let store = context.store()?;
    let path = options.directory.join(FILE_NAME);
    let Some(before) = lock_file::read(&path)? else {
        // Builds without a lock remember what they looked up.
        let count = match options.names.is_empty() {
            true => pins::forget(context, options.dry_run),
            false => 0,
        };
        if count > 0 {
            let verb = if options.dry_run { "would be" } else { "are" };
            context.emit(Event::Note {
                message: format!(
                    "there is no lock file; checksums of {count} addresses that were remembered {verb} \
                     looked up again by the next build"
                ),
            });
            return Ok(Updated {
                file: path,
                steps: Vec::new(),
                sources: Vec::new(),
                templates: Vec::new(),
                looked_at: count,
                written: false,
            });
        }
        return Err(Failure::unknown("lock file", path.display())
            .with_help("create it with \"vmfab lock RECIPE\""));
    };
    let chosen = choose(&before, &options.names)?;
    ask_repositories(context, &chosen.templates)?;
    let mut lock = before.clone();
    let mut done = Chosen::default();
    for target in &before.targets {
        let templates = target.templates.keys();
        let is_chosen = !target.steps.is_disjoint(&chosen.steps)
            || !target.sources.is_disjoint(&chosen.sources)
            || templates
                .into_iter()
                .any(|name| chosen.templates.contains(name));
        if !is_chosen {
            continue;
        }
        let recipe = options.directory.join(&target.recipe);
        let recipe = match recipe.exists() {
            true => recipe.to_string_lossy().into_owned(),
            false => target.recipe.clone(),
        };
        let place = Place {
            directory: options.directory.clone(),
            recipe: target.recipe.clone(),
        };
        let choice = RecipeChoice {
            recipe,
            image: Some(target.image.clone()),
            settings: target.settings.clone(),
            ..RecipeChoice::default()
        };
        // What another image shares was looked at already.
        let pinned = Pinning {
            context,
            store: &store,
            place: &place,
            choice: &choice,
            resolver: &Today(context),
            afresh: &|entry| match entry {
                Entry::Source(url) => chosen.sources.contains(*url) && !done.sources.contains(*url),
                Entry::Step(step) => {
                    chosen.steps.contains(&step.key) && !done.steps.contains(&step.key)
                }
                // All images of a recipe are built on the same.
                Entry::Template(name) => chosen.templates.contains(*name),
            },
        }
        .pin(&lock)?;
        done.steps.extend(pinned.target.steps.iter().copied());
        done.sources.extend(pinned.target.sources.iter().cloned());
        lock.steps.extend(pinned.steps);
        lock.sources.extend(pinned.sources);
        lock.templates.extend(by_version(&pinned.templates));
        lock.put_target(pinned.target);
    }
    let written = !options.dry_run
        && lock_file::change(&options.directory, |current| {
            // What others locked meanwhile stays; what was looked at is as it is now.
            for target in &lock.targets {
                current.targets.retain(|other| !same(other, target));
                current.targets.push(target.clone());
            }
            current.targets.sort();
            current.steps.extend(lock.steps.clone());
            current.sources.extend(lock.sources.clone());
            current.templates.extend(lock.templates.clone());
            current.drop_unused();
        })?;
    Ok(Updated {
        file: path,
        steps: step_changes(&before, &lock),
        sources: source_changes(&before, &lock),
        templates: template_changes(&before, &lock),
        looked_at: chosen.count(),
        written,
    })
}

fn same(a: &Target, b: &Target) -> bool {
    (&a.recipe, &a.image, &a.settings) == (&b.recipe, &b.image, &b.settings)
}

/// Entries of a lock.
#[derive(Default)]
struct Chosen {
    steps: BTreeSet<Digest>,
    sources: BTreeSet<String>,
    templates: BTreeSet<TemplateName>,
}

impl Chosen {
    fn count(&self) -> usize {
        self.steps.len() + self.sources.len() + self.templates.len()
    }
}

/// Asks the repositories of templates what they have today.
fn ask_repositories(context: &Context, names: &BTreeSet<TemplateName>) -> Result<(), Failure> {
    let from_elsewhere = names.iter().filter(|name| !name.is_built_in());
    let namespaces: BTreeSet<&Name> = from_elsewhere.map(|name| &name.namespace).collect();
    for namespace in namespaces {
        let repository = templates::repository(context, namespace)?;
        // Offline, what is known of a repository is all there is.
        if !context.offline || repository.place.directory().is_some() {
            templates::update(context, &repository)?;
        }
    }
    Ok(())
}

/// The entries that the user names.
fn choose(lock: &Lock, names: &[String]) -> Result<Chosen, Failure> {
    let mut chosen = Chosen::default();
    if names.is_empty() {
        chosen.steps = lock.steps.keys().copied().collect();
        chosen.sources = lock.sources.keys().cloned().collect();
        chosen.templates = lock
            .templates
            .keys()
            .map(|(name, _)| name.clone())
            .collect();
    }
    for name in names {
        let mut own = Chosen::default();
        for target in lock.targets.iter().filter(|target| target.image == *name) {
            own.steps.extend(target.steps.iter().copied());
            own.sources.extend(target.sources.iter().cloned());
            own.templates.extend(target.templates.keys().cloned());
        }
        for (template, _) in lock.templates.keys() {
            if *template.name == **name || template.to_string() == *name {
                own.templates.insert(template.clone());
            }
        }
        for (key, step) in &lock.steps {
            let short = step.label.split_once(": ").map(|(_, short)| short);
            let packages = step.packages.iter().flat_map(|set| &set.packages);
            if step.label == *name
                || short == Some(name)
                || packages.into_iter().any(|package| *package.name == **name)
            {
                own.steps.insert(*key);
            }
        }
        for url in lock.sources.keys() {
            if url == name || url.rsplit('/').next() == Some(name) {
                own.sources.insert(url.clone());
            }
        }
        if own.count() == 0 {
            let images = lock.targets.iter().map(|target| target.image.as_str());
            let steps = lock.steps.values().map(|step| step.label.as_str());
            let packages = lock
                .steps
                .values()
                .flat_map(|step| step.packages.iter().flat_map(|set| &set.packages))
                .map(|package| &*package.name);
            let templates: Vec<String> = lock
                .templates
                .keys()
                .map(|(name, _)| name.to_string())
                .collect();
            let known = images
                .chain(steps)
                .chain(templates.iter().map(String::as_str))
                .chain(lock.sources.keys().map(String::as_str))
                .chain(packages);
            return Err(Failure::not_found(
                "locked image, step, address, template or package",
                name,
                known,
            ));
        }
        chosen.steps.append(&mut own.steps);
        chosen.sources.append(&mut own.sources);
        chosen.templates.append(&mut own.templates);
    }
    Ok(chosen)
}

fn step_changes(before: &Lock, now: &Lock) -> Vec<StepChange> {
    let mut changes = Vec::new();
    let keys: BTreeSet<&Digest> = before.steps.keys().chain(now.steps.keys()).collect();
    for key in keys {
        let (was, is) = (before.steps.get(key), now.steps.get(key));
        let set = |step: Option<&crate::lock::PinnedStep>| {
            step.and_then(|step| step.packages.clone())
                .unwrap_or_default()
        };
        let packages = package_changes(&set(was), &set(is));
        if let Some(step) = is.or(was)
            && !packages.is_empty()
        {
            changes.push(StepChange {
                name: step.label.clone(),
                packages,
            });
        }
    }
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    changes
}

fn package_changes(was: &PackageSet, is: &PackageSet) -> Vec<PackageChange> {
    type Key = (Token, Token);
    let by_name = |set: &PackageSet| -> BTreeMap<Key, Package> {
        let key = |package: &Package| (package.name.clone(), package.architecture.clone());
        set.packages
            .iter()
            .map(|package| (key(package), package.clone()))
            .collect()
    };
    let (was, is) = (by_name(was), by_name(is));
    let keys: BTreeSet<&Key> = was.keys().chain(is.keys()).collect();
    keys.into_iter()
        .filter(|key| {
            let sha256 = |packages: &BTreeMap<Key, Package>| packages.get(*key).map(|p| p.sha256);
            sha256(&was) != sha256(&is)
        })
        .map(|key| PackageChange {
            name: key.0.to_string(),
            architecture: key.1.to_string(),
            was: was.get(key).map(|package| package.version.to_string()),
            is: is.get(key).map(|package| package.version.to_string()),
        })
        .collect()
}

fn source_changes(before: &Lock, now: &Lock) -> Vec<SourceChange> {
    let urls: BTreeSet<&String> = before.sources.keys().chain(now.sources.keys()).collect();
    urls.into_iter()
        .map(|url| {
            let (was, is) = (before.sources.get(url), now.sources.get(url));
            SourceChange {
                url: url.clone(),
                was: was.map(|source| source.checksum.clone()),
                is: is.map(|source| source.checksum.clone()),
                size: is.and_then(|source| source.size),
            }
        })
        .filter(|change| change.was != change.is)
        .collect()
}

fn template_changes(before: &Lock, now: &Lock) -> Vec<TemplateChange> {
    let versions = |lock: &Lock, name: &TemplateName| -> Vec<Version> {
        let own = lock.templates.keys().filter(|(other, _)| other == name);
        own.map(|(_, version)| version.clone()).collect()
    };
    let all = before.templates.keys().chain(now.templates.keys());
    let names: BTreeSet<&TemplateName> = all.map(|(name, _)| name).collect();
    names
        .into_iter()
        .map(|name| TemplateChange {
            name: name.clone(),
            was: versions(before, name),
            is: versions(now, name),
        })
        .filter(|change| change.was != change.is)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Hasher, Sha256};
    use crate::failure::Kind;
    use crate::lock::PinnedStep;

    fn set(packages: &[(&str, &str, u8)]) -> PackageSet {
        let package = |(name, version, content): &(&str, &str, u8)| Package {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            architecture: "all".parse().unwrap(),
            sha256: Sha256::from_bytes([*content; 32]),
            size: 1,
            priority: None,
            archive: None,
            file: None,
        };
        PackageSet {
            archives: Vec::new(),
            packages: packages.iter().map(package).collect(),
        }
    }

    #[test]
    fn changes_package_by_package() {
        let was = set(&[("a", "1", 1), ("b", "1", 2), ("c", "1", 3), ("d", "1", 4)]);
        let is = set(&[("a", "1", 1), ("b", "2", 5), ("c", "1", 6), ("e", "1", 7)]);
        let changes: Vec<_> = package_changes(&was, &is)
            .into_iter()
            .map(|change| (change.name, change.was, change.is))
            .collect();
        let one = || Some("1".to_owned());
        assert_eq!(
            changes,
            [
                ("b".to_owned(), one(), Some("2".to_owned())),
                ("c".to_owned(), one(), one()),
                ("d".to_owned(), one(), None),
                ("e".to_owned(), None, one()),
            ]
        );
        assert_eq!(package_changes(&is, &is), []);
    }

    #[test]
    fn names_choose_entries() {
        let key = |text: &str| Hasher::new("test").update(text.as_bytes()).finish();
        let step = |label: &str, package: &str| PinnedStep {
            label: label.into(),
            packages: Some(set(&[(package, "1", 1)])),
        };
        let mut lock = Lock::default();
        lock.steps
            .insert(key("a"), step("web: bootstrap x", "libc6"));
        lock.steps
            .insert(key("b"), step("web: packages nginx", "nginx"));
        lock.put_target(Target {
            recipe: "web.kdl".into(),
            image: "web".into(),
            settings: BTreeMap::new(),
            sources: BTreeSet::new(),
            steps: BTreeSet::from([key("a"), key("b")]),
            templates: BTreeMap::new(),
        });
        let chosen = |name: &str| choose(&lock, &[name.to_owned()]).map(|chosen| chosen.steps);
        let b = BTreeSet::from([key("b")]);
        assert_eq!(chosen("web").unwrap().len(), 2);
        assert_eq!(chosen("nginx").unwrap(), b);
        assert_eq!(chosen("packages nginx").unwrap(), b);
        assert_eq!(chosen("web: packages nginx").unwrap(), b);
        assert_eq!(choose(&lock, &[]).unwrap().steps.len(), 2);
        let error = chosen("ngnix").unwrap_err();
        assert!(error.is(Kind::NotFound) && error.help()[0].contains("nginx"));
    }
}
