//! OCI archives: an image layout in a tar, as skopeo's `oci-archive:` writes and reads it. Archives of
//! `docker save` are read as if they were ones.
//!
//! It is read where it is: only the places of its members are kept. It is written as a layout in a
//! hidden directory beside it, and becomes a tar when writing ends: files in a fixed order, without
//! owners and times, so that equal content gives equal bytes. Each file goes when it is in the tar,
//! so that little more space is needed than that of the tar. An archive that is there is never
//! changed or replaced.

mod docker;
mod members;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::TempDir;

use super::layout::{self, Files, INDEX, Layout, MARKER, Part};
use super::{
    Blob, BlobReader, BlobSource, Delivered, Fetched, PlaceKind, Progress, RegistryError,
    Repository, Version,
};
use crate::host::{Interrupt, umask};
use crate::tarball::{Kind, Member, Writer};

/// A layout in a tar.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    /// The scheme and the file.
    place: String,
    /// Whether it is one of `docker save`.
    docker: bool,
    interrupt: Interrupt,
    /// What is in the file that is there.
    found: OnceLock<OpenArchive>,
    /// What is to be in it.
    draft: Mutex<Option<Arc<Draft>>>,
}

/// An archive that is there.
#[derive(Debug)]
struct OpenArchive {
    place: String,
    files: BTreeMap<String, Part>,
}

/// An archive that is being made.
#[derive(Debug)]
struct Draft {
    layout: Layout,
    directory: TempDir,
}

impl Draft {
    fn files(&self) -> PathBuf {
        self.directory.path().join("layout")
    }
}

impl Files for OpenArchive {
    fn place(&self) -> &str {
        &self.place
    }

    fn open(&self, path: &str) -> Result<Option<Part>, RegistryError> {
        Ok(self.files.get(path).cloned())
    }
}

/// Where questions go.
enum Side<'a> {
    OpenArchive(&'a OpenArchive),
    Draft(Arc<Draft>),
    Nothing,
}

impl Archive {
    /// The archive at a path, which need not be there.
    pub(super) fn new(path: &Path, interrupt: Interrupt) -> Self {
        Self {
            path: path.to_owned(),
            place: format!("oci-archive:{}", path.display()),
            docker: false,
            interrupt,
            found: OnceLock::new(),
            draft: Mutex::new(None),
        }
    }

    /// An archive of `docker save`, which is read only.
    pub(super) fn docker(path: &Path, interrupt: Interrupt) -> Self {
        Self {
            place: format!("docker-archive:{}", path.display()),
            docker: true,
            ..Self::new(path, interrupt)
        }
    }

    fn invalid(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::Invalid {
            place: self.place.clone(),
            what: "the file".to_owned(),
            reason: reason.into(),
        }
    }

    /// What is being made, or else what is there.
    fn side(&self) -> Result<Side<'_>, RegistryError> {
        let draft = self.draft.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(draft) = &*draft {
            return Ok(Side::Draft(Arc::clone(draft)));
        }
        drop(draft);
        if let Some(found) = self.found.get() {
            return Ok(Side::OpenArchive(found));
        }
        Ok(match self.look()? {
            Some(found) => Side::OpenArchive(self.found.get_or_init(|| found)),
            None => Side::Nothing,
        })
    }

    fn look(&self) -> Result<Option<OpenArchive>, RegistryError> {
        let meta = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RegistryError::io("look at", &self.path)(error)),
            Ok(meta) => meta,
        };
        if !meta.is_file() {
            return Err(self.invalid("is no regular file"));
        }
        let read_error = |error| RegistryError::io("read", &self.path)(error);
        let file = File::open(&self.path).map_err(RegistryError::io("open", &self.path))?;
        let members = members::members(&file, self.docker).map_err(read_error)?;
        let members = members.map_err(|reason| self.invalid(reason))?;
        let file = Arc::new(file);
        let files = match self.docker {
            true => docker::layout(&file, &members).map_err(|reason| self.invalid(reason))?,
            false => members.parts(&file),
        };
        let place = self.place.clone();
        let found = OpenArchive { place, files };
        match layout::check(&found)? {
            true => Ok(Some(found)),
            false => Err(self.invalid(format!("has no {MARKER} in it: it is no OCI archive"))),
        }
    }

    /// What is being made; begun when nothing is.
    fn draft(&self) -> Result<Arc<Draft>, RegistryError> {
        let mut draft = self.draft.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(draft) = &*draft {
            return Ok(Arc::clone(draft));
        }
        if self.docker {
            return Err(RegistryError::Refused {
                place: self.place.clone(),
                what: "content".to_owned(),
                message: "vmfab only reads archives of docker: write an oci-archive:".to_owned(),
            });
        }
        if fs::symlink_metadata(&self.path).is_ok() {
            return Err(self.exists());
        }
        let parent = match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let directory = tempfile::Builder::new()
            .prefix(".vmfab-")
            .tempdir_in(parent)
            .map_err(RegistryError::io("create a directory in", parent))?;
        let files = directory.path().join("layout");
        let begun = Arc::new(Draft {
            layout: Layout::scratch(&files, &self.place, self.interrupt.clone()),
            directory,
        });
        *draft = Some(Arc::clone(&begun));
        Ok(begun)
    }

    fn exists(&self) -> RegistryError {
        RegistryError::Refused {
            place: self.place.clone(),
            what: "more content".to_owned(),
            message: "the file already exists, and archives are not changed: remove it, or give another name"
                .to_owned(),
        }
    }

    /// Makes the tar, and gives it its name.
    fn publish(&self, draft: &Draft) -> Result<(), RegistryError> {
        let partial = draft.directory.path().join("archive");
        let failed = |error| RegistryError::io("write", &self.path)(error);
        let file = File::create_new(&partial).map_err(failed)?;
        file.set_permissions(umask::users(0o666)).map_err(failed)?;
        let mut packer = Packer {
            tar: Writer::new(BufWriter::with_capacity(1 << 20, file)),
            root: draft.files(),
            interrupt: &self.interrupt,
        };
        let packed = packer.pack();
        if self.interrupt.requested() {
            return Err(RegistryError::Interrupted);
        }
        packed.map_err(failed)?;
        let mut writer = packer.tar.finish().map_err(failed)?;
        writer.flush().map_err(failed)?;
        writer.get_ref().sync_all().map_err(failed)?;
        match renameat_with(CWD, &partial, CWD, &self.path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(self.exists()),
            // The file system cannot; a link is as good.
            Err(Errno::INVAL | Errno::NOSYS) => match fs::hard_link(&partial, &self.path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(self.exists()),
                linked => linked.map_err(failed),
            },
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Packs a layout, and removes what is packed.
struct Packer<'a> {
    tar: Writer<BufWriter<File>>,
    root: PathBuf,
    interrupt: &'a Interrupt,
}

impl Packer<'_> {
    /// What tells what it is comes first.
    fn pack(&mut self) -> io::Result<()> {
        self.file(MARKER)?;
        self.file(INDEX)?;
        self.directory("blobs/")?;
        self.directory("blobs/sha256/")?;
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join("blobs/sha256"))? {
            let name = entry?.file_name().into_string();
            names.push(name.map_err(|name| io::Error::other(format!("{}", name.display())))?);
        }
        names.sort_unstable();
        names
            .iter()
            .try_for_each(|name| self.file(&format!("blobs/sha256/{name}")))
    }

    fn directory(&mut self, name: &str) -> io::Result<()> {
        self.tar.add(&Member {
            path: name.into(),
            kind: Kind::Directory,
            mode: 0o755,
            ..Member::default()
        })
    }

    fn file(&mut self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        let file = File::open(&path)?;
        let member = Member {
            path: name.into(),
            mode: 0o644,
            size: file.metadata()?.len(),
            ..Member::default()
        };
        let mut content = Watched {
            file,
            interrupt: self.interrupt,
        };
        self.tar.add_file(&member, &mut content)?;
        fs::remove_file(path)
    }
}

/// A file whose reading ends when the user gives up.
struct Watched<'a> {
    file: File,
    interrupt: &'a Interrupt,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.interrupt.requested() {
            true => Err(io::Error::other("interrupted")),
            false => self.file.read(buffer),
        }
    }
}

impl Repository for Archive {
    fn name(&self) -> String {
        self.place.clone()
    }

    fn manifest(&self, version: &Version) -> Result<Option<Fetched>, RegistryError> {
        match self.side()? {
            Side::OpenArchive(found) => layout::manifest(found, version),
            Side::Draft(draft) => draft.layout.manifest(version),
            Side::Nothing => Ok(None),
        }
    }

    fn only_version(&self) -> Result<Version, RegistryError> {
        match self.side()? {
            Side::OpenArchive(found) => layout::only_version(found),
            Side::Draft(draft) => draft.layout.only_version(),
            Side::Nothing => Err(RegistryError::Missing {
                place: self.place.clone(),
                what: "manifest".to_owned(),
            }),
        }
    }

    fn put_manifest(
        &self,
        version: &Version,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        self.draft()?
            .layout
            .put_manifest(version, media_type, bytes)
    }

    fn put_unnamed(&self, media_type: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        self.draft()?.layout.put_unnamed(media_type, bytes)
    }

    fn has_blob(&self, blob: &Blob) -> Result<bool, RegistryError> {
        match self.side()? {
            Side::OpenArchive(found) => Ok(layout::blob(found, blob)?.is_some()),
            Side::Draft(draft) => draft.layout.has_blob(blob),
            Side::Nothing => Ok(false),
        }
    }

    fn read_blob(
        &self,
        blob: &Blob,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        match self.side()? {
            Side::OpenArchive(found) => layout::read_blob(found, blob, range),
            Side::Draft(draft) => draft.layout.read_blob(blob, range),
            Side::Nothing => Err(RegistryError::Missing {
                place: self.place.clone(),
                what: format!("blob sha256:{}", blob.digest),
            }),
        }
    }

    fn put_blob(
        &self,
        blob: &Blob,
        source: &dyn BlobSource,
        mounts: &[String],
        progress: &Progress<'_>,
    ) -> Result<Delivered, RegistryError> {
        let draft = self.draft()?;
        draft.layout.put_blob(blob, source, mounts, progress)
    }

    fn tags(&self) -> Result<Vec<String>, RegistryError> {
        match self.side()? {
            Side::OpenArchive(found) => layout::tags(found),
            Side::Draft(draft) => draft.layout.tags(),
            Side::Nothing => Err(RegistryError::Unknown {
                place: self.place.clone(),
                kind: PlaceKind::Archive,
            }),
        }
    }

    fn finish(&self) -> Result<(), RegistryError> {
        let mut draft = self.draft.lock().unwrap_or_else(PoisonError::into_inner);
        match draft.take() {
            None => Ok(()),
            Some(draft) => self.publish(&draft),
        }
    }
}
