//! The log of a build, read for its report.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::model::StepState;
use crate::event::{PlannedStep, StepOutcome};
use crate::failure::Failure;
use crate::ops::builds::Counts;

/// The most lines of a step that are remembered.
const LINES: usize = 400;

/// A graph, as the log tells of it. Times are in milliseconds since the start of the build.
#[derive(Debug, Default)]
pub(super) struct Logged {
    pub(super) image: String,
    pub(super) jobs: usize,
    pub(super) start: Option<u64>,
    pub(super) end: Option<u64>,
    pub(super) counts: Option<Counts>,
    pub(super) plan: Option<Vec<PlannedStep>>,
    pub(super) steps: Vec<LoggedStep>,
}

#[derive(Debug, Default)]
pub(super) struct LoggedStep {
    pub(super) name: String,
    pub(super) state: StepState,
    pub(super) from: Option<String>,
    pub(super) queued: Option<u64>,
    pub(super) start: Option<u64>,
    pub(super) time: Option<u64>,
    /// The file with all that it printed.
    pub(super) file: Option<PathBuf>,
    /// The last lines that it printed, and how many there were before them.
    pub(super) lines: std::collections::VecDeque<String>,
    pub(super) dropped: usize,
}

/// A line of the log: the fields of all events that count here.
#[derive(Deserialize)]
struct Line {
    /// Nothing in logs of earlier versions.
    #[serde(default)]
    at: Option<f64>,
    event: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    step: Option<usize>,
    #[serde(default)]
    line: Option<String>,
    #[serde(default)]
    log: Option<PathBuf>,
    #[serde(default)]
    outcome: Option<StepOutcome>,
    #[serde(default)]
    seconds: Option<f64>,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    jobs: Option<usize>,
    #[serde(default)]
    plan: Option<Vec<PlannedStep>>,
    #[serde(default)]
    built: usize,
    #[serde(default)]
    cached: usize,
    #[serde(default)]
    remote: usize,
    #[serde(default)]
    failed: usize,
    #[serde(default)]
    skipped: usize,
}

/// The graphs of a log, in order. The last line may be torn.
pub(super) fn read(path: &Path) -> Result<Vec<Logged>, Failure> {
    let file = File::open(path).map_err(Failure::io("open", path))?;
    let mut graphs = Vec::new();
    for line in BufReader::with_capacity(1 << 17, file).split(b'\n') {
        let line = line.map_err(Failure::io("read", path))?;
        if let Ok(line) = serde_json::from_slice::<Line>(&line) {
            note(&mut graphs, line);
        }
    }
    Ok(graphs)
}

fn note(graphs: &mut Vec<Logged>, line: Line) {
    let at = line.at.map(milliseconds);
    if line.event == "build-started" {
        graphs.push(Logged {
            image: line.name.unwrap_or_default(),
            jobs: line.jobs.unwrap_or(0),
            start: at,
            ..Logged::default()
        });
        return;
    }
    let Some(graph) = graphs.last_mut() else {
        return;
    };
    match line.event.as_str() {
        "plan" => graph.plan = line.plan,
        "build-finished" => {
            graph.end = at;
            graph.counts = Some(Counts {
                built: line.built,
                cached: line.cached,
                remote: line.remote,
                failed: line.failed,
                skipped: line.skipped,
            });
        }
        _ => {
            // Numbers of steps are those of a graph, and graphs are limited.
            let Some(index) = line.step.filter(|step| *step < 1 << 20) else {
                return;
            };
            if graph.steps.len() <= index {
                graph.steps.resize_with(index + 1, LoggedStep::default);
            }
            graph.steps[index].note(line, at);
        }
    }
}

impl LoggedStep {
    fn note(&mut self, line: Line, at: Option<u64>) {
        if let Some(name) = line.name {
            self.name = name;
        }
        match line.event.as_str() {
            "step-queued" | "step-waiting" => {
                self.state = StepState::Running;
                self.queued = self.queued.or(at);
            }
            "step-started" => {
                self.state = StepState::Running;
                (self.start, self.file) = (at, line.log);
            }
            "step-output" => {
                if self.lines.len() == LINES {
                    self.lines.pop_front();
                    self.dropped += 1;
                }
                self.lines.extend(line.line);
            }
            "step-found" => {
                self.state = StepState::Remote;
                self.from = line.from;
            }
            "step-finished" => {
                self.state = line.outcome.map_or(StepState::Pending, StepState::from);
                let ran = matches!(self.state, StepState::Built | StepState::Failed);
                self.time = line.seconds.filter(|_| ran).map(milliseconds);
                // It may have been built twice, to compare.
                if let (Some(at), Some(time)) = (at, self.time) {
                    self.start = Some(at.saturating_sub(time));
                }
            }
            _ => {}
        }
    }
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round().max(0.0) as u64
}
