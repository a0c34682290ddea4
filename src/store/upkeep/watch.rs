//! How long work over a whole store is watched, and given up.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::host::Interrupt;
use crate::store::error::StoreError;

/// Watches work over a whole store.
pub struct Watch<'a> {
    interrupt: &'a Interrupt,
    progress: &'a (dyn Fn(u64, u64) + Sync),
    done: AtomicU64,
    total: AtomicU64,
}

impl<'a> Watch<'a> {
    /// The work ends when the interrupt is requested. `progress` is told how many bytes are done,
    /// and of how many; from any thread, and often.
    #[must_use]
    pub const fn new(interrupt: &'a Interrupt, progress: &'a (dyn Fn(u64, u64) + Sync)) -> Self {
        Self {
            interrupt,
            progress,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
        }
    }

    pub(in crate::store) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes more are done.
    ///
    /// # Errors
    /// The user gave up.
    pub(in crate::store) fn step(&self, bytes: u64) -> Result<(), StoreError> {
        if self.interrupt.requested() {
            return Err(StoreError::Interrupted);
        }
        if bytes > 0 {
            let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            (self.progress)(done, self.total.load(Ordering::Relaxed));
        }
        Ok(())
    }
}
