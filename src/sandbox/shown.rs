//! What a process sees at paths of its tree and no layer gets: mounts that the worker makes on the
//! tree before bubblewrap starts. Where the tree has nothing, a file or directory is made to mount
//! on, and removed afterwards, with the times of the directories above as they were.
//!
//! The tree is not trusted: see `mounts`.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, StatVfsMountFlags, Timespec, Timestamps, fstatvfs,
    openat2, unlinkat, utimensat,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use super::add;
use super::beside::Beside;
use super::mounts::fd_path;
use super::request::{Request, Shown, What};
use super::root::Root;
use super::worker::WorkerError;
use crate::instruction::Ids;

/// Files in memory that are shown, for one process.
const PRIVATE_OPTIONS: &std::ffi::CStr = c"mode=700,size=64m";
/// The content of a cache, below its directory.
const CONTENT: &str = "content";

/// The mounts of a process. They must be removed: dropping only unmounts.
pub(super) struct Mounted<'a> {
    root: &'a Root,
    /// A directory in memory, which is mounted first.
    private: PathBuf,
    files: usize,
    /// In the order in which they were made.
    mounts: Vec<OwnedFd>,
    /// What was made to mount on: paths below the root.
    made: Vec<PathBuf>,
    /// Directories in which something was made, and their times before.
    times: Vec<(PathBuf, Timestamps)>,
}

impl<'a> Mounted<'a> {
    /// `private` does not exist.
    pub(super) fn new(root: &'a Root, private: &Path) -> Result<Self, WorkerError> {
        let failed = || WorkerError::io("mount files of the step in memory");
        fs::create_dir(private).map_err(failed())?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        mount("tmpfs", private, "tmpfs", flags, PRIVATE_OPTIONS)
            .map_err(|error| failed()(error.into()))?;
        let opened = File::open(private).map_err(failed())?;
        Ok(Self {
            root,
            private: private.to_owned(),
            files: 0,
            mounts: vec![opened.into()],
            made: Vec::new(),
            times: Vec::new(),
        })
    }

    pub(super) fn show(
        &mut self,
        shown: &Shown,
        request: &Request,
        beside: &[Beside],
    ) -> Result<(), WorkerError> {
        let target = Path::new(&shown.target);
        let failed = || WorkerError::io(format!("mount {}", shown.target));
        match &shown.what {
            What::Tree {
                tree,
                source,
                writable,
            } => {
                let from = tree_of(beside, *tree)?;
                let from = Root::new(from).map_err(failed())?;
                let source = from
                    .open(Path::new(source), OFlags::PATH)
                    .map_err(|error| lacks(source, &error))?;
                self.bind(&source, target, *writable).map_err(failed())
            }
            What::Cache {
                id,
                writable,
                from,
                mode,
                owner,
            } => {
                let directory = request.caches.get(id);
                let directory =
                    directory.ok_or_else(|| WorkerError::Plain(format!("no cache \"{id}\"")))?;
                let content = directory.join(CONTENT);
                if !content.exists() {
                    let first = from
                        .as_ref()
                        .map(|(tree, source)| Ok((tree_of(beside, *tree)?, source.as_str())))
                        .transpose()?;
                    self.fill_cache(&content, first, *mode, *owner)?;
                }
                let source = File::open(&content).map_err(failed())?;
                self.bind(&source.into(), target, *writable)
                    .map_err(failed())
            }
            What::Memory { size } => self.memory(target, *size).map_err(failed()),
            What::Secret {
                content,
                mode,
                owner,
            } => self
                .file(target, content.bytes(), *mode, *owner)
                .map_err(failed()),
            What::Socket { path, mode, owner } => {
                let path = &request.path(path);
                chown(path, Some(owner.uid), Some(owner.gid))
                    .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(*mode)))
                    .and_then(|()| self.root_of(path))
                    .and_then(|socket| self.bind(&socket, target, true))
                    .map_err(failed())
            }
        }
    }

    /// Shows a file with this content, which is in memory only.
    pub(super) fn file(
        &mut self,
        target: &Path,
        content: &[u8],
        mode: u32,
        owner: Ids,
    ) -> io::Result<()> {
        let path = self.private.join(self.files.to_string());
        self.files += 1;
        write(&path, content, mode, owner)?;
        let file = self.root_of(&path)?;
        self.bind(&file, target, false)
    }

    /// A directory with one program, for bubblewrap to show.
    pub(super) fn script(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let directory = self.private.join("scripts");
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        write(
            &directory.join(name),
            content.as_bytes(),
            0o755,
            Ids::default(),
        )?;
        Ok(directory)
    }

    fn root_of(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?)
    }

    /// Makes the content of a new cache. Another step may make it at the same time.
    fn fill_cache(
        &self,
        content: &Path,
        first: Option<(&Path, &str)>,
        mode: u32,
        owner: Ids,
    ) -> Result<(), WorkerError> {
        let failed = || WorkerError::io("make a cache");
        let above = content.parent().unwrap_or(content);
        let part = tempfile::Builder::new()
            .prefix("part-")
            .tempdir_in(above)
            .map_err(failed())?;
        if let Some((tree, source)) = first {
            add::copy_directory(tree, Path::new(source), part.path())
                .map_err(|error| lacks(source, &error))?;
        }
        chown(part.path(), Some(owner.uid), Some(owner.gid))
            .and_then(|()| fs::set_permissions(part.path(), fs::Permissions::from_mode(mode)))
            .map_err(failed())?;
        match fs::rename(part.path(), content) {
            Err(_) if content.exists() => Ok(()),
            Err(error) => Err(failed()(error)),
            Ok(()) => {
                // It is no longer there.
                let _ = part.keep();
                Ok(())
            }
        }
    }

    fn memory(&mut self, target: &Path, size: Option<u64>) -> io::Result<()> {
        let place = self.place(target, true)?;
        let options = size.map_or_else(
            || "mode=1777".to_owned(),
            |size| format!("mode=1777,size={size}"),
        );
        let options = CString::new(options).unwrap_or_default();
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        mount("tmpfs", fd_path(&place), "tmpfs", flags, options.as_c_str())?;
        self.remember(target)
    }

    fn bind(&mut self, source: &OwnedFd, target: &Path, writable: bool) -> io::Result<()> {
        let is_directory = fs::metadata(fd_path(source))?.is_dir();
        let place = self.place(target, is_directory)?;
        mount_bind(fd_path(source), fd_path(&place))?;
        self.remember(target)?;
        if let (false, Some(mounted)) = (writable, self.mounts.last()) {
            // Flags of a file system of the host must stay: they are locked.
            let own = fstatvfs(mounted)?.f_flag;
            let mut flags = MountFlags::BIND | MountFlags::RDONLY;
            for (is, flag) in [
                (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
                (StatVfsMountFlags::NODEV, MountFlags::NODEV),
                (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
                (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
                (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
                (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
            ] {
                if own.contains(is) {
                    flags |= flag;
                }
            }
            mount_remount(fd_path(mounted), flags, c"")?;
        }
        Ok(())
    }

    /// Opens what is at a path of the tree; makes it when nothing is there.
    fn place(&mut self, target: &Path, is_directory: bool) -> io::Result<OwnedFd> {
        if let Ok(place) = self.root.open(target, OFlags::PATH) {
            return Ok(place);
        }
        let above = target.parent().unwrap_or(Path::new("/"));
        let existing = above
            .ancestors()
            .find_map(|path| self.root.directory(path).ok().flatten());
        if let Some(existing) = existing {
            self.note_time(&existing)?;
        }
        let root = self.root;
        let mut made = Vec::new();
        let above = root.make_directory(above, &mut |path| {
            made.push(path.to_owned());
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        })?;
        let path = above.join(target.file_name().unwrap_or_default());
        // Where a link leads that leads to nothing.
        let path = match fs::symlink_metadata(&path) {
            Ok(_) => root.resolve(target)?,
            Err(_) => path,
        };
        match is_directory {
            true => fs::create_dir(&path)?,
            false => drop(File::create_new(&path)?),
        }
        made.push(path);
        let below = |path: PathBuf| path.strip_prefix(root.path()).ok().map(Path::to_owned);
        self.made.extend(made.into_iter().filter_map(below));
        self.root.open(target, OFlags::PATH)
    }

    fn note_time(&mut self, directory: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(directory)?;
        let Ok(below) = directory.strip_prefix(self.root.path()) else {
            return Ok(());
        };
        if !self.times.iter().any(|(noted, _)| noted == below) {
            let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
            let times = Timestamps {
                last_access: time(meta.atime(), meta.atime_nsec()),
                last_modification: time(meta.mtime(), meta.mtime_nsec()),
            };
            self.times.push((below.to_owned(), times));
        }
        Ok(())
    }

    /// Keeps what is mounted at a place, to unmount just that.
    fn remember(&mut self, target: &Path) -> io::Result<()> {
        self.mounts.push(self.root.open(target, OFlags::PATH)?);
        Ok(())
    }

    /// Unmounts everything, and removes what was made to mount on, unless the process put something
    /// there.
    pub(super) fn remove(mut self) {
        self.unmount();
        let mut left = false;
        for path in self.made.iter().rev() {
            left |= self.remove_made(path).is_err();
        }
        // Something new is a change of the directory above it.
        if !left {
            for (path, times) in &self.times {
                if let Ok((directory, name)) = self.above(path) {
                    let _ = utimensat(directory, name, times, AtFlags::SYMLINK_NOFOLLOW);
                }
            }
        }
    }

    fn remove_made(&self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.above(path)?;
        let meta = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = match rustix::fs::FileType::from_raw_mode(meta.st_mode) {
            rustix::fs::FileType::Directory => AtFlags::REMOVEDIR,
            rustix::fs::FileType::RegularFile if meta.st_size == 0 => AtFlags::empty(),
            _ => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
        };
        Ok(unlinkat(directory, name, flags)?)
    }

    /// The directory above a path, which the process may have replaced by a link.
    fn above(&self, below: &Path) -> io::Result<(OwnedFd, OsString)> {
        let name = below.file_name().map_or_else(|| ".".into(), OsString::from);
        let above = below.parent().filter(|path| !path.as_os_str().is_empty());
        let root = self.root.open(Path::new("/"), OFlags::PATH)?;
        let directory = openat2(
            root,
            above.unwrap_or(Path::new(".")),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH,
        )?;
        Ok((directory, name))
    }

    fn unmount(&mut self) {
        while let Some(mounted) = self.mounts.pop() {
            let _ = unmount(fd_path(&mounted), UnmountFlags::DETACH);
        }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn tree_of(beside: &[Beside], number: usize) -> Result<&Path, WorkerError> {
    let tree = beside.get(number);
    tree.ok_or_else(|| WorkerError::Plain(format!("tree {number} is missing")))?
        .directory()
}

fn lacks(source: &str, error: &io::Error) -> WorkerError {
    WorkerError::Unsatisfiable {
        message: format!("cannot read {source} for a mount: {error}"),
        help: "check the source and from of the mount".to_owned(),
    }
}

fn write(path: &Path, content: &[u8], mode: u32, owner: Ids) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    chown(path, Some(owner.uid), Some(owner.gid))?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}
