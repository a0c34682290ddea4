//! What can go wrong with sharing.

use crate::http::HttpError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Something could not be pushed or pulled.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The registry, layout or archive fails.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is there is not what it should be.
    #[error("{place}: {what} {reason}")]
    Invalid {
        /// The repository.
        place: String,
        /// What is wrong.
        what: String,
        /// Why.
        reason: String,
    },
    /// It is no artifact of vmfab's.
    #[error("{place} is no image of vmfab's: {what}")]
    Foreign {
        /// What was asked for.
        place: String,
        /// What it is instead.
        what: String,
    },
    /// The index has nothing for this platform.
    #[error("{place} has no image for {platform}: it has {}", there.join(", "))]
    Platform {
        /// What was asked for.
        place: String,
        /// The platform.
        platform: String,
        /// Those that it has.
        there: Vec<String>,
    },
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
