//! What a repository has already.

use std::collections::HashSet;

use super::super::artifact::{Artifact, PackRef};
use super::super::distribution::Known;
use super::super::{IMAGE, ShareError, Sharing, work};
use super::{Bundle, RESULT_TAG};
use crate::digest::Sha256;
use crate::registry::{
    Blob, Described, Descriptor, Fetched, Parsed, Platform, Repository, Version, parse_manifest,
};

/// Known packs that are looked at, at most.
const MOST_KNOWN: usize = 200;
/// Tags whose packs are looked at besides the one that is pushed to.
const MOST_TAGS: usize = 4;

impl Sharing<'_> {
    /// The artifact under a version; `None` when there is none, or it is of others.
    pub(super) fn artifact_at(
        &self,
        repository: &dyn Repository,
        version: &Version,
    ) -> Result<Option<(Fetched, Artifact)>, ShareError> {
        let Some(fetched) = repository.manifest(version)? else {
            return Ok(None);
        };
        let Ok(Parsed::Manifest(manifest)) = parse_manifest(&fetched.bytes, &fetched.media_type)
        else {
            return Ok(None);
        };
        let artifact = Artifact::of_manifest(&manifest).ok().flatten();
        Ok(artifact.map(|artifact| (fetched, artifact)))
    }

    /// The artifact for a platform in the index under a version.
    pub(super) fn artifact_in(
        &self,
        repository: &dyn Repository,
        version: &Version,
        platform: &Platform,
    ) -> Result<Option<(Fetched, Artifact)>, ShareError> {
        let Some(fetched) = repository.manifest(version)? else {
            return Ok(None);
        };
        let Ok(Parsed::Index(index)) = parse_manifest(&fetched.bytes, &fetched.media_type) else {
            return Ok(None);
        };
        let fits = |one: &&Descriptor| one.is_for().as_ref() == Some(platform);
        let Some(Ok(blob)) = index.manifests().iter().find(fits).map(Described::blob) else {
            return Ok(None);
        };
        self.artifact_at(repository, &Version::Digest(blob.digest))
    }

    /// Packs in the repository that may have what is needed: those of the artifact that is
    /// replaced, of some other versions, and those seen there before. What cannot be looked at is
    /// left out.
    pub(super) fn known(
        &self,
        repository: &dyn Repository,
        before: Option<Artifact>,
        bundle: &Bundle,
    ) -> Result<Vec<Known>, ShareError> {
        let mut packs: Vec<PackRef> = Vec::new();
        if bundle.kind == IMAGE {
            let mut artifacts: Vec<Artifact> = before.into_iter().collect();
            for tag in recent(repository.tags().unwrap_or_default()) {
                let found = self.artifact_at(repository, &Version::Tag(tag));
                artifacts.extend(found.ok().flatten().map(|(_, artifact)| artifact));
            }
            packs.extend(artifacts.iter().flat_map(|artifact| &artifact.packs));
        }
        packs.extend(self.memory.packs(&repository.name()));
        let mut seen = HashSet::new();
        let packs: Vec<PackRef> = packs
            .into_iter()
            .filter(|pack| seen.insert(pack.blob.digest))
            .take(MOST_KNOWN)
            .collect();
        let known = work::all(packs, self.parallel, |pack| {
            let chunks = self.chunks(repository, &pack);
            Ok(chunks.ok().flatten().map(|chunks| Known { pack, chunks }))
        })?;
        Ok(known.into_iter().flatten().collect())
    }

    /// Which of these blobs are not there. What this process has seen there is not asked for.
    pub(super) fn gone(
        &self,
        repository: &dyn Repository,
        blobs: Vec<Blob>,
    ) -> Result<HashSet<Sha256>, ShareError> {
        let name = repository.name();
        let gone = work::all(blobs, self.parallel, |blob| {
            let there = self.memory.is_there(&name, &blob.digest) || repository.has_blob(&blob)?;
            Ok((!there).then_some(blob.digest))
        })?;
        Ok(gone.into_iter().flatten().collect())
    }

    /// Whether all blobs of an artifact are there: registries lose some, and its manifest stays.
    pub(in crate::share) fn is_whole(
        &self,
        repository: &dyn Repository,
        artifact: &Artifact,
    ) -> Result<bool, ShareError> {
        let packs = artifact.packs.iter().map(|pack| pack.blob);
        let blobs = packs.chain(artifact.objects).chain([artifact.config]);
        let blobs = blobs.chain(artifact.boot_order);
        Ok(self.gone(repository, blobs.collect())?.is_empty())
    }
}

/// The tags that are probably the newest versions.
fn recent(mut tags: Vec<String>) -> Vec<String> {
    tags.retain(|tag| !tag.starts_with(RESULT_TAG));
    tags.sort_by_cached_key(|tag| std::cmp::Reverse(natural(tag)));
    tags.truncate(MOST_TAGS);
    tags
}

/// For sorting: numbers in a text by their value.
fn natural(text: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let words = after.bytes().take_while(|b| !b.is_ascii_digit()).count();
        let (word, after) = after.split_at(words);
        parts.push((number.parse().unwrap_or(0), word.to_owned()));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_versions_are_looked_at() {
        let tags = ["1.9", "1.10", "latest", "1.2", "vmfab-12", "1.10.1", "0.9"];
        let found = recent(tags.map(str::to_owned).to_vec());
        assert_eq!(found, ["1.10.1", "1.10", "1.9", "1.2"]);
    }
}
