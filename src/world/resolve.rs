//! Content from outside that a recipe gives no checksum of: from the lock, else by asking.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::{Context, git, oci, pins};
use crate::lock::{Lock, Source};
use crate::plan::{Container, PinError, Pinned, Remote};
use crate::recipe::{Fetch, Pin};
use crate::registry::{Location, Reference, Version};

/// Finds out which content an address stands for today.
pub(crate) trait Resolve {
    /// The content.
    ///
    /// # Errors
    /// It cannot be found out.
    fn resolve(&self, fetch: &Fetch) -> Result<Pinned, PinError>;

    /// What a tag of a registry stands for.
    ///
    /// # Errors
    /// It cannot be found out.
    fn resolve_tag(&self, reference: &Reference) -> Result<Pinned, PinError>;

    /// The commit of a reference of a git repository.
    ///
    /// # Errors
    /// It cannot be found out.
    fn resolve_commit(&self, repository: &str, reference: &str) -> Result<Pinned, PinError>;
}

/// Takes what this host found out before; asks the network about the rest.
pub(crate) struct Remembered<'a>(pub(crate) &'a Context);

impl Resolve for Remembered<'_> {
    fn resolve(&self, fetch: &Fetch) -> Result<Pinned, PinError> {
        pins::pin(self.0, fetch)
    }

    fn resolve_tag(&self, reference: &Reference) -> Result<Pinned, PinError> {
        pins::pin_tag(self.0, reference)
    }

    fn resolve_commit(&self, repository: &str, reference: &str) -> Result<Pinned, PinError> {
        pins::pin_commit(self.0, repository, reference)
    }
}

/// Asks the network, whatever was found out before.
pub(crate) struct Today<'a>(pub(crate) &'a Context);

impl Resolve for Today<'_> {
    fn resolve(&self, fetch: &Fetch) -> Result<Pinned, PinError> {
        let Some(Pin::Checksums { .. }) = &fetch.pin else {
            return pins::download(self.0, fetch);
        };
        let found = pins::look_up(self.0, fetch)?;
        Ok(Pinned {
            checksum: found.checksum,
            size: found.size,
        })
    }

    fn resolve_tag(&self, reference: &Reference) -> Result<Pinned, PinError> {
        pins::look_up_tag(self.0, reference)
    }

    fn resolve_commit(&self, repository: &str, reference: &str) -> Result<Pinned, PinError> {
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
}

impl<'a> Pins<'a> {
    pub(crate) fn new(lock: Option<&'a Lock>, resolver: Option<&'a dyn Resolve>) -> Self {
        Self {
            lock,
            afresh: &|_| false,
            resolver,
            told: RefCell::default(),
        }
    }

    /// The addresses that were asked about.
    pub(crate) fn asked(&self) -> BTreeSet<String> {
        self.told.borrow().keys().cloned().collect()
    }

    pub(crate) fn pin(&self, fetch: &Fetch) -> Result<Pinned, PinError> {
        let resolve = |resolver: &dyn Resolve| resolver.resolve(fetch);
        self.known(&fetch.url.value, &resolve)
    }

    /// The commit of a reference of a git repository.
    pub(crate) fn commit(&self, repository: &str, reference: &str) -> Result<String, PinError> {
        if git::is_commit(reference) {
            return Ok(reference.to_ascii_lowercase());
        }
        let resolve = |resolver: &dyn Resolve| resolver.resolve_commit(repository, reference);
        let pinned = self.known(&git::address(repository, reference), &resolve)?;
        match git::commit_of(&pinned.checksum) {
            Some(commit) => Ok(commit.to_owned()),
            // Nobody is asked: that it is not locked is what will be told.
            None if self.resolver.is_none() => Ok(pinned.checksum),
            None => Err(PinError {
                message: format!(
                    "it is locked to \"{}\", which is not a commit",
                    pinned.checksum
                ),
                help: Some("run \"vmfab update\"".to_owned()),
                outage: false,
            }),
        }
    }

    /// What an image in a registry or a layout is. A tag of a registry is pinned; a layout is a
    /// file of this host, as local disks are.
    pub(crate) fn remote(
        &self,
        context: &Context,
        location: &str,
        architecture: &str,
    ) -> Result<Remote, PinError> {
        let location = oci::parse(location)?;
        let digest = match &location {
            Location::Registry(reference) => match reference.version() {
                Version::Digest(digest) => Some(digest),
                Version::Tag(_) => {
                    let resolve = |resolver: &dyn Resolve| resolver.resolve_tag(reference);
                    let pinned = self.known(&oci::address(reference), &resolve)?;
                    let digits = pinned.checksum.strip_prefix("sha256:").unwrap_or_default();
                    match digits.parse() {
                        Ok(digest) => Some(digest),
                        // Nobody is asked: that it is not locked is what will be told.
                        Err(_) if self.resolver.is_none() => {
                            return Ok(Remote::Container(Container::default()));
                        }
                        Err(_) => {
                            return Err(PinError {
                                message: format!(
                                    "it is locked to \"{}\", which is not a SHA-256",
                                    pinned.checksum
                                ),
                                help: Some("run \"vmfab update\"".to_owned()),
                                outage: false,
                            });
                        }
                    }
                }
            },
            Location::Layout { .. } | Location::Archive { .. } => None,
        };
        oci::find(context, &location, digest, architecture)
    }

    /// What an address stands for: as it was told, as it is locked, or as `resolve` finds out.
    fn known(
        &self,
        url: &str,
        resolve: &dyn Fn(&dyn Resolve) -> Result<Pinned, PinError>,
    ) -> Result<Pinned, PinError> {
        let told = self.told.borrow().get(url).cloned();
        let locked = || self.lock?.sources.get(url).cloned();
        let source = match told.or_else(|| locked().filter(|_| !(self.afresh)(url))) {
            Some(source) => source,
            None => {
                let pinned = match self.resolver {
                    Some(resolver) => resolve(resolver)?,
                    // It is not fetched: any name of the content will do.
                    None => Pinned {
                        checksum: format!("unknown:{url}"),
                        size: None,
                    },
                };
                Source {
                    checksum: pinned.checksum,
                    size: pinned.size,
                    resolved: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
                }
            }
        };
        let pinned = Pinned {
            checksum: source.checksum.clone(),
            size: source.size,
        };
        self.told.borrow_mut().insert(url.to_owned(), source);
        Ok(pinned)
    }
}
