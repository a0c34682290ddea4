//! OCI image layouts: directories with blobs, and an index that names some of them.
//!
//! ```text
//! DIR/oci-layout             {"imageLayoutVersion":"1.0.0"}
//! DIR/index.json             manifests under tags, changed under a lock of DIR
//! DIR/blobs/sha256/DIGEST    blobs and manifests
//! DIR/.vmfab-…               what is being written
//! ```
//!
//! A file has its name when it is whole, verified and on disk. A manifest that was put by its
//! digest is a blob like others and not named by the index. Without a tag in the location the index
//! has an entry without a name, as skopeo writes it; there is one such entry, and the next one
//! replaces it. What no manifest names any more stays in `blobs`.
//!
//! A layout may come from anybody. Links in it are read through as long as they stay below it, as
//! publishers make blobs links to other files of theirs; nothing is written through one. What is
//! not as it should be is refused and not repaired.

mod directory;
mod index;
mod read;

use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use directory::{Directory, TEMPORARY};
use read::invalid;
pub(super) use read::{
    Files, INDEX, MARKER, Part, blob, blob_path, check, manifest, marker, only_version, read_blob,
    tags,
};
use sha2::Digest as _;
use tempfile::NamedTempFile;

use super::{
    Blob, BlobReader, BlobSource, Delivered, Described, Fetched, MAX_MANIFEST, Parsed, PlaceKind,
    Progress, RegistryError, Repository, Version, parse_manifest,
};
use crate::digest::Sha256;
use crate::host::file::try_lock;
use crate::host::process::pause;
use crate::host::{Interrupt, umask};

/// Bytes written between two looks at the interrupt.
const PIECE: usize = 256 * 1024;

/// A layout in a directory.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    /// `oci:` and the directory.
    place: String,
    interrupt: Interrupt,
    /// Whether what is written is forced to disk.
    durable: bool,
    /// Whether this process has seen or made a layout there, for writing.
    prepared: AtomicBool,
}

impl Files for Layout {
    fn place(&self) -> &str {
        &self.place
    }

    fn open(&self, path: &str) -> Result<Option<Part>, RegistryError> {
        match Directory::open(&self.place, &self.root)? {
            Some(root) => root.file(&self.place, path),
            None => Ok(None),
        }
    }
}

impl Layout {
    /// The layout at a path, which need not be there.
    pub(super) fn new(root: &Path, interrupt: Interrupt) -> Self {
        Self {
            root: root.to_owned(),
            place: format!("oci:{}", root.display()),
            interrupt,
            durable: true,
            prepared: AtomicBool::new(false),
        }
    }

    /// A layout that is a part of something else, which is told by `place`: what is written is not
    /// forced to disk.
    pub(super) fn scratch(root: &Path, place: &str, interrupt: Interrupt) -> Self {
        Self {
            place: place.to_owned(),
            durable: false,
            ..Self::new(root, interrupt)
        }
    }

    /// The directory, when there is a layout in it; `None` when there is nothing.
    fn look(&self) -> Result<Option<Directory>, RegistryError> {
        let Some(root) = Directory::open(&self.place, &self.root)? else {
            return Ok(None);
        };
        match read::check(self)? {
            true => Ok(Some(root)),
            false if root.is_empty()? => Ok(None),
            // Another process may just have made it: this file is its first.
            false if read::check(self)? => Ok(Some(root)),
            false => Err(invalid(
                self,
                self.root.display().to_string(),
                format!(
                    "holds other files and no {MARKER}: it is no OCI layout. Give one, or a directory that is empty or not there"
                ),
            )),
        }
    }

    /// The directory for writing: a layout is made of one that is empty or not there.
    fn prepare(&self) -> Result<Directory, RegistryError> {
        if !self.prepared.load(Ordering::Acquire) {
            // What is there is looked at before anything is made.
            self.look()?;
            umask::create_users_directories(&self.root)
                .map_err(RegistryError::io("create", &self.root))?;
            let root = self.root()?;
            self.lock(&root)?;
            root.sweep();
            if self.look()?.is_none() {
                self.write(&root.path, MARKER, &read::marker())?;
            }
            let blobs = root.make(&self.place, "blobs")?;
            blobs.make(&self.place, "sha256")?;
            if self.open(INDEX)?.is_none() {
                self.write(&root.path, INDEX, &index::Names::empty().to_bytes())?;
            }
            if self.durable {
                blobs.sync()?;
                root.sync()?;
            }
            self.prepared.store(true, Ordering::Release);
        }
        self.root()
    }

    fn root(&self) -> Result<Directory, RegistryError> {
        let root = Directory::open(&self.place, &self.root)?;
        root.ok_or_else(|| {
            invalid(
                self,
                self.root.display().to_string(),
                "was removed meanwhile",
            )
        })
    }

    /// Waits for other processes that change the index. The lock ends with the directory's handle.
    fn lock(&self, root: &Directory) -> Result<(), RegistryError> {
        loop {
            if try_lock(&root.file).map_err(RegistryError::io("lock", &root.path))? {
                return Ok(());
            }
            if !pause(&self.interrupt) {
                return Err(RegistryError::Interrupted);
            }
        }
    }

    /// A temporary file in the layout, locked as long as it is open.
    fn temporary(&self) -> Result<NamedTempFile, RegistryError> {
        loop {
            let file = tempfile::Builder::new()
                .prefix(TEMPORARY)
                .tempfile_in(&self.root)
                .map_err(RegistryError::io("create a file in", &self.root))?;
            file.as_file()
                .set_permissions(umask::users(0o666))
                .map_err(RegistryError::io("set the mode of", file.path()))?;
            file.as_file()
                .lock()
                .map_err(RegistryError::io("lock", file.path()))?;
            let meta = file.as_file().metadata();
            let meta = meta.map_err(RegistryError::io("look at", file.path()))?;
            // Somebody may have swept between.
            if meta.nlink() > 0 {
                return Ok(file);
            }
        }
    }

    /// Gives a temporary file its name.
    fn publish(&self, file: NamedTempFile, target: &Path) -> Result<(), RegistryError> {
        if self.durable {
            file.as_file()
                .sync_all()
                .map_err(RegistryError::io("sync", file.path()))?;
        }
        file.persist(target)
            .map(drop)
            .map_err(|error| RegistryError::io("rename", target)(error.error))
    }

    fn write(&self, directory: &Path, name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let mut file = self.temporary()?;
        let written = file.write_all(bytes);
        written.map_err(RegistryError::io("write", file.path()))?;
        self.publish(file, &directory.join(name))
    }

    /// Where blobs are.
    fn blobs(&self) -> Result<Directory, RegistryError> {
        let root = self.prepare()?;
        let blobs = root.make(&self.place, "blobs")?;
        blobs.make(&self.place, "sha256")
    }

    /// Copies what a source gives to a file, and checks that it is the blob.
    fn copy(
        &self,
        blob: &Blob,
        source: &dyn BlobSource,
        file: &mut NamedTempFile,
        progress: &Progress<'_>,
    ) -> Result<(), RegistryError> {
        let mut bytes = source.open(0).map_err(RegistryError::Source)?;
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; PIECE];
        let mut size = 0_u64;
        loop {
            if self.interrupt.requested() {
                return Err(RegistryError::Interrupted);
            }
            let count = match bytes.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(RegistryError::Source(error)),
            };
            size += count as u64;
            if size > blob.size {
                break;
            }
            hasher.update(&buffer[..count]);
            let written = file.write_all(&buffer[..count]);
            written.map_err(RegistryError::io("write", file.path()))?;
            progress(i64::try_from(count).unwrap_or(0));
        }
        if size != blob.size || Sha256::from_bytes(hasher.finalize().into()) != blob.digest {
            return Err(invalid(
                self,
                format!("what is to be blob sha256:{}", blob.digest),
                "has another size or SHA-256: it changed meanwhile",
            ));
        }
        Ok(())
    }

    /// Refuses manifests that are none, or name what is not there.
    fn check_manifest(&self, media_type: &str, bytes: &[u8]) -> Result<Parsed, RegistryError> {
        let refused = |message: String| RegistryError::Refused {
            place: self.place.clone(),
            what: "the manifest".to_owned(),
            message,
        };
        if bytes.len() > MAX_MANIFEST {
            return Err(refused(format!("it has more than {MAX_MANIFEST} bytes")));
        }
        let parsed =
            parse_manifest(bytes, media_type).map_err(|reason| refused(format!("it {reason}")))?;
        let named: Vec<_> = match &parsed {
            Parsed::Index(index) => index.manifests().iter().collect(),
            // What has an address of its own need not be here.
            Parsed::Manifest(manifest) => [manifest.config()]
                .into_iter()
                .chain(
                    manifest
                        .layers()
                        .iter()
                        .filter(|layer| !layer.is_elsewhere()),
                )
                .collect(),
        };
        for descriptor in named {
            let blob = descriptor
                .blob()
                .map_err(|reason| refused(format!("what it names {reason}")))?;
            if read::blob(self, &blob)?.is_none() {
                let digest = blob.digest;
                return Err(refused(format!(
                    "it names sha256:{digest}, which is not there"
                )));
            }
        }
        Ok(parsed)
    }

    fn put_named(
        &self,
        tag: Option<&str>,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let (blob, parsed) = self.put_manifest_blob(media_type, bytes)?;
        let root = self.prepare()?;
        self.lock(&root)?;
        let mut names = read::names(self)?;
        let artifact_type = match parsed {
            Parsed::Manifest(manifest) => manifest.artifact_type().clone(),
            Parsed::Index(index) => index.artifact_type().clone(),
        };
        names.set(tag, media_type, artifact_type, &blob);
        let bytes = names.to_bytes();
        if bytes.len() > MAX_MANIFEST {
            return Err(RegistryError::Refused {
                place: self.place.clone(),
                what: "another manifest".to_owned(),
                message: format!("{INDEX} would have more than {MAX_MANIFEST} bytes"),
            });
        }
        self.write(&root.path, INDEX, &bytes)?;
        match self.durable {
            true => root.sync(),
            false => Ok(()),
        }
    }

    fn put_manifest_blob(
        &self,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(Blob, Parsed), RegistryError> {
        let parsed = self.check_manifest(media_type, bytes)?;
        let blob = Blob::of(bytes);
        self.put_blob(&blob, &bytes.to_vec(), &[], &|_| ())?;
        Ok((blob, parsed))
    }
}

impl Repository for Layout {
    fn name(&self) -> String {
        self.place.clone()
    }

    fn manifest(&self, version: &Version) -> Result<Option<Fetched>, RegistryError> {
        match self.look()? {
            Some(_) => read::manifest(self, version),
            None => Ok(None),
        }
    }

    fn only_version(&self) -> Result<Version, RegistryError> {
        self.look()?;
        read::only_version(self)
    }

    fn put_manifest(
        &self,
        version: &Version,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        match version {
            Version::Tag(tag) => self.put_named(Some(tag), media_type, bytes),
            Version::Digest(digest) if *digest != Sha256::of(bytes) => {
                Err(RegistryError::Refused {
                    place: self.place.clone(),
                    what: "the manifest".to_owned(),
                    message: format!("its digest is not sha256:{digest}"),
                })
            }
            Version::Digest(_) => self.put_manifest_blob(media_type, bytes).map(drop),
        }
    }

    fn put_unnamed(&self, media_type: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        self.put_named(None, media_type, bytes)
    }

    fn has_blob(&self, blob: &Blob) -> Result<bool, RegistryError> {
        match self.look()? {
            Some(_) => Ok(read::blob(self, blob)?.is_some()),
            None => Ok(false),
        }
    }

    fn read_blob(
        &self,
        blob: &Blob,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        self.look()?;
        read::read_blob(self, blob, range)
    }

    fn put_blob(
        &self,
        blob: &Blob,
        source: &dyn BlobSource,
        _mounts: &[String],
        progress: &Progress<'_>,
    ) -> Result<Delivered, RegistryError> {
        let blobs = self.blobs()?;
        if read::blob(self, blob)?.is_some() {
            return Ok(Delivered::Present);
        }
        let mut file = self.temporary()?;
        self.copy(blob, source, &mut file, progress)?;
        self.publish(file, &blobs.path.join(blob.digest.to_string()))?;
        if self.durable {
            blobs.sync()?;
        }
        Ok(Delivered::Uploaded)
    }

    fn tags(&self) -> Result<Vec<String>, RegistryError> {
        match self.look()? {
            Some(_) => read::tags(self),
            None => Err(RegistryError::Unknown {
                place: self.place.clone(),
                kind: PlaceKind::Layout,
            }),
        }
    }
}
