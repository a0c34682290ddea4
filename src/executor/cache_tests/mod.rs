//! Builds with a cache: another store, and what it says it has.

mod cases;
mod model;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

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
