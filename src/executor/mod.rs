//! Executing a graph: what is in the store is taken from there, what caches have need not be here,
//! the rest is built in parallel.
//!
//! The scheduler (`schedule`) is pure: it says what is ready. In a pass over the graph (`pass`),
//! rayon threads take what is ready, one derivation each:
//!
//! ```text
//! inputs known ──► action key ──► in the store? ──yes──────────────────────► outputs
//!                                      │no
//!                       remembered, or in a cache? ──yes──► outputs, their content stays there
//!                                      │no
//!                       bring inputs whose content is elsewhere ──fails──► the next pass
//!                                      │
//!                              lock the key ──► in the store now? ──yes──► outputs
//!                                                     │no
//!                                          wait for a slot ──► build ──► record ──► outputs
//! ```
//!
//! Because a key is made from the contents of inputs, a step that is rebuilt to the same output
//! finds its successors in the store: early cutoff needs no mechanism of its own.
//!
//! For the same reason a result whose content is elsewhere (`caches`) will do as long as nothing
//! that runs reads it. When it is needed and cannot be had, it is lost: the pass ends early, and
//! the next one goes over the graph as if nobody had known it. What was built meanwhile is in the
//! store.

mod caches;
mod failed;
mod hint;
mod known;
mod pass;
mod permits;
mod realise;
mod remembered;
mod report;
mod schedule;
mod survey;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

pub use failed::{FailedStep, steps};
pub use remembered::Remembered;
pub use survey::{Sources, Surveyed, certain, survey};

use caches::Caches;
use known::{Known, Origin};
use pass::Pass;
use report::Report;

use crate::derivation::{Builders, Cache, Derivation, Graph, NodeId, Outputs};
use crate::digest::ActionKey;
use crate::event::{Event, PlannedStep, Sink, StepOutcome};
use crate::failure::Failure;
use crate::host::{Interrupt, Program};
use crate::store::{ActionResult, Store};

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
    /// How many bytes a command of a step may write to its log.
    pub log_limit: u64,
}

/// Executes graphs.
pub struct Executor<'a> {
    /// Where results are and go.
    pub store: &'a Store,
    /// Who builds.
    pub builders: &'a dyn Builders,
    /// What others have built, when it is to be asked.
    pub cache: Option<&'a dyn Cache>,
    /// What earlier builds took from caches.
    pub remembered: &'a Remembered,
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
    pub failures: Vec<FailedStep>,
    /// Steps that gave other outputs when they were run once more.
    pub differences: Vec<Difference>,
    /// Steps that ran to their end.
    pub built: usize,
    /// Steps whose result was known here.
    pub cached: usize,
    /// Steps whose result a cache has.
    pub remote: usize,
    /// What the store has whole now, in the order of the graph: for caches that take it.
    pub offers: Vec<Offer>,
    /// Whether the user gave up.
    pub interrupted: bool,
}

/// A result that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub key: ActionKey,
    pub outputs: Outputs,
    /// Whether it is what the graph was executed for.
    pub last: bool,
    /// The cache that it came from just now.
    pub from: Option<String>,
}

/// A step that is not deterministic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub step: String,
    pub output: String,
    pub first: crate::digest::ObjectRef,
    /// What it was the second time.
    pub second: Option<crate::digest::ObjectRef>,
}

impl Executor<'_> {
    /// Executes `graph`, and has the outputs of `wanted` in the store in the end; those of other
    /// steps only if they were built or needed. Failures of steps are part of the result.
    ///
    /// # Errors
    /// No thread pool, or the store cannot be used at all.
    pub fn execute(
        &self,
        name: &str,
        graph: &Graph,
        wanted: &BTreeSet<NodeId>,
    ) -> Result<Execution, Failure> {
        let (started, began) = (Instant::now(), SystemTime::now());
        self.sink.emit(Event::BuildStarted {
            name: name.to_owned(),
            steps: graph.len(),
            jobs: self.jobs(),
            plan: planned(graph, self.builders),
        });
        let sources = Sources {
            store: self.store,
            remembered: self.remembered,
            cache: self.cache,
        };
        let caches = Caches::new(sources, self.sink, Some(self.interrupt));
        let report = Report::new(self.sink, graph);
        let (known, mut interrupted) = loop {
            let pass = Pass::new(self, graph, &caches, &report, began);
            pass.run(wanted)?;
            let gave_up = pass.is_interrupted() || self.interrupt.requested();
            let stopped = gave_up || (report.has_failures() && !self.options.keep_going);
            if !pass.is_lost() || stopped {
                break (pass.into_known(), gave_up);
            }
        };
        // Who gave up when all was done already did not give up.
        let is_here = |node: &NodeId| {
            let known = known[node.index()].as_ref();
            known.is_some_and(|known| self.is_here(&known.outputs))
        };
        interrupted =
            interrupted && (known.iter().any(Option::is_none) || !wanted.iter().all(is_here));
        let offers = self.settle(&known, wanted);
        for (node, known) in known.iter().enumerate() {
            let outcome = match known.as_ref().map(|known| &known.origin) {
                None => StepOutcome::Skipped,
                Some(Origin::Cache(_)) => StepOutcome::Remote,
                Some(_) => StepOutcome::Cached,
            };
            report.not_run(NodeId(node as u32), outcome);
        }
        let (failures, differences) = report.take();
        let execution = Execution {
            outputs: outputs(known),
            failures,
            differences,
            built: report.count(StepOutcome::Built),
            cached: report.count(StepOutcome::Cached),
            remote: report.count(StepOutcome::Remote),
            offers,
            interrupted,
        };
        self.sink.emit(Event::BuildFinished {
            built: execution.built,
            cached: execution.cached,
            remote: execution.remote,
            failed: report.count(StepOutcome::Failed),
            skipped: report.count(StepOutcome::Skipped),
            seconds: started.elapsed().as_secs_f64(),
        });
        Ok(execution)
    }

    /// Records what came here from elsewhere, and remembers what did not; returns what is here.
    fn settle(&self, known: &[Option<Known>], wanted: &BTreeSet<NodeId>) -> Vec<Offer> {
        let mut offers = Vec::new();
        let offered = self.cache.is_some_and(|cache| cache.pushes_to().is_some());
        let mut remembers = false;
        for (node, known) in known.iter().enumerate() {
            let Some(Known {
                key,
                outputs,
                origin,
            }) = known
            else {
                continue;
            };
            let is_elsewhere = origin.is_elsewhere();
            if is_elsewhere && !self.is_here(outputs) {
                // Without it, a later build has more to do.
                let _ = self.remembered.put(key, outputs);
                remembers = true;
                continue;
            }
            if is_elsewhere {
                let result = ActionResult {
                    outputs: outputs.clone(),
                };
                if self.store.put_action(key, result).is_ok() {
                    self.remembered.forget(key);
                }
            }
            if !offered {
                continue;
            }
            offers.push(Offer {
                key: *key,
                outputs: outputs.clone(),
                last: wanted.contains(&NodeId(node as u32)),
                from: match origin {
                    Origin::Cache(from) => Some(from.clone()),
                    _ => None,
                },
            });
        }
        if remembers {
            self.remembered.sweep();
        }
        offers
    }

    fn is_here(&self, outputs: &Outputs) -> bool {
        outputs.values().all(|object| self.store.has_object(object))
    }

    /// Steps that use the processors, at a time.
    fn jobs(&self) -> usize {
        self.options.jobs.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
        })
    }
}

/// Offers the results of an execution to the cache that takes them, but for those that it gave.
pub fn offer(cache: &dyn Cache, offers: &[Offer], interrupt: &Interrupt) {
    let Some(to) = cache.pushes_to() else {
        return;
    };
    for offer in offers {
        if interrupt.requested() {
            return;
        }
        if offer.from.as_ref() != Some(&to) {
            cache.offer(&offer.key, &offer.outputs, offer.last);
        }
    }
    cache.finish();
}

fn planned(graph: &Graph, builders: &dyn Builders) -> Arc<[PlannedStep]> {
    let nodes = graph.nodes().iter();
    let step = |derivation: &Derivation| {
        let mut inputs: Vec<_> = derivation.inputs.iter().map(|i| i.node.index()).collect();
        inputs.sort_unstable();
        inputs.dedup();
        PlannedStep {
            name: derivation.name.clone(),
            builder: derivation.builder.clone(),
            waits: builders.waits(&derivation.builder),
            inputs,
        }
    };
    nodes.map(step).collect()
}

fn outputs(known: Vec<Option<Known>>) -> Vec<Option<Outputs>> {
    let outputs = |known: Option<Known>| known.map(|known| known.outputs);
    known.into_iter().map(outputs).collect()
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

#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod tests;
