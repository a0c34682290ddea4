//! Who waits for one of several places, across processes. Each has a ticket: a file below
//! `locks/queue/` that it holds the lock of, so that a ticket whose process was killed counts no
//! more. Its name says whose turn it is: whoever began first, and of one process what came first.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::super::error::{StoreError, io_error};
use super::files::Files;
use crate::host::file::Lock;

/// Somebody who waits for one of the first places.
#[derive(Debug)]
pub struct Ticket {
    directory: PathBuf,
    /// When its build began, its process, and its number there: names sort as turns come.
    turn: String,
    places: usize,
    /// Once others have to wait for it.
    held: Option<Lock>,
}

impl Ticket {
    pub(in crate::store) fn new(files: &Files, began: SystemTime, places: usize) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let began = began.duration_since(SystemTime::UNIX_EPOCH);
        let began = began.unwrap_or(Duration::ZERO).as_nanos();
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self {
            directory: files.path("locks", "queue"),
            turn: format!("{began:020}-{process:010}-{number:010}"),
            places,
            held: None,
        }
    }

    /// From now on, those whose turn is later wait. Somebody who looks at the queue just now may
    /// prevent it: to be called again.
    ///
    /// # Errors
    /// Its file cannot be made.
    pub fn hold(&mut self) -> Result<(), StoreError> {
        if self.held.is_none() {
            fs::create_dir_all(&self.directory).map_err(io_error("create", &self.directory))?;
            let path = self
                .directory
                .join(format!("{}-{}", self.turn, self.places));
            self.held = Lock::try_take(&path).map_err(io_error("lock", &path))?;
        }
        Ok(())
    }

    /// The number of the first place that nobody waits for whose turn is earlier.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn first_place(&self) -> Result<usize, StoreError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(io_error("list", &self.directory))?,
        };
        let mut first = 0;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((turn, places)) = name.to_str().and_then(|name| name.rsplit_once('-')) else {
                continue;
            };
            let Ok(places) = places.parse() else { continue };
            if turn >= self.turn.as_str() || places <= first {
                continue;
            }
            match Lock::try_take(&entry.path()) {
                // Its process is gone.
                Ok(Some(lock)) => lock.remove(),
                Ok(None) => first = places,
                Err(error) => return Err(io_error("lock", &entry.path())(error)),
            }
        }
        Ok(first)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn who_began_first_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let ticket = |seconds, places| store.ticket(at(seconds), places);
        let (mut first, mut second, third) = (ticket(100, 1), ticket(200, 2), ticket(300, 8));
        let places = || [&first, &second, &third].map(|one| one.first_place().unwrap());
        assert_eq!(places(), [0, 0, 0]);
        second.hold().unwrap();
        second.hold().unwrap();
        let places = || [&first, &third].map(|one| one.first_place().unwrap());
        assert_eq!(places(), [0, 2]);
        first.hold().unwrap();
        assert_eq!(second.first_place().unwrap(), 1);
        assert_eq!(third.first_place().unwrap(), 2);
        drop(second);
        assert_eq!(third.first_place().unwrap(), 1);
        // A process that was killed leaves its file.
        let left = directory
            .path()
            .join("locks/queue")
            .join(format!("{:020}-1-1-4", 5));
        fs::write(&left, "").unwrap();
        assert_eq!(third.first_place().unwrap(), 1);
        assert!(!left.exists());
        drop(first);
        assert_eq!(third.first_place().unwrap(), 0);
        let entries = fs::read_dir(directory.path().join("locks/queue")).unwrap();
        assert_eq!(entries.count(), 0);
    }

    #[test]
    fn of_one_build_what_came_first_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let began = SystemTime::now();
        let [mut one, other] = [(); 2].map(|()| store.ticket(began, 1));
        one.hold().unwrap();
        assert_eq!(one.first_place().unwrap(), 0);
        assert_eq!(other.first_place().unwrap(), 1);
    }
}
