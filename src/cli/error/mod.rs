//! Every error to its kind, message, help and exit code: the one place where that is decided.

mod diagnostic;
mod hint;
mod show;

use std::io;

use miette::Diagnostic;
use serde::Serialize;

pub(super) use diagnostic::to_text;
pub(super) use show::usage;

use crate::derivation::{BuildError, Outside};
use crate::host::MissingProgram;
use crate::ops::{Error, StepFailure};
use crate::registry::RegistryError;
use crate::store::StoreError;

/// What went wrong, as far as a calling program has to know: each kind has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
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
    /// A session in a machine could not be opened.
    NoSession,
    /// Whoever read standard output has enough (`| head`): nothing is shown.
    ReaderGone,
}

impl Kind {
    /// The exit code of the process.
    pub(super) const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
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
}

/// An error, ready to be shown.
#[derive(Debug)]
pub(super) struct CliError {
    kind: Kind,
    message: String,
    details: Box<Details>,
    help: Vec<String>,
    /// What went wrong in each place, when it was several.
    parts: Vec<Self>,
    diagnostic: Option<Box<dyn Diagnostic + Send + Sync>>,
}

/// What is known beyond the message.
#[derive(Debug, Default, Serialize)]
struct Details {
    /// The command that failed, as a user would type it.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// The last lines of output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    output: Vec<String>,
    /// Where there is more to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
}

impl CliError {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Box::default(),
            help: Vec::new(),
            parts: Vec::new(),
            diagnostic: None,
        }
    }

    /// An operation failed.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Several errors, of their kind when it is the same for all; a single one stands for itself.
    pub(super) fn several(mut parts: Vec<Self>, message: String) -> Self {
        let first = parts.first().map_or(Kind::Failed, |part| part.kind);
        match parts.len() {
            1 => parts.remove(0),
            _ => Self {
                kind: match parts.iter().all(|part| part.kind == first) {
                    true => first,
                    false => Kind::Failed,
                },
                parts,
                ..Self::failed(message)
            },
        }
    }

    /// The arguments make no sense together.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something is not what its digest says.
    pub(super) fn damaged(message: impl Into<String>) -> Self {
        Self::new(Kind::Verification, message).with_help(DAMAGE_HELP)
    }

    /// Standard output cannot be written to.
    pub(super) fn standard_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => {
                Self::new(Kind::ReaderGone, "nobody reads standard output any more")
            }
            _ => Self::failed(format!("cannot write to standard output: {error}")),
        }
    }

    /// Adds what to do next.
    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Makes it the reason why there is no session.
    pub(super) fn of_session(mut self) -> Self {
        self.kind = Kind::NoSession;
        self
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// The message, without help and details.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Recipe(inner) => Self {
                help: inner
                    .help()
                    .map(|help| help.to_string())
                    .into_iter()
                    .collect(),
                diagnostic: Some(inner),
                ..Self::new(Kind::Recipe, message)
            },
            Error::Steps(failures) => steps(failures, message),
            Error::Store(error) => store(&error, message),
            Error::Registry(error) => {
                CliError::new(registry(&error), message).and_help(error.remedy())
            }
            Error::Home(_) => Self::new(Kind::Missing, message)
                .with_help("set VMFAB_HOME to a directory for vmfab's data"),
            Error::Missing(missing) => Self {
                help: vec![how_to_install(missing.iter().map(|one| one.0.package()))],
                ..Self::new(Kind::Missing, message)
            },
            Error::NotFound { help, .. } => Self::new(Kind::NotFound, message).and_help(help),
            Error::Usage { help, .. } => Self::new(Kind::Usage, message).and_help(help),
            Error::Verification { help, .. } => {
                Self::new(Kind::Verification, message).and_help(help)
            }
            Error::Io { source, path, .. } => {
                Self::new(Kind::Failed, message).and_help(io_help(&source, &path))
            }
            Error::Failed(failure) => Self {
                details: Box::new(Details {
                    command: None,
                    output: failure.output,
                    log: failure.log.map(|path| path.display().to_string()),
                }),
                ..Self::new(Kind::Failed, message).and_help(failure.help)
            },
            Error::Lacking { help, .. } => Self::new(Kind::Missing, message).with_help(help),
            Error::InterruptedWith { help } => {
                Self::new(Kind::Interrupted, message).with_help(help)
            }
            Error::Interrupted => Self::new(Kind::Interrupted, message)
                .with_help("vmfab keeps finished work: run the same command again to continue"),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<MissingProgram> for CliError {
    fn from(missing: MissingProgram) -> Self {
        Error::from(missing).into()
    }
}

impl CliError {
    fn and_help(mut self, help: Option<String>) -> Self {
        self.help.extend(help);
        self
    }
}

/// The sentence that says how to install Debian packages; duplicates are dropped.
pub(super) fn how_to_install<'a>(packages: impl Iterator<Item = &'a str>) -> String {
    format!("install what is missing: {}", apt_get(packages))
}

/// The command that installs Debian packages; duplicates are dropped.
pub(super) fn apt_get<'a>(packages: impl Iterator<Item = &'a str>) -> String {
    let packages: std::collections::BTreeSet<_> = packages.collect();
    let list: Vec<_> = packages.into_iter().collect();
    format!("sudo apt-get install {}", list.join(" "))
}

/// What to do about damage in the store.
const DAMAGE_HELP: &str = "`vmfab store verify` names all that is damaged and what it belongs to; `vmfab \
    store repair` drops it, and the next build makes it anew";

fn registry(error: &RegistryError) -> Kind {
    match error {
        RegistryError::Missing { .. } | RegistryError::Unknown { .. } => Kind::NotFound,
        RegistryError::Invalid { .. } => Kind::Verification,
        RegistryError::Interrupted => Kind::Interrupted,
        _ => Kind::Failed,
    }
}

fn store(error: &StoreError, message: String) -> CliError {
    match error {
        StoreError::Io { source, path, .. } => {
            CliError::new(Kind::Failed, message).and_help(io_help(source, path))
        }
        StoreError::Version { version: 0, .. } => CliError::new(Kind::Failed, message).with_help(
            "a version before the first release wrote it: remove it, and build the images again",
        ),
        StoreError::Version { .. } | StoreError::Features { .. } => {
            CliError::new(Kind::Failed, message)
                .with_help("use the vmfab that wrote it, or set VMFAB_HOME to another directory")
        }
        StoreError::ReadOnly { .. } => {
            CliError::new(Kind::Failed, message).with_help("set VMFAB_HOME to a writable directory")
        }
        StoreError::NoObject(_) => CliError::new(Kind::NotFound, message)
            .with_help("build the image again: vmfab builds what is missing"),
        StoreError::Damaged { .. } | StoreError::DamagedObject { .. } => CliError::damaged(message),
        StoreError::TagFile(path) => CliError::new(Kind::Verification, message)
            .with_help(format!("remove {} and tag the image again", path.display())),
        StoreError::Busy { .. } => {
            CliError::new(Kind::Failed, message).with_help("try again after it ends")
        }
        StoreError::Refused(_) => CliError::new(Kind::Failed, message),
        StoreError::TagName(_) => CliError::new(Kind::Usage, message),
        StoreError::Changed(_) => {
            CliError::new(Kind::Failed, message).with_help("try again while nothing writes to it")
        }
        StoreError::Interrupted => Error::Interrupted.into(),
    }
}

/// What to do about an input or output error, when that can be said.
fn io_help(source: &io::Error, path: &std::path::Path) -> Option<String> {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(space_help(path)),
        io::ErrorKind::PermissionDenied => Some(format!(
            "make {} accessible to your user, or set VMFAB_HOME to a directory of your own",
            path.display()
        )),
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("set VMFAB_HOME to a directory on a writable file system".to_owned())
        }
        _ => None,
    }
}

/// What to do about a full disk.
fn space_help(path: &std::path::Path) -> String {
    format!(
        "free some space where {} is (`vmfab store gc` removes what no image needs), or set VMFAB_HOME to a \
         directory with more",
        path.display()
    )
}

fn steps(failures: Vec<StepFailure>, message: String) -> CliError {
    let mut steps: Vec<CliError> = failures.into_iter().map(step).collect();
    let all = |kind| steps.iter().all(|step: &CliError| step.kind == kind);
    let kind = match () {
        () if all(Kind::Missing) => Kind::Missing,
        () if all(Kind::Verification) => Kind::Verification,
        () if all(Kind::Interrupted) => Kind::Interrupted,
        () => Kind::Failed,
    };
    let again = match steps.len() {
        1 => "change the step and build again: vmfab keeps the steps before it",
        _ => "vmfab keeps the steps that succeeded: only the others run next time",
    };
    let mut error = match steps.len() {
        1 => steps.remove(0),
        _ => CliError {
            parts: steps,
            ..CliError::new(kind, message)
        },
    };
    if error.help.is_empty() {
        error.help.push(again.to_owned());
    }
    error
}

fn step(failure: StepFailure) -> CliError {
    let StepFailure { name, log, error } = failure;
    let message = |why: &str| format!("step \"{name}\" failed: {why}");
    let log = log.display().to_string();
    let error = full_store(error);
    match error {
        BuildError::Command { command, how, tail } => CliError {
            help: hint::of_output(&tail).into_iter().collect(),
            details: Box::new(Details {
                command: Some(command),
                output: tail,
                log: Some(log),
            }),
            ..CliError::failed(message(&how))
        },
        BuildError::Interrupted => Error::Interrupted.into(),
        BuildError::Unsatisfiable { message: why, help } => {
            CliError::failed(message(&why)).with_help(help)
        }
        BuildError::Outside {
            kind,
            message: why,
            help,
        } => {
            let kind = match kind {
                Outside::Verification => Kind::Verification,
                Outside::Missing => Kind::Missing,
                Outside::Download | Outside::Offline | Outside::Local => Kind::Failed,
            };
            CliError {
                help,
                ..CliError::new(kind, message(&why))
            }
        }
        BuildError::NoSpace(ref path) => CliError {
            details: Box::new(Details {
                log: Some(log),
                ..Details::default()
            }),
            ..CliError::failed(message(&error.to_string())).with_help(space_help(path))
        },
        BuildError::Io {
            ref source,
            ref path,
            ..
        } => CliError::failed(message(&error.to_string())).and_help(io_help(source, path)),
        BuildError::Other(inner) => CliError {
            details: Box::new(Details {
                log: Some(log),
                ..Details::default()
            }),
            ..CliError::failed(message(&with_causes(inner.as_ref())))
        },
    }
}

/// The store's error that the disk is full, as the step's.
fn full_store(error: BuildError) -> BuildError {
    let BuildError::Other(inner) = &error else {
        return error;
    };
    match inner.downcast_ref() {
        Some(StoreError::Io { source, path, .. })
            if source.kind() == io::ErrorKind::StorageFull =>
        {
            BuildError::NoSpace(path.clone())
        }
        _ => error,
    }
}

/// An error and its causes on one line. A cause that its parent's text holds is not repeated.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
