//! Lists of referrers where a place keeps none itself: an index under the tag `sha256-DIGEST`
//! (OCI distribution specification 1.1, "Referrers Tag Schema").

use std::collections::BTreeMap;

use super::{
    Blob, Descriptor, Manifest, Parsed, RegistryError, Repository, Version, descriptor, index,
    media, parse_manifest, to_bytes,
};
use crate::digest::Sha256;

/// How often the index is written again when somebody else wrote it at the same time.
const TRIES: usize = 5;

/// The tag of the index.
fn tag(subject: &Sha256) -> Version {
    Version::Tag(format!("sha256-{subject}"))
}

/// Whether a tag is that of such an index, or of cosign's signatures and attestations
/// (`sha256-DIGEST.sig`): nothing that a user gave a name.
#[must_use]
pub fn is_referrers_tag(tag: &str) -> bool {
    let Some(rest) = tag.strip_prefix("sha256-") else {
        return false;
    };
    let digest = rest.split('.').next().unwrap_or_default();
    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Those in the index.
pub(super) fn listed(
    repository: &(impl Repository + ?Sized),
    subject: &Sha256,
) -> Result<Vec<Descriptor>, RegistryError> {
    let Some(fetched) = repository.manifest(&tag(subject))? else {
        return Ok(Vec::new());
    };
    match parse_manifest(&fetched.bytes, &fetched.media_type) {
        Ok(Parsed::Index(index)) => Ok(index.manifests().clone()),
        Ok(Parsed::Manifest(_)) => Err(garbage(repository, subject, "is no index")),
        Err(why) => Err(garbage(repository, subject, &why)),
    }
}

/// Adds one to the index. Who writes it last wins: so it is read again, and written again when
/// something is missing.
pub(super) fn list(
    repository: &(impl Repository + ?Sized),
    subject: &Sha256,
    new: &Descriptor,
) -> Result<(), RegistryError> {
    for _ in 0..TRIES {
        let mut all = match listed(repository, subject) {
            Ok(all) => all,
            // A layout or archive that is not there yet.
            Err(RegistryError::Unknown { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        if all.iter().any(|one| one.digest() == new.digest()) {
            return Ok(());
        }
        all.push(new.clone());
        let bytes = to_bytes(&index(all, BTreeMap::new()));
        repository.put_manifest(&tag(subject), media::INDEX, &bytes)?;
    }
    match listed(repository, subject)?
        .iter()
        .any(|one| one.digest() == new.digest())
    {
        true => Ok(()),
        false => Err(garbage(
            repository,
            subject,
            "is changed by others all the time",
        )),
    }
}

/// The descriptor of a manifest in a list of referrers, and its bytes.
pub(super) fn described(manifest: &Manifest) -> (Descriptor, Vec<u8>) {
    let bytes = to_bytes(manifest);
    let mut one = descriptor(media::MANIFEST, &Blob::of(&bytes));
    one.set_artifact_type(manifest.artifact_type().clone());
    one.set_annotations(manifest.annotations().clone());
    (one, bytes)
}

/// As a place does it that keeps no list.
pub(super) fn put(
    repository: &(impl Repository + ?Sized),
    subject: &Sha256,
    manifest: &Manifest,
) -> Result<Descriptor, RegistryError> {
    let (one, bytes) = described(manifest);
    repository.put_manifest(
        &Version::Digest(Sha256::of(&bytes)),
        media::MANIFEST,
        &bytes,
    )?;
    list(repository, subject, &one)?;
    Ok(one)
}

fn garbage(
    repository: &(impl Repository + ?Sized),
    subject: &Sha256,
    reason: &str,
) -> RegistryError {
    RegistryError::Invalid {
        place: repository.name(),
        what: format!("the list of referrers of sha256:{subject}"),
        reason: reason.to_owned(),
    }
}
