//! Executing a graph: what is in the store is taken from there, the rest is built in parallel.
//!
//! The scheduler (`schedule`) is pure: it says what is ready. Here rayon threads take what is
//! ready, one derivation each:
//!
//! ```text
//! inputs resolved ──► action key ──► in the store? ──yes──► outputs
//!                                        │no
//!                                  lock the key ──► in the store now? ──yes──► outputs
//!                                                        │no
//!                                                      build ──► record ──► outputs
//! ```
//!
//! Because a key is made from the contents of inputs, a step that is rebuilt to the same output
//! finds its successors in the store: early cutoff needs no mechanism of its own.

mod permits;
mod schedule;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use permits::Permits;
use schedule::Schedule;

use crate::derivation::{
    BuildError, BuildRequest, Builders, Derivation, Graph, NodeId, Outputs, ResolvedInput,
    action_key, resolve_inputs,
};
use crate::digest::ActionKey;
use crate::event::{Event, Sink, StepOutcome};
use crate::host::process::pause;
use crate::host::{Interrupt, MissingProgram, Program, require};
use crate::store::{ActionResult, Lock, Store};

/// How to execute.
#[derive(Debug, Clone)]
pub struct Options {
    /// Steps at a time; the number of processors when absent.
    pub jobs: Option<usize>,
    /// Whether steps that need nothing of a failed one still run.
    pub keep_going: bool,
    /// Whether every step runs, in the store or not.
    pub rebuild: bool,
    /// Steps that run, in the store or not.
    pub afresh: BTreeSet<NodeId>,
    /// Whether every step that is in the store runs once more, to compare its outputs.
    pub check: bool,
}

/// Threads for steps that wait, at most.
const WAITING: usize = 8;

/// Executes graphs.
pub struct Executor<'a> {
    /// Where results are and go.
    pub store: &'a Store,
    /// Who builds.
    pub builders: &'a dyn Builders,
    /// How.
    pub options: Options,
    /// Where events go.
    pub sink: &'a dyn Sink,
    /// Tells when the user gave up.
    pub interrupt: &'a Interrupt,
    /// Where logs of steps go.
    pub log: &'a Path,
    /// Programs of the host that steps call; looked for before the first step runs.
    pub programs: &'a BTreeSet<Program>,
}

/// What became of a graph.
#[derive(Debug)]
pub struct Execution {
    /// Outputs of each derivation, by index; absent for those that failed or were not tried.
    pub outputs: Vec<Option<Outputs>>,
    /// Steps that failed.
    pub failures: Vec<Failure>,
    /// Steps that gave other outputs when they were run once more.
    pub differences: Vec<Difference>,
    /// Steps that ran to their end.
    pub built: usize,
    /// Steps whose result was in the store.
    pub cached: usize,
    /// Whether the user gave up.
    pub interrupted: bool,
}

/// A step that failed.
#[derive(Debug)]
pub struct Failure {
    /// Its label.
    pub step: String,
    /// Its log.
    pub log: PathBuf,
    /// Why.
    pub error: BuildError,
}

/// A step that is not deterministic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its label.
    pub step: String,
    /// The output.
    pub output: String,
    /// What it was.
    pub first: crate::digest::ObjectRef,
    /// What it was the second time.
    pub second: Option<crate::digest::ObjectRef>,
}

/// State shared by the threads of one execution.
struct Shared<'g> {
    graph: &'g Graph,
    schedule: Mutex<Schedule>,
    execution: Mutex<Execution>,
    /// For steps that use the processors.
    processors: Permits,
}

impl Executor<'_> {
    /// Executes `graph`. Failures of steps are part of the result.
    ///
    /// # Errors
    /// No thread pool, or the store cannot be used at all.
    pub fn execute(&self, name: &str, graph: &Graph) -> Result<Execution, ExecuteError> {
        let started = Instant::now();
        self.sink.emit(Event::BuildStarted {
            name: name.to_owned(),
            steps: graph.len(),
        });
        let shared = Shared {
            graph,
            schedule: Mutex::new(Schedule::new(graph)),
            processors: Permits::new(self.jobs()),
            execution: Mutex::new(Execution {
                outputs: vec![None; graph.len()],
                failures: Vec::new(),
                differences: Vec::new(),
                built: 0,
                cached: 0,
                interrupted: false,
            }),
        };
        let ready = self.take_cached(&shared);
        if !ready.is_empty() {
            let missing: Vec<_> = self
                .programs
                .iter()
                .filter_map(|&program| require(program).err())
                .collect();
            if !missing.is_empty() {
                return Err(ExecuteError::Missing(missing));
            }
            fs::create_dir_all(self.log).map_err(|source| ExecuteError::Log {
                path: self.log.to_owned(),
                source,
            })?;
            let waiting = (0..graph.len())
                .filter(|&index| self.waits(NodeId(index as u32), &shared))
                .count();
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(self.jobs() + waiting.min(WAITING))
                .thread_name(|index| format!("step-{index}"))
                .build()
                .map_err(ExecuteError::Threads)?;
            pool.in_place_scope_fifo(|scope| {
                for node in self.waiting_first(ready, &shared) {
                    let shared = &shared;
                    scope.spawn_fifo(move |scope| self.step(node, shared, scope));
                }
            });
        }
        let mut execution = shared
            .execution
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        execution.interrupted |= self.interrupt.requested() && execution.outputs.contains(&None);
        let failed = execution.failures.len();
        self.sink.emit(Event::BuildFinished {
            built: execution.built,
            cached: execution.cached,
            failed,
            skipped: graph.len() - execution.built - execution.cached - failed,
            seconds: started.elapsed().as_secs_f64(),
        });
        Ok(execution)
    }

    /// Takes what can be had from the store without starting threads, and returns what is ready to
    /// be run: for a build with nothing changed, nothing.
    fn take_cached(&self, shared: &Shared<'_>) -> Vec<NodeId> {
        let mut pending = lock(&shared.schedule).ready();
        if self.options.rebuild || self.options.check {
            return pending;
        }
        let mut missed = Vec::new();
        while let Some(node) = pending.pop() {
            let key = self.key(node, shared);
            match self.known(node, &key) {
                Some(result) => pending.extend(self.cached(node, result, shared)),
                None => missed.push(node),
            }
        }
        missed.sort();
        missed
    }

    /// The result of a step, when it need not run.
    fn known(&self, node: NodeId, key: &ActionKey) -> Option<ActionResult> {
        if self.options.rebuild || self.options.afresh.contains(&node) {
            return None;
        }
        self.store.action(key)
    }

    /// Steps that use the processors, at a time.
    fn jobs(&self) -> usize {
        self.options.jobs.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
        })
    }

    fn waits(&self, node: NodeId, shared: &Shared<'_>) -> bool {
        self.builders.waits(&shared.graph.get(node).builder)
    }

    /// What waits for others begins first, so that it waits while there is something to do.
    fn waiting_first(&self, mut nodes: Vec<NodeId>, shared: &Shared<'_>) -> Vec<NodeId> {
        nodes.sort_by_key(|&node| !self.waits(node, shared));
        nodes
    }

    fn key(&self, node: NodeId, shared: &Shared<'_>) -> ActionKey {
        let derivation = shared.graph.get(node);
        action_key(derivation, &self.inputs(derivation, shared))
    }

    /// The inputs of a derivation whose inputs are all built.
    fn inputs(&self, derivation: &Derivation, shared: &Shared<'_>) -> Vec<ResolvedInput> {
        let execution = lock(&shared.execution);
        let outputs = |node: NodeId| execution.outputs[node.index()].as_ref();
        resolve_inputs(derivation, outputs).unwrap_or_default()
    }

    fn cached(&self, node: NodeId, result: ActionResult, shared: &Shared<'_>) -> Vec<NodeId> {
        self.finished(node, shared, StepOutcome::Cached, 0.0);
        let mut execution = lock(&shared.execution);
        execution.cached += 1;
        execution.outputs[node.index()] = Some(result.outputs);
        drop(execution);
        lock(&shared.schedule).done(node)
    }

    /// Runs one derivation on a thread of the pool, and hands on what becomes ready by it.
    fn step<'s>(&'s self, node: NodeId, shared: &'s Shared<'s>, scope: &rayon::ScopeFifo<'s>) {
        let permit = (!self.waits(node, shared)).then(|| shared.processors.take());
        let ready = self.step_once(node, shared);
        drop(permit);
        for next in self.waiting_first(ready, shared) {
            scope.spawn_fifo(move |scope| self.step(next, shared, scope));
        }
    }

    fn step_once(&self, node: NodeId, shared: &Shared<'_>) -> Vec<NodeId> {
        let stopped = !self.options.keep_going && !lock(&shared.execution).failures.is_empty();
        if stopped || self.interrupt.requested() {
            self.finished(node, shared, StepOutcome::Skipped, 0.0);
            return self.skip_dependants(node, shared);
        }
        let started = Instant::now();
        let key = self.key(node, shared);
        let log = self.log.join(format!("{}.log", key.short()));
        match self.realise(node, key, &log, shared) {
            Ok(Realised::Cached(result)) => self.cached(node, result, shared),
            Ok(Realised::Built(outputs)) => {
                self.finished(
                    node,
                    shared,
                    StepOutcome::Built,
                    started.elapsed().as_secs_f64(),
                );
                let mut execution = lock(&shared.execution);
                execution.built += 1;
                execution.outputs[node.index()] = Some(outputs);
                drop(execution);
                lock(&shared.schedule).done(node)
            }
            Err(error) => {
                let interrupted = matches!(error, BuildError::Interrupted);
                let outcome = if interrupted {
                    StepOutcome::Skipped
                } else {
                    StepOutcome::Failed
                };
                self.finished(node, shared, outcome, started.elapsed().as_secs_f64());
                let mut execution = lock(&shared.execution);
                if interrupted {
                    execution.interrupted = true;
                } else {
                    let step = shared.graph.get(node).name.clone();
                    execution.failures.push(Failure { step, log, error });
                }
                drop(execution);
                self.skip_dependants(node, shared)
            }
        }
    }

    /// Everything that needs `node` is skipped; nothing becomes ready by that.
    fn skip_dependants(&self, node: NodeId, shared: &Shared<'_>) -> Vec<NodeId> {
        let skipped = lock(&shared.schedule).failed(node);
        for node in skipped {
            self.finished(node, shared, StepOutcome::Skipped, 0.0);
        }
        Vec::new()
    }

    fn finished(&self, node: NodeId, shared: &Shared<'_>, outcome: StepOutcome, seconds: f64) {
        let name = shared.graph.get(node).name.clone();
        self.sink.emit(Event::StepFinished {
            step: node.index(),
            name,
            outcome,
            seconds,
        });
    }

    fn realise(
        &self,
        node: NodeId,
        key: ActionKey,
        log: &Path,
        shared: &Shared<'_>,
    ) -> Result<Realised, BuildError> {
        let known = || self.known(node, &key);
        if !self.options.check
            && let Some(result) = known()
        {
            return Ok(Realised::Cached(result));
        }
        let derivation = shared.graph.get(node);
        let _lock = self.lock_key(node, &key, derivation)?;
        let known = known();
        if let Some(result) = &known
            && !self.options.check
        {
            // Another process built it while this one waited.
            return Ok(Realised::Cached(result.clone()));
        }
        let outputs = self.build(node, key, log, shared)?;
        match known {
            Some(first) => {
                let differences = differences(&derivation.name, &first.outputs, &outputs);
                lock(&shared.execution).differences.extend(differences);
                // What was in the store stays: what follows is compared on equal inputs.
                Ok(Realised::Built(first.outputs))
            }
            None => {
                let result = ActionResult {
                    outputs: outputs.clone(),
                };
                self.store
                    .put_action(&key, result)
                    .map_err(BuildError::other)?;
                if self.options.check {
                    let second = self.build(node, key, log, shared)?;
                    let differences = differences(&derivation.name, &outputs, &second);
                    lock(&shared.execution).differences.extend(differences);
                }
                Ok(Realised::Built(outputs))
            }
        }
    }

    fn build(
        &self,
        node: NodeId,
        key: ActionKey,
        log: &Path,
        shared: &Shared<'_>,
    ) -> Result<Outputs, BuildError> {
        let derivation = shared.graph.get(node);
        let builder = self.builders.builder(&derivation.builder).ok_or_else(|| {
            BuildError::other(io::Error::other(format!(
                "no builder \"{}\"",
                derivation.builder
            )))
        })?;
        self.sink.emit(Event::StepStarted {
            step: node.index(),
            name: derivation.name.clone(),
            log: log.to_owned(),
        });
        if let Err(error) = fs::remove_file(log)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(BuildError::io("replace", log)(error));
        }
        let step = node.index();
        builder.build(&BuildRequest {
            key,
            derivation,
            inputs: &self.inputs(derivation, shared),
            log,
            output: &|line| {
                self.sink.emit(Event::StepOutput {
                    step,
                    line: line.to_owned(),
                });
            },
            interrupt: self.interrupt,
        })
    }

    /// Locks a key against other processes. Keys share 256 locks, so that lock files stay few; two
    /// steps of different keys wait for each other by chance once in 256 times.
    fn lock_key(
        &self,
        node: NodeId,
        key: &ActionKey,
        derivation: &Derivation,
    ) -> Result<Lock, BuildError> {
        let name = format!("action-{}", &key.to_string()[..2]);
        let mut told = false;
        loop {
            if let Some(lock) = self.store.try_lock(&name).map_err(BuildError::other)? {
                return Ok(lock);
            }
            if !told {
                told = true;
                let (step, name) = (node.index(), derivation.name.clone());
                self.sink.emit(Event::StepWaiting { step, name });
            }
            if !pause(self.interrupt) {
                return Err(BuildError::Interrupted);
            }
        }
    }
}

enum Realised {
    Cached(ActionResult),
    Built(Outputs),
}

fn differences(step: &str, first: &Outputs, second: &Outputs) -> Vec<Difference> {
    let mut found = Vec::new();
    for (output, object) in first {
        if second.get(output) != Some(object) {
            found.push(Difference {
                step: step.to_owned(),
                output: output.clone(),
                first: *object,
                second: second.get(output).copied(),
            });
        }
    }
    found
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A graph could not be executed at all.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// No threads.
    #[error("cannot start threads: {0}")]
    Threads(rayon::ThreadPoolBuildError),
    /// The directory of logs cannot be made.
    #[error("cannot create {}: {source}", path.display())]
    Log {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Programs of the host are missing; nothing was started.
    #[error("{} programs of this host are missing", .0.len())]
    Missing(Vec<MissingProgram>),
}

#[cfg(test)]
mod tests;
