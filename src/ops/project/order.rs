//! Doing something with each of several machines, in the order of their dependencies: what does not
//! depend on each other is done at the same time, each in a thread of its own, because it waits for
//! guests and not for processors.

use std::sync::{Condvar, Mutex, PoisonError};

/// Calls `act` for each of `after.len()` positions, once those in its list `after` have come as far
/// as it says; tells it which of them failed before. `act` tells how far it has come, and in the
/// end whether it succeeded: then it has come as far as anybody waits for. There are no circles.
pub(super) fn in_order<S: Ord + Copy + Send + Sync>(
    after: &[Vec<(usize, S)>],
    act: impl Fn(usize, &[usize], &dyn Fn(S)) -> bool + Sync,
) {
    let begin = || Progress {
        reached: None,
        ended: None,
    };
    let done: Mutex<Vec<Progress<S>>> = Mutex::new(after.iter().map(|_| begin()).collect());
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
                    let waiting = |done: &mut Vec<Progress<S>>| {
                        let mut before = before.iter();
                        before.any(|&(other, stage)| done[other].answer(stage).is_none())
                    };
                    let guard = done.lock().unwrap_or_else(PoisonError::into_inner);
                    let guard = changed
                        .wait_while(guard, waiting)
                        .unwrap_or_else(PoisonError::into_inner);
                    let failed = before
                        .iter()
                        .filter(|&&(other, stage)| guard[other].answer(stage) == Some(false));
                    failed.map(|(other, _)| *other).collect()
                };
                let reach = |stage| {
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done[position].reached = Some(stage);
                    changed.notify_all();
                };
                finish.succeeded = act(position, &failed, &reach);
            });
        }
    });
}

/// How far one has come.
struct Progress<S> {
    reached: Option<S>,
    /// Whether it succeeded, once it has ended.
    ended: Option<bool>,
}

impl<S: Ord + Copy> Progress<S> {
    /// Whether it has come as far as `stage`; nothing while that is open.
    fn answer(&self, stage: S) -> Option<bool> {
        let reached = self.reached.is_some_and(|reached| reached >= stage);
        reached.then_some(true).or(self.ended)
    }
}

struct Finish<'a, S> {
    done: &'a Mutex<Vec<Progress<S>>>,
    changed: &'a Condvar,
    position: usize,
    succeeded: bool,
}

impl<S> Drop for Finish<'_, S> {
    fn drop(&mut self) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)[self.position].ended =
            Some(self.succeeded);
        self.changed.notify_all();
    }
}

/// The same with nothing between the beginning and the end.
pub(super) fn to_the_end(after: &[Vec<usize>]) -> Vec<Vec<(usize, ())>> {
    let lists = after.iter();
    lists
        .map(|list| list.iter().map(|&other| (other, ())).collect())
        .collect()
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
            in_order(&to_the_end(&after), |position, failed, _| {
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
        in_order(&to_the_end(&[vec![], vec![]]), |_, _, _| {
            both.wait();
            true
        });
    }

    #[test]
    fn failures_reach_those_after_them() {
        let told = Mutex::new(Vec::new());
        in_order(
            &to_the_end(&[vec![], vec![], vec![0, 1], vec![2]]),
            |position, failed, _| {
                told.lock().unwrap().push((position, failed.to_vec()));
                position != 1 && failed.is_empty()
            },
        );
        let mut told = told.into_inner().unwrap();
        told.sort();
        assert_eq!(told, [(0, vec![]), (1, vec![]), (2, vec![1]), (3, vec![2])]);
    }

    #[test]
    fn who_waits_for_less_goes_on_earlier() {
        let after = [vec![], vec![(0, 1)], vec![(0, 2)], vec![(0, 1), (2, 1)]];
        let told = Mutex::new(Vec::new());
        let (second, go_on) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        in_order(&after, |position, failed, reach| {
            if position == 0 {
                reach(1);
                // The one that waits for no more runs while this one has not ended.
                second.wait();
                go_on.wait();
                return false;
            }
            told.lock().unwrap().push((position, failed.to_vec()));
            if position == 1 {
                second.wait();
                go_on.wait();
            }
            failed.is_empty()
        });
        let mut told = told.into_inner().unwrap();
        told.sort();
        assert_eq!(told, [(1, vec![]), (2, vec![0]), (3, vec![2])]);
    }
}
