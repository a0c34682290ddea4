//! Images in the storage of podman: `containers-storage:IMAGE`.
//!
//! The engine writes an image to an OCI archive when something of it is read that was not kept.
//! Manifest and config are kept by its id, so that an image whose layers are in the store is not
//! written again. Podman can do that without root, and skopeo stands in for it.

use std::fs;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempPath;

use super::archive::Archive;
use super::{
    Blob, BlobReader, BlobSource, Delivered, Described, Fetched, MAX_MANIFEST, Parsed, PlaceKind,
    Progress, ReadBlobError, RegistryError, Repository, Version, media, parse_manifest, read_small,
};
use crate::digest::Sha256;
use crate::event::{Event, Sink};
use crate::host::file;
use crate::host::{Home, Interrupt, find_program, process};

/// How much is read of what it says, in bytes.
const SAID: u64 = 64 << 10;

/// A program that reads the storage.
struct Engine {
    name: &'static str,
    program: PathBuf,
    /// What is read, for messages.
    place: String,
}

/// The id of an image, by its name or its id.
///
/// # Errors
/// There is no such image, or nobody who knows.
pub(super) fn id(image: &str) -> Result<Sha256, RegistryError> {
    if let Ok(id) = image.parse() {
        return Ok(id);
    }
    let place = place(image);
    let engine = Engine::new(&place)?;
    let answer = match engine.name {
        "podman" => engine.ask(&["image", "inspect", "--format", "{{.Id}}", "--", image])?,
        _ => {
            let config = engine.ask(&["inspect", "--raw", "--config", &place])?;
            return Ok(Sha256::of(&config));
        }
    };
    let text = String::from_utf8_lossy(&answer);
    text.trim()
        .parse()
        .map_err(|_| engine.failed(&format!("it says {text:?} of its id")))
}

fn place(image: &str) -> String {
    format!("containers-storage:{image}")
}

impl Engine {
    fn new(place: &str) -> Result<Self, RegistryError> {
        let mut engines = ["podman", "skopeo"].into_iter();
        let found = engines.find_map(|name| Some((name, find_program(name)?)));
        let place = place.to_owned();
        match found {
            Some((name, program)) => Ok(Self {
                name,
                program,
                place,
            }),
            None => Err(RegistryError::NoEngine { place }),
        }
    }

    fn failed(&self, message: &str) -> RegistryError {
        RegistryError::Engine {
            engine: self.name,
            place: self.place.clone(),
            message: message.to_owned(),
        }
    }

    /// It says that it failed.
    fn error(&self, said: &[u8]) -> RegistryError {
        let said = String::from_utf8_lossy(said);
        let unknown = [
            "no such image",
            "image not known",
            "does not resolve to an image",
        ];
        if unknown.iter().any(|known| said.contains(known)) {
            return RegistryError::Unknown {
                place: self.place.clone(),
                kind: PlaceKind::Image,
            };
        }
        self.failed(said.trim().lines().last().unwrap_or("it says nothing"))
    }

    /// What it answers. It needs the user's environment: that says where his storage is.
    fn ask(&self, arguments: &[&str]) -> Result<Vec<u8>, RegistryError> {
        let asked = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        let asked = asked.map_err(RegistryError::io("start", &self.program))?;
        match asked.status.success() {
            true => Ok(asked.stdout),
            false => Err(self.error(&asked.stderr)),
        }
    }
}

/// An image, by its id.
pub(super) struct Storage {
    id: Sha256,
    home: Option<Home>,
    sink: Arc<dyn Sink>,
    interrupt: Interrupt,
    archive: Mutex<Option<Arc<Saved>>>,
}

/// What the engine wrote. The file goes with it.
struct Saved {
    archive: Archive,
    _file: TempPath,
}

impl Storage {
    pub(super) fn new(
        id: Sha256,
        home: Option<Home>,
        sink: Arc<dyn Sink>,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            id,
            home,
            sink,
            interrupt,
            archive: Mutex::new(None),
        }
    }

    /// A file that is kept of the image, or of one of its parts.
    fn kept(&self, name: &str) -> Option<PathBuf> {
        Some(self.home.as_ref()?.manifests().join(name))
    }

    /// A small blob that was kept; verified.
    fn kept_blob(&self, digest: &Sha256) -> Option<Vec<u8>> {
        let path = self.kept(&digest.to_string())?;
        let length = fs::metadata(&path).ok()?.len();
        let bytes = (length <= MAX_MANIFEST as u64).then(|| fs::read(&path))?;
        bytes.ok().filter(|bytes| Sha256::of(bytes) == *digest)
    }

    fn keep(&self, name: &str, bytes: &[u8]) {
        // What cannot be kept is made again.
        if let Some(path) = self.kept(name) {
            let _ = file::cache(&path, bytes);
        }
    }

    /// The file that says which manifest the image gets.
    fn note(&self) -> String {
        format!("{}.storage", self.id)
    }

    /// The image as an archive; written at the first call.
    fn archive(&self) -> Result<Arc<Saved>, RegistryError> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(saved) = &*archive {
            return Ok(Arc::clone(saved));
        }
        let saved = Arc::new(self.save()?);
        *archive = Some(Arc::clone(&saved));
        Ok(saved)
    }

    fn save(&self) -> Result<Saved, RegistryError> {
        let id = self.id.to_string();
        let place = place(&id);
        let engine = Engine::new(&place)?;
        let directory = match &self.home {
            Some(home) => home.downloads(),
            None => std::env::temp_dir(),
        };
        fs::create_dir_all(&directory).map_err(RegistryError::io("create", &directory))?;
        let file = tempfile::Builder::new()
            .prefix("storage-")
            .suffix(".tar")
            .tempfile_in(&directory)
            .map_err(RegistryError::io("create a file in", &directory))?;
        let path = file.into_temp_path();
        self.sink.emit(Event::Note {
            message: format!("reading the image {} from the storage of podman", &id[..12]),
        });
        let mut command = Command::new(&engine.program);
        // Layers are stored without compression; so their digests are those of the config.
        match engine.name {
            "podman" => command
                .args([
                    "save",
                    "--quiet",
                    "--uncompressed",
                    "--format",
                    "oci-archive",
                ])
                .arg("--output")
                .arg(&path)
                .arg(&id),
            _ => command
                .args(["copy", "--quiet", "--dest-oci-accept-uncompressed-layers"])
                .arg(format!("containers-storage:@{id}"))
                .arg(format!("oci-archive:{}", path.display())),
        };
        // Skopeo makes the file itself.
        fs::remove_file(&path).map_err(RegistryError::io("remove", &path))?;
        let said = tempfile::tempfile_in(&directory);
        let mut said = said.map_err(RegistryError::io("write to", &directory))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                said.try_clone()
                    .map_err(RegistryError::io("write to", &directory))?,
            )
            .spawn()
            .map_err(RegistryError::io("start", &engine.program))?;
        let status = process::wait(&mut child, &self.interrupt);
        let status = status.map_err(RegistryError::io("wait for", &engine.program))?;
        if self.interrupt.requested() {
            return Err(RegistryError::Interrupted);
        }
        if !status.success() {
            let mut text = Vec::new();
            let read = said
                .rewind()
                .and_then(|()| said.take(SAID).read_to_end(&mut text));
            read.map_err(RegistryError::io("read in", &directory))?;
            return Err(engine.error(&text));
        }
        let saved = Saved {
            archive: Archive::new(&path, self.interrupt.clone()),
            _file: path,
        };
        self.keep_documents(&saved.archive)?;
        Ok(saved)
    }

    /// Keeps the manifest and the config.
    fn keep_documents(&self, archive: &Archive) -> Result<(), RegistryError> {
        let version = archive.only_version()?;
        let Some(fetched) = archive.manifest(&version)? else {
            return Ok(());
        };
        if let Ok(Parsed::Manifest(manifest)) = parse_manifest(&fetched.bytes, &fetched.media_type)
            && let Ok(blob) = manifest.config().blob()
            && blob.size <= MAX_MANIFEST as u64
        {
            match read_small(archive, &blob) {
                Ok(bytes) => self.keep(&blob.digest.to_string(), &bytes),
                Err(ReadBlobError::Registry(error)) => return Err(error),
                Err(ReadBlobError::Wrong(_)) => {}
            }
        }
        let digest = fetched.digest.to_string();
        self.keep(&digest, &fetched.bytes);
        self.keep(&self.note(), digest.as_bytes());
        Ok(())
    }

    fn read_only(&self) -> RegistryError {
        RegistryError::Refused {
            place: self.name(),
            what: "content".to_owned(),
            message: "vmfab only reads the storage of podman: write an oci-archive: and load that"
                .to_owned(),
        }
    }
}

impl Repository for Storage {
    fn name(&self) -> String {
        place(&self.id.to_string())
    }

    fn manifest(&self, version: &Version) -> Result<Option<Fetched>, RegistryError> {
        if let Version::Digest(digest) = version
            && let Some(bytes) = self.kept_blob(digest)
        {
            return Ok(Some(Fetched {
                digest: *digest,
                media_type: media::MANIFEST.to_owned(),
                bytes,
            }));
        }
        self.archive()?.archive.manifest(version)
    }

    fn only_version(&self) -> Result<Version, RegistryError> {
        let note = self.kept(&self.note()).map(fs::read_to_string);
        let digest = note.and_then(|text| text.ok()?.parse::<Sha256>().ok());
        match digest.filter(|digest| self.kept_blob(digest).is_some()) {
            Some(digest) => Ok(Version::Digest(digest)),
            None => self.archive()?.archive.only_version(),
        }
    }

    fn put_manifest(&self, _: &Version, _: &str, _: &[u8]) -> Result<(), RegistryError> {
        Err(self.read_only())
    }

    fn has_blob(&self, blob: &Blob) -> Result<bool, RegistryError> {
        self.archive()?.archive.has_blob(blob)
    }

    fn read_blob(
        &self,
        blob: &Blob,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        if let Some(bytes) = self.kept_blob(&blob.digest) {
            return Ok(BlobReader {
                start: 0,
                bytes: Box::new(io::Cursor::new(bytes)),
            });
        }
        self.archive()?.archive.read_blob(blob, range)
    }

    fn put_blob(
        &self,
        _: &Blob,
        _: &dyn BlobSource,
        _: &[String],
        _: &Progress<'_>,
    ) -> Result<Delivered, RegistryError> {
        Err(self.read_only())
    }

    fn tags(&self) -> Result<Vec<String>, RegistryError> {
        Ok(Vec::new())
    }
}
