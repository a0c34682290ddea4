//! The index of several platforms under a tag.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::{ShareError, Sharing};
use crate::http::sleep;
use crate::registry::{
    Blob, Described, Descriptor, Parsed, Repository, Version, index, media, parse_manifest, sorted,
    to_bytes,
};

/// How often an index is written when others write it, too, and how long to wait at least and at
/// most between.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Sharing<'_> {
    /// Puts a manifest into the index under a tag, beside those for other platforms; what else was
    /// under the tag is replaced. Gives the index.
    ///
    /// # Errors
    /// The repository fails.
    pub fn index(
        &self,
        repository: &dyn Repository,
        version: &Version,
        manifest: Descriptor,
    ) -> Result<Blob, ShareError> {
        // Another one may be doing the same for another platform: registries know no "only if
        // nobody was before".
        for _ in 0..TRIES {
            let started = Instant::now();
            let blob = self.index_once(repository, version, &manifest)?;
            // Others may need as long as this took.
            let pause = (started.elapsed() * 2).clamp(PAUSE, LONGEST_PAUSE);
            if self.stays(repository, version, &manifest, pause)? {
                return Ok(blob);
            }
        }
        Err(ShareError::invalid(
            &repository.name(),
            format!("the index {version}"),
            "keeps changing: push again",
        ))
    }

    /// Whether a manifest is in the index, or a later one for its platform, and still is after a
    /// pause: who read the index before it was there writes it meanwhile.
    fn stays(
        &self,
        repository: &dyn Repository,
        version: &Version,
        manifest: &Descriptor,
        pause: Duration,
    ) -> Result<bool, ShareError> {
        let is_there = || -> Result<bool, ShareError> {
            let there = repository.manifest(version)?;
            let parsed = there.map(|there| parse_manifest(&there.bytes, &there.media_type));
            let Some(Ok(Parsed::Index(index))) = parsed else {
                return Ok(false);
            };
            let mut all = index.manifests().iter();
            Ok(all.any(|other| other.platform() == manifest.platform()))
        };
        let before = is_there()?;
        match sleep(pause, self.interrupt) {
            true => Ok(before && is_there()?),
            false => Err(ShareError::Interrupted),
        }
    }

    fn index_once(
        &self,
        repository: &dyn Repository,
        version: &Version,
        manifest: &Descriptor,
    ) -> Result<Blob, ShareError> {
        let mut manifests = Vec::new();
        let mut annotations = BTreeMap::new();
        if let Some(fetched) = repository.manifest(version)?
            && let Ok(Parsed::Index(index)) = parse_manifest(&fetched.bytes, &fetched.media_type)
        {
            manifests = index.manifests().clone();
            annotations = sorted(index.annotations());
        }
        manifests.retain(|other| other.platform() != manifest.platform());
        manifests.push(manifest.clone());
        manifests.sort_by_key(|one| one.is_for());
        let bytes = to_bytes(&index(manifests, annotations));
        repository.put_manifest(version, media::INDEX, &bytes)?;
        Ok(Blob::of(&bytes))
    }
}
