//! Archives of `docker save` as OCI layouts: their layers and configs where they are, with manifests
//! and an index that are made for them.
//!
//! ```text
//! manifest.json                 [{"Config": PATH, "RepoTags": [NAME], "Layers": [PATH]}]
//! PATH of a layer               its tar, which is a link to another one in older archives
//! ```
//!
//! Source: <https://github.com/moby/docker-image-spec/blob/main/v1.2.md>.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use sha2::Digest as _;

use super::super::layout::{INDEX, MARKER, Part, blob_path, marker};
use super::super::{
    Blob, Described, MAX_MANIFEST, Reference, descriptor, index, manifest, media, to_bytes,
};
use super::members::{Members, part};
use crate::digest::Sha256;
use crate::tarball::Compression;

/// The file that says what images there are.
const MANIFEST: &str = "manifest.json";
/// The annotation that holds a tag (OCI image specification, image layout).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The media type of a layer that is a bare tar.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// More images in one archive are refused: each costs as much as its config and layers.
const MOST_IMAGES: usize = 256;

/// Bytes that the manifests of all images may have together.
const MOST_MANIFESTS: usize = 64 << 20;

/// An image in [`MANIFEST`].
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The part of a config that says what its layers are.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// The files of the layout, by their paths in it.
///
/// # Errors
/// It is no such archive; a phrase that goes on after its name.
pub(super) fn layout(
    file: &Arc<File>,
    members: &Members,
) -> Result<BTreeMap<String, Part>, String> {
    let mut made = Made {
        file,
        members,
        parts: BTreeMap::new(),
        documents: Vec::new(),
        layers: BTreeMap::new(),
    };
    let images = made.small(MANIFEST)?;
    let images: Vec<Saved> = serde_json::from_slice(&images)
        .map_err(|error| format!("has a {MANIFEST} that cannot be read: {error}"))?;
    if images.len() > MOST_IMAGES {
        return Err(format!(
            "has {} images, and at most {MOST_IMAGES} are read",
            images.len()
        ));
    }
    let mut manifests = Vec::new();
    let mut length = 0;
    for image in &images {
        let bytes = made.manifest(image)?;
        let blob = Blob::of(&bytes);
        length += bytes.len();
        if length > MOST_MANIFESTS {
            return Err("has images with more layers than are read".to_owned());
        }
        made.documents.push((blob_path(&blob.digest), bytes));
        let names = image.repo_tags.iter().flatten();
        let names = names.filter_map(|name| name.parse::<Reference>().ok());
        let before = manifests.len();
        for name in names {
            let mut named = descriptor(media::MANIFEST, &blob);
            named.annotate(REF_NAME, &name.to_string());
            manifests.push(named);
        }
        if manifests.len() == before {
            manifests.push(descriptor(media::MANIFEST, &blob));
        }
    }
    let index = to_bytes(&index(manifests, BTreeMap::new()));
    made.documents.push((INDEX.to_owned(), index));
    made.documents.push((MARKER.to_owned(), marker()));
    made.finish()
        .map_err(|error| format!("cannot be read: {error}"))
}

/// A layout that is being made.
struct Made<'a> {
    file: &'a Arc<File>,
    members: &'a Members,
    /// Parts of the archive.
    parts: BTreeMap<String, Part>,
    /// Files that it does not have.
    documents: Vec<(String, Vec<u8>)>,
    /// What layers are, by where they begin and what the config says of them.
    layers: BTreeMap<(u64, Sha256), (String, Sha256)>,
}

impl Made<'_> {
    fn find(&self, path: &str) -> Result<Range<u64>, String> {
        self.members
            .find(path)
            .ok_or_else(|| format!("has no {path:?} in it: it is no archive of docker"))
    }

    fn small(&self, path: &str) -> Result<Vec<u8>, String> {
        let part = part(self.file, self.find(path)?);
        if part.length > MAX_MANIFEST as u64 {
            return Err(format!(
                "has a {path:?} of {} bytes, which is too large",
                part.length
            ));
        }
        let mut bytes = Vec::new();
        let read = part.bytes(0..part.length).read_to_end(&mut bytes);
        read.map_err(|error| format!("cannot be read: {error}"))?;
        Ok(bytes)
    }

    /// The manifest of an image, with its config and layers as blobs.
    fn manifest(&mut self, image: &Saved) -> Result<Vec<u8>, String> {
        let path = &image.config;
        let bytes = self.small(path)?;
        let config: Config = serde_json::from_slice(&bytes)
            .map_err(|error| format!("has a config {path:?} that cannot be read: {error}"))?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != image.layers.len() {
            return Err(format!(
                "has a config {path:?} with other layers than {MANIFEST}"
            ));
        }
        let blob = Blob::of(&bytes);
        let place = part(self.file, self.find(path)?);
        self.parts.insert(blob_path(&blob.digest), place);
        let config = descriptor(media::CONFIG, &blob);
        let mut layers = Vec::new();
        for (path, diff_id) in image.layers.iter().zip(diff_ids) {
            let part = part(self.file, self.find(path)?);
            let digits = diff_id.strip_prefix("sha256:").unwrap_or_default();
            let wrong = |_| format!("has a config {:?} with a wrong {diff_id:?}", image.config);
            let digest: Sha256 = digits.parse().map_err(wrong)?;
            let known = self.layers.get(&(part.start, digest)).cloned();
            let (media_type, digest) = match known {
                Some(known) => known,
                None => {
                    let read = layer(&part, digest).map_err(|error| {
                        format!("has a layer {path:?} that cannot be read: {error}")
                    })?;
                    self.layers.insert((part.start, digest), read.clone());
                    read
                }
            };
            let size = part.length;
            self.parts.insert(blob_path(&digest), part);
            layers.push(descriptor(&media_type, &Blob { digest, size }));
        }
        Ok(to_bytes(&manifest(None, config, layers, BTreeMap::new())))
    }

    /// All files of the layout; those that the archive does not have in a file without a name.
    fn finish(self) -> io::Result<BTreeMap<String, Part>> {
        let mut file = tempfile::tempfile()?;
        let mut places = Vec::new();
        let mut end = 0;
        for (path, bytes) in self.documents {
            file.write_all(&bytes)?;
            let start = end;
            end += bytes.len() as u64;
            places.push((path, start..end));
        }
        let file = Arc::new(file);
        let mut parts = self.parts;
        let documents = places.into_iter();
        parts.extend(documents.map(|(path, place)| (path, part(&file, place))));
        Ok(parts)
    }
}

/// What a layer is: docker writes bare tars, whose digests its config has, and other programs may
/// compress them.
fn layer(part: &Part, diff_id: Sha256) -> io::Result<(String, Sha256)> {
    let mut head = Vec::new();
    part.bytes(0..6).read_to_end(&mut head)?;
    let suffix = match Compression::of(&head) {
        None => return Ok((LAYER.to_owned(), diff_id)),
        Some(Compression::Gzip) => "gzip",
        Some(Compression::Zstd) => "zstd",
        Some(other) => {
            let message = format!("it is compressed with {}", other.name());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    };
    let mut bytes = part.bytes(0..part.length);
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match bytes.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let digest = Sha256::from_bytes(hasher.finalize().into());
    Ok((format!("{LAYER}+{suffix}"), digest))
}
