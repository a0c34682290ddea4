//! Doing many things at once, and telling how far all of them are.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::ShareError;
use crate::event::{Event, Sink};
use crate::host::Interrupt;

/// Does `work` for each item, up to `parallel` at a time, each on a thread of its own: they wait
/// for the network.
///
/// # Errors
/// The first that there was; what had not begun then is not done.
pub(super) fn all<T: Send, R: Send>(
    items: Vec<T>,
    parallel: usize,
    work: impl Fn(T) -> Result<R, ShareError> + Sync,
) -> Result<Vec<R>, ShareError> {
    let count = items.len();
    let queue: Mutex<VecDeque<(usize, T)>> = Mutex::new(items.into_iter().enumerate().collect());
    let done: Mutex<Vec<Option<R>>> = Mutex::new((0..count).map(|_| None).collect());
    let failed: Mutex<Option<ShareError>> = Mutex::new(None);
    let run = || {
        loop {
            if lock(&failed).is_some() {
                return;
            }
            let Some((number, item)) = lock(&queue).pop_front() else {
                return;
            };
            match work(item) {
                Ok(result) => lock(&done)[number] = Some(result),
                Err(error) => {
                    lock(&failed).get_or_insert(error);
                }
            }
        }
    };
    match count.min(parallel.max(1)) {
        0 => {}
        1 => run(),
        threads => std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(run);
            }
        }),
    }
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(done.into_iter().flatten().collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task that is told of in bytes.
pub struct Task<'a> {
    sink: &'a dyn Sink,
    interrupt: &'a Interrupt,
    name: String,
    started: Instant,
    done: AtomicI64,
    total: AtomicU64,
    is_done: AtomicBool,
}

impl<'a> Task<'a> {
    /// Begins a task.
    #[must_use]
    pub fn new(sink: &'a dyn Sink, interrupt: &'a Interrupt, name: String) -> Self {
        sink.emit(Event::TaskStarted { name: name.clone() });
        Self {
            sink,
            interrupt,
            name,
            started: Instant::now(),
            done: AtomicI64::new(0),
            total: AtomicU64::new(0),
            is_done: AtomicBool::new(false),
        }
    }

    /// There are so many bytes more to be moved.
    pub fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many were moved, or are to be moved again.
    pub fn step(&self, bytes: i64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.sink.emit(Event::TaskProgress {
            name: self.name.clone(),
            done: u64::try_from(done).unwrap_or(0),
            total: self.total.load(Ordering::Relaxed),
        });
    }

    /// It is done; told when it is dropped.
    pub fn done(&self) {
        self.is_done.store(true, Ordering::Relaxed);
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// The user gave up.
    pub fn check(&self) -> Result<(), ShareError> {
        match self.interrupt.requested() {
            true => Err(ShareError::Interrupted),
            false => Ok(()),
        }
    }

    /// Bytes that were moved.
    #[must_use]
    pub fn moved(&self) -> u64 {
        u64::try_from(self.done.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        let (name, seconds) = (self.name.clone(), self.started.elapsed().as_secs_f64());
        self.sink.emit(match self.is_done.load(Ordering::Relaxed) {
            true => Event::TaskFinished { name, seconds },
            false => Event::TaskFailed { name, seconds },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_the_first_error_ends_it() {
        let items: Vec<u64> = (0..100).collect();
        let doubled = all(items.clone(), 4, |n| Ok(n * 2)).unwrap();
        assert_eq!(doubled, (0..100).map(|n| n * 2).collect::<Vec<_>>());
        let seen = AtomicU64::new(0);
        let result = all(items, 1, |n| {
            seen.fetch_add(1, Ordering::Relaxed);
            match n {
                3 => Err(ShareError::Interrupted),
                n => Ok(n),
            }
        });
        assert!(result.is_err());
        assert_eq!(seen.into_inner(), 4);
        assert!(all(Vec::<()>::new(), 4, |()| Ok(())).unwrap().is_empty());
    }
}
