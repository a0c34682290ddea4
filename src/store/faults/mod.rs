//! Faults on purpose: the n-th change of a file fails, or the process or the host "dies" there.
//!
//! A [`Faults`] belongs to all stores of one "host". It counts the changes that they make in
//! [`Files`](crate::store::records::files::Files), one after the other, and keeps book of what was forced to disk
//! ([`power`]), so that it can say what a loss of power leaves. Limits of packs and journals are
//! smaller there, so that little content makes many files.

mod power;
mod receive;
mod tests;
pub(super) mod workload;

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::records::files::{Change, Files};
use power::{Disk, Image};

/// How often the limits of lengths fit into the real ones.
const SHRINK: u64 = 512;
/// `EIO` and `ENOSPC`.
const FAILED: i32 = 5;
const FULL: i32 = 28;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// So many changes in a row fail.
    Error { times: u64 },
    /// So many changes in a row find the disk full. Of what is written, half fits.
    Full { times: u64 },
    /// The process is killed before the change.
    Kill,
    /// The process is killed in the middle of the change.
    Tear,
    /// The change fails, and the process is killed so many changes later.
    ErrorThenKill { later: u64 },
}

/// What is to fail, and when.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Changes so far.
    count: u64,
    due: Option<(u64, Fault)>,
    /// What there was when the process was killed.
    left: Option<Image>,
    /// Only where faults are wanted.
    disk: Option<Disk>,
}

impl Faults {
    /// A host on which the change with the number `at` (from 1) meets a fault.
    fn new(root: &Path, due: Option<(u64, Fault)>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            count: 0,
            due,
            left: None,
            disk: Some(Disk::new(root)),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn came(&self) -> bool {
        let state = self.state();
        state.due.is_some_and(|(at, _)| state.count >= at)
    }

    /// The fault is over.
    fn repair(&self) {
        let mut state = self.state();
        if let Some((_, Fault::Error { times } | Fault::Full { times })) = &mut state.due {
            *times = 0;
        }
    }

    /// Gives what the process left when it was killed.
    fn killed(&self) -> Option<Image> {
        self.state().left.clone()
    }

    /// What is there after a loss of power now, or when the process was killed.
    fn lose_power(&self, loss: power::Loss) -> Image {
        let state = self.state();
        state.disk.as_ref().unwrap().after(loss)
    }

    pub(super) fn limit(&self, bytes: u64) -> u64 {
        match self.state().disk {
            Some(_) => bytes / SHRINK,
            None => bytes,
        }
    }

    /// Makes a change, if nothing comes between. One at a time.
    pub(super) fn change<T>(
        &self,
        change: &Change<'_>,
        make: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        let State {
            count,
            due,
            left,
            disk: Some(disk),
        } = &mut *state
        else {
            drop(state);
            return make();
        };
        if left.is_some() {
            return Err(io::Error::from_raw_os_error(FAILED));
        }
        *count += 1;
        if let Some((at, fault)) = *due
            && *count >= at
        {
            match fault {
                Fault::Error { times } if *count < at + times => {
                    return Err(io::Error::from_raw_os_error(FAILED));
                }
                // What frees room works on a full disk.
                Fault::Full { times }
                    if *count < at + times
                        && !matches!(change, Change::Truncate | Change::Remove(_)) =>
                {
                    write_half(change);
                    return Err(io::Error::from_raw_os_error(FULL));
                }
                Fault::ErrorThenKill { .. } if *count == at => {
                    return Err(io::Error::from_raw_os_error(FAILED));
                }
                Fault::ErrorThenKill { later } if *count < at + later => {}
                Fault::Kill | Fault::Tear | Fault::ErrorThenKill { .. } => {
                    if fault == Fault::Tear {
                        write_half(change);
                    }
                    disk.stop();
                    *left = Some(disk.now());
                    return Err(io::Error::from_raw_os_error(FAILED));
                }
                _ => {}
            }
        }
        let before = disk.before(change);
        let made = make()?;
        disk.made(change, before);
        Ok(made)
    }
}

fn write_half(change: &Change<'_>) {
    if let Change::Write(file, bytes, offset) = change {
        file.write_all_at(&bytes[..bytes.len() / 2], *offset)
            .unwrap();
    }
}

impl Store {
    /// Opens a store on a host with faults.
    fn open_on(root: &Path, faults: &Arc<Faults>) -> Result<Self, StoreError> {
        let mut files = Files::new(root.to_owned());
        files.faults = faults.clone();
        Self::open_files(files)
    }
}
