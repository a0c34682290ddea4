//! Kinds of failures: what a calling program has to know, and what callers here act on.

use std::io;

use serde::{Serialize, Serializer};

/// What kind of failure it is. Each has its exit code; several of those that only callers within
/// this program tell apart have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A step or operation failed.
    Failed,
    /// The arguments are wrong.
    Usage,
    /// What was named does not exist.
    NotFound,
    /// The recipe is wrong.
    Recipe,
    /// Something that is needed is missing on this host.
    Missing,
    /// Something is not what it should be.
    Verification,
    /// The user gave up.
    Interrupted,
    /// A server or registry cannot be reached, refuses, or must not be asked: nothing else comes
    /// from it either.
    Unavailable,
    /// A transfer broke off: the same request may succeed the next time.
    Transient,
    /// This host takes no data: its disk is full or read-only.
    Unwritable,
    /// A session in a machine could not be opened.
    NoSession,
    /// Whoever read standard output has enough (`| head`): nothing is shown.
    ReaderGone,
}

impl Kind {
    /// The exit code of the process.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed | Self::Unavailable | Self::Transient | Self::Unwritable => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Recipe => 4,
            Self::Missing => 5,
            Self::Verification => 6,
            Self::Interrupted => 130,
            Self::NoSession => 255,
            Self::ReaderGone => 0,
        }
    }

    /// The word for it in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed | Self::Unavailable | Self::Transient | Self::Unwritable => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Recipe => "recipe",
            Self::Missing => "missing",
            Self::Verification => "verification",
            Self::Interrupted => "interrupted",
            Self::NoSession => "no-session",
            Self::ReaderGone => "reader-gone",
        }
    }

    /// The kind of an input or output error.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded | ReadOnlyFilesystem => Self::Unwritable,
            _ => Self::Failed,
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        for (kind, code) in [
            (Kind::Failed, 1),
            (Kind::Usage, 2),
            (Kind::NotFound, 3),
            (Kind::Recipe, 4),
            (Kind::Missing, 5),
            (Kind::Verification, 6),
            (Kind::Interrupted, 130),
            (Kind::Unavailable, 1),
            (Kind::Transient, 1),
            (Kind::Unwritable, 1),
            (Kind::NoSession, 255),
            (Kind::ReaderGone, 0),
        ] {
            assert_eq!(kind.exit_code(), code, "{kind:?}");
        }
    }
}
