//! Directories of a layout, and what is in them: no link leads out of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

use super::super::RegistryError;
use super::read::Part;
use crate::host::umask;

/// Temporary files begin so, and are not files of the layout.
pub(super) const TEMPORARY: &str = ".vmfab-";

/// A directory that is open.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

/// What is found under a name is not what it should be.
fn wrong(place: &str, path: &Path, reason: &str) -> RegistryError {
    RegistryError::Invalid {
        place: place.to_owned(),
        what: path.display().to_string(),
        reason: reason.to_owned(),
    }
}

impl Directory {
    /// The directory at a path of the user's; links on the way to it are their own.
    pub(super) fn open(place: &str, path: &Path) -> Result<Option<Self>, RegistryError> {
        let mut options = File::options();
        let directory = OFlags::DIRECTORY.bits().cast_signed();
        match options.read(true).custom_flags(directory).open(path) {
            Ok(file) => Ok(Some(Self {
                file,
                path: path.to_owned(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(wrong(place, path, "is no directory"))
            }
            Err(error) => Err(RegistryError::io("open", path)(error)),
        }
    }

    /// A directory in it.
    pub(super) fn enter(&self, place: &str, name: &str) -> Result<Option<Self>, RegistryError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.file, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(Self {
                file: file.into(),
                path,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                Err(wrong(place, &path, "is a link or a file, and no directory"))
            }
            Err(error) => Err(RegistryError::io("open", &path)(error.into())),
        }
    }

    /// A directory in it, made when it is not there.
    pub(super) fn make(&self, place: &str, name: &str) -> Result<Self, RegistryError> {
        let path = self.path.join(name);
        let new = match mkdirat(&self.file, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(RegistryError::io("create", &path)(error.into())),
        };
        let failed = RegistryError::io("open", &path);
        let Some(made) = self.enter(place, name)? else {
            return Err(failed(io::ErrorKind::NotFound.into()));
        };
        if new {
            made.file
                .set_permissions(umask::users(0o777))
                .map_err(failed)?;
        }
        Ok(made)
    }

    /// A file below it. Links that stay below it are followed.
    pub(super) fn file(&self, place: &str, name: &str) -> Result<Option<Part>, RegistryError> {
        let path = self.path.join(name);
        // A pipe would be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let below = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file: File = match openat2(&self.file, name, flags, Mode::empty(), below) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::XDEV) => {
                return Err(wrong(
                    place,
                    &path,
                    "is a link that leads out of the layout",
                ));
            }
            Err(Errno::LOOP) => return Err(wrong(place, &path, "is a link that leads nowhere")),
            Err(Errno::NOTDIR) => {
                return Err(wrong(place, &path, "is below a file, and no directory"));
            }
            Err(error) => return Err(RegistryError::io("open", &path)(error.into())),
        };
        let meta = file
            .metadata()
            .map_err(RegistryError::io("look at", &path))?;
        if !meta.is_file() {
            return Err(wrong(place, &path, "is no regular file"));
        }
        Ok(Some(Part {
            file: Arc::new(file),
            start: 0,
            length: meta.len(),
        }))
    }

    /// Whether there is nothing in it but what is temporary.
    pub(super) fn is_empty(&self) -> Result<bool, RegistryError> {
        let failed = |error| RegistryError::io("list", &self.path)(error);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if !name.to_string_lossy().starts_with(TEMPORARY) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes what killed processes have left.
    pub(super) fn sweep(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file
                && name.to_string_lossy().starts_with(TEMPORARY)
                && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Forces names in it to disk.
    pub(super) fn sync(&self) -> Result<(), RegistryError> {
        self.file
            .sync_all()
            .map_err(RegistryError::io("sync", &self.path))
    }
}
