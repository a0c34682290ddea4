//! The lines that tell what happens, from events. Pure.

use std::collections::{BTreeMap, BTreeSet};

use console::Style;

use super::super::output::{clean, clean_lines, count, duration, size};
use crate::event::{Event, StepOutcome};

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Detail {
    /// `--quiet`
    Warnings,
    /// The default.
    Steps,
    /// `-v`
    Output,
    /// `-vv`
    All,
}

/// Turns events into lines and counts steps.
#[derive(Debug)]
pub(super) struct Narrator {
    detail: Detail,
    color: bool,
    /// Whether starts are told; not needed where bars show what runs.
    starts: bool,
    build: String,
    steps: usize,
    /// Steps that are over, or were found: their content is elsewhere.
    done: BTreeSet<usize>,
    /// Those that were found and are not over.
    found: BTreeSet<usize>,
    /// Cached steps that no line has told of yet.
    untold: usize,
    names: BTreeMap<usize, String>,
}

impl Narrator {
    /// A narrator before its first event.
    pub(super) fn new(detail: Detail, color: bool) -> Self {
        Self {
            detail,
            color,
            starts: true,
            build: String::new(),
            steps: 0,
            done: BTreeSet::new(),
            found: BTreeSet::new(),
            untold: 0,
            names: BTreeMap::new(),
        }
    }

    /// Leaves out lines about starts.
    pub(super) fn without_starts(self) -> Self {
        Self {
            starts: false,
            ..self
        }
    }

    /// A style that is plain where colours are not wanted.
    pub(super) fn style(&self, style: Style) -> Style {
        style.force_styling(self.color)
    }

    /// `[3/9]` and the name of the build, while one runs.
    pub(super) fn overall(&self) -> Option<(String, &str)> {
        (self.steps > 0).then(|| (self.position(), self.build.as_str()))
    }

    /// The lines that tell of `event`, without line ends.
    pub(super) fn lines(&mut self, event: &Event) -> Vec<String> {
        let mut lines = Vec::new();
        match event {
            Event::BuildStarted { name, steps, .. } => {
                self.build.clone_from(name);
                self.steps = *steps;
                self.done.clear();
                self.found.clear();
                self.untold = 0;
            }
            Event::StepStarted { step, name, .. } => {
                self.tell_cached(&mut lines);
                // One that was found can be needed all the same, and be gone.
                self.done.remove(step);
                self.found.remove(step);
                self.names.insert(*step, name.clone());
                if self.starts {
                    self.push(&mut lines, self.faint(&format!("start {name}")));
                }
            }
            Event::StepOutput { step, line } if self.detail >= Detail::Output => {
                let name = self.names.get(step).map_or("step", String::as_str);
                lines.push(format!(
                    "{} {}",
                    self.faint(&format!("{name} |")),
                    clean(line)
                ));
            }
            Event::StepWaiting { name, .. } => {
                self.push(
                    &mut lines,
                    self.faint(&format!(
                        "{name}: waiting for another vmfab that runs this step"
                    )),
                );
            }
            Event::StepQueued { name, .. } => {
                self.push(
                    &mut lines,
                    self.faint(&format!(
                        "{name}: waiting until other builds run fewer steps"
                    )),
                );
            }
            Event::StepFound { step, name, from } => {
                self.done.insert(*step);
                self.found.insert(*step);
                match from {
                    Some(from) if self.detail >= Detail::Output => {
                        self.tell_cached(&mut lines);
                        let end = self.faint(&format!("cached ({from})"));
                        self.push(&mut lines, format!("{} {name} … {end}", self.position()));
                    }
                    _ => self.cached(name, &mut lines),
                }
            }
            // That was told when it was found.
            Event::StepFinished {
                step,
                outcome: StepOutcome::Cached | StepOutcome::Remote,
                ..
            } if self.found.remove(step) => {}
            Event::StepFinished {
                step,
                name,
                outcome,
                seconds,
            } => {
                match outcome {
                    StepOutcome::Skipped => self.done.remove(step),
                    _ => self.done.insert(*step),
                };
                self.found.remove(step);
                self.names.remove(step);
                self.finished(name, *outcome, *seconds, &mut lines);
            }
            Event::BuildFinished { .. } => {
                self.steps = 0;
                self.untold = 0;
            }
            Event::TaskStarted { name } if self.starts => {
                self.push(&mut lines, self.faint(&format!("start {name}")));
            }
            Event::TaskFinished { name, seconds } => {
                let time = duration(*seconds);
                self.push(
                    &mut lines,
                    format!("{name} … {} in {time}", self.good("done")),
                );
            }
            Event::TaskFailed { name, seconds } => {
                let time = duration(*seconds);
                self.push(&mut lines, format!("{name} … interrupted after {time}"));
            }
            Event::DownloadStarted {
                name,
                from,
                done,
                total,
                ..
            } if self.starts => {
                let from = host(from);
                let mut text = format!("download {name} from {from}");
                if let Some(total) = total {
                    text += &format!(", {}", size(*total));
                }
                if *done > 0 {
                    text += &format!(" ({} already here)", size(*done));
                }
                self.push(&mut lines, self.faint(&text));
            }
            Event::DownloadWaiting { name, .. } if self.starts => {
                let text = format!("{name}: waiting for another download of it");
                self.push(&mut lines, self.faint(&text));
            }
            Event::DownloadRetrying {
                name,
                error,
                seconds,
                ..
            } => {
                let again = duration(*seconds);
                self.push(
                    &mut lines,
                    self.faint(&format!("{name}: {}; again in {again}", clean(error))),
                );
            }
            Event::RegistryRetrying {
                registry,
                error,
                seconds,
            } => {
                let again = duration(*seconds);
                self.push(
                    &mut lines,
                    self.faint(&format!("{registry}: {}; again in {again}", clean(error))),
                );
            }
            Event::DownloadFailed {
                name, from, error, ..
            } => {
                let failed = self.style(Style::new().red().bold()).apply_to("failed");
                let from = host(from);
                self.push(
                    &mut lines,
                    format!("{name} … {failed} from {from}: {}", clean(error)),
                );
            }
            Event::DownloadFinished {
                name,
                done,
                seconds,
                ..
            } => {
                let (good, bytes, time) =
                    (self.good("downloaded"), size(*done), duration(*seconds));
                self.push(&mut lines, format!("{name} … {good} {bytes} in {time}"));
            }
            Event::MachineWaiting { machine, what } if self.starts => {
                self.push(
                    &mut lines,
                    self.faint(&format!("{machine}: waiting for {what}")),
                );
            }
            Event::MachineConsole { line, .. } => self.push(&mut lines, clean(line)),
            Event::MachineReady { machine, seconds } => {
                let (ready, time) = (self.good("ready"), duration(*seconds));
                self.push(&mut lines, format!("{machine}: {ready} after {time}"));
            }
            Event::Warning { message } => {
                let label = self
                    .style(Style::new().yellow().bold())
                    .apply_to("warning:");
                lines.push(format!("{label} {}", clean_lines(message)));
            }
            Event::Note { message } => {
                let label = self.style(Style::new().cyan().bold()).apply_to("note:");
                self.push(&mut lines, format!("{label} {}", clean_lines(message)));
            }
            Event::StepOutput { .. }
            | Event::TaskStarted { .. }
            | Event::TaskProgress { .. }
            | Event::DownloadStarted { .. }
            | Event::DownloadProgress { .. }
            | Event::DownloadWaiting { .. }
            | Event::DownloadWaited { .. }
            | Event::MachineWaiting { .. }
            | Event::MachinePlanned { .. }
            | Event::ImageReady { .. } => {}
        }
        lines
    }

    fn finished(
        &mut self,
        name: &str,
        outcome: StepOutcome,
        seconds: f64,
        lines: &mut Vec<String>,
    ) {
        let time = duration(seconds);
        let end = match outcome {
            StepOutcome::Built => format!("{} in {time}", self.good("built")),
            StepOutcome::Failed => {
                let failed = self.style(Style::new().red().bold()).apply_to("failed");
                format!("{failed} after {time}")
            }
            StepOutcome::Cached | StepOutcome::Remote => return self.cached(name, lines),
            StepOutcome::Skipped if self.detail >= Detail::All => self.faint("skipped"),
            StepOutcome::Skipped => return,
        };
        self.tell_cached(lines);
        self.push(lines, format!("{} {name} … {end}", self.position()));
    }

    /// A step whose result is known.
    fn cached(&mut self, name: &str, lines: &mut Vec<String>) {
        if self.detail >= Detail::All {
            let end = self.faint("cached");
            self.push(lines, format!("{} {name} … {end}", self.position()));
        } else {
            self.untold += 1;
        }
    }

    /// One line for the cached steps before the first that runs.
    fn tell_cached(&mut self, lines: &mut Vec<String>) {
        let cached = std::mem::take(&mut self.untold);
        if cached > 0 {
            let text = format!("{} {} cached", self.position(), count(cached, "step"));
            self.push(lines, self.faint(&text));
        }
    }

    fn push(&self, lines: &mut Vec<String>, line: String) {
        if self.detail >= Detail::Steps {
            lines.push(line);
        }
    }

    fn position(&self) -> String {
        let width = self.steps.to_string().len();
        format!("[{:>width$}/{}]", self.done.len(), self.steps)
    }

    fn good(&self, text: &str) -> String {
        self.style(Style::new().green()).apply_to(text).to_string()
    }

    fn faint(&self, text: &str) -> String {
        self.style(Style::new().dim()).apply_to(text).to_string()
    }
}

/// The host of a URL, or what is no URL as it is.
fn host(url: &str) -> &str {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    match place.split('/').next() {
        Some(host) if !host.is_empty() => host,
        _ => place,
    }
}
