//! Local files that a recipe brings.

use std::path::PathBuf;

use crate::derivation::Listing;

/// Local files that a recipe brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalFiles {
    /// The file or directory.
    pub path: PathBuf,
    /// What is left out of a directory, as lines of gitignore(5).
    pub exclude: Vec<String>,
    /// The part of the context of a Dockerfile that is meant.
    pub selection: Option<Selection>,
}

/// The files of a directory that a Dockerfile names. The others are not read, and do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Paths and patterns, as `COPY` has them. Directories above them count by their names only.
    pub include: Vec<String>,
    /// The text of `.dockerignore`.
    pub ignore: String,
}

/// Local files, and the list of them from when they were planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTree {
    pub files: LocalFiles,
    pub listing: Listing,
}
