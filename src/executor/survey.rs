//! What is known of the steps of a graph before anything runs.

use super::caches::Caches;
use super::known::{Knowledge, Origin};
use super::{Remembered, lock};
use crate::derivation::{Cache, Derivation, Graph, NodeId, Outputs, ResolvedInput, action_key};
use crate::digest::ActionKey;
use crate::event::Silent;
use crate::store::Store;

/// What is known of a step.
pub struct Surveyed {
    /// Its inputs; unknown while the content of one is.
    pub inputs: Option<Vec<ResolvedInput>>,
    /// Its key, when the inputs are known.
    pub key: Option<ActionKey>,
    /// Its result, when it need not run.
    pub outputs: Option<Outputs>,
    /// The cache that the result would come from, for people; nothing when it is in the store, or
    /// remembered and not needed.
    pub from: Option<String>,
}

/// Who knows results, in the order in which they are asked.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Where results are.
    pub store: &'a Store,
    /// What earlier builds took from caches.
    pub remembered: &'a Remembered,
    /// What others have built, when it is to be asked.
    pub cache: Option<&'a dyn Cache>,
}

impl<'a> Sources<'a> {
    /// Those of this host.
    pub const fn here(store: &'a Store, remembered: &'a Remembered) -> Self {
        Self {
            store,
            remembered,
            cache: None,
        }
    }
}

/// What is known of the steps of a graph, of which `wanted` is to be in the store in the end.
pub fn survey(sources: &Sources<'_>, graph: &Graph, wanted: NodeId) -> Vec<Surveyed> {
    let caches = Caches::new(*sources, &Silent, None);
    loop {
        let knowledge = Knowledge::new(graph, &caches);
        let run = knowledge.take_all(|_, _| false, |_, _| {});
        let needed = run.iter().flat_map(|&node| knowledge.read_by(node));
        let needed: Vec<_> = needed.chain(knowledge.all_of(wanted)).collect();
        let promised = knowledge.supply(needed, |known, needed| {
            caches.promise(&known.key, &known.outputs, needed)
        });
        if promised.iter().all(Result::is_ok) {
            return surveyed(&knowledge);
        }
    }
}

fn surveyed(knowledge: &Knowledge<'_>) -> Vec<Surveyed> {
    let steps = knowledge.graph.nodes().iter();
    let inputs = steps.map(|derivation| (derivation, knowledge.inputs(derivation)));
    let inputs: Vec<_> = inputs.collect();
    let known = lock(&knowledge.known);
    inputs
        .into_iter()
        .zip(known.iter().cloned())
        .map(|((derivation, inputs), known)| Surveyed {
            key: inputs.as_ref().map(|inputs| action_key(derivation, inputs)),
            inputs,
            from: known.as_ref().and_then(|known| match &known.origin {
                Origin::Cache(from) => Some(from.clone()),
                _ => None,
            }),
            outputs: known.map(|known| known.outputs),
        })
        .collect()
}

/// The steps that would run for certain when no cache is asked.
pub fn certain<'g>(
    store: &Store,
    remembered: &Remembered,
    graph: &'g Graph,
    wanted: NodeId,
) -> Vec<&'g Derivation> {
    let surveyed = survey(&Sources::here(store, remembered), graph, wanted);
    let steps = graph.nodes().iter().zip(surveyed);
    steps
        .filter(|(_, known)| known.inputs.is_some() && known.outputs.is_none())
        .map(|(derivation, _)| derivation)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::derivation::{CacheError, CacheHit, Input, resolve_inputs};
    use crate::store::ActionResult;

    /// a ◄── b ◄── c, and d, which reads b and c.
    fn graph(last: &str) -> Graph {
        let mut graph = Graph::new();
        let steps: [(&str, &[u32]); 4] = [("a", &[]), ("b", &[0]), ("c", &[1]), (last, &[1, 2])];
        for (text, inputs) in steps {
            let input = |&node: &u32| Input {
                role: "layer".into(),
                node: NodeId(node),
                output: "layer".into(),
            };
            let derivation = Derivation {
                name: text.into(),
                builder: "run".into(),
                version: 1,
                params: json!({ "command": text }),
                inputs: inputs.iter().map(input).collect(),
            };
            graph.add(derivation).unwrap();
        }
        graph
    }

    struct Lab {
        _directory: tempfile::TempDir,
        store: Store,
        remembered: Remembered,
        /// What the steps a to d make, by key; its content is in no store.
        results: Vec<(ActionKey, Outputs)>,
    }

    impl Lab {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let elsewhere = Store::open(directory.path().join("elsewhere")).unwrap();
            let mut results: Vec<(ActionKey, Outputs)> = Vec::new();
            for derivation in graph("d").nodes() {
                let outputs = |node: NodeId| Some(&results[node.index()].1);
                let inputs = resolve_inputs(derivation, outputs).unwrap();
                let object = elsewhere.put_bytes(derivation.name.as_bytes()).unwrap();
                let made = Outputs::from([("layer".to_owned(), object)]);
                results.push((action_key(derivation, &inputs), made));
            }
            Self {
                store: Store::open(directory.path().join("store")).unwrap(),
                remembered: Remembered::new(directory.path().join("results")),
                _directory: directory,
                results,
            }
        }

        fn remember(&self, nodes: impl IntoIterator<Item = usize>) {
            for node in nodes {
                let (key, outputs) = &self.results[node];
                self.remembered.put(key, outputs).unwrap();
            }
        }

        /// Puts results into the store.
        fn store(&self, nodes: impl IntoIterator<Item = usize>) {
            for node in nodes {
                self.store
                    .put_bytes(["a", "b", "c", "d"][node].as_bytes())
                    .unwrap();
                let (key, outputs) = self.results[node].clone();
                self.store
                    .put_action(&key, ActionResult { outputs })
                    .unwrap();
            }
        }

        /// For each step of a graph with this last one: known, to run, or depending.
        fn states(&self, last: &str, cache: Option<&dyn Cache>) -> String {
            let sources = Sources {
                cache,
                ..Sources::here(&self.store, &self.remembered)
            };
            let surveyed = survey(&sources, &graph(last), NodeId(3));
            let state = |step: &Surveyed| match (&step.inputs, &step.outputs) {
                (_, Some(_)) if step.from.is_some() => "remote",
                (_, Some(_)) => "known",
                (Some(_), None) => "runs",
                (None, None) => "depends",
            };
            surveyed.iter().map(state).collect::<Vec<_>>().join(" ")
        }

        fn certain(&self, last: &str) -> Vec<String> {
            let graph = graph(last);
            let steps = certain(&self.store, &self.remembered, &graph, NodeId(3));
            steps.iter().map(|step| step.name.clone()).collect()
        }
    }

    #[test]
    fn what_is_remembered_and_not_needed_is_known() {
        let lab = Lab::new();
        assert_eq!(lab.states("d", None), "runs depends depends depends");
        lab.remember(0..3);
        lab.store([3]);
        assert_eq!(lab.states("d", None), "known known known known");
        assert!(lab.certain("d").is_empty());
    }

    #[test]
    fn what_is_remembered_and_needed_runs() {
        let lab = Lab::new();
        lab.remember(0..4);
        // The last one itself is not here, and so all that it reads runs, and all that that reads.
        assert_eq!(lab.states("d", None), "runs depends depends depends");
        lab.store([1]);
        assert_eq!(lab.states("d", None), "known known runs depends");
        assert_eq!(lab.certain("d"), ["c"]);
        lab.store([2]);
        assert_eq!(lab.states("d", None), "known known known runs");
        assert_eq!(lab.states("D", None), "known known known runs");
        assert_eq!(lab.certain("D"), ["D"]);
    }

    #[test]
    fn what_a_cache_has_is_known() {
        struct Says(BTreeMap<ActionKey, Outputs>);
        impl Cache for Says {
            fn look_up(&self, key: &ActionKey) -> Option<CacheHit> {
                Some(CacheHit {
                    outputs: self.0.get(key)?.clone(),
                    from: "here".to_owned(),
                })
            }
            fn bring(&self, _: &ActionKey, _: &Outputs) -> Result<(), CacheError> {
                panic!("a plan brings nothing");
            }
            fn offer(&self, _: &ActionKey, _: &Outputs, _: bool) {
                panic!("a plan offers nothing");
            }
        }
        let lab = Lab::new();
        let says = |nodes: &[usize]| Says(nodes.iter().map(|&n| lab.results[n].clone()).collect());
        let known = |nodes: &[usize], last| lab.states(last, Some(&says(nodes)));
        assert_eq!(known(&[0, 1, 2, 3], "d"), "remote remote remote remote");
        assert_eq!(known(&[0, 1, 2], "D"), "remote remote remote runs");
        assert_eq!(known(&[0], "d"), "remote runs depends depends");
        // What is remembered and needed comes from the cache, when it has the same.
        lab.remember(0..4);
        assert_eq!(known(&[1, 2], "D"), "known remote remote runs");
        assert_eq!(known(&[1], "D"), "known remote runs depends");
        assert_eq!(known(&[3], "d"), "known known known remote");
        // What is in the store need not come from anywhere.
        lab.store([1, 3]);
        assert_eq!(known(&[0, 1, 2, 3], "D"), "known known remote runs");
        assert_eq!(known(&[0, 1, 2, 3], "d"), "known known known known");
    }
}
