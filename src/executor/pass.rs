//! One pass over a graph. It ends early when a result that was found elsewhere is lost: then keys
//! have to be made anew.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use tracing::{Span, debug, info_span};

use super::caches::{Caches, NotBrought};
use super::known::{Knowledge, Known, Origin};
use super::permits::{Permit, Permits};
use super::report::Report;
use super::{Executor, FailedStep, lock};
use crate::derivation::{Derivation, Graph, NodeId, Outputs};
use crate::digest::ActionKey;
use crate::event::StepOutcome;
use crate::failure::{Failure, Kind};
use crate::host::{missing_programs, require};
use crate::store::ActionResult;

/// Threads for steps that wait, at most.
const WAITING: usize = 8;

/// State shared by the threads of one pass.
pub(super) struct Pass<'p> {
    pub(super) executor: &'p Executor<'p>,
    pub(super) graph: &'p Graph,
    pub(super) knowledge: Knowledge<'p>,
    pub(super) report: &'p Report<'p>,
    /// When the build began.
    pub(super) began: SystemTime,
    /// For steps that use the processors.
    processors: Permits,
    /// The locks of keys that steps of this pass hold or wait for.
    pub(super) claimed: Mutex<BTreeSet<ActionKey>>,
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
        began: SystemTime,
    ) -> Self {
        Self {
            began,
            executor,
            graph,
            knowledge: Knowledge::new(graph, caches),
            report,
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
            let wanted = wanted.iter();
            let all = wanted.filter_map(|&node| self.knowledge.all_of(node));
            self.bring(all.collect());
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
        self.knowledge
            .known
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes what is known, and returns what is ready to be run: for a build with nothing changed,
    /// nothing.
    fn take_known(&self) -> Vec<NodeId> {
        let options = &self.executor.options;
        if options.rebuild || options.check {
            return lock(&self.knowledge.schedule).ready();
        }
        self.knowledge.take_all(
            |node, key| self.runs_anyway(node, key),
            |node, known| self.tell(node, known),
        )
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
        for (known, derivation) in lock(&self.knowledge.known).iter().zip(self.graph.nodes()) {
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

    /// The result of a step that need not run.
    fn known(&self, node: NodeId, key: &ActionKey) -> Option<Known> {
        if self.executor.options.check || self.runs_anyway(node, key) {
            return None;
        }
        let knowledge = &self.knowledge;
        knowledge.look_up(key).or_else(|| knowledge.ask(key))
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

    pub(super) fn waits(&self, node: NodeId) -> bool {
        self.executor.builders.waits(&self.graph.get(node).builder)
    }

    /// What waits for others begins first, so that it waits while there is something to do.
    fn waiting_first(&self, mut nodes: Vec<NodeId>) -> Vec<NodeId> {
        nodes.sort_by_key(|&node| !self.waits(node));
        nodes
    }

    /// A step need not run: returns what is ready by that.
    fn take(&self, node: NodeId, known: Known) -> Vec<NodeId> {
        self.tell(node, &known);
        self.knowledge.done(node, known)
    }

    fn tell(&self, node: NodeId, known: &Known) {
        let (name, key) = (&self.graph.get(node).name, known.key.short());
        debug!(parent: &self.span, name, %key, from = ?known.origin, "step is known");
        match &known.origin {
            Origin::Cache(from) => self.report.found(node, Some(from.clone())),
            Origin::Remembered => self.report.found(node, None),
            Origin::Store | Origin::Built => self.report.not_run(node, StepOutcome::Cached),
        }
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
        let key = self.knowledge.key(node);
        if self.report.has_failed(node, &key) {
            return self.skip_dependants(node);
        }
        if let Some(known) = self.known(node, &key) {
            return self.take(node, known);
        }
        if !self.bring(self.knowledge.read_by(node)) {
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
        let mut started = Instant::now();
        let log = self.executor.log.join(format!("{}.log", key.short()));
        let realised = self.realise(node, key, &log, &mut started);
        drop(permit);
        let seconds = started.elapsed().as_secs_f64();
        match realised {
            Ok(known) if known.origin == Origin::Store => self.take(node, known),
            Ok(known) => {
                self.report.ran(node, key, seconds);
                self.knowledge.caches.is_built(&key);
                self.knowledge.done(node, known)
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
        let skipped = lock(&self.knowledge.schedule).failed(node);
        for node in skipped {
            self.report.not_run(node, StepOutcome::Skipped);
        }
        Vec::new()
    }

    /// Brings outputs of steps into the store, of those whose results are elsewhere. Tells whether
    /// all are there.
    fn bring(&self, needed: Vec<(NodeId, Outputs)>) -> bool {
        let caches = self.knowledge.caches;
        let brought = self.knowledge.supply(needed, |known, needed| {
            caches.bring(&known.key, &known.outputs, needed)
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
