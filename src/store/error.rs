//! What can go wrong in a store.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::ObjectId;
use crate::failure::{Failure, Kind};
use crate::store::format::FormatError;

/// A store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        source: io::Error,
    },
    /// The store was written by a program that knows another format.
    #[error("the store at {} has format version {version}; this vmfab knows version 1", path.display())]
    Version { path: PathBuf, version: u64 },
    /// The store needs what this program does not know.
    #[error("the store at {} uses features that this vmfab does not know: {}", path.display(), features.join(", "))]
    Features {
        path: PathBuf,
        features: Vec<String>,
    },
    /// The store can only be read.
    #[error("the store at {} is read-only: {reason}", path.display())]
    ReadOnly { path: PathBuf, reason: String },
    /// There is no such object.
    #[error("object {} is not in the store", .0.short())]
    NoObject(ObjectId),
    /// A file of the store is not what it should be.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An object cannot be read because of what became of its parts.
    #[error("object {} is damaged: {reason}", id.short())]
    DamagedObject { id: ObjectId, reason: String },
    /// The text cannot be a tag.
    #[error("\"{0}\" cannot be a tag: use letters, digits, \".\", \"_\" and \"-\", at most 128")]
    TagName(String),
    /// The file of a tag or root does not hold object ids.
    #[error("{} does not hold an object id", .0.display())]
    TagFile(PathBuf),
    /// Another process does what can only be done by one.
    #[error("another process is {doing} the store at {}", path.display())]
    Busy {
        path: PathBuf,
        /// What it does.
        doing: &'static str,
    },
    /// A file is another than when reading it began.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
    /// What was given cannot be stored.
    #[error("{0}")]
    Refused(String),
}

/// For `map_err`: an input or output error with what was tried, and on what.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}

/// For `map_err`: bytes of a file that could not be decoded.
pub(super) fn damaged(path: &Path) -> impl FnOnce(FormatError) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Damaged {
        path,
        reason: error.to_string(),
    }
}

impl StoreError {
    /// Whether a file was not there.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether there was no room for a file.
    pub(super) fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Io {
                action,
                path,
                source,
            } => Self::of_io(action, &path, &source),
            StoreError::Version { version: 0, .. } => Self::new(Kind::Unwritable, message)
                .with_help(
                    "a version before the first release wrote it: remove it, and build the images \
                     again",
                ),
            StoreError::Version { .. } | StoreError::Features { .. } => {
                Self::new(Kind::Unwritable, message).with_help(
                    "use the vmfab that wrote it, or set VMFAB_HOME to another directory",
                )
            }
            StoreError::ReadOnly { .. } => Self::new(Kind::Unwritable, message)
                .with_help("set VMFAB_HOME to a writable directory"),
            StoreError::NoObject(_) => Self::new(Kind::NotFound, message)
                .with_help("build the image again: vmfab builds what is missing"),
            StoreError::Damaged { .. } | StoreError::DamagedObject { .. } => damage(message),
            StoreError::TagFile(path) => Self::verification(message)
                .with_help(format!("remove {} and tag the image again", path.display())),
            StoreError::Busy { .. } => Self::failed(message).with_help("try again after it ends"),
            StoreError::Refused(_) => Self::failed(message),
            StoreError::TagName(_) => Self::usage(message),
            StoreError::Changed(_) => {
                Self::failed(message).with_help("try again while nothing writes to it")
            }
            StoreError::Interrupted => Self::interrupted(),
        }
    }
}

impl Failure {
    /// An error of a lower module in a step of a build. A full store is said as that.
    pub fn of_step(error: impl std::error::Error + 'static) -> Self {
        let any: &dyn std::error::Error = &error;
        match any.downcast_ref::<StoreError>() {
            Some(StoreError::Io { source, path, .. })
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                Self::no_space(path)
            }
            Some(StoreError::Io { source, .. }) => {
                let kind = Kind::of_io(source);
                Self::other(error).with_kind(kind)
            }
            _ => Self::other(error),
        }
    }
}

/// Something in the store is not what its digest says.
pub fn damage(message: impl Into<String>) -> Failure {
    Failure::verification(message).with_help(
        "`vmfab store verify` names all that is damaged and what it belongs to; `vmfab store \
         repair` drops it, and the next build makes it anew",
    )
}
