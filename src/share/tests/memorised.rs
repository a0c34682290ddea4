//! A repository in memory.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::digest::Sha256;
use crate::registry::{
    Blob, BlobReader, BlobSource, Delivered, Described, Fetched, Manifest, Parsed, Progress,
    RegistryError, Repository, Version, media, parse_manifest,
};

/// A repository in memory that counts.
#[derive(Default)]
pub(super) struct Memorised {
    pub(super) manifests: Mutex<BTreeMap<Version, Fetched>>,
    pub(super) blobs: Mutex<BTreeMap<Sha256, Vec<u8>>>,
    pub(super) sent: AtomicU64,
    pub(super) given: AtomicU64,
    pub(super) refuses_ranges: AtomicBool,
    /// Somebody else's indexes: each takes the place of the next one that is put.
    pub(super) others: Mutex<Vec<Vec<u8>>>,
    /// The same, but each is put after the next index was looked at.
    pub(super) late: Mutex<Vec<Vec<u8>>>,
}

impl Memorised {
    pub(super) fn sent(&self) -> u64 {
        self.sent.swap(0, Ordering::Relaxed)
    }

    pub(super) fn given(&self) -> u64 {
        self.given.swap(0, Ordering::Relaxed)
    }

    pub(super) fn manifest_of(&self, tag: &str) -> Manifest {
        let manifests = self.manifests.lock().unwrap();
        let fetched = &manifests[&Version::Tag(tag.into())];
        match parse_manifest(&fetched.bytes, &fetched.media_type).unwrap() {
            Parsed::Manifest(manifest) => *manifest,
            Parsed::Index(_) => panic!("an index"),
        }
    }
}

impl Repository for Memorised {
    fn name(&self) -> String {
        "localhost/memorised".to_owned()
    }

    fn manifest(&self, version: &Version) -> Result<Option<Fetched>, RegistryError> {
        let found = self.manifests.lock().unwrap().get(version).cloned();
        if found
            .as_ref()
            .is_some_and(|found| found.media_type == media::INDEX)
            && let Some(late) = self.late.lock().unwrap().pop()
        {
            self.put_manifest(version, "", &late)?;
        }
        Ok(found)
    }

    fn put_manifest(
        &self,
        version: &Version,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        if let Ok(Parsed::Manifest(manifest)) = parse_manifest(bytes, media_type) {
            for named in manifest.layers().iter().chain([manifest.config()]) {
                assert!(self.has_blob(&named.blob().unwrap()).unwrap(), "{named:?}");
            }
        }
        let fetched = Fetched {
            digest: Blob::of(bytes).digest,
            media_type: media_type.to_owned(),
            bytes: bytes.to_vec(),
        };
        let mut manifests = self.manifests.lock().unwrap();
        manifests.insert(Version::Digest(fetched.digest), fetched.clone());
        manifests.insert(version.clone(), fetched);
        drop(manifests);
        let other = match media_type {
            media::INDEX => self.others.lock().unwrap().pop(),
            _ => None,
        };
        match other {
            Some(other) => self.put_manifest(version, "", &other),
            None => Ok(()),
        }
    }

    fn has_blob(&self, blob: &Blob) -> Result<bool, RegistryError> {
        Ok(self.blobs.lock().unwrap().contains_key(&blob.digest))
    }

    fn read_blob(
        &self,
        blob: &Blob,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        let blobs = self.blobs.lock().unwrap();
        let Some(bytes) = blobs.get(&blob.digest) else {
            return Err(RegistryError::Missing {
                place: self.name(),
                what: format!("blob {}", blob.digest.short()),
            });
        };
        let range = range.filter(|_| !self.refuses_ranges.load(Ordering::Relaxed));
        let range = range.unwrap_or(0..bytes.len() as u64);
        let part = bytes[range.start as usize..range.end as usize].to_vec();
        self.given.fetch_add(part.len() as u64, Ordering::Relaxed);
        Ok(BlobReader {
            start: range.start,
            bytes: Box::new(Cursor::new(part)),
        })
    }

    fn put_blob(
        &self,
        blob: &Blob,
        source: &dyn BlobSource,
        _: &[String],
        progress: &Progress<'_>,
    ) -> Result<Delivered, RegistryError> {
        if self.has_blob(blob)? {
            return Ok(Delivered::Present);
        }
        let mut bytes = Vec::new();
        source.open(0).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(Blob::of(&bytes), *blob);
        self.sent.fetch_add(blob.size, Ordering::Relaxed);
        progress(blob.size as i64);
        self.blobs.lock().unwrap().insert(blob.digest, bytes);
        Ok(Delivered::Uploaded)
    }

    fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let manifests = self.manifests.lock().unwrap();
        let tags = manifests.keys().filter_map(|version| match version {
            Version::Tag(tag) => Some(tag.clone()),
            Version::Digest(_) => None,
        });
        Ok(tags.collect())
    }
}
