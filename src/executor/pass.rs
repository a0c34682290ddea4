//! One pass over a graph. It ends early when a result that was found elsewhere is lost: then keys
//! have to be made anew.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tracing::{Span, debug, info_span};

use super::caches::{Caches, NotBrought, RemoteResult, in_parallel};
use super::permits::{Permit, Permits};
use super::report::Report;
use super::schedule::Schedule;
use super::{Executor, FailedStep, lock};
use crate::derivation::{
    Derivation, Graph, NodeId, Outputs, ResolvedInput, action_key, resolve_inputs,
};
use crate::digest::ActionKey;
use crate::event::StepOutcome;
use crate::failure::{Failure, Kind};
use crate::host::{missing_programs, require};
use crate::store::ActionResult;

/// Threads for steps that wait, at most.
const WAITING: usize = 8;

/// Where a result is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Store,
    /// It was built.
    Built,
    /// In a cache, by its name.
    Cache(String),
    /// Elsewhere: an earlier build used it.
    Remembered,
}

impl Origin {
    /// Whether the content need not be in the store.
    const fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Cache(_) | Self::Remembered)
    }
}

/// The result of a step.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) key: ActionKey,
    pub(super) outputs: Outputs,
    pub(super) origin: Origin,
}

impl RemoteResult {
    fn known(self, key: &ActionKey) -> Known {
        Known {
            key: *key,
            outputs: self.outputs,
            origin: self.from.map_or(Origin::Remembered, Origin::Cache),
        }
    }
}

/// State shared by the threads of one pass.
pub(super) struct Pass<'p> {
    pub(super) executor: &'p Executor<'p>,
    pub(super) graph: &'p Graph,
    caches: &'p Caches<'p>,
    pub(super) report: &'p Report<'p>,
    schedule: Mutex<Schedule>,
    known: Mutex<Vec<Option<Known>>>,
    /// For steps that use the processors.
    processors: Permits,
    /// The locks of keys that steps of this pass hold or wait for.
    pub(super) claimed: Mutex<BTreeSet<String>>,
    again: AtomicBool,
    interrupted: AtomicBool,
    /// Of the whole pass: threads of the pool enter it by name.
    span: Span,
}

impl<'p> Pass<'p> {
    pub(super) fn new(
        executor: &'p Executor<'p>,
        graph: &'p Graph,
        caches: &'p Caches<'p>,
        report: &'p Report<'p>,
    ) -> Self {
        Self {
            executor,
            graph,
            caches,
            report,
            schedule: Mutex::new(Schedule::new(graph)),
            known: Mutex::new(vec![None; graph.len()]),
            claimed: Mutex::default(),
            processors: Permits::new(executor.jobs()),
            again: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            span: info_span!("build", steps = graph.len()),
        }
    }

    /// Runs what has to be run, and brings what is wanted in the end.
    pub(super) fn run(&self, wanted: &BTreeSet<NodeId>) -> Result<(), Failure> {
        let ready = self.take_known();
        if !ready.is_empty() && !self.executor.interrupt.requested() {
            self.run_steps(ready)?;
        }
        if !self.is_lost() && !self.stopped() {
            let wanted: Vec<NodeId> = wanted.iter().copied().collect();
            let all = |node: NodeId| {
                let known = lock(&self.known)[node.index()].clone()?;
                Some((node, known.outputs))
            };
            self.bring(wanted.into_iter().filter_map(all).collect());
        }
        Ok(())
    }

    /// Whether a result that was found is lost: the execution has to go over the graph once more.
    pub(super) fn is_lost(&self) -> bool {
        self.again.load(Ordering::Relaxed)
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// The results of the steps, by index.
    pub(super) fn into_known(self) -> Vec<Option<Known>> {
        self.known
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes what is known without starting threads, but for questions to a cache, and returns what
    /// is ready to be run: for a build with nothing changed, nothing.
    fn take_known(&self) -> Vec<NodeId> {
        let mut pending = lock(&self.schedule).ready();
        if self.executor.options.rebuild || self.executor.options.check {
            return pending;
        }
        let mut missed = Vec::new();
        while !pending.is_empty() {
            let mut unknown = Vec::new();
            while let Some(node) = pending.pop() {
                let key = self.key(node);
                match self.look_up(node, &key) {
                    Some(known) => pending.extend(self.take(node, known)),
                    None => unknown.push((node, key)),
                }
            }
            if self.executor.cache.is_none() {
                missed.extend(unknown.into_iter().map(|(node, _)| node));
                break;
            }
            let answers = in_parallel(&unknown, |(node, key)| self.ask(*node, key));
            for ((node, _), answer) in unknown.into_iter().zip(answers) {
                match answer {
                    Some(known) => pending.extend(self.take(node, known)),
                    None => missed.push(node),
                }
            }
        }
        missed.sort();
        missed
    }

    fn run_steps(&self, ready: Vec<NodeId>) -> Result<(), Failure> {
        let executor = self.executor;
        let programs = executor.programs.iter();
        let missing: Vec<_> = programs
            .filter_map(|&program| require(program).err())
            .collect();
        if !missing.is_empty() {
            return Err(missing_programs(&missing));
        }
        for (known, derivation) in lock(&self.known).iter().zip(self.graph.nodes()) {
            if known.is_some() {
                continue;
            }
            let possible = executor.builders.possible(derivation);
            possible.map_err(|lacking| {
                let message = format!("step \"{}\": {lacking}", derivation.name);
                lacking.with_message(message)
            })?;
        }
        fs::create_dir_all(executor.log).map_err(Failure::io("cannot create", executor.log))?;
        let waiting = match executor.cache {
            // Inputs are waited for.
            Some(_) => self.graph.len(),
            None => (0..self.graph.len())
                .filter(|&index| self.waits(NodeId(index as u32)))
                .count(),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(executor.jobs() + waiting.min(WAITING))
            .thread_name(|index| format!("step-{index}"))
            .build()
            .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
        pool.in_place_scope_fifo(|scope| {
            for node in self.waiting_first(ready) {
                scope.spawn_fifo(move |scope| self.step(node, scope));
            }
        });
        Ok(())
    }

    /// The result of a step that need not run, as far as it is known here.
    fn look_up(&self, node: NodeId, key: &ActionKey) -> Option<Known> {
        if let Some(result) = self.stored(node, key) {
            return Some(Known {
                key: *key,
                outputs: result.outputs,
                origin: Origin::Store,
            });
        }
        if self.runs_anyway(node, key) || self.executor.options.check {
            return None;
        }
        self.caches.known(key).map(|found| found.known(key))
    }

    /// The result of a step that need not run, as a cache says.
    fn ask(&self, node: NodeId, key: &ActionKey) -> Option<Known> {
        if self.runs_anyway(node, key) || self.executor.options.check {
            return None;
        }
        self.caches.ask(key).map(|found| found.known(key))
    }

    /// The result of a step in the store, when it need not run.
    pub(super) fn stored(&self, node: NodeId, key: &ActionKey) -> Option<ActionResult> {
        match self.runs_anyway(node, key) {
            true => None,
            false => self.executor.store.action(key),
        }
    }

    fn runs_anyway(&self, node: NodeId, key: &ActionKey) -> bool {
        let options = &self.executor.options;
        // Once is enough, also when the graph is gone over again.
        (options.rebuild || options.afresh.contains(&node)) && !self.report.has_run(key)
    }

    fn waits(&self, node: NodeId) -> bool {
        self.executor.builders.waits(&self.graph.get(node).builder)
    }

    /// What waits for others begins first, so that it waits while there is something to do.
    fn waiting_first(&self, mut nodes: Vec<NodeId>) -> Vec<NodeId> {
        nodes.sort_by_key(|&node| !self.waits(node));
        nodes
    }

    fn key(&self, node: NodeId) -> ActionKey {
        let derivation = self.graph.get(node);
        action_key(derivation, &self.inputs(derivation))
    }

    /// The inputs of a derivation whose inputs are all known.
    pub(super) fn inputs(&self, derivation: &Derivation) -> Vec<ResolvedInput> {
        let known = lock(&self.known);
        let outputs = |node: NodeId| known[node.index()].as_ref().map(|known| &known.outputs);
        resolve_inputs(derivation, outputs).unwrap_or_default()
    }

    /// A step need not run: returns what is ready by that.
    fn take(&self, node: NodeId, known: Known) -> Vec<NodeId> {
        let (name, key) = (&self.graph.get(node).name, known.key.short());
        debug!(parent: &self.span, name, %key, from = ?known.origin, "step is known");
        match &known.origin {
            Origin::Cache(from) => self.report.found(node, Some(from.clone())),
            Origin::Remembered => self.report.found(node, None),
            Origin::Store | Origin::Built => self.report.not_run(node, StepOutcome::Cached),
        }
        self.done(node, known)
    }

    fn done(&self, node: NodeId, known: Known) -> Vec<NodeId> {
        lock(&self.known)[node.index()] = Some(known);
        lock(&self.schedule).done(node)
    }

    /// Runs one derivation on a thread of the pool, and hands on what becomes ready by it.
    fn step<'s>(&'s self, node: NodeId, scope: &rayon::ScopeFifo<'s>) {
        let ready = self.step_once(node);
        for next in self.waiting_first(ready) {
            scope.spawn_fifo(move |scope| self.step(next, scope));
        }
    }

    /// Whether nothing new is to start.
    fn stopped(&self) -> bool {
        let failed = !self.executor.options.keep_going && self.report.has_failures();
        failed || self.executor.interrupt.requested()
    }

    fn step_once(&self, node: NodeId) -> Vec<NodeId> {
        if self.is_lost() {
            return Vec::new();
        }
        if self.stopped() {
            return self.skip(node);
        }
        let key = self.key(node);
        if self.report.has_failed(node, &key) {
            return self.skip_dependants(node);
        }
        if !self.executor.options.check
            && let Some(known) = self.look_up(node, &key).or_else(|| self.ask(node, &key))
        {
            return self.take(node, known);
        }
        if !self.bring(self.needed(node)) {
            return match self.is_interrupted() {
                true => self.skip(node),
                false => Vec::new(),
            };
        }
        let permit = (!self.waits(node)).then(|| self.processors.take());
        // What happened while it waited?
        if self.is_lost() {
            return Vec::new();
        }
        if self.stopped() {
            return self.skip(node);
        }
        self.run_step(node, key, permit)
    }

    fn run_step(&self, node: NodeId, key: ActionKey, permit: Option<Permit<'_>>) -> Vec<NodeId> {
        let Derivation { name, builder, .. } = self.graph.get(node);
        let _span =
            info_span!(parent: &self.span, "step", name, builder, key = %key.short()).entered();
        let started = Instant::now();
        let log = self.executor.log.join(format!("{}.log", key.short()));
        let realised = self.realise(node, key, &log);
        drop(permit);
        let seconds = started.elapsed().as_secs_f64();
        match realised {
            Ok(known) if known.origin == Origin::Store => self.take(node, known),
            Ok(known) => {
                self.report.ran(node, key, seconds);
                self.caches.is_built(&key);
                self.done(node, known)
            }
            Err(failure) if failure.is(Kind::Interrupted) => {
                self.interrupted.store(true, Ordering::Relaxed);
                self.report.interrupted(node, seconds);
                self.skip_dependants(node)
            }
            Err(error) => {
                let step = self.graph.get(node).name.clone();
                let failure = FailedStep { step, log, error };
                self.report.failed(node, key, failure, seconds);
                self.skip_dependants(node)
            }
        }
    }

    fn skip(&self, node: NodeId) -> Vec<NodeId> {
        self.report.not_run(node, StepOutcome::Skipped);
        self.skip_dependants(node)
    }

    /// Everything that needs `node` is skipped; nothing becomes ready by that.
    fn skip_dependants(&self, node: NodeId) -> Vec<NodeId> {
        let skipped = lock(&self.schedule).failed(node);
        for node in skipped {
            self.report.not_run(node, StepOutcome::Skipped);
        }
        Vec::new()
    }

    /// The outputs of other steps that a step reads.
    fn needed(&self, node: NodeId) -> Vec<(NodeId, Outputs)> {
        let known = lock(&self.known);
        let mut needed: Vec<(NodeId, Outputs)> = Vec::new();
        for input in &self.graph.get(node).inputs {
            let outputs = known[input.node.index()]
                .as_ref()
                .map(|known| &known.outputs);
            let Some(object) = outputs.and_then(|outputs| outputs.get(&input.output)) else {
                continue;
            };
            let place = match needed.iter().position(|(maker, _)| *maker == input.node) {
                Some(place) => place,
                None => {
                    needed.push((input.node, Outputs::new()));
                    needed.len() - 1
                }
            };
            needed[place].1.insert(input.output.clone(), *object);
        }
        needed
    }

    /// Brings outputs of steps into the store, of those whose results are elsewhere. Tells whether
    /// all are there.
    fn bring(&self, needed: Vec<(NodeId, Outputs)>) -> bool {
        let elsewhere = |known: &Known| known.origin.is_elsewhere().then(|| known.clone());
        let needed: Vec<_> = {
            let known = lock(&self.known);
            let known = |node: NodeId| known[node.index()].as_ref().and_then(elsewhere);
            let needed = needed.into_iter();
            needed
                .filter_map(|(node, needed)| Some((node, known(node)?, needed)))
                .collect()
        };
        let brought = in_parallel(&needed, |(node, known, needed)| {
            if self.executor.interrupt.requested() {
                return Err(NotBrought::Interrupted);
            }
            let from = self.caches.bring(&known.key, &known.outputs, needed)?;
            if let (Some(from), Some(known)) = (from, &mut lock(&self.known)[node.index()]) {
                known.origin = Origin::Cache(from);
            }
            Ok(())
        });
        for result in &brought {
            match result {
                Ok(()) => {}
                Err(NotBrought::Again) => self.again.store(true, Ordering::Relaxed),
                Err(NotBrought::Interrupted) => self.interrupted.store(true, Ordering::Relaxed),
            }
        }
        brought.iter().all(Result::is_ok)
    }
}
