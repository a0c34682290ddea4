//! Registries, with and without faults in between, layouts and archives: what is brought there is
//! had again, here and by other programs.

mod archive;
mod attestations;
mod auth;
mod bad_caches;
mod bases;
mod blobs;
mod cache;
mod composition;
mod connections;
mod containerdisk;
mod credentials;
mod derived;
mod faults;
mod garbage;
mod home;
mod interrupted;
mod layout;
mod lazy;
mod local;
mod manifests;
mod platforms;
mod pull;
mod push;
mod roles;
mod shelf;
mod signatures;
mod templates;
mod uploads;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::Digest as _;
use vmfab::config::Config;
use vmfab::digest::Sha256;
use vmfab::event::{Event, Recorder};
use vmfab::host::Interrupt;
use vmfab::http::RetryPolicy;
use vmfab::registry::{
    Blob, BlobReader, Delivered, Environment, Registries, RegistriesOptions, RegistryError,
    Repository,
};

/// Opens repositories, with short pauses, and keeps what they tell.
struct User {
    registries: Registries,
    events: Arc<Recorder>,
    interrupt: Interrupt,
}

impl User {
    /// One without credentials.
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// One with other options.
    fn with(change: impl FnOnce(&mut RegistriesOptions)) -> Self {
        let mut options = RegistriesOptions::new(Config::default());
        options.environment = environment(&[]);
        options.retry = RetryPolicy {
            retries: 3,
            first: Duration::from_millis(4),
            longest: Duration::from_millis(20),
        };
        options.settings.stalled = Duration::from_millis(500);
        change(&mut options);
        let events = Arc::new(Recorder::default());
        let interrupt = Interrupt::new().unwrap();
        Self {
            registries: Registries::new(options, events.clone(), interrupt.clone()),
            events,
            interrupt,
        }
    }

    #[track_caller]
    fn open(&self, at: &str) -> Arc<dyn Repository> {
        self.registries.open(&at.parse().unwrap()).unwrap()
    }

    /// The waits that were told so far.
    fn waits(&self) -> Vec<String> {
        let retrying = |event| match event {
            Event::RegistryRetrying { error, .. } => Some(error),
            _ => None,
        };
        self.events
            .take()
            .into_iter()
            .filter_map(retrying)
            .collect()
    }
}

/// These variables, and none that lead to files of this host.
fn environment(variables: &[(&str, &Path)]) -> Environment {
    let all: BTreeMap<&str, OsString> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_os_str().to_owned()))
        .collect();
    Environment::from_variables(|name| match all.get(name) {
        Some(value) => Some(value.clone()),
        None => (name == "XDG_RUNTIME_DIR").then(|| "/nonexistent".into()),
    })
}

/// Bytes without a pattern, others for each seed.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut reader = blake3::Hasher::new();
    reader.update(&seed.to_le_bytes());
    reader.finalize_xof().fill(&mut bytes);
    bytes
}

fn blob(bytes: &[u8]) -> Blob {
    Blob {
        digest: Sha256::from_bytes(sha2::Sha256::digest(bytes).into()),
        size: bytes.len() as u64,
    }
}

/// Puts bytes without caring for mounts and progress.
fn put(repository: &dyn Repository, bytes: &[u8]) -> Result<Delivered, RegistryError> {
    repository.put_blob(&blob(bytes), &bytes.to_vec(), &[], &|_| {})
}

/// Reads all.
fn read(mut reader: BlobReader) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.bytes.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A manifest without blobs: only registries that do not look take it.
fn manifest(annotation: &str) -> Vec<u8> {
    let empty = blob(b"{}");
    let descriptor = vmfab::registry::descriptor(vmfab::registry::media::EMPTY, &empty);
    let annotations = [("test".to_owned(), annotation.to_owned())].into();
    let layers = vec![descriptor.clone()];
    let manifest = vmfab::registry::manifest(None, descriptor, layers, annotations);
    vmfab::registry::to_bytes(&manifest)
}
