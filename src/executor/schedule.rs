//! What may run next: a ready queue over a graph. Pure.

use crate::derivation::{Graph, NodeId};

/// The state of a graph's execution.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Distinct inputs that are not done yet, by node.
    waiting_for: Vec<u32>,
    dependants: Vec<Vec<NodeId>>,
    /// Whether a node is done, failed or skipped.
    over: Vec<bool>,
}

impl Schedule {
    pub(super) fn new(graph: &Graph) -> Self {
        let mut schedule = Self {
            waiting_for: vec![0; graph.len()],
            dependants: vec![Vec::new(); graph.len()],
            over: vec![false; graph.len()],
        };
        for index in 0..graph.len() {
            let node = NodeId(index as u32);
            for input in graph.dependencies(node) {
                schedule.waiting_for[index] += 1;
                schedule.dependants[input.index()].push(node);
            }
        }
        schedule
    }

    /// The nodes without inputs.
    pub(super) fn ready(&self) -> Vec<NodeId> {
        let nodes = self
            .waiting_for
            .iter()
            .enumerate()
            .filter(|(_, count)| **count == 0);
        nodes.map(|(index, _)| NodeId(index as u32)).collect()
    }

    /// A node is done: returns those that are ready by that.
    pub(super) fn done(&mut self, node: NodeId) -> Vec<NodeId> {
        self.over[node.index()] = true;
        let mut ready = Vec::new();
        for dependant in std::mem::take(&mut self.dependants[node.index()]) {
            self.waiting_for[dependant.index()] -= 1;
            if self.waiting_for[dependant.index()] == 0 && !self.over[dependant.index()] {
                ready.push(dependant);
            }
        }
        ready
    }

    /// A node failed or is not tried: returns those that cannot run because of that, each once.
    pub(super) fn failed(&mut self, node: NodeId) -> Vec<NodeId> {
        self.over[node.index()] = true;
        let mut skipped = Vec::new();
        let mut pending = std::mem::take(&mut self.dependants[node.index()]);
        while let Some(next) = pending.pop() {
            if !self.over[next.index()] {
                self.over[next.index()] = true;
                skipped.push(next);
                pending.append(&mut self.dependants[next.index()]);
            }
        }
        skipped
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::derivation::{Derivation, Input};

    /// A graph from lists of earlier nodes.
    pub(super) fn graph(inputs: &[Vec<u32>]) -> Graph {
        let mut graph = Graph::new();
        for (index, inputs) in inputs.iter().enumerate() {
            let inputs = inputs
                .iter()
                .map(|&node| Input {
                    role: "x".into(),
                    node: NodeId(node),
                    output: "out".into(),
                })
                .collect();
            let name = index.to_string();
            let derivation = Derivation {
                name,
                builder: "b".into(),
                version: 1,
                params: serde_json::Value::Null,
                inputs,
            };
            graph.add(derivation).unwrap();
        }
        graph
    }

    fn graphs() -> impl Strategy<Value = Vec<Vec<u32>>> {
        prop::collection::vec(
            prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            1..30,
        )
        .prop_map(|lists| {
            let node = |index: usize, list: Vec<prop::sample::Index>| {
                if index == 0 {
                    Vec::new()
                } else {
                    list.iter().map(|i| i.index(index) as u32).collect()
                }
            };
            lists
                .into_iter()
                .enumerate()
                .map(|(index, list)| node(index, list))
                .collect()
        })
    }

    proptest! {
        /// Every node is either done, after all of its inputs, or failed, or reaches a failed one.
        #[test]
        fn agrees_with_the_definition(
            inputs in graphs(),
            failing in prop::collection::btree_set(0_u32..30, 0..4),
            order in any::<u64>(),
        ) {
            let graph = graph(&inputs);
            let mut schedule = Schedule::new(&graph);
            let mut ready = schedule.ready();
            let (mut done, mut failed, mut skipped) =
                (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            let mut state = order;
            while !ready.is_empty() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let node = ready.swap_remove((state >> 33) as usize % ready.len());
                prop_assert!(graph.dependencies(node).is_subset(&done));
                if failing.contains(&node.0) {
                    prop_assert!(failed.insert(node));
                    for other in schedule.failed(node) {
                        prop_assert!(skipped.insert(other));
                    }
                } else {
                    prop_assert!(done.insert(node));
                    ready.extend(schedule.done(node));
                }
            }
            let mut unreachable = BTreeSet::new();
            for index in 0..graph.len() as u32 {
                let node = NodeId(index);
                let inputs = graph.dependencies(node);
                if inputs.iter().any(|i| failing.contains(&i.0) || unreachable.contains(i)) {
                    unreachable.insert(node);
                }
            }
            prop_assert_eq!(&skipped, &unreachable);
            prop_assert_eq!(done.len() + failed.len() + skipped.len(), graph.len());
        }
    }
}
