//! Small documents about a manifest, published beside it: signatures, and what else speaks of it.
//!
//! Each is an artifact whose subject is the manifest (OCI image specification 1.1), with one layer.

use std::collections::BTreeMap;

use super::{ShareError, find};
use crate::digest::Sha256;
use crate::registry::{
    Blob, Described, Descriptor, Manifest, Parsed, Repository, Version, descriptor, manifest,
    media, parse_manifest,
};
use crate::trust::CosignSignature;

/// The artifact type of a signature.
pub const SIGNATURE: &str = "application/vnd.vmfab.signature.v1";
/// The media type of its layer: the text that `ssh-keygen -Y sign` writes.
pub const SSH_SIGNATURE: &str = "application/vnd.vmfab.sshsig";
/// The artifact type of a signed statement.
pub const ATTESTATION: &str = "application/vnd.in-toto+json";
/// The media type of its layer.
pub const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// The annotation of a layer with a signature of cosign's.
const COSIGN: &str = "dev.cosignproject.cosign/signature";
/// More documents of one kind are not looked at.
const MOST: usize = 64;

/// A document to publish.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// What it is.
    pub artifact_type: &'static str,
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
    pub annotations: BTreeMap<String, String>,
}

/// Publishes a document about a manifest; gives the digest of its own.
///
/// # Errors
/// The repository does not take it.
pub fn attach(
    repository: &dyn Repository,
    subject: &Descriptor,
    document: &Attachment,
) -> Result<Sha256, ShareError> {
    let invalid = |reason| ShareError::invalid(&repository.name(), "the manifest", reason);
    let about = subject.blob().map_err(invalid)?.digest;
    let empty = b"{}".to_vec();
    let none = |_| ();
    for bytes in [&empty, &document.bytes] {
        repository.put_blob(&Blob::of(bytes), bytes, &[], &none)?;
    }
    let mut referrer = manifest(
        Some(document.artifact_type),
        descriptor(media::EMPTY, &Blob::of(&empty)),
        vec![descriptor(document.media_type, &Blob::of(&document.bytes))],
        document.annotations.clone(),
    );
    referrer.set_subject(Some(subject.clone()));
    let put = repository.put_referrer(&about, &referrer)?;
    Ok(put.blob().map_err(invalid)?.digest)
}

/// Passes on the documents of a type about a manifest, each of at most `most` bytes, one after the
/// other. Those that are larger, are gone or are garbage are passed over: anybody may have put them
/// there.
///
/// # Errors
/// The repository cannot be asked.
pub fn attached(
    repository: &dyn Repository,
    subject: &Sha256,
    artifact_type: &str,
    most: u64,
    mut each: impl FnMut(Vec<u8>),
) -> Result<(), ShareError> {
    let listed = repository.referrers(subject)?;
    let wanted = listed.iter().filter(|one| {
        // Some lists leave the type out.
        let told = one.artifact_type().as_ref().map(ToString::to_string);
        told.is_none_or(|told| told == artifact_type)
    });
    for one in wanted.take(MOST) {
        let Ok(blob) = one.blob() else { continue };
        let Some(manifest) = manifest_of(repository, &Version::Digest(blob.digest))? else {
            continue;
        };
        let about = manifest
            .subject()
            .as_ref()
            .and_then(|about| about.blob().ok());
        let told = manifest.artifact_type().as_ref().map(ToString::to_string);
        if about.is_none_or(|about| about.digest != *subject)
            || told.is_none_or(|told| told != artifact_type)
        {
            continue;
        }
        layers(repository, &manifest, most, |bytes, _| each(bytes))?;
    }
    Ok(())
}

/// The signatures of cosign's of a manifest: layers of the manifest under the tag
/// `sha256-DIGEST.sig`.
///
/// # Errors
/// The repository cannot be asked.
pub fn cosign_signatures(
    repository: &dyn Repository,
    subject: &Sha256,
    most: u64,
) -> Result<Vec<CosignSignature>, ShareError> {
    let tag = Version::Tag(format!("sha256-{subject}.sig"));
    let Some(manifest) = manifest_of(repository, &tag)? else {
        return Ok(Vec::new());
    };
    let mut signed = Vec::new();
    layers(repository, &manifest, most, |payload, layer| {
        signed.extend(layer.annotation(COSIGN).map(|signature| CosignSignature {
            payload,
            signature: signature.to_owned(),
        }));
    })?;
    Ok(signed)
}

fn manifest_of(
    repository: &dyn Repository,
    version: &Version,
) -> Result<Option<Manifest>, ShareError> {
    let fetched = repository.manifest(version)?;
    let parsed = fetched.map(|fetched| parse_manifest(&fetched.bytes, &fetched.media_type));
    Ok(match parsed {
        Some(Ok(Parsed::Manifest(manifest))) => Some(*manifest),
        _ => None,
    })
}

/// Passes on the first layers of a manifest that are small and are what their digests say.
fn layers(
    repository: &dyn Repository,
    manifest: &Manifest,
    most: u64,
    mut each: impl FnMut(Vec<u8>, &Descriptor),
) -> Result<(), ShareError> {
    for layer in manifest.layers().iter().take(MOST) {
        let Some(blob) = layer.blob().ok().filter(|blob| blob.size <= most) else {
            continue;
        };
        match find::small_blob(repository, &blob, "document") {
            Ok(bytes) => each(bytes, layer),
            Err(error) if error.is_garbage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
