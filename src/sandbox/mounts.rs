//! What a command in the sandbox sees beyond its tree: mounts that the worker makes on the tree
//! before bubblewrap starts, and takes away afterwards.
//!
//! The tree is not trusted: an earlier step may have made any of its directories a link. Every
//! place is therefore opened below the tree, with links that cannot leave it, and mounted over
//! through that open file; bubblewrap itself gets no path that it would have to look up in the
//! tree.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::mount::{MountFlags, UnmountFlags};

use super::worker::WorkerError;

/// Directories that bubblewrap and this module mount over: they must be what they seem. The first
/// two are all that bubblewrap needs.
const PLACES: [&str; 4] = ["dev", "proc", "run", "tmp"];
/// `/run` of a step is in memory, and this large at most.
const RUN_OPTIONS: &std::ffi::CStr = c"mode=755,size=64m";

/// The mounts of one command, removed when dropped.
pub(super) struct Mounts {
    tree: OwnedFd,
    /// In the order in which they were made.
    mounted: Vec<OwnedFd>,
}

impl Mounts {
    /// Makes sure that the tree has the directories that every command needs, and mounts `/run`.
    pub(super) fn new(tree: &Path) -> Result<Self, WorkerError> {
        let mut mounts = Self {
            tree: places(tree, &PLACES)?,
            mounted: Vec::new(),
        };
        let run = mounts.place("run")?;
        rustix::mount::mount(
            "tmpfs",
            fd_path(&run),
            "tmpfs",
            MountFlags::NODEV | MountFlags::NOSUID,
            RUN_OPTIONS,
        )
        .map_err(|error| WorkerError::io("mount /run")(error.into()))?;
        mounts.remember("run")?;
        Ok(mounts)
    }

    /// Shows a directory of the host at `path` of the tree, which must be there.
    pub(super) fn directory(&mut self, from: &Path, path: &str) -> Result<(), WorkerError> {
        self.bind(from, path.trim_start_matches('/'))
    }

    /// Writes a file below `/run`, which holds nothing yet but what this module put there.
    pub(super) fn run_file(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut directory = open(&self.tree, "run", OFlags::PATH | OFlags::DIRECTORY)?;
        let below = path.strip_prefix("/run").map_err(io::Error::other)?;
        let mut parts = below.components().peekable();
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else {
                return Err(io::Error::other("not a plain path"));
            };
            if parts.peek().is_none() {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let mode = Mode::from_raw_mode(0o644);
                let file = rustix::fs::openat(&directory, name, flags, mode)?;
                return io::Write::write_all(&mut fs::File::from(file), content);
            }
            match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            directory = openat2(
                &directory,
                name,
                flags,
                Mode::empty(),
                ResolveFlags::NO_SYMLINKS,
            )?;
        }
        Ok(())
    }

    fn bind(&mut self, from: &Path, relative: &str) -> Result<(), WorkerError> {
        let place = self.place(relative)?;
        rustix::mount::mount_bind(from, fd_path(&place))
            .map_err(|error| WorkerError::io(format!("show /{relative}"))(error.into()))?;
        self.remember(relative)
    }

    fn place(&self, relative: &str) -> Result<OwnedFd, WorkerError> {
        open(&self.tree, relative, OFlags::PATH)
            .map_err(WorkerError::io(format!("find /{relative} in the image")))
    }

    /// Keeps what is mounted at a place, to unmount just that.
    fn remember(&mut self, relative: &str) -> Result<(), WorkerError> {
        let mounted = self.place(relative)?;
        self.mounted.push(mounted);
        Ok(())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        // The namespace would take them with it; until then they would hide the tree.
        while let Some(mounted) = self.mounted.pop() {
            let _ = rustix::mount::unmount(fd_path(&mounted), UnmountFlags::DETACH);
        }
    }
}

/// Makes sure that a tree has what bubblewrap mounts over.
pub(super) fn bare_places(tree: &Path) -> Result<(), WorkerError> {
    places(tree, &PLACES[..2]).map(drop)
}

/// Makes sure that a tree has these directories.
fn places(tree: &Path, wanted: &[&str]) -> Result<OwnedFd, WorkerError> {
    let tree: OwnedFd = fs::File::open(tree)
        .map_err(WorkerError::io("open the tree"))?
        .into();
    for &place in wanted {
        let mode = if place == "tmp" { 0o1777 } else { 0o755 };
        match mkdirat(&tree, place, Mode::from_raw_mode(mode)) {
            Ok(()) if place == "tmp" => {
                // The mask of this process took bits away.
                let file = open(&tree, place, OFlags::DIRECTORY | OFlags::RDONLY);
                file.and_then(|file| Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?))
                    .map_err(WorkerError::io("make /tmp"))?;
            }
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(WorkerError::io(format!("make /{place}"))(error.into())),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let real = openat2(
            &tree,
            place,
            flags,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS,
        );
        if real.is_err() {
            return Err(WorkerError::Unsatisfiable {
                message: format!("/{place} of the image is not a directory"),
                help: format!("check which step replaced /{place}: steps need it"),
            });
        }
    }
    Ok(tree)
}

/// Opens a file of the tree; links are followed inside the tree only.
pub(super) fn open(tree: &OwnedFd, relative: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let relative = if relative.is_empty() { "." } else { relative };
    let flags = flags | OFlags::CLOEXEC;
    Ok(openat2(
        tree,
        relative,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    )?)
}

pub(super) fn fd_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Where the resolver's file of a tree is when it is a link into `/run`, as a plain absolute path.
pub(super) fn path_in_run(link: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::from("/etc");
    if link.is_absolute() {
        path = PathBuf::from("/");
    }
    for part in link.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            Component::Prefix(_) => return None,
        }
    }
    (path.starts_with("/run") && path != Path::new("/run")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_into_run_become_plain_paths() {
        let place = |link: &str| path_in_run(Path::new(link));
        let stub = "/run/systemd/resolve/stub-resolv.conf";
        assert_eq!(
            place("../run/systemd/resolve/stub-resolv.conf"),
            Some(stub.into())
        );
        assert_eq!(place(stub), Some(stub.into()));
        assert_eq!(place("/run/../../oldroot/etc/nologin"), None);
        assert_eq!(place("/run/a/../b"), Some("/run/b".into()));
        for other in ["/etc/other", "resolvconf", "/run", "/running/x"] {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
