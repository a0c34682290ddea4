//! What can go wrong with sharing.

use std::io;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::http::HttpError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Something could not be pushed or pulled.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The registry, layout or archive fails.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is there is not what it should be.
    #[error("{place}: {what} {reason}")]
    Invalid {
        place: String,
        what: String,
        reason: String,
    },
    /// The index has nothing for this platform.
    #[error("{place} has no image for {platform}: it has {}", there.join(", "))]
    Platform {
        /// What was asked for.
        place: String,
        platform: String,
        /// Those that it has.
        there: Vec<String>,
    },
    /// What was fetched cannot be kept.
    #[error("cannot write {}: {source}", path.display())]
    Cache { path: PathBuf, source: io::Error },
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
}

impl ShareError {
    pub(super) fn invalid(place: &str, what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            place: place.to_owned(),
            what: what.into(),
            reason: reason.into(),
        }
    }

    /// What a blob could not be had for. One that a manifest names and that is not there is
    /// garbage, and not the user's mistake.
    pub(super) fn of_blob(error: RegistryError) -> Self {
        match error {
            RegistryError::Missing { place, what } => {
                Self::invalid(&place, what, "is not there, though a manifest names it")
            }
            error => error.into(),
        }
    }

    /// What the bytes of a blob could not be read for.
    pub(super) fn of_reading(place: &str, error: io::Error) -> Self {
        match error.downcast() {
            Ok(error) => Self::of_blob(error),
            Err(error) => Self::invalid(place, "what it sends", format!("cannot be read: {error}")),
        }
    }

    /// Whether what is there is wrong, rather than that it cannot be had.
    #[must_use]
    pub const fn is_garbage(&self) -> bool {
        matches!(
            self,
            Self::Invalid { .. }
                | Self::Platform { .. }
                | Self::Registry(RegistryError::Invalid { .. })
        )
    }

    /// Whether the user gave up.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Interrupted | Self::Store(StoreError::Interrupted) => true,
            Self::Registry(RegistryError::Interrupted) => true,
            Self::Registry(RegistryError::Http { source, .. }) => {
                matches!(**source, HttpError::Interrupted)
            }
            _ => false,
        }
    }
}

impl From<ShareError> for Failure {
    fn from(error: ShareError) -> Self {
        let message = error.to_string();
        match error {
            ShareError::Store(error) => error.into(),
            ShareError::Registry(error) => error.into(),
            ShareError::Invalid { .. } => Self::verification(message)
                .with_help("vmfab tagged nothing; try again, or ask the publisher"),
            ShareError::Platform { .. } => {
                Self::failed(message).with_help("choose one of them with --platform")
            }
            ShareError::Cache { path, source } => Self::of_io("write", &path, &source),
            ShareError::Interrupted => Self::interrupted(),
        }
    }
}
