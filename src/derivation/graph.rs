//! The derivation graph: a compact list of derivations whose inputs are indices into it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::step::Step;
use crate::failure::Failure;

/// Index of a derivation in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The index as a `usize`.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One output of another derivation that a derivation reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What the builder takes it for: `layer`, `source`, `disk`, …
    pub role: String,
    /// The derivation that makes it.
    pub node: NodeId,
    /// Which of that derivation's outputs.
    pub output: String,
}

/// One hashed step: a builder, its parameters, its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Derivation {
    /// Label for people; not hashed.
    pub name: String,
    /// The kind of builder.
    pub builder: String,
    /// The version of that builder's behaviour.
    pub version: u32,
    /// Its parameters, hashed canonically.
    pub params: Value,
    /// Its inputs, in an order that counts.
    pub inputs: Vec<Input>,
}

/// Derivations in an order in which inputs come before those that read them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    nodes: Vec<Derivation>,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a derivation and returns its index.
    ///
    /// # Errors
    /// An input that is not in the graph yet.
    pub fn add(&mut self, derivation: Derivation) -> Result<NodeId, Failure> {
        for input in &derivation.inputs {
            if input.node.index() >= self.nodes.len() {
                return Err(Failure::failed(format!(
                    "step \"{}\" reads step {}, which does not come before it",
                    derivation.name, input.node.0
                )));
            }
        }
        self.nodes.push(derivation);
        Ok(NodeId((self.nodes.len() - 1) as u32))
    }

    /// Adds a typed step under a label.
    ///
    /// # Errors
    /// As [`Graph::add`].
    pub fn add_step(
        &mut self,
        name: impl Into<String>,
        step: &Step,
        inputs: Vec<Input>,
    ) -> Result<NodeId, Failure> {
        let (builder, version, params) = step.to_parts();
        self.add(Derivation {
            name: name.into(),
            builder,
            version,
            params,
            inputs,
        })
    }

    /// The derivation at `id`.
    #[must_use]
    pub fn get(&self, id: NodeId) -> &Derivation {
        &self.nodes[id.index()]
    }

    /// All derivations, in order.
    #[must_use]
    pub fn nodes(&self) -> &[Derivation] {
        &self.nodes
    }

    /// How many derivations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Gives a derivation other parameters.
    pub fn set_params(&mut self, id: NodeId, params: Value) {
        self.nodes[id.index()].params = params;
    }

    /// The part of the graph that makes `wanted`: those derivations and all that they read. With
    /// the index in this graph of each derivation of the part.
    #[must_use]
    pub fn part(&self, wanted: &BTreeSet<NodeId>) -> (Self, Vec<NodeId>) {
        let mut needed = wanted.clone();
        for index in (0..self.nodes.len()).rev() {
            let id = NodeId(index as u32);
            if needed.contains(&id) {
                needed.extend(self.dependencies(id));
            }
        }
        let originals: Vec<NodeId> = needed.into_iter().collect();
        let mut part = Self::new();
        for &id in &originals {
            let mut derivation = self.get(id).clone();
            for input in &mut derivation.inputs {
                // What a derivation reads is needed, and stands before it.
                let place = originals.binary_search(&input.node).unwrap_or_default();
                input.node = NodeId(place as u32);
            }
            part.nodes.push(derivation);
        }
        (part, originals)
    }

    /// The distinct derivations that `id` reads.
    #[must_use]
    pub fn dependencies(&self, id: NodeId) -> BTreeSet<NodeId> {
        self.get(id).inputs.iter().map(|input| input.node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_what_it_needs_and_no_more() {
        let mut graph = Graph::new();
        let mut add = |name: &str, inputs: &[u32]| {
            let inputs = inputs.iter().map(|&node| Input {
                role: "layer".into(),
                node: NodeId(node),
                output: "layer".into(),
            });
            let derivation = Derivation {
                name: name.into(),
                builder: "run".into(),
                version: 1,
                params: Value::Null,
                inputs: inputs.collect(),
            };
            graph.add(derivation).unwrap()
        };
        add("a", &[]);
        add("b", &[]);
        add("c", &[0]);
        let last = add("d", &[2, 0]);
        add("e", &[3, 1]);
        let (part, originals) = graph.part(&BTreeSet::from([last]));
        let names: Vec<&str> = part.nodes().iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["a", "c", "d"]);
        assert_eq!(originals, [NodeId(0), NodeId(2), NodeId(3)]);
        assert_eq!(part.get(NodeId(2)).inputs[0].node, NodeId(1));
        assert_eq!(part.get(NodeId(2)).inputs[1].node, NodeId(0));
    }
}
