//! A tar of others, put over a tree: the layer of a container image as container engines do it, any
//! other archive as tar(1) does it.
//!
//! Archives of others are not as the layers that are packed here: their paths may go through links
//! of the layers below (`lib/x` over a tree in which `lib` is a link to `usr/lib`), directories
//! that they do not name stay as they are, an entry may come before or after the whiteout of what
//! it stands instead of, and hard links may lead to files below. So they are put over the tree, in
//! the order of the archive, and what changed is packed as a layer like any other.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::unpack::{make, set_metadata};
use super::{AttributesLeftOut, OPAQUE, WHITEOUT_PREFIX, say_left_out, set_time};
use crate::sandbox::root::Root;
use crate::tarball::{Kind, Member, Reader, Time};

/// What whiteouts of no file begin with: notes of the program that made the layer.
const RESERVED_PREFIX: &[u8] = b".wh..wh.";

/// How an archive is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A layer of a container image: names with `.wh.` remove, and a directory replaces a link.
    Layer,
    /// Files: a name with `.wh.` is a name like others, and a link to a directory stays where the
    /// archive has a directory.
    Files,
}

impl Form {
    /// What people call it.
    pub(in crate::sandbox) const fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Files => "archive",
        }
    }
}

/// Puts `archive` over `tree`. No path leads out of it: links are followed as if the tree were the
/// root.
pub(in crate::sandbox) fn apply(archive: &mut dyn Read, form: Form, tree: &Path) -> io::Result<()> {
    let mut tar = Reader::new(BufReader::with_capacity(1 << 20, archive));
    let mut layer = Layer {
        form,
        root: Root::new(tree)?,
        own: BTreeSet::new(),
        left_out: BTreeSet::new(),
        directory_times: HashMap::new(),
    };
    let mut left_out = AttributesLeftOut::default();
    while let Some(mut member) = tar.member()? {
        left_out.take_from(&mut member);
        layer
            .put(&mut tar, &member)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", member.name())))?;
    }
    for line in left_out.lines() {
        let _ = writeln!(io::stderr(), "{line}");
    }
    for (path, time) in layer.directory_times {
        // A later entry may have taken its place.
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            set_time(&path, time)?;
        }
    }
    Ok(())
}

/// A layer on its way over a tree.
struct Layer {
    form: Form,
    root: Root,
    /// What the layer itself has put, by its path without links.
    own: BTreeSet<PathBuf>,
    /// Device nodes of the layer, and links to them.
    left_out: BTreeSet<PathBuf>,
    /// Times of directories, set at the end: what is put into them changes them.
    directory_times: HashMap<PathBuf, Time>,
}

impl Layer {
    fn put<R: Read>(&mut self, tar: &mut Reader<R>, member: &Member) -> io::Result<()> {
        let (parents, name) = split(&member.path, self.form)?;
        let Some(name) = name else {
            // The root directory is as it is in all trees.
            return Ok(());
        };
        let bytes = name.as_bytes();
        if self.form == Form::Layer && bytes.starts_with(WHITEOUT_PREFIX) {
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
        let is_directory = member.kind == Kind::Directory;
        if is_directory
            && self.form == Form::Files
            && there.as_ref().is_ok_and(fs::Metadata::is_symlink)
            && self
                .root
                .directory(&parents.iter().chain([&name]).collect::<PathBuf>())
                .is_ok_and(|found| found.is_some())
        {
            return Ok(());
        }
        let target = match member.kind {
            Kind::Link => match self.target(&member.link)? {
                // It is there already.
                Some(target) if target == path => return Ok(()),
                target => target,
            },
            _ => None,
        };
        if let Ok(meta) = &there
            && !(meta.is_dir() && is_directory)
        {
            match meta.is_dir() {
                true => fs::remove_dir_all(&path)?,
                false => fs::remove_file(&path)?,
            }
            self.forget(&path);
        }
        match (member.kind, target) {
            // The guest's devtmpfs makes device nodes.
            (Kind::CharDevice | Kind::BlockDevice, _) | (Kind::Link, None) => {
                say_left_out("the device", &member.path);
                self.left_out.insert(path);
                return Ok(());
            }
            (_, Some(target)) => {
                fs::hard_link(target, &path)?;
                self.own.insert(path);
                return Ok(());
            }
            _ if is_directory && there.is_ok_and(|meta| meta.is_dir()) => {}
            _ => make(tar, member, &path)?,
        }
        self.left_out.remove(&path);
        self.own.insert(path.clone());
        self.finish(member, path)
    }

    /// The file that a hard link leads to; `None` when it is one that was left out.
    fn target(&mut self, link: &[u8]) -> io::Result<Option<PathBuf>> {
        let missing = || refused("it is a link to what is not there");
        let (parents, name) = split(link, Form::Layer)?;
        let directory = self.directory(&parents, false)?.ok_or_else(missing)?;
        let target = directory.join(name.ok_or_else(missing)?);
        match fs::symlink_metadata(&target) {
            Ok(_) => Ok(Some(target)),
            Err(_) if self.left_out.contains(&target) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
            Err(error) => Err(error),
        }
    }

    /// Owner, mode, attributes and time.
    fn finish(&mut self, member: &Member, path: PathBuf) -> io::Result<()> {
        set_metadata(member, &path)?;
        match member.kind {
            Kind::Directory => {
                self.directory_times.insert(path, member.time);
                Ok(())
            }
            _ => set_time(&path, member.time),
        }
    }

    /// Removes what layers below have.
    fn whiteout(&self, directory: &Path, name: &[u8]) -> io::Result<()> {
        if name == OPAQUE {
            for entry in fs::read_dir(directory)? {
                self.remove_lower(&entry?.path())?;
            }
            return Ok(());
        }
        if name.starts_with(RESERVED_PREFIX) {
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

    /// The path without links of a directory of the tree; made when it is to be. `None` when it is
    /// not there.
    fn directory(&mut self, parents: &[OsString], made: bool) -> io::Result<Option<PathBuf>> {
        let inside: PathBuf = parents.iter().collect();
        match self.root.directory(&inside) {
            Ok(None) if made => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory && !made => return Ok(None),
            found => return found,
        }
        // Layers may leave out the directories that their files are in.
        let own = &mut self.own;
        let made = self.root.make_directory(&inside, &mut |path| {
            own.insert(path.to_owned());
            Ok(())
        });
        made.map(Some)
    }
}

/// The directories of a path in an archive, and its last part; none for the root.
fn split(inside: &[u8], form: Form) -> io::Result<(Vec<OsString>, Option<OsString>)> {
    let mut parts = Vec::new();
    for part in Path::new(OsStr::from_bytes(inside)).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_owned()),
            Component::CurDir => {}
            // Some programs that make layers write absolute paths, which mean the root of the tree.
            Component::RootDir if form == Form::Layer => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(refused("the path leads out of the layer"));
            }
        }
    }
    let name = parts.pop();
    Ok((parts, name))
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}
