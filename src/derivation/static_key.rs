//! Static keys: which step of a recipe it is, whatever its inputs hold today.
//!
//! | field | encoding |
//! |---|---|
//! | domain | BLAKE3 key derivation with the context `"vmfab static key v1"` |
//! | builder name | field |
//! | what it is | `n` and a field: the name of a leaf; or `p` and the canonical value of the parameters, without `locked` |
//! | number of inputs | u64 |
//! | each input, in order | field: its role; field: the output; 32 bytes: the static key of its maker |
//!
//! Fields and canonical values are those of [`encoding`](super::encoding). Left out: the version of
//! the builder, so that a newer vmfab understands an older lock; the contents of inputs.

use super::encoding::encode;
use super::graph::{Derivation, Graph};
use crate::digest::{Digest, Hasher};

/// The static key of each derivation. `leaf` names those whose parameters say what they hold today:
/// local files by their path, content from outside by its address.
#[must_use]
pub fn static_keys(graph: &Graph, leaf: impl Fn(&Derivation) -> Option<String>) -> Vec<Digest> {
    let mut keys: Vec<Digest> = Vec::with_capacity(graph.len());
    for derivation in graph.nodes() {
        let mut hasher = Hasher::new("vmfab static key v1");
        hasher.update_field(derivation.builder.as_bytes());
        match leaf(derivation) {
            Some(name) => drop(hasher.update(b"n").update_field(name.as_bytes())),
            None => {
                let mut params = derivation.params.clone();
                if let Some(params) = params.as_object_mut() {
                    params.remove("locked");
                }
                hasher.update(b"p");
                encode(&params, &mut hasher);
            }
        }
        hasher.update_u64(derivation.inputs.len() as u64);
        for input in &derivation.inputs {
            hasher.update_field(input.role.as_bytes());
            hasher.update_field(input.output.as_bytes());
            hasher.update(keys[input.node.index()].as_bytes());
        }
        keys.push(hasher.finish());
    }
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::derivation::{Input, NodeId};

    /// A step on local files.
    fn graph(tree: &str, params: Value, version: u32) -> Graph {
        let mut graph = Graph::new();
        let mut add = |builder: &str, params, version, inputs| {
            let derivation = Derivation {
                name: builder.into(),
                builder: builder.into(),
                version,
                params,
                inputs,
            };
            graph.add(derivation).unwrap();
        };
        add("local", json!({ "tree": tree }), 1, Vec::new());
        let input = Input {
            role: "layer".into(),
            node: NodeId(0),
            output: "layer".into(),
        };
        add("packages", params, version, vec![input]);
        graph
    }

    fn key(graph: &Graph, path: &str) -> Digest {
        let leaf = |one: &Derivation| (one.builder == "local").then(|| path.to_owned());
        static_keys(graph, leaf)[1]
    }

    #[test]
    fn a_key_is_of_the_step_and_not_of_what_it_stands_on() {
        let names = || json!({"names": ["a"]});
        let one = key(&graph("1", names(), 1), "app");
        assert_eq!(one, key(&graph("2", names(), 2), "app"));
        assert_ne!(one, key(&graph("1", names(), 1), "other"));
        assert_ne!(one, key(&graph("1", json!({"names": ["b"]}), 1), "app"));
        let locked = json!({"names": ["a"], "locked": "x"});
        assert_eq!(one, key(&graph("1", locked, 1), "app"));
    }

    /// Keys are in people's lock files.
    #[test]
    fn known_key() {
        let key = key(&graph("1", json!({"names": ["a"]}), 1), "app");
        insta::assert_snapshot!(key, @"4d720313946b4cfc1af4e759fe50540a7abade114def9fe8e60ce7c9ad58547e");
    }
}
