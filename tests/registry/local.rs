//! What the tests of layouts and archives share.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use vmfab::config::Config;
use vmfab::event::Silent;
use vmfab::host::Interrupt;
use vmfab::registry::{
    Blob, Described, Platform, Registries, RegistriesOptions, RegistryError, Repository, Version,
    descriptor, manifest, media, to_bytes,
};

pub(super) use super::{blob, put};
use crate::sources::noise;
use crate::support::{Ran, tool};

pub(super) fn open_with(location: &str, interrupt: &Interrupt) -> Arc<dyn Repository> {
    let options = RegistriesOptions::new(Config::default());
    let registries = Registries::new(options, Arc::new(Silent), interrupt.clone());
    registries.open(&location.parse().unwrap()).unwrap()
}

pub(super) fn open(location: &str) -> Arc<dyn Repository> {
    open_with(location, &Interrupt::new().unwrap())
}

pub(super) fn tag(text: &str) -> Version {
    Version::tag(text).unwrap()
}

/// A directory for layouts or archives.
pub(super) struct Place {
    pub(super) directory: TempDir,
    scheme: &'static str,
}

impl Place {
    pub(super) fn new(scheme: &'static str) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            scheme,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn location(&self, name: &str) -> String {
        format!("{}:{}", self.scheme, self.path(name).display())
    }

    pub(super) fn open(&self, name: &str) -> Arc<dyn Repository> {
        open(&self.location(name))
    }
}

pub(super) fn read(
    repository: &dyn Repository,
    blob: &Blob,
    range: Option<Range<u64>>,
) -> Result<Vec<u8>, RegistryError> {
    let mut reader = repository.read_blob(blob, range)?;
    let mut bytes = Vec::new();
    reader.bytes.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

/// Brings the blobs of an artifact with media types that nobody knows; gives its manifest.
pub(super) fn artifact(repository: &dyn Repository, seed: u8) -> Vec<u8> {
    let config = b"{}".to_vec();
    let layers = [noise(seed, 300_000), noise(seed.wrapping_add(1), 70_001)];
    for bytes in layers.iter().chain([&config]) {
        put(repository, bytes).unwrap();
    }
    let layers = layers.iter().map(|bytes| {
        let mut layer = descriptor("application/vnd.example.part.v1", &blob(bytes));
        layer.annotate("org.example.part", &seed.to_string());
        layer
    });
    to_bytes(&manifest(
        Some("application/vnd.example.thing.v1"),
        descriptor(media::EMPTY, &blob(&config)),
        layers.collect(),
        Default::default(),
    ))
}

/// Brings an artifact for each of two platforms by their digests; gives the index of both.
pub(super) fn index(repository: &dyn Repository, seed: u8) -> Vec<u8> {
    let manifests = ["amd64", "arm64"].into_iter().zip(0..);
    let manifests = manifests.map(|(architecture, number)| {
        let manifest = artifact(repository, seed + 2 * number);
        let version = Version::Digest(blob(&manifest).digest);
        repository
            .put_manifest(&version, media::MANIFEST, &manifest)
            .unwrap();
        let mut descriptor = descriptor(media::MANIFEST, &blob(&manifest));
        descriptor.set_for(&Platform::linux(architecture));
        descriptor
    });
    let index = vmfab::registry::index(manifests.collect(), Default::default());
    to_bytes(&index)
}

/// All that is below an index or manifest is there and what it should be.
#[track_caller]
pub(super) fn check_whole(repository: &dyn Repository, manifest: &[u8]) {
    let parsed = vmfab::registry::parse_manifest(manifest, "").unwrap();
    match parsed {
        vmfab::registry::Parsed::Index(index) => {
            for descriptor in index.manifests() {
                let version = Version::Digest(descriptor.blob().unwrap().digest);
                let inner = repository.manifest(&version).unwrap().unwrap();
                check_whole(repository, &inner.bytes);
            }
        }
        vmfab::registry::Parsed::Manifest(manifest) => {
            for descriptor in manifest.layers().iter().chain([manifest.config()]) {
                let expected = descriptor.blob().unwrap();
                assert!(repository.has_blob(&expected).unwrap());
                let bytes = read(repository, &expected, None).unwrap();
                assert_eq!(blob(&bytes), expected);
            }
        }
    }
}

/// Copies with skopeo; the digest of what it copies must stay.
#[track_caller]
pub(super) fn skopeo_copy(from: &str, to: &str) {
    let mut skopeo = tool("skopeo", "skopeo");
    skopeo.args(["--insecure-policy", "copy", "--all", "--preserve-digests"]);
    Ran::of(skopeo.args([from, to])).ends_with(0);
}

/// The names in a directory, sorted.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
