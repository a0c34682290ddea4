//! Operations: one file for each use case, with typed options and results. They know neither clap
//! nor the terminal: progress goes to the sink of their [`Context`].

pub mod build;
pub mod doctor;
mod error;
pub mod export;
pub mod fmt;
pub mod format;
pub mod images;
pub mod lock;
pub mod machine;
pub mod planning;
pub mod recipes;
pub mod store;

use std::sync::{Arc, OnceLock};

pub use error::{Error, Failure, StepFailure};

use crate::event::{Event, Sink};
use crate::host::{Home, Interrupt};
use crate::store::{Store, StoreError};

/// What every operation needs.
#[derive(Clone)]
pub struct Context {
    /// Where everything is kept.
    pub home: Home,
    /// Where progress goes.
    pub sink: Arc<dyn Sink>,
    /// Tells when the user gave up.
    pub interrupt: Interrupt,
    store: Arc<OnceLock<Store>>,
}

impl Context {
    /// A context.
    #[must_use]
    pub fn new(home: Home, sink: Arc<dyn Sink>, interrupt: Interrupt) -> Self {
        Self {
            home,
            sink,
            interrupt,
            store: Arc::default(),
        }
    }

    /// The store; made on first use. It is one for all operations of a context: what one of them found,
    /// a garbage collection of another process leaves there for the next.
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

    /// Emits an event.
    pub fn emit(&self, event: Event) {
        self.sink.emit(event);
    }
}
