//! The one way to fail: what went wrong, of which kind, and what to do about it.
//!
//! A failure is made where the fault is understood, and passes through everything above as it is.
//! A module has an error type of its own only where a caller acts on the difference; it becomes a
//! failure in the same module (`impl From<…> for Failure`).

mod closest;
mod kind;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::Diagnostic;

pub(crate) use closest::closest;
pub use kind::Kind;

/// Something failed.
#[derive(Clone)]
pub struct Failure(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    kind: Kind,
    message: String,
    help: Vec<String>,
    details: Details,
    causes: Vec<Failure>,
    diagnostic: Option<Arc<dyn Diagnostic + Send + Sync>>,
}

/// What is known beyond the message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The command that failed, as a user would type it.
    pub command: Option<String>,
    /// The last lines that a program or a guest printed.
    pub output: Vec<String>,
    /// Where there is more to read.
    pub log: Option<PathBuf>,
}

impl Failure {
    /// The message is a fragment in lower case that names the thing and the value.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            message: message.into(),
            help: Vec::new(),
            details: Details::default(),
            causes: Vec::new(),
            diagnostic: None,
        }))
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Arguments that are well-formed, and make no sense together or here.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something is not what its digest or its first build says.
    pub fn verification(message: impl Into<String>) -> Self {
        Self::new(Kind::Verification, message)
    }

    /// This host lacks something.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(Kind::Missing, message)
    }

    /// What the user named does not exist; `noun` says what it would be.
    pub fn unknown(noun: &str, name: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("no {noun} \"{name}\" found"))
    }

    /// What the user named does not exist; one of `known` was probably meant.
    pub fn not_found<'a>(noun: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let help = closest(name, known).map(|other| format!("did you mean \"{other}\"?"));
        Self::unknown(noun, name).and_help(help)
    }

    /// The user gave up, and what is left behind needs a word.
    pub fn interrupted_with(help: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, "interrupted").with_help(help)
    }

    /// The user gave up.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::interrupted_with("vmfab keeps finished work: run the same command again to continue")
    }

    /// A mistake in a text, with its place.
    pub fn recipe(diagnostic: impl Diagnostic + Send + Sync + 'static) -> Self {
        let mut failure = Self::new(Kind::Recipe, diagnostic.to_string());
        let help = diagnostic.help().map(|help| help.to_string());
        failure.0.help.extend(help);
        failure.0.diagnostic = Some(Arc::new(diagnostic));
        failure
    }

    /// Several failures, of their kind when it is the same for all; a single one stands for itself.
    pub fn several(mut causes: Vec<Self>, message: impl Into<String>) -> Self {
        if causes.len() == 1 {
            return causes.remove(0);
        }
        let first = causes.first().map_or(Kind::Failed, Self::kind);
        let same = causes.iter().all(|cause| cause.kind() == first);
        let mut failure = Self::new(if same { first } else { Kind::Failed }, message);
        failure.0.causes = causes;
        failure
    }

    /// For `map_err`: an input or output error with what was tried, and on what.
    pub fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::of_io(action, path, &source)
    }

    /// An input or output error with what was tried, and on what.
    #[must_use]
    pub fn of_io(action: &str, path: &Path, source: &io::Error) -> Self {
        let message = format!("{action} {}: {source}", path.display());
        Self::new(Kind::of_io(source), message).and_help(io_help(source, path))
    }

    /// The disk of this host is full.
    #[must_use]
    pub fn no_space(path: &Path) -> Self {
        let message = format!("no space left on {}", path.display());
        Self::new(Kind::Unwritable, message).with_help(space_help(path))
    }

    /// For `map_err` in a step: as [`io`](Self::io), and a full disk is said as that.
    pub fn step_io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull => Self::no_space(path),
            _ => Self::of_io(action, path, &source),
        }
    }

    /// A command ended with an error: how, as in `exited with code 3`, and its last lines.
    pub fn command(
        command: impl Into<String>,
        how: impl Into<String>,
        output: Vec<String>,
    ) -> Self {
        Self::failed(how).with_command(command).with_output(output)
    }

    /// An error that nothing more is known of. Causes that its text does not have are added.
    pub fn other(error: impl std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            next = cause.source();
        }
        Self::failed(text)
    }

    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help.push(help.into());
        self
    }

    #[must_use]
    pub fn and_help(mut self, help: impl IntoIterator<Item = String>) -> Self {
        self.0.help.extend(help);
        self
    }

    /// Adds what to do next if nothing says so yet.
    #[must_use]
    pub fn or_help(self, help: impl Into<String>) -> Self {
        match self.0.help.is_empty() {
            true => self.with_help(help),
            false => self,
        }
    }

    /// Says to do this and nothing else.
    #[must_use]
    pub fn instead_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = vec![help.into()];
        self
    }

    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// The command that failed, as a user would type it.
    #[must_use]
    pub fn with_command(mut self, command: impl Into<String>) -> Self {
        self.0.details.command = Some(command.into());
        self
    }

    /// The last lines that a program or a guest printed.
    #[must_use]
    pub fn with_output(mut self, output: Vec<String>) -> Self {
        self.0.details.output = output;
        self
    }

    /// Where there is more to read.
    #[must_use]
    pub fn with_log(mut self, log: impl Into<PathBuf>) -> Self {
        self.0.details.log = Some(log.into());
        self
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether a command failed.
    #[must_use]
    pub fn is_command(&self) -> bool {
        self.0.details.command.is_some()
    }

    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        self.0.kind == kind
    }

    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do next, as sentences without an end.
    #[must_use]
    pub fn help(&self) -> &[String] {
        &self.0.help
    }

    #[must_use]
    pub fn details(&self) -> &Details {
        &self.0.details
    }

    /// What failed in each place, when it was several.
    #[must_use]
    pub fn causes(&self) -> &[Self] {
        &self.0.causes
    }

    #[must_use]
    pub fn diagnostic(&self) -> Option<&(dyn Diagnostic + Send + Sync)> {
        self.0.diagnostic.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failure {}

/// What to do about an input or output error, when that can be said.
fn io_help(source: &io::Error, path: &Path) -> Option<String> {
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
fn space_help(path: &Path) -> String {
    format!(
        "free some space where {} is (`vmfab store gc` removes what no image needs), or set \
         VMFAB_HOME to a directory with more",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_have_the_kind_that_all_have() {
        let failure = |kind| Failure::new(kind, "x");
        let kind = |kinds: &[Kind]| {
            let causes = kinds.iter().copied().map(failure).collect();
            Failure::several(causes, "several").kind()
        };
        assert_eq!(kind(&[Kind::Usage]), Kind::Usage);
        assert_eq!(kind(&[Kind::NotFound, Kind::NotFound]), Kind::NotFound);
        assert_eq!(kind(&[Kind::NotFound, Kind::Verification]), Kind::Failed);
        let one = Failure::several(vec![Failure::usage("x")], "several");
        assert_eq!(one.to_string(), "x");
    }

    #[test]
    fn errors_of_files() {
        let of = |kind: io::ErrorKind| Failure::io("write", Path::new("/srv/a"))(kind.into());
        for (kind, is, help) in [
            (io::ErrorKind::StorageFull, Kind::Unwritable, 1),
            (io::ErrorKind::ReadOnlyFilesystem, Kind::Unwritable, 1),
            (io::ErrorKind::PermissionDenied, Kind::Failed, 1),
            (io::ErrorKind::NotFound, Kind::Failed, 0),
        ] {
            let failure = of(kind);
            assert_eq!(failure.kind(), is, "{failure}");
            assert_eq!(failure.help().len(), help, "{failure}");
        }
    }
}
