//! Results whose content is elsewhere: what caches and earlier builds say, and bringing it when it
//! is needed.
//!
//! ```text
//!            in the store? ──yes──► taken from there
//!                 │no
//!   remembered, or does a cache say? ──no──► built
//!                 │yes
//!               found ──► needed? ──no──► stays elsewhere
//!                            │yes
//!                         brought ──fails──► lost: as if nobody had ever said anything
//! ```
//!
//! It outlives a pass over the graph: what is lost stays lost for the build.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::Sources;
use crate::derivation::{CacheError, CacheHit, Outputs};
use crate::digest::ActionKey;
use crate::event::{Event, Sink};
use crate::host::Interrupt;

/// Questions, or results that are brought, at a time.
const PARALLEL: usize = 8;

/// What is known of results that are not in the store.
pub(super) struct Caches<'a> {
    pub(super) sources: Sources<'a>,
    sink: &'a dyn Sink,
    interrupt: Option<&'a Interrupt>,
    state: Mutex<State>,
    /// A key is free again.
    freed: Condvar,
    /// Nothing comes from the cache any more.
    down: AtomicBool,
    warned: AtomicBool,
}

#[derive(Default)]
struct State {
    hits: HashMap<ActionKey, CacheHit>,
    asked: HashSet<ActionKey>,
    lost: HashSet<ActionKey>,
    /// Keys that a thread asks for, or brings.
    taken: HashSet<ActionKey>,
}

/// A result that is not in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteResult {
    pub(super) outputs: Outputs,
    /// The cache; nothing when it is remembered.
    pub(super) from: Option<String>,
}

/// Why something could not be brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotBrought {
    /// The result is lost, or another one: keys must be made anew.
    Again,
    /// The user gave up.
    Interrupted,
}

/// A key that this thread has for itself.
struct Turn<'r, 'a>(&'r Caches<'a>, ActionKey);

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        self.0.state().taken.remove(&self.1);
        self.0.freed.notify_all();
    }
}

impl<'a> Caches<'a> {
    pub(super) fn new(
        sources: Sources<'a>,
        sink: &'a dyn Sink,
        interrupt: Option<&'a Interrupt>,
    ) -> Self {
        Self {
            sources,
            sink,
            interrupt,
            state: Mutex::default(),
            freed: Condvar::new(),
            down: AtomicBool::new(false),
            warned: AtomicBool::new(false),
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.is_some_and(Interrupt::requested)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other thread asks for this key or brings it.
    fn turn(&self, key: ActionKey) -> Turn<'_, 'a> {
        let state = self.state();
        let free = self
            .freed
            .wait_while(state, |state| state.taken.contains(&key));
        free.unwrap_or_else(PoisonError::into_inner)
            .taken
            .insert(key);
        Turn(self, key)
    }

    /// What is known of an action without asking anybody.
    pub(super) fn known(&self, key: &ActionKey) -> Option<RemoteResult> {
        {
            let state = self.state();
            if state.lost.contains(key) {
                return None;
            }
            if let Some(hit) = state.hits.get(key) {
                return Some(hit.clone().into());
            }
        }
        let outputs = self.sources.remembered.get(key)?;
        Some(RemoteResult {
            outputs,
            from: None,
        })
    }

    /// Asks the cache, once for each key.
    pub(super) fn ask(&self, key: &ActionKey) -> Option<RemoteResult> {
        self.sources.cache?;
        let _turn = self.turn(*key);
        self.ask_in_turn(key).map(RemoteResult::from)
    }

    fn ask_in_turn(&self, key: &ActionKey) -> Option<CacheHit> {
        let cache = self.sources.cache?;
        {
            let mut state = self.state();
            if state.lost.contains(key) {
                return None;
            }
            let gave_up = self.down.load(Ordering::Relaxed) || self.is_interrupted();
            if gave_up || !state.asked.insert(*key) {
                return state.hits.get(key).cloned();
            }
        }
        let hit = cache.look_up(key)?;
        self.state().hits.insert(*key, hit.clone());
        Some(hit)
    }

    /// The cache that has those outputs `needed` of a result that are not in the store, if there are
    /// any. `outputs` are all of the result, as it was found.
    pub(super) fn promise(
        &self,
        key: &ActionKey,
        outputs: &Outputs,
        needed: &Outputs,
    ) -> Result<Option<String>, NotBrought> {
        match self.missing(needed).is_empty() {
            true => Ok(None),
            false => {
                let _turn = self.turn(*key);
                self.promise_in_turn(key, outputs).map(Some)
            }
        }
    }

    fn promise_in_turn(&self, key: &ActionKey, outputs: &Outputs) -> Result<String, NotBrought> {
        // What is remembered, the cache may have as well, or otherwise.
        match self.ask_in_turn(key) {
            Some(hit) if hit.outputs == *outputs => Ok(hit.from),
            Some(_) => Err(NotBrought::Again),
            None => Err(self.lose(key)),
        }
    }

    fn missing(&self, needed: &Outputs) -> Outputs {
        let mut missing = needed.clone();
        missing.retain(|_, object| !self.sources.store.has_object(object));
        missing
    }

    /// Brings those outputs `needed` of a result that are not in the store; tells where they came
    /// from when one was not. `outputs` are all of the result, as it was found.
    pub(super) fn bring(
        &self,
        key: &ActionKey,
        outputs: &Outputs,
        needed: &Outputs,
    ) -> Result<Option<String>, NotBrought> {
        if self.is_interrupted() {
            return Err(NotBrought::Interrupted);
        }
        let _turn = self.turn(*key);
        let missing = self.missing(needed);
        if missing.is_empty() {
            return Ok(None);
        }
        let from = self.promise_in_turn(key, outputs)?;
        let Some(cache) = self
            .sources
            .cache
            .filter(|_| !self.down.load(Ordering::Relaxed))
        else {
            return Err(self.lose(key));
        };
        let brought: Result<(), CacheError> = match cache.bring(key, &missing) {
            Ok(()) if self.missing(&missing).is_empty() => return Ok(Some(from)),
            Ok(()) => Err(CacheError::Unusable(
                "it returned something other than it announced".to_owned(),
            )),
            Err(error) => Err(error),
        };
        if self.is_interrupted() {
            return Err(NotBrought::Interrupted);
        }
        if let Err(error) = brought {
            if matches!(error, CacheError::Unreachable(_)) {
                self.down.store(true, Ordering::Relaxed);
            }
            self.warn(&from, &error);
        }
        Err(self.lose(key))
    }

    fn lose(&self, key: &ActionKey) -> NotBrought {
        self.state().lost.insert(*key);
        NotBrought::Again
    }

    /// Once for each build: what follows is seldom news.
    fn warn(&self, from: &str, error: &CacheError) {
        if *error == CacheError::Absent || self.warned.swap(true, Ordering::Relaxed) {
            return;
        }
        let then = match error {
            CacheError::Unreachable(_) => "building the steps that are needed",
            CacheError::Unusable(_) | CacheError::Absent => {
                "building the steps with missing content"
            }
        };
        self.sink.emit(Event::Warning {
            message: format!("cannot use the cache {from}: {error}; {then}"),
        });
    }

    /// A result is in the store now.
    pub(super) fn is_built(&self, key: &ActionKey) {
        if self.state().lost.contains(key) {
            self.sources.remembered.forget(key);
        }
    }
}

impl From<CacheHit> for RemoteResult {
    fn from(hit: CacheHit) -> Self {
        Self {
            outputs: hit.outputs,
            from: Some(hit.from),
        }
    }
}

/// Does something with each item, with a few at a time, on threads of its own: it waits for a
/// network. Results are in the order of the items.
pub(super) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if let [item] = items {
        return vec![work(item)];
    }
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let next = Mutex::new(items.iter().zip(&mut results));
    std::thread::scope(|scope| {
        for _ in 0..items.len().min(PARALLEL) {
            scope.spawn(|| {
                loop {
                    let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some((item, result)) = next.next() else {
                        return;
                    };
                    drop(next);
                    *result = Some(work(item));
                }
            });
        }
    });
    results.into_iter().flatten().collect()
}
