//! What a report shows: the JSON in the page, and what `vmfab report --json` prints.

use serde::Serialize;

use crate::checked::BuildId;
use crate::event::StepOutcome;
use crate::ops::builds::Counts;

/// A build, as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// 1: raised when a field gets another meaning.
    pub version: u32,
    pub build: BuildId,
    pub command: String,
    /// In seconds since 1970.
    pub started: f64,
    /// How long it took, or has taken so far, in seconds.
    pub seconds: f64,
    /// `running`, `done`, `failed`, `cancelled` or `killed`.
    pub outcome: &'static str,
    /// Why it failed.
    pub error: Option<String>,
    /// One for each graph of which steps ran.
    pub graphs: Vec<GraphReport>,
    /// What the record lacks, in sentences.
    pub notes: Vec<String>,
}

/// A graph that was executed. Times are in milliseconds since the start of the build.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GraphReport {
    /// The image that it makes.
    pub image: String,
    pub start: u64,
    pub end: u64,
    pub counts: Counts,
    pub steps: Vec<StepReport>,
    /// The size of the drawing, and whether its edges lead to the right.
    pub width: u32,
    pub height: u32,
    pub sideways: bool,
    /// The rows of the timeline.
    pub lanes: Vec<String>,
    /// The steps of the longest chain, and how long it takes.
    pub critical: Vec<usize>,
    pub critical_time: u64,
    /// How many steps ran at once, at most.
    pub jobs: usize,
    /// How long the same steps would take with other numbers of jobs.
    pub what_if: Vec<WhatIf>,
    /// What the image consists of.
    pub parts: Vec<PartReport>,
    pub packages: Vec<PackagesReport>,
}

/// A step. Fields that are empty are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StepReport {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub builder: String,
    pub state: StepState,
    /// The steps that it reads: first and last of each run of numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<[usize; 2]>,
    /// Those that it is drawn to read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<usize>,
    /// The upper left corner.
    pub at: (u32, u32),
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The cache that has its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// When it began to wait for others, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<u64>,
    /// When it began to run, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// How long it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<usize>,
    /// Whether it is a check.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub check: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Its parameters, the most telling one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, String)>,
    /// What it made, with sizes in bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<(String, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogReport>,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    Built,
    Cached,
    Remote,
    Failed,
    Skipped,
    /// It runs now.
    Running,
    /// The build ended without a word while it ran.
    Stopped,
    /// Its turn has not come.
    #[default]
    Pending,
}

impl From<StepOutcome> for StepState {
    fn from(outcome: StepOutcome) -> Self {
        match outcome {
            StepOutcome::Built => Self::Built,
            StepOutcome::Cached => Self::Cached,
            StepOutcome::Remote => Self::Remote,
            StepOutcome::Failed => Self::Failed,
            StepOutcome::Skipped => Self::Skipped,
        }
    }
}

/// The end of what a step printed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogReport {
    pub text: String,
    /// Lines before it that were left out.
    pub omitted: usize,
    /// The file with all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether an earlier build printed it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub earlier: bool,
}

/// How long the steps would take with so many jobs, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WhatIf {
    /// `null`: as many as there is work for.
    pub jobs: Option<usize>,
    pub time: u64,
}

/// An object of an image. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartReport {
    /// `layer`, `disk`, `kernel` or `initrd`.
    pub role: String,
    /// The step that made it, if it is in the graph.
    pub step: Option<usize>,
    pub size: u64,
    /// What it takes in the store, compressed; `null` when it is not there.
    pub stored: Option<u64>,
    /// The part of that which the image before does not have, and no other part of this one.
    pub new: Option<u64>,
}

/// Packages that a step installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackagesReport {
    pub step: usize,
    /// Name, version, and bytes of the file.
    pub packages: Vec<(String, String, u64)>,
}
