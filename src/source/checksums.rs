//! What a file should be: its line in a list that its publisher made, and perhaps signed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::{Attempt, AttemptError, FetchError};
use super::fetch::Fetcher;
use super::list;
use super::location::{Location, Source};
use super::progress::Progress;
use super::signature;
use crate::digest::Checksum;
use crate::failure::Failure;
use crate::http::header::CONTENT_LENGTH;
use crate::http::{HttpError, Method, Request, Url, retry};

/// The longest list: those of whole distributions have a few hundred kilobytes.
const LIMIT: u64 = 16 << 20;

/// Which file is looked up in which list.
#[derive(Debug, Clone, Copy)]
pub struct ChecksumsRequest<'a> {
    pub source: &'a Source,
    pub list: &'a Source,
    /// What vouches for the list.
    pub signature: Option<Signature<'a>>,
}

/// A detached OpenPGP signature, binary or armored.
#[derive(Debug, Clone, Copy)]
pub struct Signature<'a> {
    /// Where it is.
    pub source: &'a Source,
    /// A file of this host with the keys that count, binary or armored.
    pub keyring: &'a Path,
}

/// What a file should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub checksum: Checksum,
    /// Its bytes, when its server says.
    pub size: Option<u64>,
    /// The fingerprint of the key that signed the list, when a signature was asked for.
    pub signed_by: Option<String>,
}

impl Fetcher {
    /// Looks up what a file should be. Lists are fetched each time: they are small, and change.
    ///
    /// # Errors
    /// The list or its signature cannot be fetched, the signature does not vouch for it, or it does
    /// not tell the file's checksum.
    pub fn resolve(&self, request: &ChecksumsRequest<'_>) -> Result<Resolved, FetchError> {
        let list = self.document(request.list)?;
        let mut signed_by = None;
        if let Some(Signature { source, keyring }) = request.signature {
            let signature = self.document(source)?;
            let verified = signature::verify(&list, &signature, keyring)?;
            let key = verified.map_err(|flaw| {
                let (list, url) = (request.list.url(), source.url());
                let message = format!(
                    "the signature {url} does not vouch for {list}: {}",
                    flaw.message
                );
                FetchError::Checksums(Failure::verification(message).with_help(flaw.help))
            })?;
            signed_by = Some(key);
        }
        let name = request.source.file_name();
        let text = String::from_utf8_lossy(&list);
        let checksum = list::find(&text, &request.list.file_name(), &name);
        let checksum = checksum.map_err(|problem| list_error(request.list, problem))?;
        Ok(Resolved {
            checksum,
            size: self.size(request.source)?,
            signed_by,
        })
    }

    /// The bytes that a source has, when its server says so. Nothing more is asked for than that.
    ///
    /// # Errors
    /// The user gave up.
    pub fn size(&self, source: &Source) -> Result<Option<u64>, FetchError> {
        let url = match source.location() {
            Location::File(path) => return Ok(path.metadata().ok().map(|meta| meta.len())),
            Location::Elsewhere => return Ok(None),
            Location::Web(_) if self.options.offline => return Ok(None),
            Location::Web(url) => url,
        };
        for place in self.places(url) {
            let answer = self.client.send(Request::new(Method::HEAD, place));
            match answer.and_then(crate::http::Response::success) {
                Ok(answer) => {
                    let length = answer.header(CONTENT_LENGTH);
                    return Ok(length.and_then(|length| length.parse().ok()));
                }
                Err(HttpError::Interrupted) => return Err(FetchError::Interrupted),
                // Its size is good to know and not needed.
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// A small file as a whole.
    fn document(&self, source: &Source) -> Result<Vec<u8>, FetchError> {
        let url = match source.location() {
            Location::File(path) => {
                let file = File::open(path).map_err(FetchError::io("open", path))?;
                let bytes = read(file).map_err(FetchError::io("read", path))?;
                return bytes.map_err(|problem| list_error(source, problem));
            }
            Location::Elsewhere => {
                return Err(FetchError::Download {
                    name: source.name().to_owned(),
                    attempts: Vec::new(),
                });
            }
            Location::Web(_) if self.options.offline => return Err(self.offline(source, None)),
            Location::Web(url) => url,
        };
        let progress = Progress::new(&*self.sink, source);
        let mut attempts = Vec::new();
        for place in self.places(url) {
            let told = |error: &HttpError, pause| progress.retrying(&error.to_string(), pause);
            let answer = retry(self.options.retry, &self.interrupt, &told, || {
                self.ask(&place)
            });
            match answer {
                Ok(bytes) => return bytes.map_err(|problem| list_error(source, problem)),
                Err(HttpError::Interrupted) => return Err(FetchError::Interrupted),
                Err(error) => attempts.push(Attempt {
                    url: place.to_string(),
                    error: AttemptError::Http(error),
                }),
            }
        }
        Err(FetchError::Download {
            name: source.name().to_owned(),
            attempts,
        })
    }

    fn ask(&self, place: &Url) -> Result<Result<Vec<u8>, String>, HttpError> {
        let request = Request::new(Method::GET, place.clone());
        let mut answer = self.client.send(request)?.success()?;
        let mut all = Vec::new();
        while let Some(bytes) = answer.body.chunk()? {
            if all.len() + bytes.len() > LIMIT as usize {
                return Ok(Err(too_long()));
            }
            all.extend(bytes);
        }
        Ok(Ok(all))
    }
}

fn read(file: File) -> std::io::Result<Result<Vec<u8>, String>> {
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Ok(Err(too_long()));
    }
    Ok(Ok(bytes))
}

fn too_long() -> String {
    format!("this is no list of checksums: it has more than {LIMIT} bytes")
}

fn list_error(list: &Source, problem: String) -> FetchError {
    let message = format!("{}: {problem}", list.url());
    FetchError::Checksums(Failure::verification(message).with_help(
        "look into the list: it must be the one that belongs to the file, of the same release",
    ))
}
