//! Blobs and parts of them: read where they are, and on from there after a cut.

use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;

use super::call::{Call, CallError, Target, drain, of_http};
use super::{Hosted, what_blob};
use crate::http::{Backoff, Body, HttpError, Method, Response, StatusCode, header, sleep};
use crate::registry::{Blob, BlobReader, RegistryError};

impl Hosted {
    /// Whether a blob is there, asked with these rights.
    pub(super) fn blob_is_there(
        &self,
        blob: &Blob,
        scopes: &[String],
    ) -> Result<bool, RegistryError> {
        let path = format!("{}/blobs/sha256:{}", self.repository, blob.digest);
        let call = Call::new(Method::HEAD, Target::Path(&path), scopes);
        let response = self.host.call(&call, &self.identity, &self.name)?;
        let status = response.status;
        if status == StatusCode::NOT_FOUND {
            drain(response);
            return Ok(false);
        }
        if !status.is_success() {
            return Err(self.refusal(&what_blob(blob), response));
        }
        let told = response.header(header::CONTENT_LENGTH);
        let told: Option<u64> = told.and_then(|told| told.parse().ok());
        drain(response);
        match told {
            Some(told) if told != blob.size => {
                let reason = format!("has {told} bytes there, not {}", blob.size);
                Err(self.invalid(&what_blob(blob), reason))
            }
            _ => Ok(true),
        }
    }
}

/// Opens a blob, or a part of it.
pub(super) fn open(
    hosted: &Hosted,
    blob: &Blob,
    range: Option<Range<u64>>,
) -> Result<BlobReader, RegistryError> {
    let range = range.unwrap_or(0..blob.size);
    if range.start > range.end || range.end > blob.size {
        let reason = format!(
            "has {} bytes: {} to {} are no part of it",
            blob.size, range.start, range.end
        );
        return Err(hosted.invalid(&what_blob(blob), reason));
    }
    let mut reader = Reader {
        hosted: hosted.clone(),
        blob: *blob,
        backoff: Backoff::new(hosted.host.retry_policy()),
        position: range.start,
        end: range.end,
        body: None,
        rest: io::Cursor::default(),
        failed: false,
        surplus: false,
    };
    // The whole of an empty blob is asked for: it may not be there.
    if !range.is_empty() || blob.size == 0 {
        let place = &hosted.name;
        let opened = hosted.host.retry(place, || reader.ask(true))?;
        if opened.whole {
            // Also where a part was asked for.
            (reader.position, reader.end) = (0, blob.size);
        }
        reader.body = Some(opened.body);
    }
    Ok(BlobReader {
        start: reader.position,
        bytes: Box::new(reader),
    })
}

/// An answer with bytes from `start` on.
struct Opened {
    start: u64,
    /// They are all of it.
    whole: bool,
    body: Body,
}

/// The bytes from `position` to `end`.
struct Reader {
    hosted: Hosted,
    blob: Blob,
    backoff: Backoff,
    position: u64,
    end: u64,
    body: Option<Body>,
    /// What came and was not read yet.
    rest: io::Cursor<Bytes>,
    failed: bool,
    /// The answer has all of the blob, where a part was asked for: it goes on behind the end.
    surplus: bool,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.rest.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if self.failed {
                return Err(io::Error::other("it failed before"));
            }
            match self.next() {
                Ok(Some(bytes)) => self.rest = io::Cursor::new(bytes),
                Ok(None) => return Ok(0),
                Err(error) => {
                    self.failed = true;
                    return Err(io::Error::other(error));
                }
            }
        }
    }
}

impl Reader {
    /// Asks for what is missing. The answer begins there, or at 0.
    fn ask(&self, ranged: bool) -> Result<Opened, CallError> {
        let hosted = &self.hosted;
        let what = what_blob(&self.blob);
        let path = format!("{}/blobs/sha256:{}", hosted.repository, self.blob.digest);
        let mut call = Call::new(Method::GET, Target::Path(&path), &hosted.reading);
        let part = ranged && (self.position > 0 || self.end < self.blob.size);
        if part {
            let range = format!("bytes={}-{}", self.position, self.end - 1);
            call = call.header(header::RANGE, range);
        }
        let response = hosted.host.once(&call, &hosted.identity)?;
        match response.status {
            StatusCode::OK => self.whole(response),
            StatusCode::PARTIAL_CONTENT if part => match content_range(&response) {
                Some((range, total)) => {
                    let size = total.unwrap_or(self.blob.size);
                    let fits = range.start == self.position && range.end <= self.end;
                    if !fits || size != self.blob.size {
                        let reason = format!(
                            "was asked for from byte {} to {} of {}, and {} to {} of {size} came",
                            self.position, self.end, self.blob.size, range.start, range.end
                        );
                        return Err(hosted.invalid(&what, reason).into());
                    }
                    Ok(Opened {
                        start: self.position,
                        whole: false,
                        body: response.body,
                    })
                }
                None => self.ask(false),
            },
            StatusCode::RANGE_NOT_SATISFIABLE if part => {
                drain(response);
                self.ask(false)
            }
            status if status.is_success() => {
                let reason = format!("came with status {}", status.as_u16());
                Err(hosted.invalid(&what, reason).into())
            }
            _ => Err(hosted.refusal(&what, response).into()),
        }
    }

    fn whole(&self, response: Response) -> Result<Opened, CallError> {
        let told = response.header(header::CONTENT_LENGTH);
        let told: Option<u64> = told.and_then(|told| told.parse().ok());
        if let Some(told) = told.filter(|told| *told != self.blob.size) {
            let reason = format!("has {told} bytes there, not {}", self.blob.size);
            return Err(self.hosted.invalid(&what_blob(&self.blob), reason).into());
        }
        Ok(Opened {
            start: 0,
            whole: true,
            body: response.body,
        })
    }

    /// The next bytes; `None` at the end.
    fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            match self.chunk() {
                Ok(Some(bytes)) => {
                    self.backoff.reset();
                    self.position += bytes.len() as u64;
                    if self.position > self.end {
                        let what = what_blob(&self.blob);
                        let reason = format!("goes on after byte {}", self.end);
                        return Err(self.hosted.invalid(&what, reason));
                    }
                    return Ok(Some(bytes));
                }
                Ok(None) => return Ok(None),
                Err(CallError::Final(error)) => return Err(error),
                Err(CallError::Http(error)) => {
                    self.body = None;
                    let Some(pause) = self.backoff.pause(&error) else {
                        return Err(of_http(&self.hosted.name, error));
                    };
                    let host = &self.hosted.host;
                    host.told(&error, pause);
                    if !sleep(pause, host.interrupt()) {
                        return Err(RegistryError::Interrupted);
                    }
                }
            }
        }
    }

    /// One try to get the next bytes.
    fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        if self.body.is_none() {
            if self.position == self.end {
                return Ok(None);
            }
            let opened = self.ask(true)?;
            let mut body = opened.body;
            self.surplus = opened.whole;
            if opened.start != self.position {
                skip(&mut body, self.position)?;
            }
            self.body = Some(body);
        }
        let cut = || HttpError::Cut {
            host: self.hosted.host.name().to_owned(),
        };
        let Some(body) = &mut self.body else {
            return Err(cut().into());
        };
        let left = self.end - self.position;
        if self.surplus && left == 0 {
            return Ok(None);
        }
        match body.chunk() {
            Ok(Some(mut bytes)) => {
                if self.surplus {
                    bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                }
                Ok(Some(bytes))
            }
            Ok(None) if self.position == self.end => Ok(None),
            Ok(None) => Err(cut().into()),
            // Everything is here; what the connection does then is of no interest.
            Err(error) if self.position == self.end && error != HttpError::Interrupted => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Drops the first bytes of an answer with all of them.
fn skip(body: &mut Body, count: u64) -> Result<(), CallError> {
    let mut first = body.take(count);
    let skipped = io::copy(&mut first, &mut io::sink()).map_err(CallError::of_reading)?;
    match skipped == count {
        true => Ok(()),
        false => Err(HttpError::Cut {
            host: String::new(),
        }
        .into()),
    }
}

/// The range of a `Content-Range`, and the size of the whole when it is told (RFC 9110, section
/// 14.4).
fn content_range(response: &Response) -> Option<(Range<u64>, Option<u64>)> {
    let text = response.header(header::CONTENT_RANGE)?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let end = last.checked_add(1).filter(|end| first < *end)?;
    let total = match total.trim() {
        "*" => None,
        digits => Some(digits.parse().ok()?),
    };
    Some((first..end, total))
}
