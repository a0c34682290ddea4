//! The tar of a layer of a container image, put over a tree as container engines do it.
//!
//! Layers of others are not as those that are packed here: their paths may go through links of the layers below
//! (`lib/x` over a tree in which `lib` is a link to `usr/lib`), an entry may come before or after the whiteout of what
//! it stands instead of, and hard links may lead to files below. So they are put over the tree, in the order of the
//! archive, and what changed is packed as a layer like any other.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, open, openat2};
use tar::EntryType;

use super::unpack::{attributes, link_target, make, set_metadata};
use super::{OPAQUE, WHITEOUT_PREFIX, set_time};

/// What whiteouts of no file begin with: notes of the program that made the layer.
const RESERVED_PREFIX: &str = ".wh..wh.";

/// Puts the layer `archive` over `tree`. No path leads out of it: links are followed as if the tree were the root.
pub(in crate::sandbox) fn apply(archive: &Path, tree: &Path) -> io::Result<()> {
    let mut tar = tar::Archive::new(BufReader::with_capacity(1 << 20, File::open(archive)?));
    let mut layer = Layer {
        root: open(
            tree,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?,
        own: BTreeSet::new(),
        directory_times: HashMap::new(),
    };
    for entry in tar.entries()? {
        let mut entry = entry?;
        let inside = entry.path()?.into_owned();
        layer.put(&mut entry, &inside).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", inside.display()))
        })?;
    }
    for (path, seconds) in layer.directory_times {
        // A later entry may have taken its place.
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            set_time(&path, seconds)?;
        }
    }
    Ok(())
}

/// A layer on its way over a tree.
struct Layer {
    root: OwnedFd,
    /// What the layer itself has put, by its path without links.
    own: BTreeSet<PathBuf>,
    /// Times of directories, set at the end: what is put into them changes them.
    directory_times: HashMap<PathBuf, i64>,
}

impl Layer {
    fn put<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, inside: &Path) -> io::Result<()> {
        let (parents, name) = split(inside)?;
        let Some(name) = name else {
            // The root directory is as it is in all trees.
            return Ok(());
        };
        let kind = entry.header().entry_type();
        let bytes = name.as_bytes();
        if bytes.starts_with(WHITEOUT_PREFIX.as_bytes()) {
            return match self.directory(&parents, false)? {
                Some(directory) => self.whiteout(&directory, bytes),
                // There is nothing to be removed.
                None => Ok(()),
            };
        }
        let directory = self.directory(&parents, true)?;
        let directory = directory.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let path = directory.join(&name);
        let there = fs::symlink_metadata(&path);
        if let Ok(meta) = &there
            && !(meta.is_dir() && kind == EntryType::Directory)
        {
            match meta.is_dir() {
                true => fs::remove_dir_all(&path)?,
                false => fs::remove_file(&path)?,
            }
            self.forget(&path);
        }
        match kind {
            // The guest's devtmpfs makes device nodes.
            EntryType::Char | EntryType::Block => return Ok(()),
            EntryType::Link => {
                let (parents, name) = split(&link_target(entry)?)?;
                let missing = || refused("it is a link to what is not there");
                let directory = self.directory(&parents, false)?.ok_or_else(missing)?;
                let target = directory.join(name.ok_or_else(missing)?);
                fs::hard_link(target, &path).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => missing(),
                    _ => error,
                })?;
                self.own.insert(path);
                return Ok(());
            }
            EntryType::Directory if there.is_ok_and(|meta| meta.is_dir()) => {}
            _ => make(entry, kind, &path)?,
        }
        self.own.insert(path.clone());
        self.finish(entry, kind, path)
    }

    /// Owner, mode, attributes and time.
    fn finish<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        kind: EntryType,
        path: PathBuf,
    ) -> io::Result<()> {
        let attributes = attributes(entry)?;
        let seconds = set_metadata(entry.header(), kind, &path, attributes)?;
        match kind {
            EntryType::Directory => {
                self.directory_times.insert(path, seconds);
                Ok(())
            }
            _ => set_time(&path, seconds),
        }
    }

    /// Removes what layers below have.
    fn whiteout(&self, directory: &Path, name: &[u8]) -> io::Result<()> {
        if name == OPAQUE.as_bytes() {
            for entry in fs::read_dir(directory)? {
                self.remove_lower(&entry?.path())?;
            }
            return Ok(());
        }
        if name.starts_with(RESERVED_PREFIX.as_bytes()) {
            return Ok(());
        }
        let removed = &name[WHITEOUT_PREFIX.len()..];
        if matches!(removed, b"" | b"." | b"..") {
            return Err(refused("it is a whiteout of no file"));
        }
        self.remove_lower(&directory.join(OsStr::from_bytes(removed)))
    }

    /// Removes a file or directory, but for what is of the layer itself.
    fn remove_lower(&self, path: &Path) -> io::Result<()> {
        let Ok(meta) = fs::symlink_metadata(path) else {
            return Ok(());
        };
        let mut own = self.own.range(path.to_owned()..);
        let has_own = own.next().is_some_and(|own| own.starts_with(path));
        match (meta.is_dir(), has_own) {
            (true, false) => fs::remove_dir_all(path),
            (false, false) => fs::remove_file(path),
            (false, true) => Ok(()),
            (true, true) => {
                for entry in fs::read_dir(path)? {
                    self.remove_lower(&entry?.path())?;
                }
                Ok(())
            }
        }
    }

    /// What was put at a path and below is there no more.
    fn forget(&mut self, path: &Path) {
        let gone: Vec<PathBuf> = self
            .own
            .range(path.to_owned()..)
            .take_while(|own| own.starts_with(path))
            .cloned()
            .collect();
        for own in gone {
            self.own.remove(&own);
        }
    }

    /// The path without links of a directory of the tree; made when it is to be. `None` when it is not there.
    fn directory(&mut self, parents: &[OsString], made: bool) -> io::Result<Option<PathBuf>> {
        let inside: PathBuf = parents.iter().collect();
        match self.open(&inside) {
            Ok(directory) => return real_path(&directory).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory && !made => return Ok(None),
            Err(error) => return Err(error),
        }
        if !made {
            return Ok(None);
        }
        // Layers may leave out the directories that their files are in.
        let mut so_far = PathBuf::new();
        let mut current = self.open(&so_far)?;
        for part in parents {
            so_far.push(part);
            current = match self.open(&so_far) {
                Ok(next) => next,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    mkdirat(&current, part.as_os_str(), Mode::from_raw_mode(0o755)).map_err(
                        |error| match error {
                            rustix::io::Errno::EXIST => {
                                refused("the path goes through a link to what is not there")
                            }
                            error => error.into(),
                        },
                    )?;
                    self.own.insert(real_path(&current)?.join(part));
                    self.open(&so_far)?
                }
                Err(error) => return Err(error),
            };
        }
        real_path(&current).map(Some)
    }

    /// Opens a directory of the tree; links are followed inside the tree only.
    fn open(&self, inside: &Path) -> io::Result<OwnedFd> {
        let inside = match inside.as_os_str().is_empty() {
            true => Path::new("."),
            false => inside,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat2(
            &self.root,
            inside,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        );
        opened.map_err(|error| match error {
            rustix::io::Errno::NOTDIR => io::Error::new(
                io::ErrorKind::NotADirectory,
                "the path goes through something that is no directory",
            ),
            rustix::io::Errno::LOOP => refused("the path goes through too many links"),
            error => error.into(),
        })
    }
}

/// The directories of a path in an archive, and its last part; none for the root.
fn split(inside: &Path) -> io::Result<(Vec<OsString>, Option<OsString>)> {
    let mut parts = Vec::new();
    for part in inside.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_owned()),
            // Some programs write absolute paths, which mean the root of the tree.
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refused("the path leads out of the layer"));
            }
        }
    }
    let name = parts.pop();
    Ok((parts, name))
}

/// Where an open directory is. Nobody else changes the tree.
fn real_path(directory: &OwnedFd) -> io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let path = rustix::fs::readlinkat(CWD, link, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(path.as_bytes())))
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}
