//! Repositories of registries, over HTTP (OCI distribution specification 1.1).
//!
//! ```text
//! Hosted ── Call ──► Host ── Request ──► Client          one Hosted for each repository,
//!   │ mod: manifests  │ auth: tokens      (crate::http)  one Host for each registry
//!   │ blob: downloads │ certificates
//!   │ upload, chunks  │ challenge
//!   │ tags            │
//! ```

mod auth;
mod blob;
mod call;
mod certificates;
mod challenge;
mod host;
mod sending;
mod tags;
mod upload;

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;

use self::auth::Identity;
use self::call::{Call, CallError, Target, drain};
pub(super) use self::host::Host;
use self::sending::Sending;
use super::credentials::{Credential, Credentials};
use super::{
    Blob, BlobReader, BlobSource, Delivered, Descriptor, Fetched, MAX_MANIFEST, Manifest, Parsed,
    Progress, Reference, RegistryError, Repository, Version, media, parse_manifest, referrers,
};
use crate::digest::{Checksum, Sha256};
use crate::http::{HeaderName, Method, Response, StatusCode, header};

/// The header with the digest of what is given or was taken.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The header with the subject of a manifest that the registry lists as a referrer.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// A repository of a registry.
#[derive(Clone)]
pub(super) struct Hosted {
    host: Arc<Host>,
    identity: Arc<Identity>,
    /// Without the host.
    repository: String,
    /// `HOST/NAME`.
    name: String,
    reading: Arc<[String]>,
    writing: Arc<[String]>,
}

impl Hosted {
    pub(super) fn new(
        host: Arc<Host>,
        reference: &Reference,
        credentials: Arc<Credentials>,
    ) -> Self {
        let repository = reference.repository.clone();
        Self {
            host,
            identity: Arc::new(Identity::new(&reference.registry, &repository, credentials)),
            name: reference.name(),
            reading: [format!("repository:{repository}:pull")].into(),
            writing: [format!("repository:{repository}:pull,push")].into(),
            repository,
        }
    }

    /// What the registry answered instead of doing what it was asked.
    fn refusal(&self, what: &str, response: Response) -> RegistryError {
        let (place, what) = (self.name.clone(), what.to_owned());
        match response.status {
            StatusCode::NOT_FOUND => RegistryError::Missing { place, what },
            _ => RegistryError::Refused {
                place,
                what,
                message: self.identity.said(response),
            },
        }
    }

    fn invalid(&self, what: &str, reason: impl Into<String>) -> RegistryError {
        RegistryError::Invalid {
            place: self.name.clone(),
            what: what.to_owned(),
            reason: reason.into(),
        }
    }

    /// The body of an answer: at most [`MAX_MANIFEST`] bytes.
    fn whole(&self, what: &str, response: Response) -> Result<Vec<u8>, CallError> {
        let too_long = || self.invalid(what, format!("is longer than {MAX_MANIFEST} bytes"));
        let told = response.header(header::CONTENT_LENGTH);
        let told: Option<u64> = told.and_then(|told| told.parse().ok());
        if told.is_some_and(|told| told > MAX_MANIFEST as u64) {
            return Err(too_long().into());
        }
        let mut bytes = Vec::new();
        let mut body = response.body.take(MAX_MANIFEST as u64 + 1);
        body.read_to_end(&mut bytes)
            .map_err(CallError::of_reading)?;
        match bytes.len() > MAX_MANIFEST {
            true => Err(too_long().into()),
            false => Ok(bytes),
        }
    }

    /// One try to get a manifest.
    fn fetch_manifest(&self, version: &Version) -> Result<Option<Fetched>, CallError> {
        let what = what_manifest(version);
        let path = format!("{}/manifests/{version}", self.repository);
        let call = Call::new(Method::GET, Target::Path(&path), &self.reading)
            .header(header::ACCEPT, media::ALL_MANIFESTS.join(", "));
        let response = self.host.once(&call, &self.identity)?;
        if response.status == StatusCode::NOT_FOUND {
            drain(response);
            return Ok(None);
        }
        if response.status != StatusCode::OK {
            return Err(self.refusal(&what, response).into());
        }
        let given = response.header(header::CONTENT_TYPE).unwrap_or_default();
        let given = given
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let named = response.header(CONTENT_DIGEST).map(str::to_owned);
        let bytes = self.whole(&what, response)?;
        let digest = Sha256::of(&bytes);
        let expected = match version {
            Version::Digest(digest) => Some(*digest),
            // A digest of another kind says nothing here.
            Version::Tag(_) => named
                .as_deref()
                .and_then(|named| named.parse::<Checksum>().ok()?.sha256()),
        };
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            let reason = format!("is sha256:{digest}, not sha256:{expected}");
            return Err(self.invalid(&what, reason).into());
        }
        Ok(Some(Fetched {
            digest,
            media_type: own_media_type(&bytes).unwrap_or(given),
            bytes,
        }))
    }

    /// Puts a manifest; tells whether the registry lists it as a referrer of its subject.
    fn send_manifest(
        &self,
        version: &Version,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<bool, RegistryError> {
        let what = what_manifest(version);
        let digest = Sha256::of(bytes);
        if matches!(version, Version::Digest(other) if *other != digest) {
            return Err(self.invalid(&what, format!("is sha256:{digest}")));
        }
        if bytes.len() > MAX_MANIFEST {
            let reason = format!("is longer than {MAX_MANIFEST} bytes");
            return Err(self.invalid(&what, reason));
        }
        let path = format!("{}/manifests/{version}", self.repository);
        let source = bytes.to_vec();
        let sending = Sending::whole(&source, bytes.len() as u64);
        let call = Call::new(Method::PUT, Target::Path(&path), &self.writing)
            .header(header::CONTENT_TYPE, media_type)
            .body(&sending);
        let response = self.host.call(&call, &self.identity, &self.name)?;
        if !response.status.is_success() {
            return Err(self.refusal(&what, response));
        }
        let named = response.header(CONTENT_DIGEST).map(str::to_owned);
        let listed = response.header(SUBJECT).is_some();
        drain(response);
        match named
            .as_deref()
            .and_then(|named| named.strip_prefix("sha256:"))
        {
            Some(other) if other != digest.to_string() => {
                let reason = format!("was sent as sha256:{digest} and taken as sha256:{other}");
                Err(self.invalid(&what, reason))
            }
            _ => Ok(listed),
        }
    }

    /// One try to get the list of referrers; `None` where the registry keeps none.
    fn fetch_referrers(&self, subject: &Sha256) -> Result<Option<Vec<Descriptor>>, CallError> {
        let what = format!("list of referrers of sha256:{subject}");
        let path = format!("{}/referrers/sha256:{subject}", self.repository);
        let call = Call::new(Method::GET, Target::Path(&path), &self.reading)
            .header(header::ACCEPT, media::INDEX);
        let response = self.host.once(&call, &self.identity)?;
        if response.status == StatusCode::NOT_FOUND {
            drain(response);
            return Ok(None);
        }
        if response.status != StatusCode::OK {
            return Err(self.refusal(&what, response).into());
        }
        let bytes = self.whole(&what, response)?;
        match parse_manifest(&bytes, media::INDEX) {
            Ok(Parsed::Index(index)) => Ok(Some(index.manifests().clone())),
            Ok(Parsed::Manifest(_)) => Err(self.invalid(&what, "is no index").into()),
            Err(why) => Err(self.invalid(&what, why).into()),
        }
    }
}

impl Repository for Hosted {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn manifest(&self, version: &Version) -> Result<Option<Fetched>, RegistryError> {
        self.host.retry(&self.name, || self.fetch_manifest(version))
    }

    fn put_manifest(
        &self,
        version: &Version,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        self.send_manifest(version, media_type, bytes).map(drop)
    }

    fn referrers(&self, subject: &Sha256) -> Result<Vec<Descriptor>, RegistryError> {
        let fetch = || self.fetch_referrers(subject);
        match self.host.retry(&self.name, fetch)? {
            Some(listed) => Ok(listed),
            None => referrers::listed(self, subject),
        }
    }

    fn put_referrer(
        &self,
        subject: &Sha256,
        manifest: &Manifest,
    ) -> Result<Descriptor, RegistryError> {
        let (one, bytes) = referrers::described(manifest);
        let version = Version::Digest(Sha256::of(&bytes));
        if !self.send_manifest(&version, media::MANIFEST, &bytes)? {
            referrers::list(self, subject, &one)?;
        }
        Ok(one)
    }

    fn has_blob(&self, blob: &Blob) -> Result<bool, RegistryError> {
        self.blob_is_there(blob, &self.reading)
    }

    fn read_blob(
        &self,
        blob: &Blob,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        blob::open(self, blob, range)
    }

    fn put_blob(
        &self,
        blob: &Blob,
        source: &dyn BlobSource,
        mounts: &[String],
        progress: &Progress<'_>,
    ) -> Result<Delivered, RegistryError> {
        upload::put(self, blob, source, mounts, progress)
    }

    fn tags(&self) -> Result<Vec<String>, RegistryError> {
        tags::list(self)
    }
}

/// Asks a registry whether it knows a credential.
pub(super) fn check(
    host: &Host,
    credential: Credential,
    credentials: Arc<Credentials>,
) -> Result<(), RegistryError> {
    let identity = Identity::given(host.name(), credential, credentials);
    let call = Call::new(Method::GET, Target::Path(""), &[]);
    let response = host.call(&call, &identity, host.name())?;
    if response.status.is_success() {
        drain(response);
        return Ok(());
    }
    Err(RegistryError::Invalid {
        place: host.name().to_owned(),
        what: "it".to_owned(),
        reason: format!("is no registry: {}", identity.said(response)),
    })
}

/// A manifest, for people.
fn what_manifest(version: &Version) -> String {
    match version {
        Version::Tag(tag) => format!("manifest of tag \"{tag}\""),
        Version::Digest(digest) => format!("manifest sha256:{digest}"),
    }
}

/// A blob, for people.
fn what_blob(blob: &Blob) -> String {
    format!("blob sha256:{}", blob.digest)
}

/// What a manifest says that it is.
fn own_media_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        media_type: Option<String>,
    }
    let head: Head = serde_json::from_slice(bytes).ok()?;
    head.media_type
}
