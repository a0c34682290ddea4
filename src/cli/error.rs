//! Every error to its kind, message, help and exit code; and how errors are shown.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use console::{Style, Term};
use miette::Diagnostic;
use serde::Serialize;

use super::diagnostic;
use super::options::{ColorWhen, Hints};
use crate::derivation::BuildError;
use crate::host::MissingProgram;
use crate::ops::{Error, StepFailure};
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
        }
    }
}

/// An error, ready to be shown.
#[derive(Debug)]
pub(super) struct CliError {
    kind: Kind,
    message: String,
    details: Details,
    help: Vec<String>,
    steps: Vec<Self>,
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

/// The form of an error with `--json`: one object on standard error.
#[derive(Serialize)]
struct Json<'a> {
    kind: Kind,
    message: &'a str,
    help: &'a [String],
    exit_code: u8,
    #[serde(flatten)]
    details: &'a Details,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Self>,
    #[serde(flatten)]
    diagnostic: Option<diagnostic::Json>,
}

impl CliError {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Details::default(),
            help: Vec::new(),
            steps: Vec::new(),
            diagnostic: None,
        }
    }

    /// An operation failed.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The arguments make no sense together.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Standard output cannot be written to.
    pub(super) fn standard_output(error: &io::Error) -> Self {
        Self::failed(format!("standard output cannot be written: {error}"))
    }

    /// Adds what to do next.
    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// What went wrong.
    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// The message, without help and details.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Shows the error on standard error.
    pub(super) fn report(&self, hints: &Hints) -> ExitCode {
        let text = if hints.json {
            let json = serde_json::to_string(&self.to_json());
            json.unwrap_or_else(|_| self.message.clone()) + "\n"
        } else {
            let terminal = Term::stderr();
            let look = Look {
                color: hints.color.decide(&terminal),
                width: terminal
                    .size_checked()
                    .map_or(100, |(_, width)| width.into()),
            };
            self.to_text(look)
        };
        // Nobody is left to tell when standard error is closed.
        let _ = io::stderr().lock().write_all(text.as_bytes());
        ExitCode::from(self.kind.exit_code())
    }

    fn to_json(&self) -> Json<'_> {
        Json {
            kind: self.kind,
            message: &self.message,
            help: &self.help,
            exit_code: self.kind.exit_code(),
            details: &self.details,
            steps: self.steps.iter().map(Self::to_json).collect(),
            diagnostic: self
                .diagnostic
                .as_deref()
                .map(|inner| diagnostic::to_json(inner)),
        }
    }

    fn to_text(&self, look: Look) -> String {
        let style = |style: Style| style.force_styling(look.color);
        let error = style(Style::new().red().bold()).apply_to("error:");
        let faint = style(Style::new().dim());
        let mut text = String::new();
        for step in &self.steps {
            text += &step.to_text(look);
            text.push('\n');
        }
        match &self.diagnostic {
            Some(inner) => text += &diagnostic::to_text(inner.as_ref(), look.color, look.width),
            None => text += &format!("{error} {}\n", self.message),
        }
        if let Some(command) = &self.details.command {
            push_block(&mut text, "command", &mut command.lines(), &faint);
        }
        if !self.details.output.is_empty() {
            let mut lines = self.details.output.iter().map(String::as_str);
            push_block(&mut text, "last output", &mut lines, &faint);
        }
        if let Some(log) = &self.details.log {
            let _ = writeln!(text, "  {} {log}", faint.apply_to("log:"));
        }
        let label = style(Style::new().cyan().bold()).apply_to("help:");
        for help in &self.help {
            let _ = writeln!(text, "  {label} {}", help.replace('\n', "\n        "));
        }
        text
    }
}

/// How errors look.
#[derive(Clone, Copy)]
struct Look {
    color: bool,
    width: usize,
}

/// `label: line`, or the lines below the label when there are several.
fn push_block<'a>(
    text: &mut String,
    label: &str,
    lines: &mut dyn Iterator<Item = &'a str>,
    faint: &Style,
) {
    let lines: Vec<_> = lines.collect();
    let label = faint.apply_to(format!("{label}:"));
    if let [line] = lines.as_slice() {
        let _ = writeln!(text, "  {label} {line}");
        return;
    }
    let _ = writeln!(text, "  {label}");
    for line in lines {
        let line = console::strip_ansi_codes(line);
        let _ = writeln!(text, "    {} {line}", faint.apply_to("|"));
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
            Error::Home(_) => Self::new(Kind::Missing, message)
                .with_help("set VMFAB_HOME to the directory where vmfab may keep its files"),
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
                details: Details {
                    command: None,
                    output: failure.output,
                    log: failure.log.map(|path| path.display().to_string()),
                },
                ..Self::new(Kind::Failed, message).and_help(failure.help)
            },
            Error::Interrupted => Self::new(Kind::Interrupted, message)
                .with_help("what was finished is kept: run the same command again to go on"),
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
    format!("install it: {}", apt_get(packages))
}

/// The command that installs Debian packages; duplicates are dropped.
pub(super) fn apt_get<'a>(packages: impl Iterator<Item = &'a str>) -> String {
    let packages: std::collections::BTreeSet<_> = packages.collect();
    let list: Vec<_> = packages.into_iter().collect();
    format!("sudo apt-get install {}", list.join(" "))
}

fn store(error: &StoreError, message: String) -> CliError {
    match error {
        StoreError::Io { source, path, .. } => {
            CliError::new(Kind::Failed, message).and_help(io_help(source, path))
        }
        StoreError::Format(_) => CliError::new(Kind::Failed, message)
            .with_help("use the vmfab that wrote it, or set VMFAB_HOME to another directory"),
        StoreError::NoObject(_) => CliError::new(Kind::NotFound, message)
            .with_help("build the image again: what is missing is made anew"),
        StoreError::Damaged { path, .. } | StoreError::TagFile(path) => {
            CliError::new(Kind::Verification, message).with_help(format!(
                "remove {} and build the image again",
                path.display()
            ))
        }
        StoreError::TagName(_) => CliError::new(Kind::Usage, message),
    }
}

/// What to do about an input or output error, when that can be said.
fn io_help(source: &io::Error, path: &std::path::Path) -> Option<String> {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(format!(
            "free some space where {} is, or set VMFAB_HOME to a directory with more",
            path.display()
        )),
        io::ErrorKind::PermissionDenied => Some(format!(
            "make {} accessible to your user, or set VMFAB_HOME to a directory of your own",
            path.display()
        )),
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("set VMFAB_HOME to a directory on a file system that can be written".to_owned())
        }
        _ => None,
    }
}

fn steps(failures: Vec<StepFailure>, message: String) -> CliError {
    let mut steps: Vec<CliError> = failures.into_iter().map(step).collect();
    let all = |kind| steps.iter().all(|step: &CliError| step.kind == kind);
    let kind = match () {
        () if all(Kind::Missing) => Kind::Missing,
        () if all(Kind::Interrupted) => Kind::Interrupted,
        () => Kind::Failed,
    };
    if steps.len() == 1 {
        return steps.remove(0);
    }
    CliError {
        steps,
        ..CliError::new(kind, message)
    }
    .with_help("steps that succeeded are kept: only the others run next time")
}

fn step(failure: StepFailure) -> CliError {
    let StepFailure { name, log, error } = failure;
    let message = |why: &str| format!("step \"{name}\" failed: {why}");
    let log = log.display().to_string();
    match error {
        BuildError::Command { command, how, tail } => CliError {
            details: Details {
                command: Some(command),
                output: tail,
                log: Some(log),
            },
            ..CliError::failed(message(&how))
        }
        .with_help("change the step and build again: the steps before it are kept"),
        BuildError::Interrupted => Error::Interrupted.into(),
        BuildError::MissingProgram { program, package } => CliError::new(
            Kind::Missing,
            message(&format!("{program} is not installed")),
        )
        .with_help(how_to_install(std::iter::once(package.as_str()))),
        BuildError::Unsatisfiable { message: why, help } => {
            CliError::failed(message(&why)).with_help(help)
        }
        BuildError::Io {
            ref source,
            ref path,
            ..
        } => CliError::failed(message(&error.to_string())).and_help(io_help(source, path)),
        BuildError::Other(inner) => CliError {
            details: Details {
                log: Some(log),
                ..Details::default()
            },
            ..CliError::failed(message(&with_causes(inner.as_ref())))
        },
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

/// Shows what clap says: help and version on standard output, errors on standard error.
pub(super) fn usage(error: &clap::Error, hints: &Hints) -> ExitCode {
    if !hints.json || !error.use_stderr() {
        // A reader of the help who has enough is no error.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.render().to_string();
    let mut parts = text.split("\n\n").map(str::trim);
    let message = parts.next().unwrap_or_default();
    let help = parts.filter_map(|part| part.strip_prefix("tip: "));
    let mut usage = CliError::usage(message.strip_prefix("error: ").unwrap_or(message));
    usage.help.extend(help.map(str::to_owned));
    usage.report(&Hints {
        color: ColorWhen::Never,
        ..*hints
    })
}
