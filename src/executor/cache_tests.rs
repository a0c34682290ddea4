//! Builds with a cache: another store, and what it says it has.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::tests::Fixture;
use super::*;
use crate::derivation::{CacheError, CacheHit, action_key, resolve_inputs};
use crate::digest::{Hasher, ObjectId, ObjectRef};

type Steps<'a> = [(&'a str, &'a [u32])];

/// A cache whose content is another store.
struct Shelf {
    _directory: tempfile::TempDir,
    store: Store,
    /// The store of who uses it.
    user: Store,
    state: Mutex<State>,
    look_ups: AtomicUsize,
    pushes: bool,
}

#[derive(Default)]
struct State {
    results: HashMap<ActionKey, Outputs>,
    /// Brings fail so, until they are asked for a result that is not among those.
    refuses: Option<CacheError>,
    /// Other bytes are brought than those that were promised.
    cheats: bool,
    /// Brings that were asked for.
    brings: Vec<ActionKey>,
    offers: Vec<(ActionKey, bool)>,
    finished: usize,
}

impl Shelf {
    fn new(user: &Fixture) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            store: Store::open(directory.path().join("store")).unwrap(),
            _directory: directory,
            user: user.builders.store.clone(),
            state: Mutex::default(),
            look_ups: AtomicUsize::new(0),
            pushes: true,
        }
    }

    /// The same cache, for another user.
    fn of(self, user: &Fixture) -> Self {
        Self {
            user: user.builders.store.clone(),
            look_ups: AtomicUsize::new(0),
            ..self
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn brings(&self) -> Vec<ActionKey> {
        std::mem::take(&mut self.state().brings)
    }
}

impl Cache for Shelf {
    fn look_up(&self, key: &ActionKey) -> Option<CacheHit> {
        self.look_ups.fetch_add(1, Ordering::SeqCst);
        Some(CacheHit {
            outputs: self.state().results.get(key)?.clone(),
            from: "shelf".to_owned(),
        })
    }

    fn bring(&self, key: &ActionKey, outputs: &Outputs) -> Result<(), CacheError> {
        let mut state = self.state();
        state.brings.push(*key);
        if let Some(error) = &state.refuses {
            return Err(error.clone());
        }
        if state.cheats {
            self.user.put_bytes(b"something else").unwrap();
            return Ok(());
        }
        for object in outputs.values() {
            let brought = self.user.bring_object(&self.store, &object.id);
            brought.map_err(|error| CacheError::Unusable(error.to_string()))?;
        }
        Ok(())
    }

    fn pushes_to(&self) -> Option<String> {
        self.pushes.then(|| "shelf".to_owned())
    }

    fn offer(&self, key: &ActionKey, outputs: &Outputs, last: bool) {
        for object in outputs.values() {
            self.store.bring_object(&self.user, &object.id).unwrap();
        }
        let mut state = self.state();
        state.results.insert(*key, outputs.clone());
        state.offers.push((*key, last));
    }

    fn finish(&self) {
        self.state().finished += 1;
    }
}

/// What was told of a build.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Steps that started.
    ran: Vec<usize>,
    found: Vec<usize>,
    /// The last outcome of each step, and how often it ended.
    ended: BTreeMap<usize, (StepOutcome, usize)>,
    warnings: Vec<String>,
    /// Built, cached, remote, failed, skipped.
    counts: [usize; 5],
}

fn told(fixture: &Fixture) -> Told {
    let mut told = Told::default();
    let (mut starts, mut ends) = (0, 0);
    for event in fixture.events.take() {
        match event {
            Event::BuildStarted { .. } => starts += 1,
            Event::StepStarted { step, .. } => told.ran.push(step),
            Event::StepFound { step, .. } => told.found.push(step),
            Event::StepFinished { step, outcome, .. } => {
                let times = told.ended.get(&step).map_or(0, |(_, times)| *times);
                told.ended.insert(step, (outcome, times + 1));
            }
            Event::Warning { message } => told.warnings.push(message),
            Event::BuildFinished {
                built,
                cached,
                remote,
                failed,
                skipped,
                ..
            } => {
                ends += 1;
                told.counts = [built, cached, remote, failed, skipped];
            }
            _ => {}
        }
    }
    assert_eq!((starts, ends), (1, 1));
    told.ran.sort_unstable();
    told.found.sort_unstable();
    told
}

/// A cache that somebody filled with the results of a graph.
fn warm(steps: &Steps<'_>, user: &Fixture) -> Shelf {
    let builder = Fixture::new();
    let shelf = Shelf::new(&builder);
    let execution = builder.execute(&Fixture::graph(steps), Some(&shelf));
    offer(&shelf, &execution.offers, &builder.interrupt);
    shelf.of(user)
}

/// The keys of a graph's steps, as somebody who built them all knows them.
fn keys(graph: &Graph, execution: &Execution) -> Vec<ActionKey> {
    let outputs = |node: NodeId| execution.outputs[node.index()].as_ref();
    let key = |derivation| action_key(derivation, &resolve_inputs(derivation, outputs).unwrap());
    graph.nodes().iter().map(key).collect()
}

const CHAIN: [(&str, &[u32]); 4] = [("a", &[]), ("b", &[0]), ("c", &[1]), ("d", &[2])];

#[test]
fn a_cold_store_with_a_warm_cache_builds_nothing_and_brings_the_last_result() {
    let fixture = Fixture::new();
    let shelf = warm(&CHAIN, &fixture);
    let graph = Fixture::graph(&CHAIN);
    let execution = fixture.execute(&graph, Some(&shelf));
    let now = told(&fixture);
    assert_eq!((now.ran.len(), now.counts), (0, [0, 0, 4, 0, 0]));
    assert_eq!(now.found, [0, 1, 2, 3]);
    assert!(
        now.ended
            .values()
            .all(|end| *end == (StepOutcome::Remote, 1))
    );
    assert_eq!((execution.remote, execution.built), (4, 0));
    assert_eq!(fixture.content(&execution, 3), "dcba");
    assert_eq!(shelf.brings(), [keys(&graph, &execution)[3]]);
    assert_eq!(shelf.look_ups.load(Ordering::SeqCst), 4);
    for node in 0..3 {
        let object = execution.outputs[node].as_ref().unwrap()["out"];
        assert!(!fixture.builders.store.has_object(&object), "{node}");
    }
    // The same once more: only what is here is asked.
    fixture.execute(&graph, Some(&shelf));
    assert_eq!(told(&fixture).counts, [0, 4, 0, 0, 0]);
    assert_eq!(shelf.look_ups.load(Ordering::SeqCst), 4);
    // And without a cache.
    fixture.execute(&graph, None);
    assert_eq!(told(&fixture).counts, [0, 4, 0, 0, 0]);
}

#[test]
fn a_step_that_runs_brings_its_inputs_and_nothing_else() {
    let fixture = Fixture::new();
    let shelf = warm(&CHAIN, &fixture);
    let graph = Fixture::graph(&[("a", &[]), ("b", &[0]), ("c", &[1]), ("D", &[2])]);
    let execution = fixture.execute(&graph, Some(&shelf));
    let now = told(&fixture);
    assert_eq!((now.ran, now.counts), (vec![3], [1, 0, 3, 0, 0]));
    assert_eq!(fixture.content(&execution, 3), "Dcba");
    assert_eq!(shelf.brings(), [keys(&graph, &execution)[2]]);
    // What was brought whole is in the store as any other result.
    fixture.execute(&graph, None);
    assert_eq!(told(&fixture).counts, [0, 4, 0, 0, 0]);
}

#[test]
fn a_step_behind_one_that_ran_is_looked_up_too() {
    let fixture = Fixture::new();
    let shelf = warm(&CHAIN, &fixture);
    // It gives what "b" gave, so that what follows is known.
    let graph = Fixture::graph(&[("a", &[]), ("b#2", &[0]), ("c", &[1]), ("d", &[2])]);
    let execution = fixture.execute(&graph, Some(&shelf));
    assert_eq!(told(&fixture).ran, [1]);
    assert_eq!((execution.built, execution.remote), (1, 3));
    assert_eq!(fixture.content(&execution, 3), "dcba");
}

#[test]
fn two_steps_bring_what_both_read_once() {
    let fixture = Fixture::new();
    let shelf = warm(&[("a", &[]), ("b", &[0])], &fixture);
    let steps: [(&str, &[u32]); 4] = [("a", &[]), ("x", &[0]), ("y", &[0]), ("z", &[1, 2])];
    let execution = fixture.execute(&Fixture::graph(&steps), Some(&shelf));
    assert_eq!(told(&fixture).ran, [1, 2, 3]);
    assert_eq!(fixture.content(&execution, 3), "zxaya");
    assert_eq!(shelf.brings().len(), 1);
}

#[test]
fn what_a_cache_does_not_bring_is_built() {
    let unusable = CacheError::Unusable("a pack is missing".to_owned());
    let unreachable = CacheError::Unreachable("no route".to_owned());
    for error in [unusable, unreachable] {
        let fixture = Fixture::new();
        let shelf = warm(&CHAIN, &fixture);
        shelf.state().refuses = Some(error.clone());
        let steps: [(&str, &[u32]); 5] = [
            ("a", &[]),
            ("b", &[0]),
            ("c", &[1]),
            ("D", &[2]),
            ("e", &[3]),
        ];
        let execution = fixture.execute(&Fixture::graph(&steps), Some(&shelf));
        let now = told(&fixture);
        assert_eq!(fixture.content(&execution, 4), "eDcba");
        assert_eq!(
            (now.ran, now.counts),
            (vec![0, 1, 2, 3, 4], [5, 0, 0, 0, 0])
        );
        assert!(
            now.ended
                .values()
                .all(|end| *end == (StepOutcome::Built, 1))
        );
        assert_eq!(now.warnings.len(), 1, "{:?}", now.warnings);
        assert!(now.warnings[0].contains("shelf"), "{}", now.warnings[0]);
        // One that is down is not tried with each result.
        let tries = match error {
            CacheError::Unreachable(_) => 1,
            CacheError::Unusable(_) => 3,
        };
        assert_eq!(shelf.brings().len(), tries);
    }
}

#[test]
fn a_cache_that_brings_other_bytes_is_not_believed() {
    let fixture = Fixture::new();
    let shelf = warm(&CHAIN, &fixture);
    shelf.state().cheats = true;
    let execution = fixture.execute(&Fixture::graph(&CHAIN), Some(&shelf));
    let now = told(&fixture);
    assert_eq!(fixture.content(&execution, 3), "dcba");
    assert_eq!((now.ran, now.warnings.len()), (vec![0, 1, 2, 3], 1));
}

#[test]
fn what_follows_a_lie_comes_from_what_is_really_there() {
    let fixture = Fixture::new();
    let shelf = warm(&CHAIN, &fixture);
    let builder = Fixture::new();
    let graph = Fixture::graph(&CHAIN);
    let real = builder.execute(&graph, None);
    let nobodys = ObjectRef {
        id: ObjectId::new(Hasher::new("test").finish()),
        size: 3,
    };
    let lie = BTreeMap::from([("out".to_owned(), nobodys)]);
    shelf.state().results.insert(keys(&graph, &real)[1], lie);
    let execution = fixture.execute(&graph, Some(&shelf));
    let now = told(&fixture);
    assert_eq!(execution.outputs, real.outputs);
    assert_eq!((now.ran, now.counts), (vec![1], [1, 0, 3, 0, 0]));
    assert_eq!(now.ended[&1], (StepOutcome::Built, 1));
    assert_eq!(fixture.content(&execution, 3), "dcba");
}

#[test]
fn a_build_without_the_cache_knows_what_the_last_one_took() {
    let fixture = Fixture::new();
    let graph = Fixture::graph(&CHAIN);
    let shelf = warm(&CHAIN, &fixture);
    fixture.execute(&graph, Some(&shelf));
    told(&fixture);
    let changed = Fixture::graph(&[("a", &[]), ("b", &[0]), ("C", &[1]), ("d", &[2])]);
    // With a cache, what is remembered is brought.
    let execution = fixture.execute(&changed, Some(&shelf));
    let now = told(&fixture);
    assert_eq!(
        (now.ran, fixture.content(&execution, 3)),
        (vec![2, 3], "dCba".to_owned())
    );
    // Without, what is needed is built, and nobody is to blame.
    let other = Fixture::new();
    let shelf = shelf.of(&other);
    other.execute(&graph, Some(&shelf));
    told(&other);
    let execution = other.execute(&changed, None);
    let now = told(&other);
    assert_eq!(other.content(&execution, 3), "dCba");
    assert_eq!((now.ran, now.warnings), (vec![0, 1, 2, 3], vec![]));
    // What was built is remembered no more.
    let remembered = other.remembered();
    let keys = keys(&changed, &execution);
    assert_eq!(remembered.get(&keys[0]), None);
    assert_eq!(remembered.get(&keys[1]), None);
}

#[test]
fn a_cache_that_has_another_result_by_now_is_believed() {
    let fixture = Fixture::new();
    let graph = Fixture::graph(&[("a", &[]), ("b", &[0]), ("c", &[1])]);
    let shelf = warm(&[("a", &[]), ("b", &[0]), ("c", &[1])], &fixture);
    let execution = fixture.execute(&graph, Some(&shelf));
    told(&fixture);
    let key = keys(&graph, &execution)[1];
    let new = shelf.store.put_bytes(b"new").unwrap();
    let new = BTreeMap::from([("out".to_owned(), new)]);
    shelf.state().results.insert(key, new);
    let changed = Fixture::graph(&[("a", &[]), ("b", &[0]), ("C", &[1])]);
    let execution = fixture.execute(&changed, Some(&shelf));
    let now = told(&fixture);
    assert_eq!(
        (now.ran, fixture.content(&execution, 2)),
        (vec![2], "Cnew".to_owned())
    );
    assert!(now.warnings.is_empty());
}

#[test]
fn steps_that_are_to_run_are_not_taken_from_caches() {
    let graph = Fixture::graph(&CHAIN);
    let run = |options: &dyn Fn(&mut Options)| {
        let mut fixture = Fixture::new();
        options(&mut fixture.options);
        let shelf = warm(&CHAIN, &fixture);
        fixture.execute(&graph, Some(&shelf));
        let asked = shelf.look_ups.load(Ordering::SeqCst);
        (told(&fixture).ran, asked, shelf.brings().len())
    };
    assert_eq!(
        run(&|options| options.rebuild = true),
        (vec![0, 1, 2, 3], 0, 0)
    );
    let twice = vec![0, 0, 1, 1, 2, 2, 3, 3];
    assert_eq!(run(&|options| options.check = true), (twice, 0, 0));
    let (ran, asked, brought) = run(&|options| options.afresh = BTreeSet::from([NodeId(2)]));
    assert_eq!((ran, asked, brought), (vec![2], 3, 2));
}

#[test]
fn a_failed_step_is_not_tried_again_when_a_result_is_lost() {
    let mut fixture = Fixture::new();
    fixture.options.keep_going = true;
    fixture.options.jobs = Some(1);
    let shelf = warm(&[("a", &[]), ("b", &[0])], &fixture);
    shelf.state().refuses = Some(CacheError::Unusable("gone".to_owned()));
    let steps: [(&str, &[u32]); 5] = [
        ("fail", &[]),
        ("x", &[0]),
        ("a", &[]),
        ("y", &[2]),
        ("z", &[1, 3]),
    ];
    let execution = fixture.execute(&Fixture::graph(&steps), Some(&shelf));
    let now = told(&fixture);
    assert_eq!(execution.failures.len(), 1);
    assert_eq!((now.ran, now.counts), (vec![0, 2, 3], [2, 0, 0, 1, 2]));
    assert!(now.ended.values().all(|(_, times)| *times == 1));
}

#[test]
fn all_results_are_offered_but_those_that_the_cache_gave() {
    let builder = Fixture::new();
    let shelf = Shelf::new(&builder);
    let graph = Fixture::graph(&CHAIN);
    let execution = builder.execute(&graph, Some(&shelf));
    offer(&shelf, &execution.offers, &builder.interrupt);
    let all = keys(&graph, &execution);
    let last = |node: usize| node == 3;
    let expected: Vec<_> = (0..4).map(|node| (all[node], last(node))).collect();
    assert_eq!(std::mem::take(&mut shelf.state().offers), expected);
    assert_eq!(shelf.state().finished, 1);

    // What is in the store is offered, whoever built it; what the cache gave is not.
    let fixture = Fixture::new();
    let shelf = shelf.of(&fixture);
    let changed = Fixture::graph(&[("a", &[]), ("b", &[0]), ("c", &[1]), ("D", &[2])]);
    let execution = fixture.execute(&changed, Some(&shelf));
    offer(&shelf, &execution.offers, &fixture.interrupt);
    let offered = std::mem::take(&mut shelf.state().offers);
    assert_eq!(offered, [(keys(&changed, &execution)[3], true)]);
    let execution = fixture.execute(&changed, Some(&shelf));
    offer(&shelf, &execution.offers, &fixture.interrupt);
    assert_eq!(
        shelf.state().offers.len(),
        2,
        "what was brought is in the store now"
    );
}

#[test]
fn what_a_failed_build_finished_is_offered_and_nothing_after_an_interrupt() {
    let fixture = Fixture::new();
    let shelf = Shelf::new(&fixture);
    let graph = Fixture::graph(&[("a", &[]), ("fail", &[0])]);
    let execution = fixture.execute(&graph, Some(&shelf));
    assert_eq!(execution.failures.len(), 1);
    offer(&shelf, &execution.offers, &fixture.interrupt);
    assert_eq!(shelf.state().offers.len(), 1);
    fixture.interrupt.request();
    offer(&shelf, &execution.offers, &fixture.interrupt);
    assert_eq!(shelf.state().offers.len(), 1);
    assert_eq!(shelf.state().finished, 1);
}

#[test]
fn a_cache_that_takes_nothing_is_offered_nothing() {
    let fixture = Fixture::new();
    let mut shelf = Shelf::new(&fixture);
    shelf.pushes = false;
    let execution = fixture.execute(&Fixture::graph(&CHAIN), Some(&shelf));
    offer(&shelf, &execution.offers, &fixture.interrupt);
    assert!(execution.offers.is_empty() && shelf.state().offers.is_empty());
}

#[test]
fn giving_up_while_something_is_brought_is_no_failure_of_the_cache() {
    struct GivesUp<'a>(&'a Shelf, &'a Interrupt);
    impl Cache for GivesUp<'_> {
        fn look_up(&self, key: &ActionKey) -> Option<CacheHit> {
            self.0.look_up(key)
        }
        fn bring(&self, _: &ActionKey, _: &Outputs) -> Result<(), CacheError> {
            self.1.request();
            Err(CacheError::Unreachable("interrupted".to_owned()))
        }
        fn offer(&self, _: &ActionKey, _: &Outputs, _: bool) {}
    }
    for steps in [
        &CHAIN,
        &[("a", &[] as &[u32]), ("b", &[0]), ("c", &[1]), ("D", &[2])],
    ] {
        let fixture = Fixture::new();
        let shelf = warm(&CHAIN, &fixture);
        let cache = GivesUp(&shelf, &fixture.interrupt);
        let execution = fixture.execute(&Fixture::graph(steps), Some(&cache));
        let now = told(&fixture);
        assert!(execution.interrupted && execution.failures.is_empty());
        assert_eq!((now.ran, now.warnings), (vec![], vec![]));
    }
}

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

/// The steps that have to run when nobody lies: those that nobody knows, and those whose content is read and cannot
/// be had.
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

    /// With whatever a store, a memory and a cache know: the result is that of a build without them, and no step runs
    /// that need not.
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
            let expected: Vec<usize> = must_run(&nodes, down).into_iter().collect();
            prop_assert_eq!(&now.ran, &expected);
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
