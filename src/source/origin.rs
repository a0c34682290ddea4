//! Content from where no URL leads: whoever knows the way reads it, and all else is as for
//! downloads.

use std::io::{self, Read};

use super::error::FetchError;
use super::fetch::{FetchRequest, Fetched, Fetcher, Outcome};
use super::partial::Note;
use super::progress::Progress;
use super::transfer::{Intake, Taker, Transfer};
use crate::failure::{Failure, Kind};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// Who knows where content is: a registry.
pub trait Origin: Sync {
    /// The bytes from `offset` on, or from the first one, and which of both.
    ///
    /// # Errors
    /// They cannot be had; nobody asks again.
    fn open(&self, offset: u64) -> Result<(u64, Box<dyn Read + Send>), Failure>;

    /// What an error means that came while bytes were read.
    fn failed(&self, error: io::Error) -> Failure;

    /// Whether it is on this host: then nothing of it is kept while it is read, and it can be had
    /// offline.
    fn is_local(&self) -> bool;
}

impl Fetcher {
    /// Brings a source from an origin to a taker, as [`fetch`](Self::fetch) does. The request must
    /// have a checksum and a size.
    ///
    /// # Errors
    /// It cannot be had, is not what it should be, or something here is missing, full or broken.
    pub fn fetch_from(
        &self,
        request: &FetchRequest<'_>,
        origin: &dyn Origin,
        taker: &mut dyn Taker,
    ) -> Result<Outcome, FetchError> {
        let mut intake = Intake::new(request, taker);
        if !origin.is_local() {
            return self.download(request, intake, &|transfer, progress| {
                self.bring(request, origin, transfer, progress)
            });
        }
        let (_, bytes) = origin.open(0).map_err(|error| failed(request, error))?;
        let result = self.read(request, origin, bytes, |bytes| intake.take(bytes));
        result?;
        let fetched = right(request, &intake)?;
        intake.finish(&fetched)?;
        Ok(Outcome::Fetched(fetched))
    }

    fn bring(
        &self,
        request: &FetchRequest<'_>,
        origin: &dyn Origin,
        transfer: &mut Transfer<'_>,
        progress: &Progress<'_>,
    ) -> Result<Fetched, FetchError> {
        let from = request.source.url();
        progress.started(from, transfer.done(), request.size);
        let brought = self.bring_all(request, origin, transfer, progress);
        if let Err(error) = &brought
            && !matches!(error, FetchError::Interrupted)
        {
            progress.failed(from, &error.to_string());
        }
        brought
    }

    fn bring_all(
        &self,
        request: &FetchRequest<'_>,
        origin: &dyn Origin,
        transfer: &mut Transfer<'_>,
        progress: &Progress<'_>,
    ) -> Result<Fetched, FetchError> {
        loop {
            if let Some(size) = request.size {
                transfer.check_space(size)?;
            }
            if request.size.is_none_or(|size| transfer.done() < size) {
                let opened = origin.open(transfer.done());
                let (start, bytes) = opened.map_err(|error| failed(request, error))?;
                if start != transfer.done() {
                    transfer.restart()?;
                }
                let note = |complete| Note {
                    url: request.source.url().to_owned(),
                    validator: None,
                    total: request.size,
                    complete,
                };
                transfer.write_note(note(false))?;
                self.read(request, origin, bytes, |bytes| {
                    let taken = transfer.take(bytes)?;
                    progress.at(transfer.done(), request.size);
                    Ok(taken)
                })
                .inspect_err(|error| {
                    // What is too long is wrong from some place on.
                    if matches!(error, FetchError::WrongSize { .. }) {
                        let _ = transfer.restart();
                    }
                })?;
            }
            match right(request, &transfer.intake) {
                Ok(fetched) => {
                    transfer.write_note(Note {
                        url: request.source.url().to_owned(),
                        validator: None,
                        total: Some(fetched.size),
                        complete: true,
                    })?;
                    return Ok(fetched);
                }
                // The mistake may be in what was here before, or at the seam.
                Err(_) if transfer.patched => transfer.restart()?,
                Err(error) => {
                    transfer.restart()?;
                    return Err(error);
                }
            }
        }
    }

    /// Reads to the end.
    fn read(
        &self,
        request: &FetchRequest<'_>,
        origin: &dyn Origin,
        mut from: Box<dyn Read + Send>,
        mut take: impl FnMut(&[u8]) -> Result<bool, FetchError>,
    ) -> Result<(), FetchError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            self.go_on()?;
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.go_on()?;
                    return Err(failed(request, origin.failed(error)));
                }
            };
            if !take(&buffer[..count])? {
                return Err(wrong_size(request, None));
            }
        }
    }
}

/// What came, when it is what it should be.
fn right(request: &FetchRequest<'_>, intake: &Intake<'_>) -> Result<Fetched, FetchError> {
    let (size, found) = (intake.done(), intake.checksum());
    if request.size.is_some_and(|expected| expected != size) {
        return Err(wrong_size(request, Some(size)));
    }
    let url = request.source.url().to_owned();
    match request.checksum {
        Some(expected) if *expected != found => Err(FetchError::Mismatch {
            url,
            expected: expected.clone(),
            found,
            size,
        }),
        _ => Ok(Fetched {
            size,
            checksum: found,
            url_used: url,
        }),
    }
}

fn wrong_size(request: &FetchRequest<'_>, found: Option<u64>) -> FetchError {
    FetchError::WrongSize {
        url: request.source.url().to_owned(),
        expected: request.size.unwrap_or_default(),
        found,
    }
}

fn failed(request: &FetchRequest<'_>, error: Failure) -> FetchError {
    match error.kind() {
        Kind::Interrupted => FetchError::Interrupted,
        _ => FetchError::Origin {
            name: request.source.name().to_owned(),
            error,
        },
    }
}
