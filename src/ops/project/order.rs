//! Doing something with each of several machines, in the order of their dependencies: what does not
//! depend on each other is done at the same time, each in a thread of its own, because it waits for
//! guests and not for processors.

use std::sync::{Condvar, Mutex, PoisonError};

/// Calls `act` for each of `after.len()` positions, once it was called for all in its list `after`;
/// tells it which of those failed. `act` tells whether it succeeded. There are no circles.
pub(super) fn in_order(after: &[Vec<usize>], act: impl Fn(usize, &[usize]) -> bool + Sync) {
    let done: Mutex<Vec<Option<bool>>> = Mutex::new(vec![None; after.len()]);
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for (position, before) in after.iter().enumerate() {
            let (done, changed, act) = (&done, &changed, &act);
            scope.spawn(move || {
                // Also when `act` panics: who waits for it must not wait for ever.
                let mut finish = Finish {
                    done,
                    changed,
                    position,
                    succeeded: false,
                };
                let failed: Vec<usize> = {
                    let waiting = |done: &mut Vec<Option<bool>>| {
                        before.iter().any(|&other| done[other].is_none())
                    };
                    let guard = done.lock().unwrap_or_else(PoisonError::into_inner);
                    let guard = changed
                        .wait_while(guard, waiting)
                        .unwrap_or_else(PoisonError::into_inner);
                    let failed = before.iter().filter(|&&other| guard[other] == Some(false));
                    failed.copied().collect()
                };
                finish.succeeded = act(position, &failed);
            });
        }
    });
}

struct Finish<'a> {
    done: &'a Mutex<Vec<Option<bool>>>,
    changed: &'a Condvar,
    position: usize,
    succeeded: bool,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)[self.position] =
            Some(self.succeeded);
        self.changed.notify_all();
    }
}

/// The other way round: for each position those that have it in their list.
pub(super) fn reversed(after: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut before = vec![Vec::new(); after.len()];
    for (position, others) in after.iter().enumerate() {
        for &other in others {
            before[other].push(position);
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Graphs without circles: each position comes after some of those before it.
    fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
        prop::collection::vec(
            prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            1..8,
        )
        .prop_map(|all| {
            let lists = all.iter().enumerate();
            lists
                .map(|(position, list)| match position {
                    0 => Vec::new(),
                    _ => list.iter().map(|index| index.index(position)).collect(),
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn each_once_and_after_its_own(after in graphs(), bad in any::<u8>(), back in any::<bool>()) {
            let after = if back { reversed(&after) } else { after };
            let calls = Mutex::new(Vec::new());
            in_order(&after, |position, failed| {
                let seen: Vec<usize> = calls.lock().unwrap().clone();
                let succeeds = bad >> (position % 8) & 1 == 0 && failed.is_empty();
                for other in &after[position] {
                    assert!(seen.contains(other), "{position} came before {other}");
                }
                calls.lock().unwrap().push(position);
                succeeds
            });
            let mut calls = calls.into_inner().unwrap();
            calls.sort_unstable();
            prop_assert_eq!(calls, (0..after.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_independent_runs_at_the_same_time() {
        let both = std::sync::Barrier::new(2);
        in_order(&[vec![], vec![]], |_, _| {
            both.wait();
            true
        });
    }

    #[test]
    fn failures_reach_those_after_them() {
        let told = Mutex::new(Vec::new());
        in_order(
            &[vec![], vec![], vec![0, 1], vec![2]],
            |position, failed| {
                told.lock().unwrap().push((position, failed.to_vec()));
                position != 1 && failed.is_empty()
            },
        );
        let mut told = told.into_inner().unwrap();
        told.sort();
        assert_eq!(told, [(0, vec![]), (1, vec![]), (2, vec![1]), (3, vec![2])]);
    }
}
