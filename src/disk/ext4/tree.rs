//! A directory tree of the host into a file system.

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

use super::super::DiskError;
use super::attributes::Attribute;
use super::directory::{Directory, Entry};
use super::inode::Meta;
use super::writer::{ROOT, Writer, not_read};

/// Directories are opened below others, and links are not followed.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// How the content of a file is opened.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
/// The kernel's limit for a list of attributes, and for the value of one.
const MOST_BYTES: usize = 65_536;
/// What mke2fs gives `lost+found`, so that a check of the file system need not take blocks.
const LOST_AND_FOUND_BLOCKS: usize = 4;

/// What is to be known to fill a file system with a tree.
pub struct Filling<'a> {
    /// The time of `/` and `lost+found`, in seconds since 1970.
    pub time: u32,
    /// Whether an extended attribute is kept.
    pub keep: &'a dyn Fn(&[u8]) -> bool,
    /// Is told now and then how many files there are.
    pub progress: &'a dyn Fn(u64),
}

/// Puts the tree at `tree` into the file system at `offset` in `file`, which `mke2fs` made as
/// [`Ext4::arguments`](super::Ext4::arguments) asks for. The result depends on what is in the tree
/// and on nothing else; the time that it takes grows with the number of files, not with how many
/// are in one directory.
///
/// Owners, modes, hard links and extended attributes are taken as the running user sees them. `/`
/// itself always belongs to root with mode 0755.
///
/// # Errors
/// The tree cannot be read or does not fit, or the file holds something else.
pub fn fill(file: &File, offset: u64, tree: &Path, filling: &Filling<'_>) -> Result<(), DiskError> {
    let writer = Writer::open(file, offset)?;
    let tree = openat(rustix::fs::CWD, tree, DIRECTORY, Mode::empty()).map_err(not_read)?;
    let mut walk = Walk {
        writer,
        filling,
        links: HashMap::new(),
        levels: Vec::new(),
        files: 0,
    };
    walk.all(tree)?;
    walk.writer.finish()
}

/// How often progress is told.
const EACH: u64 = 50_000;

struct Walk<'a> {
    writer: Writer<'a>,
    filling: &'a Filling<'a>,
    /// Files with several names that were met.
    links: HashMap<(u64, u64), u32>,
    /// The directories from `/` to the one that is read. Only that one is open: trees may be deep.
    levels: Vec<Level>,
    files: u64,
}

/// A directory that is being read.
struct Level {
    name: OsString,
    number: u32,
    meta: Meta,
    /// Names that are to come, the next one last.
    names: Vec<OsString>,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    fn all(&mut self, tree: OwnedFd) -> Result<(), DiskError> {
        let names = names(&tree)?;
        let root = Level {
            name: OsString::new(),
            number: ROOT,
            meta: self.fixed(0o755),
            names,
            entries: Vec::new(),
        };
        self.levels.push(root);
        let mut directory = tree;
        while let Some(level) = self.levels.last_mut() {
            match level.names.pop() {
                Some(name) => match self.entry(&directory, &name) {
                    Ok(Some(below)) => directory = below,
                    Ok(None) => {}
                    Err(error) => return Err(self.at(&name, error)),
                },
                None => {
                    self.leave()?;
                    if !self.levels.is_empty() {
                        directory =
                            openat(&directory, "..", DIRECTORY, Mode::empty()).map_err(not_read)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts one entry of a directory into the file system. A directory is opened, and what is in it
    /// comes next.
    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &OsString,
    ) -> Result<Option<OwnedFd>, DiskError> {
        let stat =
            statat(directory, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW).map_err(not_read)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_lost_and_found = self.levels.len() == 1 && name == "lost+found";
        if is_lost_and_found && kind != FileType::Directory {
            return Err(DiskError::LostAndFound);
        }
        self.files += 1;
        if self.files.is_multiple_of(EACH) {
            (self.filling.progress)(self.files);
        }
        let key = (stat.st_dev, stat.st_ino);
        if let Some(number) = self.links.get(&key).copied() {
            self.name(name, number, kind);
            return match self.writer.add_name(number)? {
                true => Ok(None),
                false => Err(DiskError::TooManyNames),
            };
        }
        let number = match is_lost_and_found {
            true => self.writer.lost_and_found,
            false => self.writer.number()?,
        };
        let open =
            |flags| openat(directory, name.as_os_str(), flags, Mode::empty()).map_err(not_read);
        let opened = match kind {
            FileType::Directory => Some(open(DIRECTORY)?),
            FileType::RegularFile => Some(open(FILE)?),
            _ => None,
        };
        let meta = Meta {
            mode: stat.st_mode as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
            attributes: match &opened {
                Some(file) => self.attributes(
                    |buffer| rustix::fs::flistxattr(file, buffer),
                    |name, buffer| rustix::fs::fgetxattr(file, name, buffer),
                )?,
                None => {
                    let path = path_of(directory, name)?;
                    self.attributes(
                        |buffer| rustix::fs::llistxattr(&path, buffer),
                        |name, buffer| rustix::fs::lgetxattr(&path, name, buffer),
                    )?
                }
            },
        };
        self.name(name, number, kind);
        if kind == FileType::Directory
            && let Some(below) = opened
        {
            self.levels.push(Level {
                name: name.clone(),
                number,
                meta,
                names: names(&below)?,
                entries: Vec::new(),
            });
            return Ok(Some(below));
        }
        if stat.st_nlink > 1 {
            self.links.insert(key, number);
        }
        if let Some(content) = opened {
            self.writer.file(number, meta, &File::from(content))?;
            return Ok(None);
        }
        match kind {
            FileType::Symlink => {
                let target =
                    readlinkat(directory, name.as_os_str(), Vec::new()).map_err(not_read)?;
                self.writer.link(number, meta, target.as_bytes())?;
            }
            _ => {
                let device = (
                    rustix::fs::major(stat.st_rdev),
                    rustix::fs::minor(stat.st_rdev),
                );
                self.writer.special(number, meta, device)?;
            }
        }
        Ok(None)
    }

    /// Adds a name to the directory that is being read.
    fn name(&mut self, name: &OsString, inode: u32, kind: FileType) {
        let entry = Entry {
            name: name.as_bytes().to_vec(),
            inode,
            kind: match kind {
                FileType::RegularFile => 1,
                FileType::Directory => 2,
                FileType::CharacterDevice => 3,
                FileType::BlockDevice => 4,
                FileType::Fifo => 5,
                FileType::Socket => 6,
                FileType::Symlink => 7,
                FileType::Unknown => 0,
            },
        };
        if let Some(level) = self.levels.last_mut() {
            level.entries.push(entry);
        }
    }

    /// Writes the directory that was read to its end.
    fn leave(&mut self) -> Result<(), DiskError> {
        let Some(mut level) = self.levels.pop() else {
            return Ok(());
        };
        let lost_and_found = self.writer.lost_and_found;
        if level.number == ROOT
            && level
                .entries
                .iter()
                .all(|entry| entry.inode != lost_and_found)
        {
            level.entries.push(self.writer.lost_and_found_entry());
            let empty = Directory {
                number: lost_and_found,
                parent: ROOT,
                entries: &[],
                least: LOST_AND_FOUND_BLOCKS,
            };
            self.writer.directory(self.fixed(0o700), &empty)?;
        }
        let directory = Directory {
            number: level.number,
            parent: self.levels.last().map_or(ROOT, |above| above.number),
            entries: &level.entries,
            least: match level.number == lost_and_found {
                true => LOST_AND_FOUND_BLOCKS,
                false => 1,
            },
        };
        self.writer.directory(level.meta, &directory)
    }

    /// Of a directory that the tree does not say it of.
    fn fixed(&self, permissions: u16) -> Meta {
        Meta {
            mode: FileType::Directory.as_raw_mode() as u16 | permissions,
            modified: (self.filling.time.into(), 0),
            ..Meta::default()
        }
    }

    /// The attributes that are kept of a file. `list` gives their names, `get` the value of one.
    fn attributes(
        &self,
        list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
        get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
    ) -> Result<Vec<Attribute>, DiskError> {
        // Most files have none, or few.
        let mut names = vec![0; 256];
        let length = match list(&mut names) {
            Err(Errno::RANGE) => {
                names.resize(MOST_BYTES, 0);
                list(&mut names)
            }
            result => result,
        };
        let length = match length {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => 0,
            Err(error) => return Err(not_read(error)),
        };
        let names = names[..length].split(|byte| *byte == 0);
        let mut attributes = Vec::new();
        for name in names.filter(|name| !name.is_empty() && (self.filling.keep)(name)) {
            let mut value = vec![0; MOST_BYTES];
            let length = get(name, &mut value).map_err(not_read)?;
            let attribute = Attribute::new(name, &value[..length]);
            attributes.push(attribute.ok_or(DiskError::Attributes)?);
        }
        Ok(attributes)
    }

    /// The error with the path that it is about, where it says something about a path.
    fn at(&self, name: &OsString, error: DiskError) -> DiskError {
        if matches!(error, DiskError::Full | DiskError::TooManyFiles(_)) {
            return error;
        }
        let above = self.levels.iter().map(|level| level.name.to_string_lossy());
        let parts: Vec<_> = above.chain([name.to_string_lossy()]).collect();
        DiskError::At {
            path: parts.join("/"),
            source: Box::new(error),
        }
    }
}

/// The path of a file that is not opened.
fn path_of(directory: &OwnedFd, name: &OsString) -> Result<CString, DiskError> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend(name.as_bytes());
    CString::new(path).map_err(|_| not_read(Errno::INVAL))
}

/// What is in a directory, in the reverse order of the bytes of its names.
fn names(directory: &OwnedFd) -> Result<Vec<OsString>, DiskError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(not_read)? {
        let entry = entry.map_err(not_read)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
    Ok(names)
}
