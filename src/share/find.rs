//! What is under a tag or digest, and small blobs of it.

use std::ops::Range;

use super::artifact::{Artifact, MAX_CONFIG};
use super::{BootOrder, ShareError, Sharing};
use crate::digest::Sha256;
use crate::registry::{
    Blob, BlobReader, Described, Manifest, Platform, ReadBlobError, Repository, ResolveError,
    Silent, Version, read_small, resolve,
};

/// What is under a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The digest of the manifest.
    pub digest: Sha256,
    pub manifest: Manifest,
    /// Its artifact, when it is one of vmfab's.
    pub artifact: Option<Artifact>,
    /// The digests of the indexes that led to it.
    pub through: Vec<Sha256>,
}

impl Published {
    /// Whether an index says what it is for.
    #[must_use]
    pub fn is_indexed(&self) -> bool {
        !self.through.is_empty()
    }

    /// The digests of which a signature stands for it.
    #[must_use]
    pub fn signed_digests(&self) -> Vec<Sha256> {
        let mut digests = vec![self.digest];
        digests.extend(&self.through);
        digests
    }
}

impl Sharing<'_> {
    /// Finds what is under a version, for a platform when there are several.
    ///
    /// # Errors
    /// There is nothing, or nothing for the platform; it is garbage.
    pub fn find(
        &self,
        repository: &dyn Repository,
        version: &Version,
        platform: &Platform,
    ) -> Result<Option<Published>, ShareError> {
        let place = format!("{}:{version}", repository.name());
        let invalid = |what, reason| ShareError::invalid(&place, what, reason);
        let fetch = |version: &Version| repository.manifest(version);
        let found = resolve(version, platform, Silent::Refused, fetch);
        let found = found.map_err(|error| match error {
            ResolveError::Fetch(error) => error.into(),
            ResolveError::Invalid(what, reason) => invalid(what, reason),
            ResolveError::Platform(there) => ShareError::Platform {
                place: place.clone(),
                platform: platform.to_string(),
                there: match there.is_empty() {
                    true => vec!["none that says what it is for".to_owned()],
                    false => there,
                },
            },
        })?;
        let Some(found) = found else {
            return Ok(None);
        };
        let artifact = Artifact::of_manifest(&found.manifest);
        Ok(Some(Published {
            digest: found.digest,
            artifact: artifact.map_err(|reason| invalid("the manifest", reason))?,
            manifest: found.manifest,
            through: found.through,
        }))
    }

    /// The config of an artifact.
    ///
    /// # Errors
    /// It cannot be had, or is not what its digest says.
    pub fn config(
        &self,
        repository: &dyn Repository,
        artifact: &Artifact,
    ) -> Result<Vec<u8>, ShareError> {
        match &artifact.config_data {
            Some(data) => Ok(data.clone()),
            None => small_blob(repository, &artifact.config, "config"),
        }
    }

    /// The boot order of an artifact with a disk of `size` bytes, when it has one.
    ///
    /// # Errors
    /// It cannot be had, or is not what it should be.
    pub fn boot_order(
        &self,
        repository: &dyn Repository,
        artifact: &Artifact,
        size: u64,
    ) -> Result<Option<BootOrder>, ShareError> {
        let Some(blob) = &artifact.boot_order else {
            return Ok(None);
        };
        let bytes = small_blob(repository, blob, "boot order")?;
        let order = BootOrder::from_bytes(&bytes, size)
            .map_err(|reason| ShareError::invalid(&repository.name(), "the boot order", reason))?;
        Ok(Some(order))
    }

    /// The config of an artifact of others.
    ///
    /// # Errors
    /// It cannot be had, or is not what its digest says.
    pub fn config_of_others(
        &self,
        repository: &dyn Repository,
        manifest: &Manifest,
    ) -> Result<Vec<u8>, ShareError> {
        let invalid = |reason| ShareError::invalid(&repository.name(), "the config", reason);
        let blob = manifest.config().blob().map_err(invalid)?;
        if blob.size > MAX_CONFIG {
            return Err(invalid(format!("has {} bytes", blob.size)));
        }
        small_blob(repository, &blob, "config")
    }
}

/// A blob that a manifest names.
pub(super) fn open(
    repository: &dyn Repository,
    blob: &Blob,
    range: Option<Range<u64>>,
) -> Result<BlobReader, ShareError> {
    let reader = repository.read_blob(blob, range);
    reader.map_err(ShareError::of_blob)
}

/// A blob that fits into memory.
pub(super) fn small_blob(
    repository: &dyn Repository,
    blob: &Blob,
    what: &str,
) -> Result<Vec<u8>, ShareError> {
    read_small(repository, blob).map_err(|error| match error {
        ReadBlobError::Registry(error) => ShareError::of_blob(error),
        ReadBlobError::Wrong(reason) => {
            ShareError::invalid(&repository.name(), format!("the {what}"), reason)
        }
    })
}
