//! Operations: one file for each use case, with typed options and results. They know neither clap
//! nor the terminal: progress goes to the sink of their [`Context`].

pub mod build;
pub mod doctor;
mod error;
pub mod export;
pub mod fmt;
pub mod format;
pub mod images;
pub mod machine;
pub mod planning;
pub mod recipes;
pub mod store;

use std::sync::Arc;

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
}

impl Context {
    /// Opens the store; makes it on first use.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn store(&self) -> Result<Store, StoreError> {
        Store::open(self.home.store())
    }

    /// Emits an event.
    pub fn emit(&self, event: Event) {
        self.sink.emit(event);
    }
}
