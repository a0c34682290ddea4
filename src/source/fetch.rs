//! Sources to takers: who is asked, in what order, and by how many at once.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use super::download::Download;
use super::error::{Attempt, AttemptError, FetchError};
use super::location::{Location, Source};
use super::partial::{self, Partial};
use super::permits::Permits;
use super::progress::Progress;
use super::transfer::{Intake, Taker, Transfer};
use crate::config::Config;
use crate::digest::Checksum;
use crate::event::Sink;
use crate::host::Interrupt;
use crate::host::file::{Lock, open_regular};
use crate::http::{Client, RetryPolicy, Settings, Url};

/// Bytes of a file that are read at once.
const BUFFER: usize = 256 << 10;

/// What a fetcher works with.
#[derive(Debug, Clone)]
pub struct FetcherOptions {
    /// What the user set.
    pub config: Config,
    /// Where partial files are: [`Home::downloads`](crate::host::Home::downloads).
    pub directory: PathBuf,
    /// Whether no connection is to be made.
    pub offline: bool,
    /// Times, proxies and authorities. Authorities of `config` come on top.
    pub settings: Settings,
    /// How often and after what pauses a place is tried again.
    pub retry: RetryPolicy,
}

impl FetcherOptions {
    /// The usual ones for a configuration.
    #[must_use]
    pub fn new(config: Config, directory: impl Into<PathBuf>) -> Self {
        let (retries, least_speed) = (config.retries, config.limits.least_speed);
        Self {
            config,
            directory: directory.into(),
            offline: false,
            settings: Settings {
                least_speed,
                ..Settings::default()
            },
            retry: RetryPolicy {
                retries,
                ..RetryPolicy::default()
            },
        }
    }
}

/// Brings sources. One for each process: it limits how many downloads run at once, and is used from
/// any thread. Making one is cheap.
pub struct Fetcher {
    pub(super) options: FetcherOptions,
    pub(super) client: Client,
    pub(super) interrupt: Interrupt,
    pub(super) sink: Arc<dyn Sink>,
    permits: Permits,
    swept: Once,
}

#[derive(Clone, Copy)]
pub struct FetchRequest<'a> {
    /// Where it is.
    pub source: &'a Source,
    /// What it must be. Without one, whatever comes is taken, and its SHA-256 is told.
    pub checksum: Option<&'a Checksum>,
    /// Its bytes, when they are known.
    pub size: Option<u64>,
    /// Whether it is here by now. Asked after another process or thread was waited for.
    pub already: &'a (dyn Fn() -> bool + Sync),
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes.
    pub size: u64,
    /// The checksum of all of them.
    pub checksum: Checksum,
    /// Where it came from: the URL, that of a mirror, or a path. Empty when nobody remembers.
    pub url_used: String,
}

/// How fetching ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The taker has it.
    Fetched(Fetched),
    /// Somebody else fetched it meanwhile. The taker was given nothing.
    Already,
}

/// Brings what is missing of a download, and checks all of it.
pub(super) type Bring<'a> =
    dyn Fn(&mut Transfer<'_>, &Progress<'_>) -> Result<Fetched, FetchError> + 'a;

impl Fetcher {
    /// A fetcher that tells `sink` what it does and stops when the user gives up.
    #[must_use]
    pub fn new(mut options: FetcherOptions, sink: Arc<dyn Sink>, interrupt: Interrupt) -> Self {
        let authorities = options.config.certificate_authorities.clone();
        options.settings.certificate_authorities.extend(authorities);
        Self {
            client: Client::new(options.settings.clone(), interrupt.clone()),
            permits: Permits::new(options.config.parallel.max(1)),
            options,
            interrupt,
            sink,
            swept: Once::new(),
        }
    }

    /// Brings a source to a taker, from the first place that has it right.
    ///
    /// The taker gets bytes while they come. It may be told to begin anew, and has the right bytes
    /// only when it was told to finish.
    ///
    /// # Errors
    /// No place has it right, or something here is missing, full or broken. What is here of it is
    /// kept, but for bytes that are known to be wrong.
    pub fn fetch(
        &self,
        request: &FetchRequest<'_>,
        taker: &mut dyn Taker,
    ) -> Result<Outcome, FetchError> {
        let intake = Intake::new(request, taker);
        match request.source.location() {
            Location::File(path) => self.read_file(request, path, intake).map(Outcome::Fetched),
            Location::Web(url) => self.download(request, intake, &|transfer, progress| {
                self.try_places(request, url, transfer, progress)
            }),
            // No place is known: it comes from an origin.
            Location::Elsewhere => Err(FetchError::Download {
                name: request.source.name().to_owned(),
                attempts: Vec::new(),
            }),
        }
    }

    fn read_file(
        &self,
        request: &FetchRequest<'_>,
        path: &Path,
        mut intake: Intake<'_>,
    ) -> Result<Fetched, FetchError> {
        let mut file = open_regular(path).map_err(FetchError::io("open", path))?;
        let length = file.metadata().map_err(FetchError::io("look at", path))?;
        let length = length.len();
        let url_used = path.display().to_string();
        let wrong_size = |found| FetchError::WrongSize {
            url: url_used.clone(),
            expected: request.size.unwrap_or_default(),
            found,
        };
        if request.size.is_some_and(|size| size != length) {
            return Err(wrong_size(Some(length)));
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            self.go_on()?;
            let count = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(FetchError::io("read", path)(error)),
            };
            if !intake.take(&buffer[..count])? {
                return Err(wrong_size(None));
            }
        }
        let (size, found) = (intake.done(), intake.checksum());
        if let Some(expected) = request.checksum.filter(|expected| **expected != found) {
            return Err(FetchError::Mismatch {
                url: url_used,
                expected: expected.clone(),
                found,
                size,
            });
        }
        let fetched = Fetched {
            size,
            checksum: found,
            url_used,
        };
        intake.finish(&fetched)?;
        Ok(fetched)
    }

    pub(super) fn download(
        &self,
        request: &FetchRequest<'_>,
        intake: Intake<'_>,
        bring: &Bring<'_>,
    ) -> Result<Outcome, FetchError> {
        let directory = &self.options.directory;
        fs::create_dir_all(directory).map_err(FetchError::io("make", directory))?;
        self.swept.call_once(|| partial::sweep(directory));
        let progress = Progress::new(&*self.sink, request.source);
        let key = partial::key(request.source, request.checksum);
        let mut waited = false;
        let path = partial::lock_path(directory, &key);
        let lock = Lock::wait(&path, &self.interrupt, || {
            if !waited {
                progress.waiting();
            }
            waited = true;
        });
        if waited {
            progress.waited();
        }
        let lock = lock.map_err(FetchError::io("lock", &path))?;
        let lock = lock.ok_or(FetchError::Interrupted)?;
        if waited && (request.already)() {
            lock.remove();
            return Ok(Outcome::Already);
        }
        let partial = Partial::open(directory, &key)?;
        let complete = partial.note.complete;
        if self.options.offline && !complete {
            if partial.length() == 0 {
                // Nothing was there, and nothing is to be.
                let _ = partial.remove();
                lock.remove();
            }
            return Err(self.offline(request.source, request.size));
        }
        let mut transfer = Transfer::resume(intake, partial, directory, || self.go_on())?;
        // Without a checksum, what is complete here may be another version than the server has by
        // now.
        let sure = request.checksum.is_some() || self.options.offline;
        let known = complete && sure && self.is_right(request, &transfer);
        let fetched = if known {
            Fetched {
                size: transfer.done(),
                checksum: transfer.intake.checksum(),
                url_used: transfer.note().url.clone(),
            }
        } else if self.options.offline {
            return Err(self.offline(request.source, request.size));
        } else {
            let permit = self.permits.take(&self.interrupt);
            let _permit = permit.ok_or(FetchError::Interrupted)?;
            match bring(&mut transfer, &progress) {
                Ok(fetched) => fetched,
                Err(error) => {
                    if transfer.done() == 0 {
                        transfer.forget()?;
                        lock.remove();
                    }
                    return Err(error);
                }
            }
        };
        transfer.intake.finish(&fetched)?;
        transfer.forget()?;
        lock.remove();
        progress.finished(fetched.size);
        Ok(Outcome::Fetched(fetched))
    }

    fn is_right(&self, request: &FetchRequest<'_>, transfer: &Transfer<'_>) -> bool {
        let size = request.size.is_none_or(|size| size == transfer.done());
        let checksum = request.checksum;
        size && checksum.is_none_or(|expected| *expected == transfer.intake.checksum())
    }

    /// Tries one place after the other.
    fn try_places(
        &self,
        request: &FetchRequest<'_>,
        url: &Url,
        transfer: &mut Transfer<'_>,
        progress: &Progress<'_>,
    ) -> Result<Fetched, FetchError> {
        let download = Download {
            client: &self.client,
            interrupt: &self.interrupt,
            retry: self.options.retry,
            request,
            progress,
        };
        let mut attempts = Vec::new();
        for place in self.places(url) {
            let from = place.to_string();
            progress.started(
                &from,
                transfer.done(),
                request.size.or(transfer.note().total),
            );
            let error = match download.bring(&place, transfer) {
                Ok(Ok(checksum)) => {
                    return Ok(Fetched {
                        size: transfer.done(),
                        checksum,
                        url_used: from,
                    });
                }
                Ok(Err(error)) => error,
                Err(error) => {
                    if !matches!(error, FetchError::Interrupted) {
                        progress.failed(&from, &error.to_string());
                    }
                    return Err(error);
                }
            };
            progress.failed(&from, &error.to_string());
            attempts.push(Attempt { url: from, error });
        }
        match attempts.pop() {
            // Wrong content is told of as such when nobody had better news after it.
            Some(Attempt {
                error: AttemptError::Wrong(error),
                ..
            }) => Err(*error),
            last => {
                attempts.extend(last);
                Err(FetchError::Download {
                    name: request.source.name().to_owned(),
                    attempts,
                })
            }
        }
    }

    /// Mirrors, and the URL itself. Only the URL itself has its user name and password.
    pub(super) fn places(&self, url: &Url) -> Vec<Url> {
        let itself = url.to_string();
        let candidates = self.options.config.candidates(&itself);
        let places = candidates.iter().map(|place| {
            if *place == itself {
                Ok(url.clone())
            } else {
                place.parse()
            }
        });
        // A mirror's URL was looked at when it was set; what cannot be a URL is no place.
        places.filter_map(Result::ok).collect()
    }

    pub(super) fn go_on(&self) -> Result<(), FetchError> {
        if self.interrupt.requested() {
            return Err(FetchError::Interrupted);
        }
        Ok(())
    }

    pub(super) fn offline(&self, source: &Source, size: Option<u64>) -> FetchError {
        FetchError::Offline {
            name: source.name().to_owned(),
            url: source.url().to_owned(),
            size,
        }
    }
}
