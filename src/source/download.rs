//! One download from one place: requests that go on where the last one ended, until all is here.

use crate::http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
};

use super::error::{AttemptError, FetchError};
use super::fetch::FetchRequest;
use super::partial::Note;
use super::progress::Progress;
use super::transfer::Transfer;
use crate::digest::Checksum;
use crate::host::Interrupt;
use crate::http::{Backoff, Client, HttpError, Method, Request, Response, RetryPolicy, Url, sleep};

/// A try that brings so many bytes was no failure: after it, counting begins anew.
const ACHIEVEMENT: u64 = 1 << 20;
/// A server that answers ranges wrongly so often is asked no more.
const CONFUSIONS: u32 = 3;

/// What a download is done with.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) interrupt: &'a Interrupt,
    pub(super) retry: RetryPolicy,
    pub(super) request: &'a FetchRequest<'a>,
    pub(super) progress: &'a Progress<'a>,
}

/// Why a request was not the last.
enum Stop {
    /// Another place may have it.
    Place(AttemptError),
    /// No other place would help.
    Fatal(FetchError),
    /// What is here cannot be gone on with, and was forgotten.
    Anew,
}

impl From<HttpError> for Stop {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Interrupted => Self::Fatal(FetchError::Interrupted),
            error => Self::Place(error.into()),
        }
    }
}

impl From<FetchError> for Stop {
    fn from(error: FetchError) -> Self {
        Self::Fatal(error)
    }
}

impl Download<'_> {
    /// Brings all that is missing, and checks it. Another place may help where this one fails.
    pub(super) fn bring(
        &self,
        place: &Url,
        transfer: &mut Transfer<'_>,
    ) -> Result<Result<Checksum, AttemptError>, FetchError> {
        let mut backoff = Backoff::new(self.retry);
        let mut confusions = 0;
        loop {
            let before = transfer.done();
            match self.attempt(place, transfer) {
                Ok(checksum) => return Ok(Ok(checksum)),
                Err(Stop::Anew) if confusions < CONFUSIONS => confusions += 1,
                Err(Stop::Anew) => {
                    let error = HttpError::Other {
                        host: place.host().to_owned(),
                        message: "it answers requests for a part of the file wrongly".to_owned(),
                    };
                    return Ok(Err(error.into()));
                }
                Err(Stop::Place(AttemptError::Http(error))) => {
                    if transfer.done() >= before + ACHIEVEMENT {
                        backoff.reset();
                    }
                    let Some(pause) = backoff.pause(&error) else {
                        return Ok(Err(error.into()));
                    };
                    self.progress.retrying(&error.to_string(), pause);
                    if !sleep(pause, self.interrupt) {
                        return Err(FetchError::Interrupted);
                    }
                }
                Err(Stop::Place(error)) => return Ok(Err(error)),
                Err(Stop::Fatal(error)) => return Err(error),
            }
        }
    }

    fn attempt(&self, place: &Url, transfer: &mut Transfer<'_>) -> Result<Checksum, Stop> {
        let mut request = Request::new(Method::GET, place.clone());
        if transfer.done() > 0 {
            if !self.can_go_on(place, transfer.note()) {
                transfer.restart()?;
            } else {
                request = request.header(RANGE, &format!("bytes={}-", transfer.done()));
                if let Some(validator) = own_validator(place, transfer.note()) {
                    request = request.header(IF_RANGE, validator);
                }
            }
        }
        let mut response = self.client.send(request)?;
        let total = self.begin(place, &response, transfer)?;
        while let Some(bytes) = response.body.chunk()? {
            if !transfer.take(&bytes)? {
                transfer.restart()?;
                return Err(self.wrong_size(place, None));
            }
            self.progress.at(transfer.done(), total);
        }
        // Where neither a length nor chunks say so, the end of the connection is no sure end.
        let sure = total.is_some() || response.headers.contains_key(TRANSFER_ENCODING);
        let wanted = total.or(self.request.size.filter(|_| !sure));
        if wanted.is_some_and(|wanted| transfer.done() != wanted) {
            let host = place.host().to_owned();
            return Err(HttpError::Cut { host }.into());
        }
        self.end(place, transfer)
    }

    /// Whether what is here can be a beginning of what this place has. With a checksum, what is put
    /// together wrongly is noticed; without one, only the same version of the same place will do.
    fn can_go_on(&self, place: &Url, note: &Note) -> bool {
        let strong = own_validator(place, note).is_some_and(|validator| validator.starts_with('"'));
        self.request.checksum.is_some() || strong
    }

    /// Looks at the head of an answer and makes ready for its bytes. Gives how many there will be
    /// in all, when the server says.
    fn begin(
        &self,
        place: &Url,
        response: &Response,
        transfer: &mut Transfer<'_>,
    ) -> Result<Option<u64>, Stop> {
        let done = transfer.done();
        let chunked = response.headers.contains_key(TRANSFER_ENCODING);
        let length = response.header(CONTENT_LENGTH).filter(|_| !chunked);
        let length: Option<u64> = length.and_then(|length| length.parse().ok());
        let total = match response.status.as_u16() {
            200 => {
                transfer.restart()?;
                length
            }
            206 => {
                let range = response.header(CONTENT_RANGE).and_then(content_range);
                let known = transfer.note().total.filter(|_| done > 0);
                match range {
                    Some((start, total))
                        if start == done
                            && (total.is_none() || known.is_none() || total == known) =>
                    {
                        transfer.patched |= done > 0;
                        total.or_else(|| length.map(|length| done + length))
                    }
                    _ => {
                        transfer.restart()?;
                        return Err(Stop::Anew);
                    }
                }
            }
            416 if done > 0 => {
                transfer.restart()?;
                return Err(Stop::Anew);
            }
            status => {
                let error = HttpError::Other {
                    host: response.url.host().to_owned(),
                    message: format!("it answered {status}, without the file"),
                };
                return Err(response.failure().unwrap_or(error).into());
            }
        };
        if let (Some(expected), Some(total)) = (self.request.size, total)
            && expected != total
        {
            return Err(self.wrong_size(place, Some(total)));
        }
        if let Some(total) = total {
            transfer.check_space(total)?;
        }
        transfer.write_note(Note {
            url: place.to_string(),
            validator: validator(response),
            total,
            complete: false,
        })?;
        self.progress.at(transfer.done(), total);
        Ok(total)
    }

    /// All bytes came.
    fn end(&self, place: &Url, transfer: &mut Transfer<'_>) -> Result<Checksum, Stop> {
        let size = transfer.done();
        let found = transfer.intake.checksum();
        let short = self.request.size.is_some_and(|expected| size < expected);
        let wrong = self.request.checksum.filter(|expected| **expected != found);
        if !short && wrong.is_none() {
            let note = Note {
                total: Some(size),
                complete: true,
                ..transfer.note().clone()
            };
            transfer.write_note(note)?;
            return Ok(found);
        }
        // Put together from several answers it may be a mixture: then it is fetched in one piece.
        let mixture = transfer.patched;
        transfer.restart()?;
        match wrong {
            _ if mixture => Err(Stop::Anew),
            Some(expected) if !short => {
                let (url, expected) = (place.to_string(), expected.clone());
                let error = FetchError::Mismatch {
                    url,
                    expected,
                    found,
                    size,
                };
                Err(Stop::Place(AttemptError::Wrong(Box::new(error))))
            }
            _ => Err(self.wrong_size(place, Some(size))),
        }
    }

    fn wrong_size(&self, place: &Url, found: Option<u64>) -> Stop {
        Stop::Place(AttemptError::Wrong(Box::new(FetchError::WrongSize {
            url: place.to_string(),
            expected: self.request.size.unwrap_or_default(),
            found,
        })))
    }
}

/// The validator of what is here, when it is this place's.
fn own_validator<'a>(place: &Url, note: &'a Note) -> Option<&'a str> {
    let validator = note.validator.as_deref();
    validator.filter(|_| note.url == place.to_string())
}

/// What `If-Range` may have: a strong `ETag`, or else the time of the last change (RFC 9110,
/// section 13.1.5).
fn validator(response: &Response) -> Option<String> {
    let etag = response.header(ETAG).filter(|etag| etag.starts_with('"'));
    let validator = etag.or_else(|| response.header(LAST_MODIFIED));
    validator.map(str::to_owned)
}

/// The first byte's number and the number of all bytes (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    let total = match total {
        "*" => None,
        digits => Some(digits.parse().ok()?),
    };
    // A part that ends before the file does was not asked for.
    let whole = total.is_none_or(|total: u64| end.checked_add(1) == Some(total));
    (start <= end && whole).then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        for (text, parsed) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 0-9/*", Some((0, None))),
            ("bytes 5-8/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes 5-9", None),
            ("items 5-9/10", None),
            ("bytes 0-18446744073709551615/18446744073709551615", None),
        ] {
            assert_eq!(content_range(text), parsed, "{text}");
        }
    }
}
