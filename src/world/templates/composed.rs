//! The templates that a recipe builds on: their versions, chosen together, and their recipes.
//!
//! ```text
//! load ──asks──► template: NAME@RANGE ──► chosen? its recipe in cache/templates
//!   ▲                        │ no: noted
//!   └── again ◄── resolve ◄──┘   (what the lock pins is preferred, and what it says is checked)
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use semver::{Comparator, Op, Version, VersionReq};

use super::super::Context;
use super::{Found, choose, index, kept, package, repositories, repository, unpacked};
use crate::checked::Name;
use crate::digest::Sha256;
use crate::failure::{Failure, Kind};
use crate::lock::PinnedTemplate;
use crate::recipe::{self, BuiltIn, TemplateRecipe};
use crate::template::resolve::{Candidate, Known, resolve};
use crate::template::{
    BUILT_IN, Entry, Index, Outline, Place, TemplateName, TemplateRef, TemplateRepository, Wanted,
};

/// Templates with their versions.
pub(crate) type Versions = BTreeMap<TemplateName, PinnedTemplate>;

/// What the lock says of templates.
#[derive(Debug, Clone, Default)]
pub(crate) struct LockedTemplates {
    /// What it pins for the recipe.
    pub(crate) pinned: Versions,
    /// Those for which newer versions are taken.
    pub(crate) afresh: BTreeSet<TemplateName>,
}

/// What one recipe builds on.
pub(crate) struct Composition<'a> {
    context: &'a Context,
    locked: LockedTemplates,
    /// What the recipe asks for, itself or by what it reads.
    asked: RefCell<Vec<(TemplateName, Wanted)>>,
    /// Whether something was asked for since versions were chosen.
    open: Cell<bool>,
    chosen: RefCell<BTreeMap<TemplateName, Chosen>>,
    /// Those that were read, by namespace.
    indexes: RefCell<BTreeMap<Name, Rc<Index>>>,
}

struct Chosen {
    version: PinnedTemplate,
    recipe: TemplateRecipe,
    /// Its files; absent when it comes with vmfab.
    directory: Option<PathBuf>,
}

/// A version that can be taken.
#[derive(Clone)]
struct Choice {
    entry: Entry,
    source: Source,
}

#[derive(Clone)]
enum Source {
    BuiltIn(&'static BuiltIn),
    Repository(TemplateRepository),
}

impl<'a> Composition<'a> {
    pub(crate) fn new(context: &'a Context, locked: LockedTemplates) -> Self {
        Self {
            context,
            locked,
            asked: RefCell::default(),
            open: Cell::default(),
            chosen: RefCell::default(),
            indexes: RefCell::default(),
        }
    }

    fn index(&self, repository: &TemplateRepository) -> Result<Rc<Index>, Failure> {
        let whose = &repository.namespace;
        if let Some(known) = self.indexes.borrow().get(whose) {
            return Ok(Rc::clone(known));
        }
        let index = Rc::new(index(self.context, repository)?);
        let mut indexes = self.indexes.borrow_mut();
        indexes.insert(whose.clone(), Rc::clone(&index));
        Ok(index)
    }

    /// The recipe of a template that the recipe at `asking` wants, as far as versions are chosen.
    ///
    /// # Errors
    /// No repository has the template.
    pub(crate) fn template(
        &self,
        wanted: &TemplateRef,
        asking: &Path,
    ) -> Result<TemplateRecipe, Failure> {
        let name = self.named(wanted, self.asker(asking).as_ref())?;
        let ask = (name, wanted.wanted.clone());
        let mut asked = self.asked.borrow_mut();
        let is_known = asked.contains(&ask);
        if let Some(chosen) = self.chosen.borrow().get(&ask.0) {
            let fits = match &ask.1 {
                Wanted::Range(range) => range.matches(&chosen.version.version),
                Wanted::Reference(_) => false,
            };
            if is_known || fits {
                return Ok(chosen.recipe.clone());
            }
        }
        if !is_known {
            asked.push(ask);
        }
        self.open.set(true);
        Ok(TemplateRecipe::Later)
    }

    /// The directory of the template that the file of a recipe is in.
    pub(crate) fn confines(&self, recipe: &Path) -> Option<PathBuf> {
        let all = self.context.home.unpacked_templates();
        let below = recipe.strip_prefix(&all).ok()?;
        Some(all.join(below.components().next()?))
    }

    /// Chooses versions if something was asked for since the last time; tells whether it was.
    ///
    /// # Errors
    /// No versions fit, or a template cannot be had or is not what it should be.
    pub(crate) fn resolve(&self, recipe: &str) -> Result<bool, Failure> {
        if !self.open.take() {
            return Ok(false);
        }
        let mut needs = Vec::new();
        for (name, wanted) in self.asked.borrow().iter() {
            let range = match wanted {
                Wanted::Range(range) => range.clone(),
                Wanted::Reference(_) => match self.choices(name)?.first() {
                    Some(choice) => exactly(&choice.entry.version),
                    None => return Err(self.no_reference(name, wanted)),
                },
            };
            needs.push((name.clone(), range));
        }
        let pinned = self.locked.pinned.iter();
        let preferred = pinned
            .filter(|(name, _)| !self.locked.afresh.contains(*name))
            .map(|(name, pinned)| (name.clone(), pinned.version.clone()))
            .collect();
        let versions = resolve(recipe, &needs, &preferred, self)?;
        let mut ranges = needs;
        let mut choices = BTreeMap::new();
        for (name, version) in versions {
            let mut all = self.choices(&name)?.into_iter();
            let Some(choice) = all.find(|choice| choice.entry.version == version) else {
                continue;
            };
            ranges.extend(needs_of(&name, &choice.entry, self).unwrap_or_default());
            choices.insert(name, choice);
        }
        for (name, choice) in &choices {
            self.check_against_lock(name, &choice.entry, &ranges)?;
        }
        let mut chosen = BTreeMap::new();
        for (name, choice) in choices {
            let one = self.take(&name, &choice)?;
            chosen.insert(name, one);
        }
        self.chosen.replace(chosen);
        Ok(true)
    }

    /// The versions that were chosen.
    pub(crate) fn versions(&self) -> Versions {
        let chosen = self.chosen.borrow();
        let version =
            |(name, chosen): (&TemplateName, &Chosen)| (name.clone(), chosen.version.clone());
        chosen.iter().map(version).collect()
    }

    /// The template that a file is of.
    fn asker(&self, asking: &Path) -> Option<TemplateName> {
        let directory = self.confines(asking)?;
        let chosen = self.chosen.borrow();
        let own = |one: &&TemplateName| chosen[*one].directory.as_ref() == Some(&directory);
        if let Some(name) = chosen.keys().find(own) {
            return Some(name.clone());
        }
        // It is what is built, and nobody asked for it.
        let digest = directory.file_name()?.to_str()?.parse().ok()?;
        kept::name(self.context, &digest)
    }

    /// Which template is meant: with a namespace, that; without, one of the namespace of who asks,
    /// one that comes with vmfab, or that of the first repository that has one.
    fn named(
        &self,
        wanted: &TemplateRef,
        asker: Option<&TemplateName>,
    ) -> Result<TemplateName, Failure> {
        let of = |namespace| TemplateName::new(namespace, wanted.name.clone());
        if let Some(namespace) = &wanted.namespace {
            let name = of(namespace.clone());
            return match self.choices(&name)?.is_empty() {
                true => Err(self.unknown(&name)),
                false => Ok(name),
            };
        }
        if let Some(asker) = asker {
            let own = of(asker.namespace.clone());
            if !self.choices(&own)?.is_empty() {
                return Ok(own);
            }
        }
        if built_in(&wanted.name).is_some() {
            return Ok(of(BUILT_IN.parse().expect("it is a name")));
        }
        let shipped = recipe::catalogue().iter().map(|one| one.name.to_owned());
        let mut known: Vec<String> = shipped.collect();
        for one in repositories(self.context) {
            let index = self.index(&one)?;
            if !index.versions(&wanted.name).is_empty() {
                return Ok(of(one.namespace));
            }
            known.extend(index.iter().map(|(name, _)| name.to_string()));
        }
        let mut pinned = self.locked.pinned.keys();
        if let Some(pinned) = pinned.find(|name| name.name == wanted.name) {
            return Ok(pinned.clone());
        }
        let known = known.iter().map(String::as_str);
        Err(Failure::not_found("template", &wanted.name, known)
            .or_help("\"vmfab template repo update\" looks for new ones"))
    }

    /// There is no version of a template at all.
    fn unknown(&self, name: &TemplateName) -> Failure {
        if let Err(failure) = repository(self.context, &name.namespace)
            && !name.is_built_in()
        {
            let Some(pinned) = self.locked.pinned.get(name) else {
                return failure;
            };
            let (namespace, source) = (&name.namespace, &pinned.source);
            return failure.instead_help(format!(
                "the lock has it from {source}: \"vmfab template repo add {namespace} {source}\""
            ));
        }
        Failure::unknown("template", name)
            .with_help("\"vmfab template repo update\" looks for new ones")
    }

    fn no_reference(&self, name: &TemplateName, wanted: &Wanted) -> Failure {
        let message = format!("{name} has no branch, tag or commit {wanted}");
        Failure::new(Kind::NotFound, message).with_help(format!(
            "\"vmfab template versions {name}\" lists what it has"
        ))
    }

    /// The versions of a template that can be taken; nothing when nobody has it. What is pinned can
    /// be taken as long as its package is in the home, whatever an index says today.
    fn choices(&self, name: &TemplateName) -> Result<Vec<Choice>, Failure> {
        if name.is_built_in() {
            return Ok(built_in_choice(&name.name).into_iter().collect());
        }
        let pinned = self.locked.pinned.get(name);
        let kept = match pinned {
            Some(pinned) => kept::package(self.context, &pinned.digest)?
                .map(|(package, _)| Entry::of(&package))
                .filter(|entry| entry.version == pinned.version),
            None => None,
        };
        let of = match (repository(self.context, &name.namespace), pinned, &kept) {
            (Ok(of), ..) => of,
            (Err(_), Some(pinned), Some(_)) => TemplateRepository {
                namespace: name.namespace.clone(),
                place: Place::parse(&pinned.source, |text| PathBuf::from(text)),
            },
            (Err(_), ..) => return Ok(Vec::new()),
        };
        let all = self.index(&of)?;
        let listed = all.versions(&name.name);
        let asked = self.asked.borrow();
        let mut entries: Vec<Entry> = match asked.iter().find_map(|(other, wanted)| {
            let is_reference = other == name && matches!(wanted, Wanted::Reference(_));
            is_reference.then_some(wanted)
        }) {
            Some(reference) => choose(listed, reference).cloned().into_iter().collect(),
            None => listed
                .iter()
                .filter(|one| one.is_release())
                .cloned()
                .collect(),
        };
        let is_moving = |version: &Version| {
            let mut listed = listed.iter();
            listed.any(|one| one.moving && one.version == *version)
        };
        if let Some(kept) = kept {
            // The state of a branch is the one that is pinned until it is updated.
            let afresh = self.locked.afresh.contains(name);
            if is_moving(&kept.version) && !afresh {
                entries.retain(|one| one.version != kept.version);
            }
            if entries.iter().all(|one| one.version != kept.version) {
                entries.push(kept);
            }
        }
        let choice = |entry| Choice {
            entry,
            source: Source::Repository(of.clone()),
        };
        Ok(entries.into_iter().map(choice).collect())
    }

    /// Whether a version agrees with the one that is pinned; `ranges` are what all ask for.
    fn check_against_lock(
        &self,
        name: &TemplateName,
        entry: &Entry,
        ranges: &[(TemplateName, VersionReq)],
    ) -> Result<(), Failure> {
        let Some(pinned) = self.locked.pinned.get(name) else {
            return Ok(());
        };
        let (was, is) = (&pinned.version, &entry.version);
        if was == is && pinned.digest != entry.digest {
            if entry.moving && self.locked.afresh.contains(name) {
                return Ok(());
            }
            let message = format!(
                "{name} {is} changed its bytes under the same number: the lock has sha256:{}, and the index says \
                 sha256:{}",
                pinned.digest, entry.digest
            );
            return Err(Failure::verification(message).with_help(match (entry.moving, name.is_built_in()) {
                (true, _) => "a branch moved on: \"vmfab update\" takes its new state",
                (false, true) => "this vmfab comes with another recipe: remove it from the lock, and lock again",
                (false, false) => {
                    "a version never changes: whoever publishes it must give the change a new number"
                }
            }));
        }
        let mut ranges = ranges.iter().filter(|(other, _)| other == name);
        if is < was && ranges.all(|(_, range)| range.matches(was)) {
            let listed = self.choices(name)?;
            if listed.iter().all(|choice| choice.entry.version != *was) {
                let message = format!(
                    "the index of {} hides {name} {was}, which the lock pins: the newest that it lists is {is}",
                    name.namespace
                );
                return Err(Failure::verification(message).with_help(format!(
                    "\"vmfab template repo update {}\" asks it again; ask whoever keeps it whether the version was \
                     withdrawn",
                    name.namespace
                )));
            }
        }
        Ok(())
    }

    /// Gets a version, and finds its recipe.
    fn take(&self, name: &TemplateName, choice: &Choice) -> Result<Chosen, Failure> {
        let Choice { entry, source } = choice;
        let (recipe, directory, source) = match source {
            Source::BuiltIn(one) => {
                let recipe = TemplateRecipe::BuiltIn(one.name.to_owned());
                (recipe, None, BUILT_IN.to_owned())
            }
            Source::Repository(repository) => {
                let found = Found {
                    repository: repository.clone(),
                    name: name.clone(),
                    entry: entry.clone(),
                };
                let package = package(self.context, &found)?;
                let directory = unpacked(self.context, &package)?;
                let recipe = TemplateRecipe::File(directory.join(package.recipe()));
                (recipe, Some(directory), repository.place.to_string())
            }
        };
        Ok(Chosen {
            version: PinnedTemplate {
                version: entry.version.clone(),
                digest: entry.digest,
                source: source.parse().map_err(Failure::other)?,
            },
            recipe,
            directory,
        })
    }
}

impl Known for Composition<'_> {
    fn candidates(&self, name: &TemplateName) -> Result<Vec<Candidate>, Failure> {
        let choices = self.choices(name)?;
        let candidate = |choice: Choice| {
            Some(Candidate {
                needs: needs_of(name, &choice.entry, self)?,
                version: choice.entry.version,
            })
        };
        Ok(choices.into_iter().filter_map(candidate).collect())
    }
}

/// What a version needs; nothing when it breaks the rule that published templates ask for ranges.
fn needs_of(
    name: &TemplateName,
    entry: &Entry,
    composition: &Composition<'_>,
) -> Option<Vec<(TemplateName, VersionReq)>> {
    let need = |need: TemplateRef| match &need.wanted {
        Wanted::Range(range) => {
            // One that nobody has is a reason for the resolver, and no end.
            let namespace = need.namespace.clone().unwrap_or(name.namespace.clone());
            let unknown = |_| TemplateName::new(namespace, need.name.clone());
            let named = composition.named(&need, Some(name));
            Some((named.unwrap_or_else(unknown), range.clone()))
        }
        Wanted::Reference(_) => None,
    };
    entry.needs().ok()?.into_iter().map(need).collect()
}

/// The range that has one version.
fn exactly(version: &Version) -> VersionReq {
    let comparator = Comparator {
        op: Op::Exact,
        major: version.major,
        minor: Some(version.minor),
        patch: Some(version.patch),
        pre: version.pre.clone(),
    };
    VersionReq {
        comparators: vec![comparator],
    }
}

fn built_in(name: &str) -> Option<&'static BuiltIn> {
    recipe::catalogue().iter().find(|one| one.name == name)
}

/// The only version of a recipe that comes with vmfab.
fn built_in_choice(name: &str) -> Option<Choice> {
    let one = built_in(name)?;
    let outline = Outline::read(one.name, one.text).ok()?;
    Some(Choice {
        entry: Entry::told(
            &outline,
            Sha256::of(one.text.as_bytes()),
            one.text.len() as u64,
        ),
        source: Source::BuiltIn(one),
    })
}
