//! What an operation can fail with: lower errors, wrapped so that the command line can tell kinds
//! apart.

use std::path::{Path, PathBuf};

use miette::Diagnostic;

use crate::derivation::BuildError;
use crate::host::{HomeError, MissingProgram};
use crate::recipe;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// An operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe is wrong: an error of parsing or planning, with its place in the source.
    #[error("{0}")]
    Recipe(Box<dyn Diagnostic + Send + Sync>),
    /// Steps of a build failed; never empty.
    #[error("{}", describe_steps(.0))]
    Steps(Vec<StepFailure>),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A registry, a layout or an archive failed.
    #[error("{0}")]
    Registry(Box<RegistryError>),
    /// There is no directory to keep things in.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Programs of the host are missing; never empty.
    #[error("{}", describe_missing(.0))]
    Missing(Vec<MissingProgram>),
    /// What the user named does not exist.
    #[error("no {noun} \"{name}\" found")]
    NotFound {
        /// `image`, `machine`, `recipe`, …
        noun: &'static str,
        /// The name that was given.
        name: String,
        /// What was meant, or where to look.
        help: Option<String>,
    },
    /// Arguments that are well-formed and make no sense together, or here.
    #[error("{message}")]
    Usage {
        message: String,
        /// What to do instead.
        help: Option<String>,
    },
    /// Something is not what its digest or its first build says.
    #[error("{message}")]
    Verification {
        /// What differs from what.
        message: String,
        /// What to do next.
        help: Option<String>,
    },
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// On what.
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}", .0.message)]
    Failed(Failure),
    /// Something that is no program is missing on this host.
    #[error("{message}")]
    Lacking {
        /// What is missing.
        message: String,
        /// How to get it.
        help: String,
    },
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
    /// The user gave up, and what is left behind needs a word.
    #[error("interrupted")]
    InterruptedWith {
        /// What is left, and what to do with it.
        help: String,
    },
}

impl Error {
    /// A wrong recipe.
    pub fn recipe(diagnostic: impl Diagnostic + Send + Sync + 'static) -> Self {
        Self::Recipe(Box::new(diagnostic))
    }

    /// For `map_err`: an input or output error with what was tried, and on what.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Something that is not there, with the one of `known` that was probably meant.
    pub fn not_found<'a>(
        noun: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self::NotFound {
            noun,
            name: name.to_owned(),
            help: recipe::closest(name, known).map(|other| format!("did you mean \"{other}\"?")),
        }
    }
}

impl From<MissingProgram> for Error {
    fn from(missing: MissingProgram) -> Self {
        Self::Missing(vec![missing])
    }
}

/// A failure with what is known about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    /// The last lines that a program or a guest printed.
    pub output: Vec<String>,
    /// Where there is more to read.
    pub log: Option<PathBuf>,
    /// What to do next.
    pub help: Option<String>,
}

/// A step of a build that failed.
#[derive(Debug, thiserror::Error)]
#[error("step \"{name}\" failed: {error}")]
pub struct StepFailure {
    /// Label of the step.
    pub name: String,
    /// The file with all of its output.
    pub log: PathBuf,
    #[source]
    pub error: BuildError,
}

fn describe_steps(failures: &[StepFailure]) -> String {
    match failures {
        [one] => one.to_string(),
        several => format!("{} steps failed", several.len()),
    }
}

fn describe_missing(missing: &[MissingProgram]) -> String {
    match missing {
        [one] => one.to_string(),
        several => {
            let names: Vec<_> = several.iter().map(|one| one.0.file_name()).collect();
            format!("{} are not installed", names.join(", "))
        }
    }
}
