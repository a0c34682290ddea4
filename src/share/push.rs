//! From the store to a repository.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use super::artifact::{Artifact, PackRef};
use super::layout::{Known, Layout, Needed, distribute, places};
use super::objects::{self, Content, Listed, runs_of};
use super::work::{self, Task};
use super::{ShareError, Sharing};
use crate::digest::{ObjectRef, Sha256};
use crate::http::sleep;
use crate::registry::{
    Blob, BlobSource, Delivered, Descriptor, Fetched, Index, Parsed, Platform, RegistryError,
    Repository, Version, media, parse_manifest,
};
use crate::store::{OutgoingPack, PackedChunk, Parts, StoreError};

/// Known packs that are looked at, at most.
const MOST_KNOWN: usize = 200;
/// Tags whose packs are looked at besides the one that is pushed to.
const MOST_TAGS: usize = 4;
/// How often an index is written when others write it, too, and how long between.
const INDEX_TRIES: usize = 5;
const INDEX_PAUSE: Duration = Duration::from_millis(200);
/// Tags of results begin so: they are no versions of an image.
pub const RESULT_TAG: &str = "vmfab-";

/// What is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// `artifactType`.
    pub kind: &'static str,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// The objects, in the order in which their chunks are packed.
    pub objects: Vec<ObjectRef>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// Under what a manifest is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A tag.
    Tag(String),
    /// Its digest only: an index names it.
    Digest,
    /// Nothing: it is the one without a name of a layout or an archive.
    Unnamed,
}

/// Where and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushOptions {
    /// Where to.
    pub target: Target,
    /// Whether packs that are there are left out of account, so that the manifest depends on the image only.
    pub full: bool,
    /// The index that the manifest is for, and the platform: the manifest there is the version before.
    pub index: Option<(Version, Platform)>,
    /// What is pushed, for people.
    pub name: String,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's digest.
    pub manifest: Blob,
    /// Whether all of it was there.
    pub present: bool,
    /// Bytes that were sent.
    pub sent: u64,
    /// Packs that it has.
    pub packs: usize,
    /// Those that were made and sent for it.
    pub new: usize,
    /// Those that were linked from another repository.
    pub mounted: usize,
}

impl Sharing<'_> {
    /// Pushes objects as one artifact.
    ///
    /// # Errors
    /// An object is not here, or the repository fails.
    pub fn push(
        &self,
        repository: &dyn Repository,
        bundle: &Bundle,
        options: &PushOptions,
    ) -> Result<Pushed, ShareError> {
        let name = format!("push {} to {}", options.name, repository.name());
        let task = Task::new(self.sink, self.interrupt, name);
        let pushed = self.push_within(repository, bundle, options, &task)?;
        task.done();
        Ok(pushed)
    }

    /// The same as a part of a task.
    pub(super) fn push_within(
        &self,
        repository: &dyn Repository,
        bundle: &Bundle,
        options: &PushOptions,
        task: &Task<'_>,
    ) -> Result<Pushed, ShareError> {
        let moved = task.moved();
        let before = match (&options.target, &options.index) {
            (Target::Tag(tag), _) => self.artifact_at(repository, &Version::Tag(tag.clone()))?,
            (_, Some((version, platform))) => self.artifact_in(repository, version, platform)?,
            _ => None,
        };
        let config = Blob::of(&bundle.config);
        if let Some((fetched, there)) = &before
            && !options.full
            && there.covers(&config, &bundle.annotations)
            && self.is_whole(repository, there)?
        {
            self.memory.saw(&repository.name(), &there.packs);
            return Ok(Pushed {
                manifest: Blob::of(&fetched.bytes),
                present: true,
                sent: 0,
                packs: there.packs.len(),
                new: 0,
                mounted: 0,
            });
        }
        let contents = self.contents(bundle)?;
        let known = match options.full {
            true => Vec::new(),
            false => self.known(repository, before.map(|(_, artifact)| artifact), bundle)?,
        };
        task.check()?;
        let (artifact, new, list) = self.assemble(repository, bundle, &contents, known, task)?;
        let again = list.clone();
        let mounted = self.upload(repository, bundle, &artifact, &new, list, task)?;
        let manifest = artifact.to_manifest().to_bytes();
        let blob = Blob::of(&manifest);
        task.check()?;
        let version = match &options.target {
            Target::Tag(tag) => Some(Version::Tag(tag.clone())),
            Target::Digest => Some(Version::Digest(blob.digest)),
            Target::Unnamed => None,
        };
        let put = || match &version {
            Some(version) => repository.put_manifest(version, media::MANIFEST, &manifest),
            None => repository.put_unnamed(media::MANIFEST, &manifest),
        };
        match put() {
            // Debian's registry loses track of blobs that two push at once.
            Err(RegistryError::Refused { .. }) => {
                self.upload(repository, bundle, &artifact, &new, again, task)?;
                put()?;
            }
            put => put?,
        }
        self.memory.saw(&repository.name(), &artifact.packs);
        Ok(Pushed {
            manifest: blob,
            present: false,
            sent: task.moved() - moved,
            packs: artifact.packs.len(),
            new: new.len(),
            mounted,
        })
    }

    /// The artifact under a version; `None` when there is none, or it is of others.
    fn artifact_at(
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
    fn artifact_in(
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
        let fits = |one: &&Descriptor| one.platform.as_ref() == Some(platform);
        let Some(Ok(blob)) = index.manifests.iter().find(fits).map(Descriptor::blob) else {
            return Ok(None);
        };
        self.artifact_at(repository, &Version::Digest(blob.digest))
    }

    /// What the objects consist of.
    fn contents(&self, bundle: &Bundle) -> Result<Vec<(ObjectRef, Parts)>, StoreError> {
        let mut seen = HashSet::new();
        let objects = bundle.objects.iter();
        objects
            .filter(|object| seen.insert(object.id))
            .map(|object| Ok((*object, self.store.parts(&object.id)?)))
            .collect()
    }

    /// Packs in the repository that may have what is needed: those of the artifact that is replaced, of some other
    /// versions, and those seen there before. What cannot be looked at is left out.
    fn known(
        &self,
        repository: &dyn Repository,
        before: Option<Artifact>,
        bundle: &Bundle,
    ) -> Result<Vec<Known>, ShareError> {
        let mut packs: Vec<PackRef> = Vec::new();
        if bundle.kind == super::IMAGE {
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
    fn gone(
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
    pub(super) fn is_whole(
        &self,
        repository: &dyn Repository,
        artifact: &Artifact,
    ) -> Result<bool, ShareError> {
        let packs = artifact.packs.iter().map(|pack| pack.blob);
        let blobs = packs.chain(artifact.objects).chain([artifact.config]);
        Ok(self.gone(repository, blobs.collect())?.is_empty())
    }

    /// What goes into which packs. Known ones that would be used and are gone are left out.
    fn layout(
        &self,
        repository: &dyn Repository,
        needed: &[Needed],
        known: &mut Vec<Known>,
    ) -> Result<Layout, ShareError> {
        loop {
            let layout = distribute(needed, known);
            let kept = layout.kept.iter().map(|&number| known[number].pack.blob);
            let gone = self.gone(repository, kept.collect())?;
            if gone.is_empty() {
                return Ok(layout);
            }
            known.retain(|known| !gone.contains(&known.pack.blob.digest));
        }
    }

    /// The artifact, the packs that have to be made for it, and its list of objects.
    fn assemble(
        &self,
        repository: &dyn Repository,
        bundle: &Bundle,
        contents: &[(ObjectRef, Parts)],
        mut known: Vec<Known>,
        task: &Task<'_>,
    ) -> Result<(Artifact, Vec<OutgoingPack>, Vec<u8>), ShareError> {
        let layout = self.layout(repository, &self.needed(contents)?, &mut known)?;
        let new = work::all(layout.new, self.parallel, |chunks| {
            task.check()?;
            Ok(self.store.outgoing(&chunks)?)
        })?;
        let kept = layout.kept.iter().map(|&number| &known[number]);
        let mut packs: Vec<(PackRef, Arc<Vec<PackedChunk>>)> = kept
            .map(|known| (known.pack, known.chunks.clone()))
            .collect();
        for pack in &new {
            let chunks = Arc::new(pack.chunks());
            self.memory.saw_table(pack.name(), chunks.clone());
            packs.push((pack_ref(pack), chunks));
        }
        let places = places(packs.iter().map(|(_, chunks)| chunks.as_slice()));
        let mut listed = Vec::new();
        for (object, parts) in contents {
            let content = match parts {
                Parts::Blob(bytes) => Content::Inline(bytes.clone()),
                Parts::List(list) => Content::Runs {
                    size: list.size,
                    runs: runs_of(list, &places).ok_or_else(|| {
                        ShareError::invalid("this vmfab", "a chunk", "is in no pack")
                    })?,
                },
            };
            listed.push(Listed {
                id: object.id,
                content,
            });
        }
        let list = objects::encode(&listed);
        let artifact = Artifact {
            kind: bundle.kind.to_owned(),
            config: Blob::of(&bundle.config),
            config_data: Some(bundle.config.clone()),
            objects: (!listed.is_empty()).then(|| Blob::of(&list)),
            packs: packs.into_iter().map(|(pack, _)| pack).collect(),
            annotations: bundle.annotations.clone(),
        };
        Ok((artifact, new, list))
    }

    /// The chunks of all objects, each once.
    fn needed(&self, contents: &[(ObjectRef, Parts)]) -> Result<Vec<Needed>, ShareError> {
        let mut seen = HashSet::new();
        let mut needed = Vec::new();
        for (object, parts) in contents {
            let Parts::List(list) = parts else { continue };
            for chunk in list.chunks.iter().filter(|chunk| seen.insert(chunk.id)) {
                let stored = self.store.chunk_stored(&chunk.id)?;
                let stored = stored.ok_or_else(|| StoreError::DamagedObject {
                    id: object.id,
                    reason: format!("its chunk {} is not in the store", chunk.id.short()),
                })?;
                needed.push(Needed {
                    id: chunk.id,
                    stored,
                });
            }
        }
        Ok(needed)
    }

    /// Brings all blobs of an artifact but the packs that are there; tells how many were mounted.
    fn upload(
        &self,
        repository: &dyn Repository,
        bundle: &Bundle,
        artifact: &Artifact,
        new: &[OutgoingPack],
        list: Vec<u8>,
        task: &Task<'_>,
    ) -> Result<usize, ShareError> {
        let mut blobs: Vec<(Blob, Box<dyn BlobSource + Send>)> = Vec::new();
        for pack in new {
            blobs.push((pack_ref(pack).blob, Box::new(PackSource(pack.clone()))));
        }
        blobs.push((artifact.config, Box::new(bundle.config.clone())));
        match artifact.objects {
            Some(objects) => blobs.push((objects, Box::new(list))),
            None => blobs.push((super::artifact::empty(), Box::new(b"{}".to_vec()))),
        }
        for (blob, _) in &blobs {
            task.expect(blob.size);
        }
        let name = repository.name();
        let delivered = work::all(blobs, self.parallel, |(blob, source)| {
            task.check()?;
            let mounts = self.memory.elsewhere(&name, &blob);
            let progress = |bytes| task.step(bytes);
            Ok(repository.put_blob(&blob, &*source, &mounts, &progress)?)
        })?;
        Ok(delivered
            .iter()
            .filter(|how| **how == Delivered::Mounted)
            .count())
    }

    /// Puts a manifest into the index under a tag, beside those for other platforms; what else was under the tag is
    /// replaced. Gives the index.
    ///
    /// # Errors
    /// The repository fails.
    pub fn index(
        &self,
        repository: &dyn Repository,
        version: &Version,
        manifest: Descriptor,
    ) -> Result<Blob, ShareError> {
        // Another one may be doing the same for another platform: registries know no "only if nobody was before".
        for _ in 0..INDEX_TRIES {
            let blob = self.index_once(repository, version, &manifest)?;
            let there = repository.manifest(version)?;
            let parsed = there.map(|there| parse_manifest(&there.bytes, &there.media_type));
            match parsed {
                Some(Ok(Parsed::Index(index))) if index.manifests.contains(&manifest) => {
                    return Ok(blob);
                }
                _ if !sleep(INDEX_PAUSE, self.interrupt) => return Err(ShareError::Interrupted),
                _ => {}
            }
        }
        Err(ShareError::invalid(
            &repository.name(),
            format!("the index {version}"),
            "is changed by others all the time: push again",
        ))
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
            manifests = index.manifests;
            annotations = index.annotations;
        }
        manifests.retain(|other| other.platform != manifest.platform);
        manifests.push(manifest.clone());
        manifests.sort_by(|a, b| a.platform.cmp(&b.platform));
        let index = Index {
            schema_version: 2,
            media_type: Some(media::INDEX.to_owned()),
            artifact_type: None,
            manifests,
            annotations,
        };
        let bytes = index.to_bytes();
        repository.put_manifest(version, media::INDEX, &bytes)?;
        Ok(Blob::of(&bytes))
    }
}

fn pack_ref(pack: &OutgoingPack) -> PackRef {
    PackRef {
        blob: Blob {
            digest: pack.name(),
            size: pack.size(),
        },
        table_offset: pack.table_offset(),
    }
}

struct PackSource(OutgoingPack);

impl BlobSource for PackSource {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(self.0.open(offset))
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

impl Pushed {
    /// The manifest's digest.
    #[must_use]
    pub const fn digest(&self) -> Sha256 {
        self.manifest.digest
    }
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
