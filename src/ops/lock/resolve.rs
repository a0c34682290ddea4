//! Content from outside that a recipe gives no checksum of: from the lock, else by asking.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::lock::{Lock, Source};
use crate::plan::{PinError, Pinned};
use crate::recipe::Fetch;

/// Finds out which content an address stands for today.
pub trait Resolve {
    /// The content.
    ///
    /// # Errors
    /// It cannot be found out.
    fn resolve(&self, fetch: &Fetch) -> Result<Pinned, PinError>;
}

/// Finds out nothing: this vmfab fetches nothing from outside.
pub struct NoResolver;

impl Resolve for NoResolver {
    fn resolve(&self, _: &Fetch) -> Result<Pinned, PinError> {
        Err(PinError {
            message: "the recipe has no checksum of it".to_owned(),
            help: Some("give its checksum (sha256=\"…\")".to_owned()),
        })
    }
}

/// What planning asks about content from outside, and what it was told.
pub(in crate::ops) struct Pins<'a> {
    /// The lock, as far as it holds.
    pub(super) lock: Option<&'a Lock>,
    /// Addresses that are asked for again although the lock has them.
    pub(super) afresh: &'a dyn Fn(&str) -> bool,
    /// Who is asked; without one, what is not locked stands for nothing in particular.
    pub(super) resolver: Option<&'a dyn Resolve>,
    /// What was told, by address.
    pub(super) told: RefCell<BTreeMap<String, Source>>,
}

impl<'a> Pins<'a> {
    pub(super) fn new(lock: Option<&'a Lock>, resolver: Option<&'a dyn Resolve>) -> Self {
        Self {
            lock,
            afresh: &|_| false,
            resolver,
            told: RefCell::default(),
        }
    }

    /// The addresses that were asked about.
    pub(super) fn asked(&self) -> BTreeSet<String> {
        self.told.borrow().keys().cloned().collect()
    }

    pub(in crate::ops) fn pin(&self, fetch: &Fetch) -> Result<Pinned, PinError> {
        let url = &fetch.url.value;
        let told = self.told.borrow().get(url).cloned();
        let locked = || self.lock?.sources.get(url).cloned();
        let source = match told.or_else(|| locked().filter(|_| !(self.afresh)(url))) {
            Some(source) => source,
            None => {
                let pinned = match self.resolver {
                    Some(resolver) => resolver.resolve(fetch)?,
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
        self.told.borrow_mut().insert(url.clone(), source);
        Ok(pinned)
    }
}
