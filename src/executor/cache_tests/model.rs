//! Builds with a cache against a simple model.

use proptest::prelude::*;

use super::*;

/// What is known of a step before the build.
#[derive(Debug, Clone, Copy)]
struct Knowledge {
    local: bool,
    remembered: bool,
    /// The cache says what it made.
    cached: bool,
    /// The cache has the content.
    bringable: bool,
    /// What the cache, or else the memory, says is wrong.
    lie: bool,
}

fn knowledge() -> impl Strategy<Value = Knowledge> {
    let often = || prop::bool::weighted(0.6);
    (
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
        often(),
        often(),
        prop::bool::weighted(0.15),
    )
        .prop_map(|(local, remembered, cached, bringable, lie)| Knowledge {
            local,
            remembered,
            cached,
            bringable,
            lie,
        })
}

fn graphs() -> impl Strategy<Value = Vec<(Vec<u32>, Knowledge)>> {
    let inputs = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    prop::collection::vec((inputs, knowledge()), 1..9).prop_map(|nodes| {
        let nodes = nodes.into_iter().enumerate();
        nodes
            .map(|(index, (inputs, knowledge))| {
                let earlier = |input: &prop::sample::Index| input.index(index) as u32;
                let inputs = match index {
                    0 => Vec::new(),
                    _ => inputs.iter().map(earlier).collect(),
                };
                (inputs, knowledge)
            })
            .collect()
    })
}

/// The steps that have to run when nobody lies: those that nobody knows, and those whose content is
/// read and cannot be had.
fn must_run(nodes: &[(Vec<u32>, Knowledge)], down: bool) -> BTreeSet<usize> {
    let known = |one: &Knowledge| one.local || one.remembered || one.cached;
    let can_be_had = |one: &Knowledge| one.local || (one.cached && one.bringable && !down);
    let mut run: BTreeSet<usize> = (0..nodes.len()).filter(|&n| !known(&nodes[n].1)).collect();
    loop {
        let mut needed: BTreeSet<usize> = run
            .iter()
            .flat_map(|&node| nodes[node].0.iter().map(|&input| input as usize))
            .collect();
        needed.insert(nodes.len() - 1);
        needed.retain(|&node| !can_be_had(&nodes[node].1));
        if needed.is_subset(&run) {
            return run;
        }
        run.extend(needed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// With whatever a store, a memory and a cache know: the result is that of a build without
    /// them, and no step runs that need not.
    #[test]
    fn a_cache_changes_what_is_built_and_not_what_comes_out(
        nodes in graphs(),
        down in prop::bool::weighted(0.2),
        honest in prop::bool::weighted(0.7),
    ) {
        let texts: Vec<String> = (0..nodes.len()).map(|node| format!("<{node}>")).collect();
        let steps: Vec<(&str, &[u32])> = texts
            .iter()
            .zip(&nodes)
            .map(|(text, (inputs, _))| (text.as_str(), inputs.as_slice()))
            .collect();
        let graph = Fixture::graph(&steps);
        let builder = Fixture::new();
        let real = builder.execute(&graph, None);
        let all = keys(&graph, &real);

        let fixture = Fixture::new();
        let shelf = Shelf::new(&fixture);
        for (node, (_, known)) in nodes.iter().enumerate() {
            let (key, outputs) = (all[node], real.outputs[node].clone().unwrap());
            let object = outputs["out"];
            if known.local {
                fixture.builders.store.bring_object(&builder.builders.store, &object.id).unwrap();
                let result = ActionResult { outputs: outputs.clone() };
                fixture.builders.store.put_action(&key, result).unwrap();
            }
            let id = ObjectId::new(Hasher::new("lie").update_u64(node as u64).finish());
            let lie = BTreeMap::from([("out".to_owned(), ObjectRef { id, size: 1 })]);
            let lies = known.lie && !honest;
            let told = || if lies { lie.clone() } else { outputs.clone() };
            if known.cached {
                shelf.state().results.insert(key, told());
            }
            if known.remembered {
                let told = if known.cached { outputs.clone() } else { told() };
                fixture.remembered().put(&key, &told).unwrap();
            }
            if known.bringable && !lies {
                shelf.store.bring_object(&builder.builders.store, &object.id).unwrap();
            }
        }
        if down {
            shelf.state().refuses = Some(CacheError::Unreachable("down".to_owned()));
        }
        let execution = fixture.execute(&graph, Some(&shelf));
        let last = nodes.len() - 1;
        prop_assert_eq!(fixture.content(&execution, last), builder.content(&real, last));
        prop_assert!(execution.failures.is_empty() && !execution.interrupted);
        let now = told(&fixture);
        prop_assert!(now.warnings.len() <= 1);
        prop_assert_eq!(now.counts.iter().sum::<usize>(), nodes.len());
        if honest {
            prop_assert_eq!(&execution.outputs, &real.outputs);
            let ran: BTreeSet<usize> = now.ran.iter().copied().collect();
            prop_assert_eq!(ran.len(), now.ran.len());
            prop_assert!(ran.is_superset(&must_run(&nodes, down)), "{ran:?}");
            // A cache that is down is not asked for what was not looked up before that came out.
            let mut without = nodes.clone();
            without.iter_mut().for_each(|(_, known)| known.cached &= !down);
            prop_assert!(ran.is_subset(&must_run(&without, down)), "{ran:?}");
            prop_assert!(now.ended.values().all(|(_, times)| *times == 1), "{:?}", now.ended);
        }
        prop_assert_eq!(now.ended.len(), nodes.len());
        // Nothing is left to do, with nobody to ask.
        let again = fixture.execute(&graph, None);
        if honest {
            let built = told(&fixture).ran;
            prop_assert!(built.is_empty(), "{built:?}");
        }
        prop_assert_eq!(fixture.content(&again, last), builder.content(&real, last));
    }
}
