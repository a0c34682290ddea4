//! The one pass over the bytes: to the hasher, to the taker, and to the partial file.

use std::io;
use std::path::{Path, PathBuf};

use super::error::FetchError;
use super::fetch::{FetchRequest, Fetched};
use super::partial::{Note, Partial};
use crate::digest::{Algorithm, Checksum, ChecksumHasher};

/// Why a taker could not take.
pub type TakeError = Box<dyn std::error::Error + Send + Sync>;

/// Who gets the bytes while they come, before it is known that they are right: the store.
pub trait Taker {
    /// All bytes so far were wrong: they come anew, from the first.
    ///
    /// # Errors
    /// What was taken cannot be given up.
    fn restart(&mut self) -> Result<(), TakeError>;

    /// The next bytes.
    ///
    /// # Errors
    /// They cannot be taken.
    fn take(&mut self, bytes: &[u8]) -> Result<(), TakeError>;

    /// All bytes came and are what they should be. When this has succeeded, the download is
    /// forgotten.
    ///
    /// # Errors
    /// They cannot be kept.
    fn finish(&mut self, fetched: &Fetched) -> Result<(), TakeError>;
}

/// Hasher and taker.
pub(super) struct Intake<'a> {
    name: &'a str,
    algorithm: Algorithm,
    hasher: ChecksumHasher,
    taker: &'a mut dyn Taker,
    done: u64,
    size: Option<u64>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(request: &FetchRequest<'a>, taker: &'a mut dyn Taker) -> Self {
        let algorithm = request
            .checksum
            .map_or(Algorithm::Sha256, Checksum::algorithm);
        Self {
            name: request.source.name(),
            algorithm,
            hasher: ChecksumHasher::new(algorithm),
            taker,
            done: 0,
            size: request.size,
        }
    }

    /// Bytes that were taken.
    pub(super) const fn done(&self) -> u64 {
        self.done
    }

    /// The next bytes; false when they are more than there should be.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<bool, FetchError> {
        let done = self.done + bytes.len() as u64;
        if self.size.is_some_and(|size| done > size) {
            return Ok(false);
        }
        self.hasher.update(bytes);
        let taken = self.taker.take(bytes);
        taken.map_err(|source| self.failed(source))?;
        self.done = done;
        Ok(true)
    }

    fn restart(&mut self) -> Result<(), FetchError> {
        if self.done == 0 {
            return Ok(());
        }
        self.done = 0;
        self.hasher = ChecksumHasher::new(self.algorithm);
        self.taker.restart().map_err(|source| self.failed(source))
    }

    /// The checksum of all bytes.
    pub(super) fn checksum(&self) -> Checksum {
        self.hasher.clone().finish()
    }

    pub(super) fn finish(&mut self, fetched: &Fetched) -> Result<(), FetchError> {
        let finished = self.taker.finish(fetched);
        finished.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: TakeError) -> FetchError {
        let name = self.name.to_owned();
        FetchError::Take { name, source }
    }
}

/// A download under way.
pub(super) struct Transfer<'a> {
    pub(super) intake: Intake<'a>,
    partial: Partial,
    directory: PathBuf,
    /// Whether the bytes are not all of one answer: then a wrong checksum may come from the seams.
    pub(super) patched: bool,
}

impl<'a> Transfer<'a> {
    /// Goes on with a partial file: its bytes go to hasher and taker.
    pub(super) fn resume(
        intake: Intake<'a>,
        partial: Partial,
        directory: &Path,
        go_on: impl Fn() -> Result<(), FetchError>,
    ) -> Result<Self, FetchError> {
        let mut transfer = Self {
            patched: partial.length() > 0,
            intake,
            partial,
            directory: directory.to_owned(),
        };
        let intake = &mut transfer.intake;
        let mut too_many = false;
        transfer.partial.replay(|bytes| {
            go_on()?;
            too_many = too_many || !intake.take(bytes)?;
            Ok(())
        })?;
        if too_many {
            transfer.restart()?;
        }
        Ok(transfer)
    }

    /// Bytes that are here.
    pub(super) const fn done(&self) -> u64 {
        self.intake.done()
    }

    /// What is known of them.
    pub(super) const fn note(&self) -> &Note {
        &self.partial.note
    }

    pub(super) fn write_note(&mut self, note: Note) -> Result<(), FetchError> {
        let written = self.partial.write_note(note);
        written.map_err(|error| self.write_error(error))
    }

    /// Forgets all bytes, here and with the taker.
    pub(super) fn restart(&mut self) -> Result<(), FetchError> {
        self.partial.clear()?;
        self.patched = false;
        self.intake.restart()
    }

    /// The next bytes; false when they are more than there should be.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<bool, FetchError> {
        // The file first: what is in it can be gone on with, whatever happens to the taker.
        let written = self.partial.append(bytes);
        written.map_err(|error| self.write_error(error))?;
        self.intake.take(bytes)
    }

    /// Looks whether what is still to come has room.
    pub(super) fn check_space(&self, total: u64) -> Result<(), FetchError> {
        let needed = total.saturating_sub(self.done());
        match available(&self.directory) {
            Some(available) if needed > available => Err(FetchError::NoSpace {
                name: self.intake.name.to_owned(),
                directory: self.directory.clone(),
                needed: Some(needed),
                available,
            }),
            _ => Ok(()),
        }
    }

    /// It is over and right: what is here of it goes.
    pub(super) fn forget(self) -> Result<(), FetchError> {
        self.partial.remove()
    }

    fn write_error(&self, error: io::Error) -> FetchError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FetchError::NoSpace {
                name: self.intake.name.to_owned(),
                directory: self.directory.clone(),
                needed: self
                    .note()
                    .total
                    .map(|total| total.saturating_sub(self.done())),
                available: available(&self.directory).unwrap_or(0),
            },
            _ => FetchError::io("write to", &self.directory)(error),
        }
    }
}

/// Bytes that are free for a user; `None` when the file system does not say.
fn available(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
