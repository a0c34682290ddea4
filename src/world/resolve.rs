//! Content from outside that a recipe gives no checksum of: from the lock, else by asking.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::time::SystemTime;

use super::git::{self, Commit};
use super::templates::{LockedTemplates, Versions};
use super::{Context, oci, pins};
use crate::digest::{Algorithm, Checksum, ChecksumHasher};
use crate::failure::{Failure, Kind};
use crate::instruction::Address;
use crate::lock::{Lock, Source};
use crate::plan::{Container, Pinned, Remote};
use crate::recipe::{Fetch, Pin, RegistryImage};
use crate::registry::{Location, Reference, Version};
use crate::template::TemplateName;

/// Finds out which content an address stands for today.
pub(crate) trait Resolve {
    /// The content.
    ///
    /// # Errors
    /// It cannot be found out.
    fn resolve(&self, fetch: &Fetch) -> Result<Pinned, Failure>;

    /// What a tag of a registry stands for.
    ///
    /// # Errors
    /// It cannot be found out.
    fn resolve_tag(&self, reference: &Reference) -> Result<Checksum, Failure>;

    /// The commit of a reference of a git repository.
    ///
    /// # Errors
    /// It cannot be found out.
    fn resolve_commit(&self, repository: &Address, reference: &str) -> Result<Commit, Failure>;
}

/// Takes what this host found out before; asks the network about the rest.
pub(crate) struct Remembered<'a>(pub(crate) &'a Context);

impl Resolve for Remembered<'_> {
    fn resolve(&self, fetch: &Fetch) -> Result<Pinned, Failure> {
        pins::pin(self.0, fetch)
    }

    fn resolve_tag(&self, reference: &Reference) -> Result<Checksum, Failure> {
        pins::pin_tag(self.0, reference)
    }

    fn resolve_commit(&self, repository: &Address, reference: &str) -> Result<Commit, Failure> {
        pins::pin_commit(self.0, repository, reference)
    }
}

/// Asks the network, whatever was found out before.
pub(crate) struct Today<'a>(pub(crate) &'a Context);

impl Resolve for Today<'_> {
    fn resolve(&self, fetch: &Fetch) -> Result<Pinned, Failure> {
        let Some(Pin::Checksums { .. }) = &fetch.pin else {
            return pins::download(self.0, fetch);
        };
        let found = pins::look_up(self.0, fetch)?;
        Ok(Pinned {
            checksum: found.checksum,
            size: found.size,
        })
    }

    fn resolve_tag(&self, reference: &Reference) -> Result<Checksum, Failure> {
        pins::look_up_tag(self.0, reference)
    }

    fn resolve_commit(&self, repository: &Address, reference: &str) -> Result<Commit, Failure> {
        pins::look_up_commit(self.0, repository, reference)
    }
}

/// What planning asks about content from outside, and what it was told.
pub(crate) struct Pins<'a> {
    /// The lock, as far as it holds.
    pub(crate) lock: Option<&'a Lock>,
    /// Addresses that are asked for again although the lock has them.
    pub(crate) afresh: &'a dyn Fn(&str) -> bool,
    /// Who is asked; without one, what is not locked stands for nothing in particular.
    pub(crate) resolver: Option<&'a dyn Resolve>,
    /// What was told, by address.
    pub(crate) told: RefCell<BTreeMap<String, Source>>,
    /// The templates that are locked.
    pub(crate) templates: LockedTemplates,
    /// The templates that the recipe is built on.
    pub(crate) told_templates: RefCell<Versions>,
}

impl<'a> Pins<'a> {
    pub(crate) fn new(lock: Option<&'a Lock>, resolver: Option<&'a dyn Resolve>) -> Self {
        Self {
            lock,
            afresh: &|_| false,
            resolver,
            told: RefCell::default(),
            templates: LockedTemplates::default(),
            told_templates: RefCell::default(),
        }
    }

    /// With the templates that the lock has for a recipe, except those that are taken `afresh`.
    pub(crate) fn with_templates(
        mut self,
        recipe: &str,
        settings: &BTreeMap<String, String>,
        afresh: impl Fn(&TemplateName) -> bool,
    ) -> Self {
        let pinned = self.lock.map(|lock| lock.templates_of(recipe, settings));
        let pinned = pinned.unwrap_or_default();
        let moved = pinned.keys().filter(|name| afresh(name)).cloned();
        self.templates = LockedTemplates {
            afresh: moved.collect(),
            pinned,
        };
        self
    }

    /// The addresses that were asked about.
    pub(crate) fn asked(&self) -> BTreeSet<String> {
        self.told.borrow().keys().cloned().collect()
    }

    pub(crate) fn pin(&self, fetch: &Fetch) -> Result<Pinned, Failure> {
        let (checksum, size) = self.known(&fetch.url.value, |resolver| {
            let pinned = resolver.resolve(fetch)?;
            Ok((pinned.checksum, pinned.size))
        })?;
        Ok(Pinned { checksum, size })
    }

    /// The commit of a reference of a git repository.
    pub(crate) fn commit(&self, repository: &Address, reference: &str) -> Result<String, Failure> {
        if let Some(commit) = Commit::of(reference) {
            return Ok(commit.into_digits());
        }
        let (commit, _) = self.known(&git::address(&repository.url, reference), |resolver| {
            let commit = resolver.resolve_commit(repository, reference)?;
            Ok((commit, None))
        })?;
        Ok(commit.into_digits())
    }

    /// What an image in a registry or a layout is. A tag of a registry is pinned; a layout is a
    /// file of this host, as local disks are.
    pub(crate) fn remote(
        &self,
        context: &Context,
        image: &RegistryImage,
        architecture: &str,
    ) -> Result<Remote, Failure> {
        let location = oci::parse(&image.location)?;
        if let Some(directory) = &image.context {
            oci::check_within(&location, directory)?;
        }
        let digest = match &location {
            Location::Registry(reference) => match reference.version() {
                Version::Digest(digest) => Some(digest),
                Version::Tag(_) => {
                    let (checksum, _) = self.known(&oci::address(reference), |resolver| {
                        let checksum = resolver.resolve_tag(reference)?;
                        Ok((checksum, None))
                    })?;
                    match checksum.sha256() {
                        // Nobody is asked: that it is not locked is what will be told.
                        None if self.resolver.is_none() => {
                            return Ok(Remote::Container(Container::default()));
                        }
                        Some(digest) => Some(digest),
                        None => return Err(not_a("SHA-256", &checksum)),
                    }
                }
            },
            Location::Layout { .. }
            | Location::Archive { .. }
            | Location::DockerArchive { .. }
            | Location::Storage(_) => None,
        };
        oci::find(context, &location, digest, architecture)
    }

    /// What an address stands for: as it was told, as it is locked, or as `resolve` finds out.
    fn known<T: Known>(
        &self,
        url: &str,
        resolve: impl Fn(&dyn Resolve) -> Result<(T, Option<u64>), Failure>,
    ) -> Result<(T, Option<u64>), Failure> {
        let told = self.told.borrow().get(url).cloned();
        let locked = || self.lock?.sources.get(url).cloned();
        let source = match told.or_else(|| locked().filter(|_| !(self.afresh)(url))) {
            Some(source) => source,
            None => {
                let (known, size) = match self.resolver {
                    Some(resolver) => resolve(resolver)?,
                    // It is not fetched: any name of the content will do.
                    None => (T::unknown(url), None),
                };
                Source {
                    checksum: known.to_string(),
                    size,
                    resolved: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
                }
            }
        };
        let known = source.checksum.parse();
        let known = known.map_err(|_| not_a(T::WHAT, &source.checksum))?;
        let size = source.size;
        self.told.borrow_mut().insert(url.to_owned(), source);
        Ok((known, size))
    }
}

/// What an address can stand for, as locks write it.
trait Known: FromStr + Display {
    const WHAT: &str;

    /// Stands for what is not known of an address.
    fn unknown(url: &str) -> Self;
}

impl Known for Checksum {
    const WHAT: &str = "checksum";

    /// No SHA-256 is equal to it.
    fn unknown(url: &str) -> Self {
        let mut hasher = ChecksumHasher::new(Algorithm::Blake3);
        hasher.update(url.as_bytes());
        hasher.finish()
    }
}

impl Known for Commit {
    const WHAT: &str = "commit";

    fn unknown(url: &str) -> Self {
        let digits = Checksum::unknown(url).hex();
        Self::of(&digits).expect("it has the digits of a commit")
    }
}

fn not_a(what: &str, locked: &impl Display) -> Failure {
    let message = format!("it is locked to \"{locked}\", which is not a {what}");
    Failure::new(Kind::Recipe, message).with_help("run \"vmfab update\"")
}
