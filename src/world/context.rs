//! What every operation, and what planning asks about the world, needs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crate::audit::{AuditLog, Deed};
use crate::config::Config;
use crate::event::{Event, Sink};
use crate::executor::Remembered;
use crate::failure::Failure;
use crate::host::{Home, Interrupt, Secrets};
use crate::machine::{MachineError, Project};
use crate::registry::{Access, Registries, RegistriesOptions};
use crate::source::{Fetcher, FetcherOptions};
use crate::store::{Store, StoreError};

/// Shows a text to the user and asks whether to go on; `None` where there is nobody to ask.
pub type Agree = dyn Fn(&str) -> Result<Option<bool>, Failure> + Send + Sync;

/// What every operation needs.
#[derive(Clone)]
pub struct Context {
    /// Where everything is kept.
    pub home: Home,
    /// Where progress goes.
    pub sink: Arc<dyn Sink>,
    /// Tells when the user gave up.
    pub interrupt: Interrupt,
    /// What the user set.
    pub config: Config,
    /// Whether the network is not to be used.
    pub offline: bool,
    /// How registries are reached in this run.
    pub access: Access,
    /// Secrets for steps and git servers. Nothing stores them.
    pub secrets: Secrets,
    /// Whether machines start even when this host has no room for them.
    pub overcommit: bool,
    /// Whether all steps are bounded as those of templates of others are.
    pub bounded: bool,
    /// Asks whether a template of others may be built.
    pub agree: Arc<Agree>,
    /// The project that the user is in; nothing for who only deals with the home.
    pub project: Option<Project>,
    store: Arc<OnceLock<Store>>,
    fetcher: Arc<OnceLock<Arc<Fetcher>>>,
    registries: Arc<OnceLock<Registries>>,
    commits: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Context {
    /// A context.
    #[must_use]
    pub fn new(home: Home, sink: Arc<dyn Sink>, interrupt: Interrupt) -> Self {
        Self {
            home,
            sink,
            interrupt,
            config: Config::default(),
            offline: false,
            access: Access::default(),
            secrets: Secrets::default(),
            overcommit: false,
            bounded: false,
            agree: Arc::new(|_| Ok(None)),
            project: None,
            store: Arc::default(),
            fetcher: Arc::default(),
            registries: Arc::default(),
            commits: Arc::default(),
        }
    }

    /// The same with nothing opened yet, which tells `sink` of its progress.
    #[must_use]
    pub fn anew(&self, sink: Arc<dyn Sink>) -> Self {
        Self::new(self.home.clone(), sink, self.interrupt.clone())
            .with_config(self.config.clone(), self.offline)
            .with_secrets(self.secrets.clone())
            .with_agree(self.agree.clone())
    }

    /// The same with what the user set.
    #[must_use]
    pub fn with_config(self, config: Config, offline: bool) -> Self {
        Self {
            config,
            offline,
            ..self
        }
    }

    /// The same with secrets for steps and git servers.
    #[must_use]
    pub fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// Who brings content from outside. It is one for all operations: it limits how much is fetched
    /// at once.
    #[must_use]
    pub fn fetcher(&self) -> Arc<Fetcher> {
        let make = || {
            let mut options = FetcherOptions::new(self.config.clone(), self.home.downloads());
            options.offline = self.offline;
            Arc::new(Fetcher::new(
                options,
                self.sink.clone(),
                self.interrupt.clone(),
            ))
        };
        self.fetcher.get_or_init(make).clone()
    }

    /// The same, reaching registries so.
    #[must_use]
    pub fn with_access(self, access: Access) -> Self {
        Self {
            access,
            registries: Arc::default(),
            ..self
        }
    }

    /// The same, with machines starting even where there is no room for them.
    #[must_use]
    pub fn with_overcommit(self, overcommit: bool) -> Self {
        Self { overcommit, ..self }
    }

    /// The same with someone who is asked whether a template of others may be built.
    #[must_use]
    pub fn with_agree(self, agree: Arc<Agree>) -> Self {
        Self { agree, ..self }
    }

    /// Who opens repositories of registries, layouts and archives. It is one for all operations:
    /// they share connections and tokens.
    #[must_use]
    pub fn registries(&self) -> Registries {
        let make = || {
            let options = self.registries_options();
            Registries::new(options, self.sink.clone(), self.interrupt.clone())
        };
        self.registries.get_or_init(make).clone()
    }

    /// What registries are used with.
    pub(crate) fn registries_options(&self) -> RegistriesOptions {
        let mut options = RegistriesOptions::new(self.config.clone());
        options.home = Some(self.home.clone());
        (options.offline, options.access) = (self.offline, self.access);
        options
    }

    /// The context of a user who is in `directory`.
    ///
    /// # Errors
    /// The directory is gone.
    pub fn inside(self, directory: &Path) -> Result<Self, MachineError> {
        Ok(Self {
            project: Some(Project::around(directory)?),
            ..self
        })
    }

    /// The store; made on first use. It is one for all operations of a context: what one of them
    /// found, a garbage collection of another process leaves there for the next.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn store(&self) -> Result<Store, StoreError> {
        if let Some(store) = self.store.get() {
            return Ok(store.clone());
        }
        let store = Store::open(self.home.store())?;
        Ok(self.store.get_or_init(|| store).clone())
    }

    /// The commits of repositories that are built, by address: one run sees one state of each.
    pub(super) fn commits(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.commits.lock().expect("nothing panics with it")
    }

    /// What earlier builds took from caches.
    pub(crate) fn remembered(&self) -> Remembered {
        Remembered::new(self.home.remembered())
    }

    pub fn emit(&self, event: Event) {
        self.sink.emit(event);
    }

    /// Records what was done. It has been done by now: what cannot be recorded is told, and undoes
    /// nothing.
    pub fn record(&self, deed: &Deed) {
        let message = match AuditLog::of(&self.home).append(deed) {
            Ok(None) => return,
            Ok(Some(torn)) => format!(
                "a process was killed while it wrote the audit log: removed the {torn} bytes that it left"
            ),
            Err(error) => format!(
                "the audit log {} lacks what was just done: {error}",
                self.home.audit().display()
            ),
        };
        self.emit(Event::Warning { message });
    }
}
