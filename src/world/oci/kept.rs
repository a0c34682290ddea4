//! Manifests and configs that were had before, by their digest: files that are verified whenever
//! they are read.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::super::Context;
use crate::digest::Sha256;
use crate::host::file;
use crate::registry::{Fetched, MAX_MANIFEST};

pub(super) struct Kept {
    directory: PathBuf,
}

impl Kept {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            directory: context.home.manifests(),
        }
    }

    /// The manifest or index with this digest; what says of itself what it is needs nobody else to
    /// say so.
    pub(super) fn manifest(&self, digest: &Sha256) -> Option<Fetched> {
        let bytes = self.blob(digest)?;
        let media_type = fs::read_to_string(self.path(digest).with_extension("type"));
        Some(Fetched {
            digest: *digest,
            media_type: media_type.unwrap_or_default(),
            bytes,
        })
    }

    pub(super) fn keep_manifest(&self, fetched: &Fetched) -> io::Result<()> {
        let beside = self.path(&fetched.digest).with_extension("type");
        file::cache(&beside, fetched.media_type.as_bytes())?;
        self.keep_blob(&fetched.digest, &fetched.bytes)
    }

    /// The small blob with this digest.
    pub(super) fn blob(&self, digest: &Sha256) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let meta = fs::metadata(&path).ok()?;
        if meta.len() > MAX_MANIFEST as u64 {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        (Sha256::of(&bytes) == *digest).then_some(bytes)
    }

    pub(super) fn keep_blob(&self, digest: &Sha256, bytes: &[u8]) -> io::Result<()> {
        file::cache(&self.path(digest), bytes)
    }

    /// Whether the layer with this digest was found to begin with a disk.
    pub(super) fn has_disk(&self, diff_id: &Sha256) -> Option<bool> {
        match fs::read(self.disk_path(diff_id)).ok()?.as_slice() {
            b"disk" => Some(true),
            b"tree" => Some(false),
            _ => None,
        }
    }

    pub(super) fn keep_has_disk(&self, diff_id: &Sha256, has_disk: bool) -> io::Result<()> {
        let word = if has_disk { "disk" } else { "tree" };
        file::cache(&self.disk_path(diff_id), word.as_bytes())
    }

    fn disk_path(&self, diff_id: &Sha256) -> PathBuf {
        self.directory.join(format!("{diff_id}.is"))
    }

    fn path(&self, digest: &Sha256) -> PathBuf {
        self.directory.join(digest.to_string())
    }
}
