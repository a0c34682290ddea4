//! What lies in OCI registries, layout directories and archives: manifests and blobs, moved and
//! verified.
//!
//! ```text
//! Location ──► open ──► Repository ──► hosted/    a registry, over HTTP
//!  "ghcr.io/me/vm:1"                   layout/    oci:DIR
//!  "oci:DIR:1"                         archive/   oci-archive:FILE, docker-archive:FILE
//!                                      storage.rs containers-storage:IMAGE
//! ```
//!
//! `model.rs` has manifests and indexes, `platform.rs` says which one of an index is for a
//! platform; `small.rs` reads blobs into memory.
//!
//! Nothing here knows what vmfab's artifacts hold: that is the module `share`. The formats are
//! those of the OCI image specification 1.1 and the distribution specification 1.1.

mod archive;
mod credentials;
mod environment;
mod error;
mod hosted;
mod layout;
mod model;
mod platform;
mod reference;
mod referrers;
mod resolve;
mod small;
mod storage;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use archive::Archive;
pub use credentials::{Credential, Credentials, Known};
pub use environment::Environment;
pub use error::{PlaceKind, RegistryError};
use layout::Layout;
pub use model::{
    Described, Descriptor, Index, MAX_MANIFEST, Manifest, MediaType, Parsed, Platform,
    ToldPlatform, descriptor, index, manifest, media, parse_manifest, sorted, to_bytes,
};
pub use reference::{Location, ParseReferenceError, Reference, Version};
pub use referrers::is_referrers_tag;
pub use resolve::{ResolveError, Resolved, Silent, resolve};
pub use small::{ReadBlobError, read_small};
use storage::Storage;

use self::hosted::{Host, Hosted};
use crate::config::Config;
use crate::digest::Sha256;
use crate::event::Sink;
use crate::host::{Home, Interrupt};
use crate::http::{RetryPolicy, Settings};
use crate::limits::Limits;

/// A blob by what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob {
    /// The SHA-256 of its bytes.
    pub digest: Sha256,
    /// How many there are.
    pub size: u64,
}

impl Blob {
    /// What bytes in memory are.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            digest: Sha256::of(bytes),
            size: bytes.len() as u64,
        }
    }
}

/// A manifest or an index as it lies there. Its digest is that of the bytes, and is what was asked
/// for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The SHA-256 of the bytes.
    pub digest: Sha256,
    /// What the bytes are, as they or who gave them say.
    pub media_type: String,
    /// The bytes: at most [`MAX_MANIFEST`].
    pub bytes: Vec<u8>,
}

/// The bytes of a blob, or of a part of it. Not verified: who reads checks the digest, or what is
/// in it.
pub struct BlobReader {
    /// Where in the blob the bytes begin: 0 when a range was asked for and the whole is given.
    pub start: u64,
    /// The bytes. A connection that is cut is made again where it was; errors are final.
    pub bytes: Box<dyn Read + Send>,
}

/// Where the bytes of a blob that is to be uploaded come from.
pub trait BlobSource: Sync {
    /// The bytes from `offset` on. Asked for again when a connection is cut.
    ///
    /// # Errors
    /// They cannot be read.
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>>;
}

/// Bytes in memory.
impl BlobSource for Vec<u8> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.len());
        Ok(Box::new(io::Cursor::new(self[from..].to_vec())))
    }
}

/// How a blob came to where it was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It was there.
    Present,
    /// It was in another repository of the registry, and was linked from there.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

/// Told of bytes as they are sent. A negative number takes back what has to be sent again.
pub type Progress<'a> = dyn Fn(i64) + Sync + 'a;

/// One repository: manifests under tags and digests, and blobs. Safe to use from many threads; each
/// call retries what may pass, and ends when the user gives up.
pub trait Repository: Send + Sync {
    /// What it is, for people: without tag and without credentials.
    fn name(&self) -> String;

    /// The manifest or index under a tag or digest; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be had, is too large, or is not what its digest says.
    fn manifest(&self, version: &Version) -> Result<Option<Fetched>, RegistryError>;

    /// What is meant when the location says neither tag nor digest: the only manifest of a layout
    /// or an archive.
    ///
    /// # Errors
    /// There are several, or none.
    fn only_version(&self) -> Result<Version, RegistryError> {
        Ok(Version::Tag(reference::DEFAULT_TAG.to_owned()))
    }

    /// Puts a manifest or index when the location says neither tag nor digest: a layout or an
    /// archive has it without a name, as skopeo does, instead of the one without a name that was
    /// there.
    ///
    /// # Errors
    /// It is refused.
    fn put_unnamed(&self, media_type: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let version = Version::Tag(reference::DEFAULT_TAG.to_owned());
        self.put_manifest(&version, media_type, bytes)
    }

    /// Puts a manifest or index under a tag or its digest. What it names must be there.
    ///
    /// # Errors
    /// It is refused.
    fn put_manifest(
        &self,
        version: &Version,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError>;

    /// The manifests that say they are about this one (OCI image specification 1.1, `subject`), as
    /// the registry lists them; where it keeps no list, those in the index that stands for it.
    ///
    /// # Errors
    /// They cannot be had, or the list is garbage.
    fn referrers(&self, subject: &Sha256) -> Result<Vec<Descriptor>, RegistryError> {
        referrers::listed(self, subject)
    }

    /// Puts a manifest whose subject is this one, and lists it where the registry does not.
    ///
    /// # Errors
    /// It is refused.
    fn put_referrer(
        &self,
        subject: &Sha256,
        manifest: &Manifest,
    ) -> Result<Descriptor, RegistryError> {
        referrers::put(self, subject, manifest)
    }

    /// Whether a blob is there.
    ///
    /// # Errors
    /// It cannot be told.
    fn has_blob(&self, blob: &Blob) -> Result<bool, RegistryError>;

    /// The bytes of a blob, or those of a range. Where ranges are refused, the whole.
    ///
    /// # Errors
    /// It is not there, or cannot be had.
    fn read_blob(
        &self,
        blob: &Blob,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError>;

    /// Brings a blob: not when it is there, without sending it when one of the repositories
    /// `mounts` of the same registry has it (`name/space`, without the host).
    ///
    /// # Errors
    /// It is refused, or `source` fails.
    fn put_blob(
        &self,
        blob: &Blob,
        source: &dyn BlobSource,
        mounts: &[String],
        progress: &Progress<'_>,
    ) -> Result<Delivered, RegistryError>;

    /// All tags, sorted.
    ///
    /// # Errors
    /// They cannot be had, or there is no such repository, layout or archive.
    fn tags(&self) -> Result<Vec<String>, RegistryError>;

    /// Ends writing: an archive gets its content and name now.
    ///
    /// # Errors
    /// It cannot be written.
    fn finish(&self) -> Result<(), RegistryError> {
        Ok(())
    }
}

/// How registries are reached in this run, whatever the configuration says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// Without TLS.
    pub plain_http: bool,
    /// With TLS, whoever the registry says it is.
    pub insecure: bool,
}

/// What registries are used with.
#[derive(Debug, Clone)]
pub struct RegistriesOptions {
    /// What the user set.
    pub config: Config,
    /// Where it is kept what was read of images in the storage of podman.
    pub home: Option<Home>,
    /// Whether no connection is to be made.
    pub offline: bool,
    /// What this run asks for.
    pub access: Access,
    /// The variables that say where credentials are.
    pub environment: Environment,
    /// Times, proxies and authorities. Authorities of `config` come on top.
    pub settings: Settings,
    /// How often and after what pauses a request is tried again.
    pub retry: RetryPolicy,
}

impl RegistriesOptions {
    /// The usual ones for a configuration, with the variables of this process.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let (retries, least_speed) = (config.retries, config.limits.least_speed);
        Self {
            config,
            home: None,
            offline: false,
            access: Access::default(),
            environment: Environment::from_env(),
            settings: Settings {
                least_speed,
                ..Settings::default()
            },
            retry: RetryPolicy {
                retries,
                ..RetryPolicy::default()
            },
        }
    }
}

/// Opens repositories. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Registries(Arc<Inner>);

struct Inner {
    options: RegistriesOptions,
    sink: Arc<dyn Sink>,
    interrupt: Interrupt,
    credentials: Arc<Credentials>,
    /// By name.
    hosts: Mutex<BTreeMap<String, Arc<Host>>>,
    /// By id.
    stored: Mutex<BTreeMap<Sha256, Arc<Storage>>>,
}

impl Registries {
    /// How much images in registries may take.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.0.options.config.limits
    }

    /// Registries that tell `sink` when they wait, and give up when the user does. Nothing is read
    /// or asked yet.
    #[must_use]
    pub fn new(options: RegistriesOptions, sink: Arc<dyn Sink>, interrupt: Interrupt) -> Self {
        let credentials = Credentials::new(
            options.environment.clone(),
            Arc::clone(&sink),
            interrupt.clone(),
        );
        Self(Arc::new(Inner {
            options,
            sink,
            interrupt,
            credentials: Arc::new(credentials),
            hosts: Mutex::default(),
            stored: Mutex::default(),
        }))
    }

    /// The repository at a location. Nothing is asked of it yet.
    ///
    /// # Errors
    /// It cannot be used: offline, or a path that is something else.
    pub fn open(&self, location: &Location) -> Result<Arc<dyn Repository>, RegistryError> {
        match location {
            Location::Registry(_) if self.0.options.offline => {
                Err(RegistryError::Offline(location.to_string()))
            }
            Location::Registry(reference) => {
                let host = self.host(&reference.registry);
                let credentials = Arc::clone(&self.0.credentials);
                Ok(Arc::new(Hosted::new(host, reference, credentials)))
            }
            Location::Layout { path, .. } => {
                Ok(Arc::new(Layout::new(path, self.0.interrupt.clone())))
            }
            Location::Archive { path, .. } => {
                Ok(Arc::new(Archive::new(path, self.0.interrupt.clone())))
            }
            Location::DockerArchive { path, .. } => {
                Ok(Arc::new(Archive::docker(path, self.0.interrupt.clone())))
            }
            Location::Storage(image) => Ok(self.stored(storage::id(image)?)),
        }
    }

    /// The same location; an image in the storage of podman by its id, which no other image gets.
    ///
    /// # Errors
    /// There is no such image.
    pub fn pinned(&self, location: &Location) -> Result<Location, RegistryError> {
        Ok(match location {
            Location::Storage(image) => Location::Storage(storage::id(image)?.to_string()),
            other => other.clone(),
        })
    }

    /// The image in the storage of podman with an id. It is one for all who ask, as reading it means
    /// writing it to an archive.
    fn stored(&self, id: Sha256) -> Arc<Storage> {
        let Inner {
            options,
            sink,
            interrupt,
            ..
        } = &*self.0;
        let stored = self.0.stored.lock();
        let mut stored = stored.unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let home = options.home.clone();
            Arc::new(Storage::new(id, home, Arc::clone(sink), interrupt.clone()))
        };
        Arc::clone(stored.entry(id).or_insert_with(make))
    }

    /// Asks a registry whether it knows a credential.
    ///
    /// # Errors
    /// It does not, or cannot be asked.
    pub fn check(&self, registry: &str, credential: Credential) -> Result<(), RegistryError> {
        if self.0.options.offline {
            return Err(RegistryError::Offline(registry.to_owned()));
        }
        let credentials = Arc::clone(&self.0.credentials);
        hosted::check(&self.host(registry), credential, credentials)
    }

    /// Who finds, saves and forgets credentials.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let Inner {
            options,
            sink,
            interrupt,
            ..
        } = &*self.0;
        let hosts = self.0.hosts.lock();
        let mut hosts = hosts.unwrap_or_else(PoisonError::into_inner);
        let make = || {
            Arc::new(Host::new(
                name,
                options,
                Arc::clone(sink),
                interrupt.clone(),
            ))
        };
        Arc::clone(hosts.entry(name.to_owned()).or_insert_with(make))
    }
}
