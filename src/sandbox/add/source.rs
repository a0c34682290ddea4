//! Where files come from: a tar, local files, the tree of another stage, one file. All look the same;
//! paths are relative to a root, and have no links in them unless it is said.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use super::content::{Changed, read_content};
use crate::derivation::{Listed, Listing, SOURCE_DATE_EPOCH, file_time};
use crate::digest::ContentHasher;
use crate::host::beneath::regular;
use crate::sandbox::layer::{attributes, say_left_out};
use crate::sandbox::root::{Root, real_path};
use crate::tarball::{FileWithHoles, Kind, Member, Reader, Time};

/// Links that a path may go through.
const MOST_LINKS: usize = 40;

pub(in crate::sandbox) enum Source {
    Index(Index),
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
            Self::Index(index) => Ok(index.member(path).cloned()),
            Self::Directory(root) => of_file(&root.path().join(path), path),
            Self::File { member, .. } => {
                Ok(Some(member.clone()).filter(|_| path.as_os_str().as_bytes() == member.path))
            }
        }
    }

    /// The names in a directory, sorted.
    pub(super) fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names: Vec<OsString> = match self {
            Self::Index(index) => index
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
            Self::Index(index) => index.resolve(path),
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
    pub(super) fn read(&self, path: &Path) -> io::Result<Content<'_>> {
        Ok(match self {
            Self::Index(index) => match &index.contents {
                Contents::Tar { file, places } => Content::plain(open_member(file, places, path)?),
                Contents::Local { root, digests } => {
                    let (file, digest) = open_local(root, digests, path)?;
                    Content::Local(file, Box::default(), digest)
                }
            },
            Self::Directory(root) => Content::plain(File::open(root.path().join(path))?),
            Self::File { path, .. } => Content::plain(File::open(path)?),
        })
    }

    /// Writes the content of a file to a new one.
    pub(super) fn write_to(&self, path: &Path, file: &File) -> io::Result<()> {
        match self {
            Self::Index(index) => match &index.contents {
                Contents::Tar { file: tar, places } => {
                    open_member(tar, places, path)?.write_to(file)
                }
                Contents::Local { root, digests } => {
                    let (local, digest) = open_local(root, digests, path)?;
                    let read = read_content(&local, &mut |bytes, at| file.write_all_at(bytes, at))?;
                    file.set_len(local.metadata()?.len())?;
                    Changed::unless(read == *digest)
                }
            },
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

/// The content of a file, from front to back.
pub(super) enum Content<'a> {
    Plain(Box<dyn Read + 'a>),
    /// A local file, what was read of it, and the digest that it is to have.
    Local(File, Box<ContentHasher>, &'a [u8; 32]),
}

impl<'a> Content<'a> {
    fn plain(reader: impl Read + 'a) -> Self {
        Self::Plain(Box::new(reader))
    }

    /// Checks a local file after it was read. What is left of it is read now.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        let Self::Local(..) = self else {
            return Ok(());
        };
        while self.read(&mut buffer)? > 0 {}
        match self {
            Self::Plain(_) => Ok(()),
            Self::Local(_, hasher, digest) => Changed::unless(hasher.finish() == *digest),
        }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Local(file, hasher, _) => {
                let count = file.read(buffer)?;
                hasher.update(&buffer[..count]);
                Ok(count)
            }
        }
    }
}

/// Files that are found by their paths.
pub(in crate::sandbox) struct Index {
    contents: Contents,
    members: BTreeMap<PathBuf, Member>,
    children: BTreeMap<PathBuf, BTreeSet<OsString>>,
}

/// Where the contents of files are.
enum Contents {
    /// In a tar: the place of each one's header.
    Tar {
        file: File,
        places: BTreeMap<PathBuf, u64>,
    },
    /// In a directory of the host. They are what they are to be if they have these digests.
    Local {
        root: Root,
        digests: BTreeMap<PathBuf, [u8; 32]>,
    },
}

impl Index {
    fn new(contents: Contents) -> Self {
        Self {
            contents,
            members: BTreeMap::new(),
            children: BTreeMap::new(),
        }
    }

    pub(in crate::sandbox) fn of_tar(file: &Path) -> io::Result<Self> {
        let file = File::open(file)?;
        let mut reader = Reader::seekable(BufReader::with_capacity(1 << 16, file.try_clone()?));
        let mut places: BTreeMap<PathBuf, u64> = BTreeMap::new();
        let mut index = Self::new(Contents::Tar {
            file,
            places: BTreeMap::new(),
        });
        loop {
            let place = reader.next();
            let Some(member) = reader.member()? else {
                break;
            };
            let path = inside(&member.path);
            // The first one of hard links has the content.
            let (member, place) = match member.kind {
                Kind::Link => {
                    let target = inside(&member.link);
                    match (index.members.get(&target), places.get(&target)) {
                        (Some(found), Some(place)) => (found.clone(), *place),
                        _ => continue,
                    }
                }
                Kind::CharDevice | Kind::BlockDevice | Kind::Other(_) => {
                    say_left_out("the device", &member.path);
                    continue;
                }
                _ => (member, place),
            };
            index.note(&path);
            index.members.insert(path.clone(), member);
            places.insert(path, place);
        }
        if let Contents::Tar { places: known, .. } = &mut index.contents {
            *known = places;
        }
        Ok(index)
    }

    /// The files of the list at `listing`, below the directory `root`. They have the times, modes
    /// and owners of the list.
    pub(in crate::sandbox) fn of_local(listing: &Path, root: &Path) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it is no list of files");
        let listing = Listing::from_bytes(fs::read(listing)?).ok_or_else(wrong)?;
        let mut index = Self::new(Contents::Local {
            root: Root::new(root)?,
            digests: listing.contents(),
        });
        for file in listing.files() {
            let (path, listed) = file.ok_or_else(wrong)?;
            let path = inside(path.as_os_str().as_bytes());
            let mut member = Member {
                path: path.as_os_str().as_bytes().to_vec(),
                time: Time {
                    seconds: SOURCE_DATE_EPOCH,
                    nanoseconds: 0,
                },
                ..Member::default()
            };
            match listed {
                Listed::Directory(mode) => {
                    (member.kind, member.mode) = (Kind::Directory, mode);
                }
                Listed::Link(target) => {
                    (member.kind, member.mode) = (Kind::Symlink, 0o777);
                    member.link = target.into_os_string().into_vec();
                }
                Listed::File(mode, content) => {
                    member.mode = mode;
                    member.time.seconds = file_time(listing.time(), &content);
                }
            }
            index.note(&path);
            index.members.insert(path, member);
        }
        Ok(index)
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
                self.members.insert(above.to_owned(), directory);
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
        self.members.get(path)
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
}

/// The path of a member, without what does not count.
fn inside(path: &[u8]) -> PathBuf {
    let parts = Path::new(OsStr::from_bytes(path)).components();
    parts
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

/// A reader of a member's content.
fn open_member<'a>(
    file: &'a File,
    places: &BTreeMap<PathBuf, u64>,
    path: &Path,
) -> io::Result<Reader<BufReader<FileFrom<'a>>>> {
    let at = *places.get(path).ok_or(io::ErrorKind::NotFound)?;
    let mut reader = Reader::new(BufReader::new(FileFrom { file, at }));
    reader.member()?;
    Ok(reader)
}

/// A local file, and the digest that its content is to have.
fn open_local<'a>(
    root: &Root,
    digests: &'a BTreeMap<PathBuf, [u8; 32]>,
    path: &Path,
) -> io::Result<(File, &'a [u8; 32])> {
    let digest = digests.get(path).ok_or(io::ErrorKind::NotFound)?;
    // Another user of the directory may have made it a pipe since.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = root.open(path, flags).and_then(regular);
    opened
        .map(|file| (file, digest))
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => error,
            _ => Changed.into(),
        })
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
