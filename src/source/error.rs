//! What can go wrong, by what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::transfer::TakeError;
use crate::digest::Checksum;
use crate::failure::{Failure, Kind};
use crate::host::MissingProgram;
use crate::http::HttpError;

/// A source is not here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No place gave it.
    #[error("cannot download {name}: {}", Attempts(.attempts))]
    Download {
        /// What was to be fetched.
        name: String,
        /// The places, in the order in which they were tried.
        attempts: Vec<Attempt>,
    },
    /// It came, and is something else.
    #[error("{url} is not what it should be: {size} bytes with {found}, expected {expected}")]
    Mismatch {
        /// Where it came from.
        url: String,
        /// What it should be.
        expected: Checksum,
        found: Checksum,
        /// Its bytes.
        size: u64,
    },
    /// It has another size than it should have, so it was not downloaded to its end.
    #[error("{url} is not what it should be: it has {}, expected {expected} bytes", found_size(.found, *.expected))]
    WrongSize {
        /// Where it was asked for.
        url: String,
        /// What it should have, in bytes.
        expected: u64,
        /// What it has; `None` when it is more and nobody looked how much.
        found: Option<u64>,
    },
    /// A program of the host is missing.
    #[error(transparent)]
    Missing(#[from] MissingProgram),
    /// It would have to be downloaded, and that was not wanted.
    #[error("{name} is not here, and this is offline: {url}{}", of_size(*.size))]
    Offline {
        /// What is missing.
        name: String,
        /// Where it is.
        url: String,
        /// Its bytes, when they are known.
        size: Option<u64>,
    },
    /// The disk is full, or will be.
    #[error("no space for {name} in {}{}", .directory.display(), space(*.needed, *.available))]
    NoSpace {
        /// What was to be fetched.
        name: String,
        /// Where there is no space.
        directory: PathBuf,
        /// Bytes that are still to come, when they are known.
        needed: Option<u64>,
        /// Bytes that are free.
        available: u64,
    },
    /// A file of this host cannot be used.
    #[error("cannot {verb} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Whoever was to take the bytes could not.
    #[error("{name} cannot be stored: {source}")]
    Take {
        /// What was fetched.
        name: String,
        /// Why not.
        source: TakeError,
    },
    /// The list of checksums does not help, or its signature proves nothing.
    #[error("{0}")]
    Checksums(Failure),
    /// Who knows where it is could not bring it.
    #[error("cannot fetch {name}: {error}")]
    Origin {
        /// What was to be fetched.
        name: String,
        /// Why not.
        error: Failure,
    },
    /// The user gave up.
    #[error("interrupted")]
    Interrupted,
}

/// A place that was tried.
#[derive(Debug)]
pub struct Attempt {
    /// What was asked for: the URL or that of a mirror.
    pub url: String,
    /// What happened there, the last time.
    pub error: AttemptError,
}

/// Why a place did not give it.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// What it gave is wrong: [`FetchError::Mismatch`] or [`FetchError::WrongSize`].
    #[error(transparent)]
    Wrong(Box<FetchError>),
}

impl FetchError {
    /// What callers do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            // Wrong bytes are worse than none.
            Self::Download { attempts, .. } if is_wrong(attempts) => Kind::Verification,
            Self::Download { .. } => Kind::Transient,
            Self::Mismatch { .. } | Self::WrongSize { .. } => Kind::Verification,
            Self::Missing(_) => Kind::Missing,
            Self::Offline { .. } => Kind::Unavailable,
            Self::NoSpace { .. } => Kind::Unwritable,
            Self::Io { .. } | Self::Take { .. } => Kind::Failed,
            Self::Checksums(error) | Self::Origin { error, .. } => error.kind(),
            Self::Interrupted => Kind::Interrupted,
        }
    }

    /// What to do next, as sentences without an end.
    #[must_use]
    pub fn remedy(&self) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match self {
            Self::Download { attempts, .. } => download_remedy(attempts),
            Self::Mismatch { .. } | Self::WrongSize { .. } => mismatch_remedy(),
            Self::Missing(program) => vec![format!(
                "install it with: sudo apt-get install {}",
                program.0.package()
            )],
            Self::Offline { .. } => one("run it once without --offline"),
            Self::NoSpace { .. } => {
                one("free some space; what is here of the download is kept and will be continued")
            }
            Self::Checksums(error) | Self::Origin { error, .. } => error.help().to_vec(),
            Self::Io { .. } | Self::Take { .. } | Self::Interrupted => Vec::new(),
        }
    }

    pub(super) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Interrupted => Self::interrupted(),
            error => Self::new(error.kind(), error.to_string()).and_help(error.remedy()),
        }
    }
}

fn is_wrong(attempts: &[Attempt]) -> bool {
    let mut errors = attempts.iter().map(|attempt| &attempt.error);
    errors.any(|error| matches!(error, AttemptError::Wrong(_)))
}

fn mismatch_remedy() -> Vec<String> {
    vec![
        "either the file was replaced at its origin, or its bytes were altered on the way; nothing of \
         it was kept"
            .to_owned(),
        "when the origin announces a new version, accept it: by its new checksum where the recipe or \
         --set gives one, else with vmfab update"
            .to_owned(),
        "when it does not, do not use it: try another network or mirror".to_owned(),
    ]
}

fn download_remedy(attempts: &[Attempt]) -> Vec<String> {
    let mut remedy = match is_wrong(attempts) {
        true => mismatch_remedy(),
        false => Vec::new(),
    };
    for attempt in attempts {
        let AttemptError::Http(error) = &attempt.error else {
            continue;
        };
        let text = match error {
            HttpError::Status {
                retry_after: Some(wait),
                ..
            } => format!("the server asks to come back after {} s", wait.as_secs()),
            HttpError::Status {
                status: 401 | 403, ..
            } => "the server wants to know who asks: look at the URL and at what it lets anyone have"
                .to_owned(),
            HttpError::Status {
                status: 404 | 410, ..
            } => "the file is gone from there: origins remove old versions; look for the new one, or \
                  set a mirror that keeps it"
                .to_owned(),
            HttpError::Tls { .. } => "when a company's proxy opens connections, name its authority \
                                      with: certificate-authority \"file.pem\""
                .to_owned(),
            HttpError::Proxy { .. } => {
                "look at http_proxy, https_proxy, all_proxy and no_proxy".to_owned()
            }
            HttpError::Dns { .. } | HttpError::Refused { .. } | HttpError::Unreachable { .. } => {
                "look at the network; where it needs a proxy, set https_proxy".to_owned()
            }
            HttpError::Stalled { .. } | HttpError::Cut { .. } => {
                "try again: vmfab resumes the download".to_owned()
            }
            other => match other.remedy() {
                Some(text) => text,
                None => continue,
            },
        };
        if !remedy.contains(&text) {
            remedy.push(text);
        }
    }
    remedy.push("another place can be set in the configuration: mirror \"URL\" \"URL\"".to_owned());
    remedy
}

/// The attempts in one line.
struct Attempts<'a>(&'a [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("no place is known"),
            [only] => write!(f, "{} ({})", only.error, only.url),
            several => {
                write!(f, "{} places were tried", several.len())?;
                for attempt in several {
                    write!(f, "; {} ({})", attempt.error, attempt.url)?;
                }
                Ok(())
            }
        }
    }
}

fn found_size(found: &Option<u64>, expected: u64) -> String {
    match found {
        Some(found) => format!("{found} bytes"),
        None => format!("more than {expected} bytes"),
    }
}

fn of_size(size: Option<u64>) -> String {
    size.map_or_else(String::new, |size| format!(" ({size} bytes)"))
}

fn space(needed: Option<u64>, available: u64) -> String {
    match needed {
        Some(needed) => format!(": {needed} bytes are to come, {available} are free"),
        None => format!(": {available} bytes are free"),
    }
}
