//! What is told of steps, over all passes of one execution: each end once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Difference, FailedStep};
use crate::derivation::{Graph, NodeId};
use crate::digest::ActionKey;
use crate::event::{Event, Sink, StepOutcome};

/// What became of the steps so far.
pub(super) struct Report<'a> {
    sink: &'a dyn Sink,
    graph: &'a Graph,
    state: Mutex<State>,
}

struct State {
    outcomes: Vec<Option<StepOutcome>>,
    found: Vec<bool>,
    failures: Vec<(NodeId, ActionKey, FailedStep)>,
    differences: Vec<Difference>,
    /// Actions that ran to their end.
    ran: std::collections::HashSet<ActionKey>,
}

impl<'a> Report<'a> {
    pub(super) fn new(sink: &'a dyn Sink, graph: &'a Graph) -> Self {
        Self {
            sink,
            graph,
            state: Mutex::new(State {
                outcomes: vec![None; graph.len()],
                found: vec![false; graph.len()],
                failures: Vec::new(),
                differences: Vec::new(),
                ran: std::collections::HashSet::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cache has the result of a step, or an earlier build remembers it.
    pub(super) fn found(&self, node: NodeId, from: Option<String>) {
        let mut state = self.state();
        if state.outcomes[node.index()].is_some()
            || std::mem::replace(&mut state.found[node.index()], true)
        {
            return;
        }
        drop(state);
        self.sink.emit(Event::StepFound {
            step: node.index(),
            name: self.graph.get(node).name.clone(),
            from,
        });
    }

    /// A step was not run. What is told of it already counts.
    pub(super) fn not_run(&self, node: NodeId, outcome: StepOutcome) {
        let mut state = self.state();
        let before = &mut state.outcomes[node.index()];
        match before {
            None => {}
            Some(StepOutcome::Skipped) if outcome != StepOutcome::Skipped => {}
            Some(_) => return,
        }
        *before = Some(outcome);
        drop(state);
        self.emit(node, outcome, 0.0);
    }

    /// A step ran.
    pub(super) fn ran(&self, node: NodeId, key: ActionKey, seconds: f64) {
        let mut state = self.state();
        state.outcomes[node.index()] = Some(StepOutcome::Built);
        state.failures.retain(|(other, _, _)| *other != node);
        state.ran.insert(key);
        drop(state);
        self.emit(node, StepOutcome::Built, seconds);
    }

    /// A step ran and failed.
    pub(super) fn failed(&self, node: NodeId, key: ActionKey, failure: FailedStep, seconds: f64) {
        let mut state = self.state();
        state.outcomes[node.index()] = Some(StepOutcome::Failed);
        state.failures.retain(|(other, _, _)| *other != node);
        state.failures.push((node, key, failure));
        drop(state);
        self.emit(node, StepOutcome::Failed, seconds);
    }

    /// A step was interrupted.
    pub(super) fn interrupted(&self, node: NodeId, seconds: f64) {
        self.state().outcomes[node.index()] = Some(StepOutcome::Skipped);
        self.emit(node, StepOutcome::Skipped, seconds);
    }

    pub(super) fn differ(&self, differences: Vec<Difference>) {
        self.state().differences.extend(differences);
    }

    fn emit(&self, node: NodeId, outcome: StepOutcome, seconds: f64) {
        self.sink.emit(Event::StepFinished {
            step: node.index(),
            name: self.graph.get(node).name.clone(),
            outcome,
            seconds,
        });
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.state().failures.is_empty()
    }

    /// Whether this step failed before, on the same inputs.
    pub(super) fn has_failed(&self, node: NodeId, key: &ActionKey) -> bool {
        let state = self.state();
        let mut failures = state.failures.iter();
        failures.any(|(other, failed, _)| *other == node && failed == key)
    }

    /// Whether this action ran to its end in this execution.
    pub(super) fn has_run(&self, key: &ActionKey) -> bool {
        self.state().ran.contains(key)
    }

    /// How many steps ended so.
    pub(super) fn count(&self, outcome: StepOutcome) -> usize {
        let state = self.state();
        let same = |other: &&Option<StepOutcome>| **other == Some(outcome);
        state.outcomes.iter().filter(same).count()
    }

    /// Failures and differences, taken out.
    pub(super) fn take(&self) -> (Vec<FailedStep>, Vec<Difference>) {
        let mut state = self.state();
        let failures = std::mem::take(&mut state.failures);
        (
            failures
                .into_iter()
                .map(|(_, _, failure)| failure)
                .collect(),
            std::mem::take(&mut state.differences),
        )
    }
}
