//! Typed events of work in progress, and the sink that they go to.
//!
//! Nothing below the command line prints. Work emits events; one reporter draws them as bars, as
//! plain lines or as JSON, one object a line, with the field `event` naming the variant.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Something that happened. The serialised form is the public `--json` stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A graph is about to be executed; `steps` counts its derivations.
    BuildStarted {
        /// What is built, for people.
        name: String,
        /// Number of derivations.
        steps: usize,
        /// How many of those that use the processors run at once, at most.
        #[serde(default)]
        jobs: usize,
        /// What they are.
        #[serde(skip)]
        plan: Arc<[PlannedStep]>,
    },
    /// A step was not in the store and starts to run.
    StepStarted {
        /// Index in the graph.
        step: usize,
        /// Label for people.
        name: String,
        /// Where its output goes.
        log: PathBuf,
    },
    /// A line that the running step printed.
    StepOutput {
        /// Index in the graph.
        step: usize,
        /// The line, without its end.
        line: String,
    },
    /// A step waits for another process that runs the same step.
    StepWaiting {
        /// Index in the graph.
        step: usize,
        /// Label for people.
        name: String,
    },
    /// A step waits until fewer steps run in this home, those of other processes included.
    StepQueued {
        /// Index in the graph.
        step: usize,
        /// Label for people.
        name: String,
    },
    /// A cache elsewhere has the result of a step, or had it in an earlier build. It will be
    /// finished in the end; or it starts all the same, when its content is needed and cannot be
    /// had.
    StepFound {
        /// Index in the graph.
        step: usize,
        /// Label for people.
        name: String,
        /// The cache; `null` when it is remembered from an earlier build.
        from: Option<String>,
    },
    /// A step is over.
    StepFinished {
        /// Index in the graph.
        step: usize,
        /// Label for people.
        name: String,
        outcome: StepOutcome,
        /// Wall time in seconds.
        seconds: f64,
    },
    /// The graph is executed, or was given up.
    BuildFinished {
        /// Steps that ran to their end.
        built: usize,
        /// Steps whose result was known: in the store, or from an earlier build.
        cached: usize,
        /// Steps whose result a cache elsewhere has.
        remote: usize,
        /// Steps that failed.
        failed: usize,
        /// Steps that were not tried.
        skipped: usize,
        /// Wall time in seconds.
        seconds: f64,
    },
    /// A finished image was stored.
    ImageReady {
        /// The image's id.
        image: String,
        /// The tag that names it now, without `@`.
        tag: Option<String>,
    },
    /// A long operation outside the graph (export, conversion) starts.
    TaskStarted {
        /// What is done, for people.
        name: String,
    },
    /// How far that operation is.
    TaskProgress {
        /// What is done, for people.
        name: String,
        /// Bytes that are done.
        done: u64,
        /// Bytes that there are, as far as known.
        total: u64,
    },
    /// That operation is over.
    TaskFinished {
        /// What was done, for people.
        name: String,
        /// Wall time in seconds.
        seconds: f64,
    },
    /// That operation ended before it was done.
    TaskFailed {
        /// What was done, for people.
        name: String,
        /// Wall time in seconds.
        seconds: f64,
    },
    /// Something is fetched from elsewhere, or goes on to be. Events of one download have the same
    /// name and URL.
    DownloadStarted {
        /// What it is, for people.
        name: String,
        url: String,
        /// Where it is fetched from: the URL, or that of a mirror.
        from: String,
        /// Bytes that are here already.
        done: u64,
        /// Bytes that there are; `null` when the server does not say.
        total: Option<u64>,
    },
    /// How far that is.
    DownloadProgress {
        /// What it is, for people.
        name: String,
        url: String,
        /// Bytes that are here.
        done: u64,
        /// Bytes that there are; `null` when the server does not say.
        total: Option<u64>,
    },
    /// Another thread or process fetches the same.
    DownloadWaiting {
        /// What it is, for people.
        name: String,
        url: String,
    },
    /// That is over, and it is here or will be fetched by this one.
    DownloadWaited {
        /// What it is, for people.
        name: String,
        url: String,
    },
    /// A try failed, and there will be another.
    DownloadRetrying {
        /// What it is, for people.
        name: String,
        url: String,
        error: String,
        /// Seconds until then.
        seconds: f64,
    },
    /// It is here, and is what it should be.
    DownloadFinished {
        /// What it is, for people.
        name: String,
        url: String,
        /// Its bytes.
        done: u64,
        total: Option<u64>,
        /// Wall time in seconds.
        seconds: f64,
    },
    /// It is given up at this place; another may follow.
    DownloadFailed {
        /// What it is, for people.
        name: String,
        url: String,
        /// Where it was tried to be fetched from.
        from: String,
        error: String,
    },
    /// A request to a registry failed, and there will be another.
    RegistryRetrying {
        /// The registry's host and port.
        registry: String,
        error: String,
        /// Seconds until then.
        seconds: f64,
    },
    /// A machine is made as soon as its image is built.
    MachinePlanned {
        /// `null` when it is named after its image.
        machine: Option<String>,
        /// The directory of its project; `null` when it is of the home.
        project: Option<PathBuf>,
    },
    /// A machine is being waited for.
    MachineWaiting {
        machine: String,
        /// What it is waited for: `qemu`, `console`, `ssh`, `health check`, `shutdown`, `another
        /// vmfab`.
        what: String,
    },
    /// The guest wrote a line to its console, while somebody waits for it who wants to see that.
    MachineConsole {
        machine: String,
        /// The line as plain text.
        line: String,
    },
    /// A command over SSH succeeded.
    MachineReady {
        machine: String,
        /// Seconds since its start.
        seconds: f64,
    },
    /// Something that the user should know and that stops nothing.
    Warning {
        /// The text, a sentence.
        message: String,
    },
    /// Something that the user may want to know.
    Note {
        /// The text, a sentence.
        message: String,
    },
}

/// A step that a build may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Label for people.
    pub name: String,
    /// The kind of builder.
    pub builder: String,
    /// Whether it mostly waits, for a network or a machine, and so runs beside the others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// Indices in the graph of those that it reads, each once, in order.
    pub inputs: Vec<usize>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It ran and its outputs are in the store.
    Built,
    /// Its outputs were in the store, or are known from an earlier build and not needed.
    Cached,
    /// A cache elsewhere has its outputs; those that were needed are in the store.
    Remote,
    /// It ran and failed.
    Failed,
    /// It was not tried: something that it needs failed, or the build was given up.
    Skipped,
}

/// Where events go. Called from any thread.
pub trait Sink: Send + Sync {
    /// Takes one event; must not block for long.
    fn emit(&self, event: Event);

    /// Where this sink keeps the record of the graph that is executed, or was last: a path to which
    /// endings are added. Nothing when it keeps none.
    fn record(&self) -> Option<PathBuf> {
        None
    }
}

/// A sink that forgets.
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _: Event) {}
}

/// A sink that keeps what it gets, for tests.
#[derive(Default)]
pub struct Recorder(std::sync::Mutex<Vec<Event>>);

impl Recorder {
    /// Takes out all events so far.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(
            &mut self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

impl Sink for Recorder {
    fn emit(&self, event: Event) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(event);
    }
}
