//! What a command gets besides its arguments.

use std::cell::{OnceCell, RefCell};
use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::Arc;

use console::{Style, Term};
use miette::Diagnostic;
use serde::Serialize;

use super::error;
use super::notify::Notifier;
use super::options::{GlobalOptions, RegistryOptions};
use super::reporter::Reporter;
use super::{Status, output, prompt};
use crate::checked::BuildId;
use crate::config::Config;
use crate::event::{Event, Silent, Sink};
use crate::failure::Failure;
use crate::host::{Home, Interrupt, Secrets};
use crate::machine::Project;
use crate::ops::builds::Recorder;
use crate::ops::{self, Agree, Context};

/// Whether a command keeps a record of its build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Records {
    /// It builds no images.
    Never,
    /// From the first step that runs.
    WhatRuns,
    /// Even if no step runs.
    AtOnce,
}

/// What a command gets besides its arguments. Nothing is opened before a command asks for it.
pub(super) struct Session {
    options: GlobalOptions,
    reporter: Arc<Reporter>,
    /// The name of the command.
    command: String,
    records: Records,
    notifier: RefCell<Option<Notifier>>,
    recorder: OnceCell<Arc<Recorder>>,
    context: OnceCell<Context>,
    secrets: OnceCell<Secrets>,
}

impl Session {
    /// `streams_events` says that events are part of the command's JSON result.
    pub(super) fn new(
        options: GlobalOptions,
        command: String,
        streams_events: bool,
        records: Records,
    ) -> Result<Self, Failure> {
        if options.as_build.is_some() {
            // Otherwise the build would end with its terminal.
            let _ = rustix::process::setsid();
        }
        let reporter = Arc::new(Reporter::new(&options, streams_events)?);
        let told = options.notify.clone();
        let notifier = told.map(|told| Notifier::new(told, command.clone(), reporter.clone()));
        Ok(Self {
            notifier: RefCell::new(notifier.transpose()?),
            options,
            reporter,
            command,
            records,
            recorder: OnceCell::new(),
            context: OnceCell::new(),
            secrets: OnceCell::new(),
        })
    }

    /// Sets the secrets for steps and git servers. Call it before the context is made.
    pub(super) fn lend(&self, secrets: Secrets) {
        debug_assert!(
            self.context.get().is_none(),
            "the context was made without the secrets"
        );
        let _ = self.secrets.set(secrets);
    }

    /// For operations that take long: Ctrl-C goes to them, so that they can clean up.
    pub(super) fn context(&self) -> Result<&Context, Failure> {
        let context = self.context_with(Interrupt::from_signals)?;
        self.reporter.watch(&context.interrupt);
        Ok(context)
    }

    /// The same, reaching registries as the options of the command say.
    pub(super) fn registry_context(&self, options: RegistryOptions) -> Result<Context, Failure> {
        Ok(self.context()?.clone().with_access(options.access()))
    }

    /// For operations that only look at things: Ctrl-C ends the process.
    pub(super) fn reading_context(&self) -> Result<&Context, Failure> {
        self.context_with(Interrupt::new)
    }

    fn context_with(
        &self,
        interrupt: impl FnOnce() -> std::io::Result<Interrupt>,
    ) -> Result<&Context, Failure> {
        if let Some(context) = self.context.get() {
            return Ok(context);
        }
        let home = Home::from_env()?;
        home.close();
        let interrupt = interrupt()
            .map_err(|error| Failure::failed(format!("signals cannot be handled: {error}")))?;
        let check = |text: &str| ops::cache::repository(text).map(drop);
        let config = Config::from_env(&check)?;
        let sink = self.sink(&home)?;
        let mut context = Context::new(home, sink, interrupt)
            .with_config(config, self.options.offline)
            .with_secrets(self.secrets.get().cloned().unwrap_or_default());
        context.agree = self.agree(&context.interrupt);
        // Who is in a directory that is gone is in no project.
        let directory = std::env::current_dir().ok();
        context.project = directory.and_then(|directory| Project::around(&directory).ok());
        Ok(self.context.get_or_init(|| context))
    }

    /// Asks at the terminal before a template of others is built.
    fn agree(&self, interrupt: &Interrupt) -> Arc<Agree> {
        let (reporter, interrupt) = (self.reporter.clone(), interrupt.clone());
        Arc::new(move |text| {
            reporter.end();
            let answer = prompt::line(&format!("{text}Build it? [y/N] "), &interrupt)?;
            Ok(answer.map(|answer| matches!(&*answer.to_ascii_lowercase(), "y" | "yes")))
        })
    }

    /// Where progress goes: to the user, and for builds into their record.
    fn sink(&self, home: &Home) -> Result<Arc<dyn Sink>, Failure> {
        if self.records == Records::Never {
            return Ok(self.reporter.clone());
        }
        let at_once = (self.records == Records::AtOnce).then(Recorder::new_id);
        let id = self.options.as_build.clone().or(at_once);
        let recorder = Recorder::new(home.clone(), self.reporter.clone(), &self.command, id)?;
        let recorder = self.recorder.get_or_init(|| Arc::new(recorder));
        if let Some(notifier) = &*self.notifier.borrow() {
            notifier.watch(recorder.clone());
        }
        Ok(recorder.clone())
    }

    /// Leaves `--notify` to the process in the background.
    pub(super) fn leave_notifying(&self) {
        self.notifier.take();
    }

    /// Whether results are to be JSON.
    pub(super) fn json(&self) -> bool {
        self.options.json
    }

    /// Whether this process is the one in the background.
    pub(super) fn is_detached(&self) -> bool {
        self.options.as_build.is_some()
    }

    /// Whether only results are wanted.
    pub(super) fn quiet(&self) -> bool {
        self.options.quiet
    }

    /// Whether details are wanted.
    pub(super) fn verbose(&self) -> bool {
        self.options.verbose > 0
    }

    /// Prints a result: as JSON with `--json`, or else what `human` makes of it.
    pub(super) fn print<T: Serialize, D: Display>(
        &self,
        value: &T,
        human: impl FnOnce(&T) -> D,
    ) -> Result<(), Failure> {
        self.end_progress();
        if self.json() {
            output::write_json(value)
        } else {
            output::write_text(self.printable(human(value)))
        }
    }

    /// A text for people, whoever wrote the names in it.
    fn printable(&self, text: impl Display) -> String {
        output::printable(&text.to_string(), self.colors())
    }

    /// Prints the result of a command that streams events: with `--json` as the last line of the
    /// stream, with `--quiet` only `brief`, or else what `human` makes of it.
    pub(super) fn print_last<T: Serialize, B: Display, D: Display>(
        &self,
        value: &T,
        brief: impl FnOnce(&T) -> B,
        human: impl FnOnce(&T) -> D,
    ) -> Result<(), Failure> {
        self.end_progress();
        match (self.json(), self.quiet()) {
            (true, _) => output::write_result_line(value),
            (false, true) => output::write_text(self.printable(brief(value))),
            (false, false) => output::write_text(self.printable(human(value))),
        }
    }

    /// Whether standard output takes colours.
    pub(super) fn colors(&self) -> bool {
        self.options.color.decide(&Term::stdout())
    }

    /// A style for text on standard output, plain where colours are not wanted.
    pub(super) fn style(&self, style: Style) -> Style {
        style.force_styling(self.colors())
    }

    /// A diagnostic that is a result, with its source line.
    pub(super) fn shown(&self, diagnostic: &dyn Diagnostic) -> String {
        let terminal = Term::stdout();
        let color = self.options.color.decide(&terminal);
        let width = terminal.size_checked();
        error::to_text(
            diagnostic,
            color,
            width.map_or(100, |(_, width)| width.into()),
        )
    }

    /// Tells something on standard error that is not a result.
    pub(super) fn note(&self, message: &str) {
        self.reporter.emit(Event::Note {
            message: message.to_owned(),
        });
    }

    /// Asks the user, after `what` was shown; `option` says yes where there is nobody to ask.
    ///
    /// # Errors
    /// The answer is not yes, or there is nobody.
    pub(super) fn confirm(&self, what: &str, option: &str) -> Result<(), Failure> {
        self.end_progress();
        let terminal = Term::stderr();
        let problem = |error: std::io::Error| Failure::failed(format!("no answer: {error}"));
        if !std::io::stdin().is_terminal() || !terminal.is_term() {
            return Err(
                Failure::usage(format!("this discards data:\n{what}")).with_help(format!(
                    "confirm with {option}, or use --dry-run to see what would happen"
                )),
            );
        }
        terminal
            .write_str(&format!("{what}\nContinue? [y/N] "))
            .map_err(problem)?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(problem)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::failed("vmfab changed nothing")),
        }
    }

    /// Removes bars from the terminal. Call it before anything else uses the terminal.
    pub(super) fn end_progress(&self) {
        self.reporter.end();
    }

    /// Collects garbage after a command that builds, when the configuration asks for it. The result
    /// has been printed: with `--json` it is the last line.
    pub(super) fn collect_garbage(mut self) {
        let Some(context) = self.context.take() else {
            return;
        };
        let sink: Arc<dyn Sink> = match self.json() || self.quiet() {
            true => Arc::new(Silent),
            false => self.reporter.clone(),
        };
        let anew = context.anew(sink);
        // This process relies on nothing in the store any more.
        drop(context);
        ops::store::collect_if_due(&anew);
        self.end_progress();
    }

    /// Ends the record of the build before the command ends; returns the id of the build.
    pub(super) fn end_recording(&self, error: Option<&Failure>) -> Option<BuildId> {
        let recorder = self.recorder.get()?;
        recorder.end(error);
        recorder.names().0
    }

    /// Writes the end of the command to the log file.
    pub(super) fn record_end(&self, result: &Result<Status, Failure>) {
        self.reporter.record_end(result);
        if let Some(recorder) = self.recorder.get() {
            recorder.end(result.as_ref().err());
        }
        if let Some(notifier) = self.notifier.take() {
            let recorder = self.recorder.get().map(Arc::as_ref);
            notifier.end(result.as_ref().err(), recorder);
        }
    }
}
