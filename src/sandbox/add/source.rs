//! Where files come from: a tar, the tree of another stage, a file of the host. All look the same;
//! paths are relative to a root, and have no links in them unless it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use crate::sandbox::layer::{attributes, say_left_out};
use crate::sandbox::root::{Root, real_path};
use crate::tarball::{FileWithHoles, Kind, Member, Reader, Time};

/// Links that a path may go through.
const MOST_LINKS: usize = 40;

pub(super) enum Source {
    Archive(Archive),
    Directory(Root),
    /// One file, of this name.
    File {
        path: PathBuf,
        member: Member,
    },
}

impl Source {
    /// What is at a path; nothing if nothing is, or if it is left out.
    pub(super) fn member(&self, path: &Path) -> io::Result<Option<Member>> {
        match self {
            Self::Archive(archive) => Ok(archive.member(path).cloned()),
            Self::Directory(root) => of_file(&root.path().join(path), path),
            Self::File { member, .. } => {
                Ok(Some(member.clone()).filter(|_| path.as_os_str().as_bytes() == member.path))
            }
        }
    }

    /// The names in a directory, sorted.
    pub(super) fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names: Vec<OsString> = match self {
            Self::Archive(archive) => archive
                .children
                .get(path)
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
            Self::Directory(root) => fs::read_dir(root.path().join(path))?
                .map(|entry| Ok(entry?.file_name()))
                .collect::<io::Result<_>>()?,
            Self::File { member, .. } => vec![OsString::from_vec(member.path.clone())],
        };
        names.sort();
        Ok(names)
    }

    /// Where a path leads when links are followed, the last one too; nothing if nothing is there.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        match self {
            Self::Archive(archive) => archive.resolve(path),
            Self::Directory(root) => match root.open(path, OFlags::PATH) {
                Ok(opened) => {
                    let path = real_path(&opened)?;
                    Ok(path.strip_prefix(root.path()).ok().map(Path::to_owned))
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    Ok(None)
                }
                Err(error) => Err(error),
            },
            Self::File { .. } => Ok(Some(path.to_owned())),
        }
    }

    /// The content of a file.
    pub(super) fn read(&self, path: &Path) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Archive(archive) => Box::new(archive.open(path)?),
            Self::Directory(root) => Box::new(File::open(root.path().join(path))?),
            Self::File { path, .. } => Box::new(File::open(path)?),
        })
    }

    /// Writes the content of a file to a new one.
    pub(super) fn write_to(&self, path: &Path, file: &File) -> io::Result<()> {
        match self {
            Self::Archive(archive) => archive.open(path)?.write_to(file),
            Self::Directory(_) | Self::File { .. } => {
                let mut out = FileWithHoles::new(file);
                io::copy(&mut self.read(path)?, &mut out)?;
                out.finish()
            }
        }
    }

    /// What tells a file with several names, which only a directory has.
    pub(super) fn identity(&self, path: &Path) -> io::Result<Option<(u64, u64)>> {
        let Self::Directory(root) = self else {
            return Ok(None);
        };
        let meta = fs::symlink_metadata(root.path().join(path))?;
        Ok((meta.nlink() > 1).then(|| (meta.dev(), meta.ino())))
    }
}

/// What a file on disk is, as a member of an archive.
fn of_file(path: &Path, inside: &Path) -> io::Result<Option<Member>> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    let kind = meta.file_type();
    let mut member = Member {
        path: inside.as_os_str().as_bytes().to_vec(),
        mode: meta.mode() & 0o7777,
        uid: u64::from(meta.uid()),
        gid: u64::from(meta.gid()),
        time: Time {
            seconds: meta.mtime(),
            nanoseconds: u32::try_from(meta.mtime_nsec()).unwrap_or(0),
        },
        size: meta.len(),
        ..Member::default()
    };
    member.attributes = attributes(path, &member.path)?;
    if kind.is_symlink() {
        member.link = fs::read_link(path)?.into_os_string().into_vec();
    }
    member.kind = match kind {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Symlink,
        kind if kind.is_fifo() => Kind::Fifo,
        kind if kind.is_file() => Kind::File,
        _ => {
            say_left_out("what is neither file, directory nor link:", &member.path);
            return Ok(None);
        }
    };
    Ok(Some(member))
}

/// A tar whose members are found by their paths.
pub(super) struct Archive {
    file: File,
    /// With the place of each one's header.
    members: BTreeMap<PathBuf, (Member, u64)>,
    children: BTreeMap<PathBuf, BTreeSet<OsString>>,
}

impl Archive {
    pub(super) fn new(file: &Path) -> io::Result<Self> {
        let file = File::open(file)?;
        let mut reader = Reader::seekable(BufReader::with_capacity(1 << 16, file.try_clone()?));
        let mut archive = Self {
            file,
            members: BTreeMap::new(),
            children: BTreeMap::new(),
        };
        loop {
            let place = reader.next();
            let Some(member) = reader.member()? else {
                return Ok(archive);
            };
            let path: PathBuf = Path::new(OsStr::from_bytes(&member.path))
                .components()
                .filter(|part| matches!(part, Component::Normal(_)))
                .collect();
            // The first one of hard links has the content.
            let (member, place) = match member.kind {
                Kind::Link => {
                    let target = Path::new(OsStr::from_bytes(&member.link));
                    let target: PathBuf = target
                        .components()
                        .filter(|part| matches!(part, Component::Normal(_)))
                        .collect();
                    match archive.members.get(&target) {
                        Some(found) => found.clone(),
                        None => continue,
                    }
                }
                Kind::CharDevice | Kind::BlockDevice | Kind::Other(_) => {
                    say_left_out("the device", &member.path);
                    continue;
                }
                _ => (member, place),
            };
            archive.note(&path);
            archive.members.insert(path, (member, place));
        }
    }

    /// Directories that no member names are there, too.
    fn note(&mut self, path: &Path) {
        let mut path = path;
        while let (Some(above), Some(name)) = (path.parent(), path.file_name()) {
            let names = self.children.entry(above.to_owned()).or_default();
            if !names.insert(name.to_owned()) {
                return;
            }
            if !above.as_os_str().is_empty() && !self.members.contains_key(above) {
                let directory = Member {
                    path: above.as_os_str().as_bytes().to_vec(),
                    kind: Kind::Directory,
                    mode: 0o755,
                    time: Time {
                        seconds: crate::derivation::SOURCE_DATE_EPOCH,
                        nanoseconds: 0,
                    },
                    ..Member::default()
                };
                self.members.insert(above.to_owned(), (directory, 0));
            }
            path = above;
        }
    }

    fn member(&self, path: &Path) -> Option<&Member> {
        if path.as_os_str().is_empty() && !self.members.contains_key(path) {
            // A root that no member names.
            static ROOT: std::sync::LazyLock<Member> = std::sync::LazyLock::new(|| Member {
                kind: Kind::Directory,
                mode: 0o755,
                ..Member::default()
            });
            return Some(&ROOT);
        }
        self.members.get(path).map(|(member, _)| member)
    }

    fn resolve(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let mut done = PathBuf::new();
        let mut links = 0;
        let mut left: Vec<OsString> = reversed(path);
        while let Some(part) = left.pop() {
            match part.as_bytes() {
                b"/" => done.clear(),
                b"." => {}
                b".." => drop(done.pop()),
                _ => {
                    let next = done.join(&part);
                    let Some(member) = self.member(&next) else {
                        return Ok(None);
                    };
                    match member.kind {
                        Kind::Symlink if links == MOST_LINKS => {
                            let message = "the path goes through too many links";
                            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                        }
                        Kind::Symlink => {
                            links += 1;
                            left.extend(reversed(Path::new(OsStr::from_bytes(&member.link))));
                        }
                        Kind::Directory => done = next,
                        _ if left.is_empty() => done = next,
                        _ => return Ok(None),
                    }
                }
            }
        }
        Ok(Some(done))
    }

    /// A reader of the content of a file.
    fn open(&self, path: &Path) -> io::Result<Reader<BufReader<FileFrom<'_>>>> {
        let (_, place) = self.members.get(path).ok_or(io::ErrorKind::NotFound)?;
        let from = FileFrom {
            file: &self.file,
            at: *place,
        };
        let mut reader = Reader::new(BufReader::new(from));
        reader.member()?;
        Ok(reader)
    }
}

/// A file from some place on.
pub(super) struct FileFrom<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FileFrom<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The parts of a path, the last one first.
fn reversed(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev();
    parts.map(|part| part.as_os_str().to_owned()).collect()
}
