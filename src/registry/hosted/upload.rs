//! Blobs to a registry: not at all when it has them, or in one piece, or in chunks.
//!
//! ```text
//! HEAD ─ there ─► Present
//!   └─► POST ?mount=&from= ─ 201 ─► Mounted
//!         └─► POST ─► PUT, all bytes ─ 201 ─► Uploaded
//!               │       ├─ cut ──► GET: how far? ─┐
//!               │       └─ refused ─┐             │
//!               └───────────────────┴► PATCH … PATCH ─► PUT, no bytes ─► Uploaded
//! ```
//!
//! A session that is not finished is cancelled, also when the user gave up.

use super::call::{Call, CallError, Target, drain, of_http};
use super::sending::{Meter, Sending};
use super::{Hosted, what_blob};
use crate::http::{
    Backoff, HeaderName, HttpError, Method, Response, StatusCode, Url, header, sleep,
};
use crate::registry::{Blob, BlobSource, Delivered, Progress, RegistryError};

/// Bytes of a chunk, when the registry does not ask for more or refuses so many.
const CHUNK: u64 = 16 << 20;
/// Chunks are not made smaller.
const LEAST_CHUNK: u64 = 256 << 10;
/// How often an upload begins anew for other reasons than those that pass.
const RESTARTS: u32 = 4;
/// The fewest bytes that chunks may have, but the last one.
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const OCTETS: &str = "application/octet-stream";

/// Brings a blob.
pub(super) fn put(
    hosted: &Hosted,
    blob: &Blob,
    source: &dyn BlobSource,
    mounts: &[String],
    progress: &Progress<'_>,
) -> Result<Delivered, RegistryError> {
    if hosted.blob_is_there(blob, &hosted.writing)? {
        return Ok(Delivered::Present);
    }
    let meter = Meter::new(progress);
    let mut upload = Upload {
        hosted,
        blob,
        source,
        meter: &meter,
        session: None,
        taken: 0,
        chunk: CHUNK,
        least: LEAST_CHUNK,
        whole: !hosted.host.refuses_whole(blob.size),
        unsure: false,
        resumed: false,
        restarts: 0,
        backoff: Backoff::new(hosted.host.retry_policy()),
    };
    let done = upload.deliver(mounts);
    upload.cancel();
    done
}

/// A blob under way.
struct Upload<'a> {
    hosted: &'a Hosted,
    blob: &'a Blob,
    source: &'a dyn BlobSource,
    meter: &'a Meter<'a>,
    /// Where the registry wants to be asked next.
    session: Option<Url>,
    /// Bytes that the registry has.
    taken: u64,
    chunk: u64,
    least: u64,
    /// Whether one piece is tried.
    whole: bool,
    /// Whether it must be asked how many bytes there are.
    unsure: bool,
    /// Whether that was asked.
    resumed: bool,
    restarts: u32,
    backoff: Backoff,
}

impl Upload<'_> {
    fn deliver(&mut self, mounts: &[String]) -> Result<Delivered, RegistryError> {
        let others = mounts
            .iter()
            .filter(|name| **name != self.hosted.repository);
        for from in others {
            if self.mount(from)? {
                return Ok(Delivered::Mounted);
            }
        }
        loop {
            match self.step() {
                Ok(false) => {}
                Ok(true) => {
                    self.session = None;
                    self.meter.at(self.blob.size);
                    return Ok(Delivered::Uploaded);
                }
                Err(CallError::Final(error)) => return Err(error),
                Err(CallError::Http(error)) => {
                    let Some(pause) = self.backoff.pause(&error) else {
                        return Err(of_http(&self.hosted.name, error));
                    };
                    self.hosted.host.told(&error, pause);
                    if !sleep(pause, self.hosted.host.interrupt()) {
                        return Err(RegistryError::Interrupted);
                    }
                    self.unsure = self.session.is_some();
                }
            }
        }
    }

    /// Asks for a link to the blob in another repository. Where that is not done, a session may
    /// begin.
    fn mount(&mut self, from: &str) -> Result<bool, RegistryError> {
        self.cancel();
        let hosted = self.hosted;
        let path = format!(
            "{}/blobs/uploads/?mount=sha256:{}&from={}",
            hosted.repository,
            self.blob.digest,
            crate::http::escape(from)
        );
        let mut scopes = hosted.writing.to_vec();
        scopes.push(format!("repository:{from}:pull"));
        let call = Call::new(Method::POST, Target::Path(&path), &scopes);
        let response = match hosted.host.call(&call, &hosted.identity, &hosted.name) {
            Ok(response) => response,
            // It need not be readable for who may write here.
            Err(RegistryError::Denied { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        match response.status {
            StatusCode::CREATED => {
                drain(response);
                Ok(true)
            }
            StatusCode::ACCEPTED => match self.begun(response) {
                Ok(()) => Ok(false),
                Err(CallError::Final(error)) => Err(error),
                Err(CallError::Http(error)) => Err(of_http(&hosted.name, error)),
            },
            _ => {
                drain(response);
                Ok(false)
            }
        }
    }

    /// What is to be done next; whether that was the end.
    fn step(&mut self) -> Result<bool, CallError> {
        if self.session.is_none() {
            return self.begin().map(|()| false);
        }
        if self.unsure {
            return self.look().map(|()| false);
        }
        if self.whole && self.taken == 0 {
            return self.send_whole();
        }
        if self.taken < self.blob.size {
            return self.send_chunk().map(|()| false);
        }
        self.finish()
    }

    fn begin(&mut self) -> Result<(), CallError> {
        let path = format!("{}/blobs/uploads/", self.hosted.repository);
        let call = Call::new(Method::POST, Target::Path(&path), &self.hosted.writing);
        let response = self.once(&call)?;
        if response.status != StatusCode::ACCEPTED {
            return Err(self.refusal(response));
        }
        self.begun(response)
    }

    fn begun(&mut self, response: Response) -> Result<(), CallError> {
        let least = response.header(CHUNK_MIN_LENGTH);
        if let Some(least) = least.and_then(|least| least.parse().ok()) {
            self.least = self.least.max(least);
            self.chunk = self.chunk.max(least);
        }
        self.moves(&response)?;
        drain(response);
        if self.session.is_none() {
            let what = what_blob(self.blob);
            let reason = "cannot be sent: the registry did not say where to";
            return Err(self.hosted.invalid(&what, reason).into());
        }
        (self.taken, self.unsure, self.resumed) = (0, false, false);
        self.meter.at(0);
        Ok(())
    }

    /// Asks how many bytes the registry has of what was cut.
    fn look(&mut self) -> Result<(), CallError> {
        let Some(session) = self.session.clone() else {
            return Ok(());
        };
        let call = Call::new(Method::GET, Target::Url(&session), &self.hosted.writing);
        let response = self.once(&call)?;
        let taken = taken(&response).filter(|taken| *taken <= self.blob.size);
        match taken.filter(|_| response.status.is_success()) {
            Some(taken) => {
                self.moves(&response)?;
                drain(response);
                (self.taken, self.unsure, self.resumed) = (taken, false, true);
                self.meter.at(taken);
                Ok(())
            }
            None => {
                drain(response);
                self.restart(None)
            }
        }
    }

    fn send_whole(&mut self) -> Result<bool, CallError> {
        let Some(session) = &self.session else {
            return Ok(false);
        };
        let url = self.closing(session);
        let sending = self.part(self.blob.size);
        let call = Call::new(Method::PUT, Target::Url(&url), &self.hosted.writing)
            .header(header::CONTENT_TYPE, OCTETS)
            .body(&sending);
        let response = self.once(&call)?;
        match response.status.as_u16() {
            200..=299 => {
                drain(response);
                Ok(true)
            }
            404 | 405 | 411 | 413 | 416 | 501 => {
                self.hosted.host.learn_refusal(self.blob.size);
                self.whole = false;
                let refusal = response.status;
                drain(response);
                self.restart(Some(refusal)).map(|()| false)
            }
            _ => Err(self.refusal(response)),
        }
    }

    fn send_chunk(&mut self) -> Result<(), CallError> {
        let Some(session) = self.session.clone() else {
            return Ok(());
        };
        let sending = self.part(self.chunk.min(self.blob.size - self.taken));
        let end = self.taken + sending.length;
        let call = Call::new(Method::PATCH, Target::Url(&session), &self.hosted.writing)
            .header(header::CONTENT_TYPE, OCTETS)
            .header(header::CONTENT_RANGE, format!("{}-{}", self.taken, end - 1))
            .body(&sending);
        let response = self.once(&call)?;
        match response.status.as_u16() {
            200..=299 => {
                let taken = taken(&response).unwrap_or(end);
                if taken > end {
                    let reason = format!("was sent up to byte {end}, and taken up to {taken}");
                    return Err(self.hosted.invalid(&what_blob(self.blob), reason).into());
                }
                self.moves(&response)?;
                drain(response);
                if taken > self.taken {
                    self.backoff.reset();
                } else {
                    self.count_restart(None)?;
                }
                self.taken = taken;
                self.meter.at(taken);
                Ok(())
            }
            413 if self.chunk / 2 >= self.least => {
                drain(response);
                self.chunk /= 2;
                self.unsure = true;
                Ok(())
            }
            404 => {
                drain(response);
                self.restart(Some(StatusCode::NOT_FOUND))
            }
            416 => {
                drain(response);
                self.unsure = true;
                self.count_restart(Some(StatusCode::RANGE_NOT_SATISFIABLE))
            }
            _ => Err(self.refusal(response)),
        }
    }

    fn finish(&mut self) -> Result<bool, CallError> {
        let Some(session) = &self.session else {
            return Ok(false);
        };
        let url = self.closing(session);
        let call = Call::new(Method::PUT, Target::Url(&url), &self.hosted.writing)
            .header(header::CONTENT_TYPE, OCTETS);
        let response = self.once(&call)?;
        match response.status.as_u16() {
            200..=299 => {
                drain(response);
                Ok(true)
            }
            // The answer to an earlier try may have been lost.
            404 if self.resumed
                && self.hosted.blob_is_there(self.blob, &self.hosted.writing)? =>
            {
                drain(response);
                Ok(true)
            }
            // What lay there of a cut upload may not have been what was sent.
            400 | 404 | 416 if self.resumed => {
                let status = response.status;
                drain(response);
                self.restart(Some(status)).map(|()| false)
            }
            _ => Err(self.refusal(response)),
        }
    }

    /// Begins anew. Nothing that was sent counts.
    fn restart(&mut self, status: Option<StatusCode>) -> Result<(), CallError> {
        self.cancel();
        self.meter.at(0);
        self.count_restart(status)
    }

    fn count_restart(&mut self, status: Option<StatusCode>) -> Result<(), CallError> {
        self.restarts += 1;
        if self.restarts <= RESTARTS {
            return Ok(());
        }
        let reason = status.map_or_else(
            || "it loses what was sent".to_owned(),
            |status| format!("it answers {status} again and again"),
        );
        Err(RegistryError::Refused {
            place: self.hosted.name.clone(),
            what: what_blob(self.blob),
            message: reason,
        }
        .into())
    }

    /// Tells the registry that nothing more comes, when something is open.
    fn cancel(&mut self) {
        if let Some(session) = self.session.take() {
            let (host, identity) = (&self.hosted.host, &self.hosted.identity);
            host.cancel(&session, &self.hosted.writing, identity);
        }
        (self.taken, self.unsure) = (0, false);
    }

    fn part(&self, length: u64) -> Sending<'_> {
        Sending {
            source: self.source,
            offset: self.taken,
            length,
            meter: Some(self.meter),
        }
    }

    /// Where an upload is ended.
    fn closing(&self, session: &Url) -> Url {
        session.with_parameter("digest", &format!("sha256:{}", self.blob.digest))
    }

    /// The registry says with each answer where it wants to be asked next.
    fn moves(&mut self, response: &Response) -> Result<(), CallError> {
        if let Some(to) = response.header(header::LOCATION) {
            self.session = Some(self.hosted.host.place_of(&response.url, to)?);
        }
        Ok(())
    }

    fn once(&self, call: &Call<'_>) -> Result<Response, CallError> {
        match self.hosted.host.once(call, &self.hosted.identity) {
            Err(CallError::Http(HttpError::Interrupted)) => Err(RegistryError::Interrupted.into()),
            other => other,
        }
    }

    fn refusal(&self, response: Response) -> CallError {
        let refused = self.hosted.refusal(&what_blob(self.blob), response);
        CallError::Final(match refused {
            // What is missing is the place to put it.
            RegistryError::Missing { place, what } => RegistryError::Refused {
                place,
                what,
                message: "it knows no such repository or upload".to_owned(),
            },
            other => other,
        })
    }
}

/// How many bytes a registry has, as it says: `0-99` are 100, and `0-0` are none.
fn taken(response: &Response) -> Option<u64> {
    let range = response.header(header::RANGE)?.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    match (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}
