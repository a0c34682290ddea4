//! From events to what the user sees: bars on a terminal, lines in a pipe, JSON on request; and to
//! the log file.
//!
//! | output | where | when |
//! |---|---|---|
//! | bars and lines | standard error | on a terminal |
//! | lines | standard error | elsewhere |
//! | warnings | standard error | with `--quiet` |
//! | events as JSON lines | standard output | with `--json`, for commands whose result they are part of (`build`, `boot`, `start`) |
//! | events as JSON lines with times | the log file | with `--log` |

mod bars;
pub(super) mod log;
mod meter;
mod narrator;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use console::Term;

use self::bars::Bars;
use self::log::Log;
use self::narrator::{Detail, Narrator};
use super::Status;
use super::options::{ColorWhen, GlobalOptions};
use super::output::{ascii_controls, printable};
use super::trace;
use crate::event::{Event, Sink};
use crate::failure::Failure;
use crate::host::Interrupt;

/// The sink of the command line.
pub(super) struct Reporter {
    view: View,
    log: Option<Log>,
}

enum View {
    Lines(Mutex<Narrator>),
    Bars(Bars),
    Json,
}

impl Reporter {
    /// The reporter that the options ask for. `streams_events`: with `--json`, events go to
    /// standard output.
    pub(super) fn new(options: &GlobalOptions, streams_events: bool) -> Result<Self, Failure> {
        let terminal = Term::stderr();
        let detail = match (options.quiet, options.verbose) {
            (true, _) => Detail::Warnings,
            (false, 0) => Detail::Steps,
            (false, 1) => Detail::Output,
            (false, _) => Detail::All,
        };
        let narrator = Narrator::new(detail, options.color.decide(&terminal));
        let bars = terminal.is_term()
            && !trace::to_standard_error(options.trace.as_deref())
            && !options.quiet
            && options.color != ColorWhen::Never
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let view = if options.json && streams_events && !options.quiet {
            View::Json
        } else if bars {
            View::Bars(Bars::on_stderr(narrator))
        } else {
            View::Lines(Mutex::new(narrator))
        };
        let log = options.log.as_deref().map(Log::open).transpose()?;
        Ok(Self { view, log })
    }

    /// Tells the user that giving up was noticed.
    pub(super) fn watch(&self, interrupt: &Interrupt) {
        if let View::Bars(bars) = &self.view {
            bars.watch(interrupt.clone());
        }
    }

    /// Removes bars; what comes later is shown without them.
    pub(super) fn end(&self) {
        if let View::Bars(bars) = &self.view {
            bars.end();
        }
    }

    /// Warns after the result is printed. With JSON the warning goes to standard error, so that the
    /// result stays the last line.
    pub(super) fn warn_after(&self, message: String) {
        match &self.view {
            View::Json => {
                let line = format!("warning: {message}\n");
                let _ = io::stderr().write_all(printable(&line, false).as_bytes());
            }
            _ => self.emit(Event::Warning { message }),
        }
    }

    /// Logs how the command ended.
    pub(super) fn record_end(&self, result: &Result<Status, Failure>) {
        if let Some(log) = &self.log {
            log.end(result);
        }
    }
}

impl Sink for Reporter {
    fn emit(&self, event: Event) {
        if let Some(log) = &self.log {
            log.event(&event);
        }
        match &self.view {
            View::Lines(narrator) => {
                let lines = locked(narrator).lines(&event);
                if !lines.is_empty() {
                    // Work goes on when nobody looks.
                    let _ = io::stderr()
                        .write_all((printable(&lines.join("\n"), true) + "\n").as_bytes());
                }
            }
            View::Bars(bars) => bars.event(event),
            View::Json => {
                if let Ok(line) = serde_json::to_string(&event) {
                    let _ = io::stdout()
                        .lock()
                        .write_all((ascii_controls(line) + "\n").as_bytes());
                }
            }
        }
    }
}

/// A lock whose holder panicked still holds whole events.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
