//! What happens with a cache, one thing at a time.

use super::*;

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
    for error in [unusable, unreachable, CacheError::Absent] {
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
        // A cache that never claimed to have the content has nothing to be warned of.
        let warnings = usize::from(error != CacheError::Absent);
        assert_eq!(now.warnings.len(), warnings, "{:?}", now.warnings);
        assert!(now.warnings.iter().all(|text| text.contains("shelf")));
        // One that is down is not tried with each result.
        let tries = match error {
            CacheError::Unreachable(_) => 1,
            CacheError::Unusable(_) | CacheError::Absent => 3,
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
