//! What is known of the steps of a graph, and what their results are needed for: one rule for
//! builds (`pass`) and for plans (`survey`).

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::caches::{Caches, NotBrought, RemoteResult, in_parallel};
use super::lock;
use super::schedule::Schedule;
use crate::derivation::{
    Derivation, Graph, NodeId, Outputs, ResolvedInput, action_key, resolve_inputs,
};
use crate::digest::ActionKey;

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
    pub(super) const fn is_elsewhere(&self) -> bool {
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

/// What one walk over a graph knows. Shared by threads.
pub(super) struct Knowledge<'k> {
    pub(super) graph: &'k Graph,
    pub(super) caches: &'k Caches<'k>,
    pub(super) schedule: Mutex<Schedule>,
    pub(super) known: Mutex<Vec<Option<Known>>>,
}

impl<'k> Knowledge<'k> {
    pub(super) fn new(graph: &'k Graph, caches: &'k Caches<'k>) -> Self {
        Self {
            graph,
            caches,
            schedule: Mutex::new(Schedule::new(graph)),
            known: Mutex::new(vec![None; graph.len()]),
        }
    }

    /// Takes every result that is known, and returns the steps that are ready to run. Starts no
    /// threads, except for questions to a cache. `runs` tells which steps run although their result
    /// may be known; `taken` hears of each that need not.
    pub(super) fn take_all(
        &self,
        runs: impl Fn(NodeId, &ActionKey) -> bool,
        taken: impl Fn(NodeId, &Known),
    ) -> Vec<NodeId> {
        let mut missed = Vec::new();
        let mut pending = lock(&self.schedule).ready();
        while !pending.is_empty() {
            let mut unknown = Vec::new();
            let mut found = Vec::new();
            for node in std::mem::take(&mut pending) {
                let key = self.key(node);
                if runs(node, &key) {
                    missed.push(node);
                    continue;
                }
                match self.look_up(&key) {
                    Some(known) => found.push((node, known)),
                    None => unknown.push((node, key)),
                }
            }
            let answers = match self.caches.sources.cache {
                Some(_) => in_parallel(&unknown, |(_, key)| self.ask(key)),
                None => vec![None; unknown.len()],
            };
            for ((node, _), answer) in unknown.into_iter().zip(answers) {
                match answer {
                    Some(known) => found.push((node, known)),
                    None => missed.push(node),
                }
            }
            for (node, known) in found {
                taken(node, &known);
                pending.extend(self.done(node, known));
            }
        }
        missed.sort();
        missed
    }

    /// What is known of an action on this host.
    pub(super) fn look_up(&self, key: &ActionKey) -> Option<Known> {
        if let Some(result) = self.caches.sources.store.action(key) {
            return Some(Known {
                key: *key,
                outputs: result.outputs,
                origin: Origin::Store,
            });
        }
        self.caches.known(key).map(|found| found.known(key))
    }

    /// What a cache says of an action.
    pub(super) fn ask(&self, key: &ActionKey) -> Option<Known> {
        self.caches.ask(key).map(|found| found.known(key))
    }

    pub(super) fn key(&self, node: NodeId) -> ActionKey {
        let derivation = self.graph.get(node);
        action_key(derivation, &self.inputs(derivation).unwrap_or_default())
    }

    /// The inputs of a derivation, if all of them are known.
    pub(super) fn inputs(&self, derivation: &Derivation) -> Option<Vec<ResolvedInput>> {
        let known = lock(&self.known);
        resolve_inputs(derivation, |node| {
            Some(&known[node.index()].as_ref()?.outputs)
        })
    }

    /// The result of a step is known: returns what is ready by that.
    pub(super) fn done(&self, node: NodeId, known: Known) -> Vec<NodeId> {
        lock(&self.known)[node.index()] = Some(known);
        lock(&self.schedule).done(node)
    }

    /// The outputs of other steps that a step reads.
    pub(super) fn read_by(&self, node: NodeId) -> Vec<(NodeId, Outputs)> {
        let known = lock(&self.known);
        let mut read: BTreeMap<NodeId, Outputs> = BTreeMap::new();
        for input in &self.graph.get(node).inputs {
            let outputs = known[input.node.index()]
                .as_ref()
                .map(|known| &known.outputs);
            if let Some(object) = outputs.and_then(|outputs| outputs.get(&input.output)) {
                let read = read.entry(input.node).or_default();
                read.insert(input.output.clone(), *object);
            }
        }
        read.into_iter().collect()
    }

    /// All outputs of a step.
    pub(super) fn all_of(&self, node: NodeId) -> Option<(NodeId, Outputs)> {
        let known = lock(&self.known)[node.index()].clone()?;
        Some((node, known.outputs))
    }

    /// Has `supply` find each of the needed outputs whose results are elsewhere, several at a time.
    /// It returns the cache, when it found something there.
    pub(super) fn supply(
        &self,
        needed: Vec<(NodeId, Outputs)>,
        supply: impl Fn(&Known, &Outputs) -> Result<Option<String>, NotBrought> + Sync,
    ) -> Vec<Result<(), NotBrought>> {
        let elsewhere: Vec<_> = {
            let known = lock(&self.known);
            let elsewhere = |(node, needed): (NodeId, Outputs)| {
                let known = known[node.index()].as_ref()?;
                known
                    .origin
                    .is_elsewhere()
                    .then(|| (node, known.clone(), needed))
            };
            needed.into_iter().filter_map(elsewhere).collect()
        };
        in_parallel(&elsewhere, |(node, known, needed)| {
            let from = supply(known, needed)?;
            if let (Some(from), Some(known)) = (from, &mut lock(&self.known)[node.index()]) {
                known.origin = Origin::Cache(from);
            }
            Ok(())
        })
    }
}
