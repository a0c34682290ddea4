//! From the store to a repository: blobs first, then the manifest.
//!
//! ```text
//! objects ── assemble.rs ──► artifact, new packs ── upload ──► manifest ── index.rs ──► index
//!                 ▲
//!             known.rs: packs that are there
//! ```

mod assemble;
mod index;
mod known;

use std::collections::BTreeMap;
use std::io::{self, Read};

use assemble::pack_ref;

use super::artifact::{self, Artifact};
use super::work::{self, Task};
use super::{ShareError, Sharing};
use crate::digest::{ObjectRef, Sha256};
use crate::registry::{
    Blob, BlobSource, Delivered, Platform, RegistryError, Repository, Version, media,
};
use crate::store::OutgoingPack;

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
    /// The boot order of its disk, as it is written.
    pub boot_order: Option<Vec<u8>>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// Under what a manifest is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
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
    /// Whether packs that are there are left out of account, so that the manifest depends on the
    /// image only.
    pub full: bool,
    /// The index that the manifest is for, and the platform: the manifest there is the version
    /// before.
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
    pub packs: usize,
    /// Those that were made and sent for it.
    pub new: usize,
    /// Those that were linked from another repository.
    pub mounted: usize,
}

impl Pushed {
    /// The manifest's digest.
    #[must_use]
    pub const fn digest(&self) -> Sha256 {
        self.manifest.digest
    }
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
        let order = bundle.boot_order.as_deref().map(Blob::of);
        if let Some((fetched, there)) = &before
            && !options.full
            && there.covers(&config, &bundle.annotations, order.as_ref())
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
        let manifest = crate::registry::to_bytes(&artifact.to_manifest());
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
        if let (Some(blob), Some(order)) = (artifact.boot_order, &bundle.boot_order) {
            blobs.push((blob, Box::new(order.clone())));
        }
        match artifact.objects {
            Some(objects) => blobs.push((objects, Box::new(list))),
            None => blobs.push((artifact::empty(), Box::new(b"{}".to_vec()))),
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
}

struct PackSource(OutgoingPack);

impl BlobSource for PackSource {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(self.0.open(offset))
    }
}
