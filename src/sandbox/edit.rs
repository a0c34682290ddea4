//! Edits of a tree, done by a process whose root directory is the tree: links in it lead nowhere
//! else.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::request::JobPath;
use crate::derivation::file_time;
use crate::derivation::scripts::INIT;
use crate::image::OWN_INIT;
use crate::tarball::{Kind, Reader};

/// The most that is read of a file of the tree, in bytes.
const LONGEST: u64 = 64 << 20;

/// Where kernels look for an init.
const INIT_LINK: &str = "/sbin/init";

/// One edit. Paths are absolute paths in the tree; missing parent directories are made, and belong
/// to root. What stands at the path of a file is replaced, whatever it is; only a directory is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    /// A file with this content, in place of an earlier one.
    Write {
        path: String,
        content: String,
        /// Its permission bits.
        mode: u32,
        /// `user[:group]`; root when absent.
        owner: Option<String>,
        /// Its time, in seconds since 1970; it follows from the content when absent.
        time: Option<i64>,
    },
    /// A file with this content where there is none, or one whose content is `replaces`.
    WriteDefault {
        path: String,
        content: String,
        /// Beginnings of contents that count as none.
        replaces: Vec<String>,
    },
    /// A line in place of the line that begins with `prefix`, or at the end.
    SetLine {
        /// The file, made when it is not there.
        path: String,
        /// How the line to be replaced begins.
        prefix: String,
        /// The line, without its end.
        line: String,
    },
    /// A symbolic link where there is nothing, when `needs` is there.
    LinkDefault {
        path: String,
        /// What it says.
        target: String,
        /// A file that must be there for the link to make sense.
        needs: String,
    },
    /// A regular file that is removed when it is there.
    Remove { path: String },
    Directory {
        path: String,
        /// `user[:group]`; root when absent.
        owner: Option<String>,
    },
    /// The init of vmfab's own, and `/sbin/init` as a link to it.
    Init,
    /// Files of a tar that `ops` made of local files. When the archive holds one file at its top
    /// that is named `.`, it is written to `destination`, else all is written below it.
    Extract {
        /// The tar.
        archive: JobPath,
        /// A file or a directory of the tree. With a final `/` always a directory.
        destination: String,
        /// Permission bits of files, in place of the archive's.
        mode: Option<u32>,
        /// `user[:group]`; root when absent.
        owner: Option<String>,
    },
}

/// Makes the tree the root directory of this process and does the edits. Archives, which are in the
/// directory of the job, are opened before.
pub(super) fn apply(job: &Path, tree: &Path, edits: &[Edit]) -> io::Result<()> {
    let mut archives = Vec::new();
    for edit in edits {
        archives.push(match edit {
            Edit::Extract { archive, .. } => Some(File::open(archive.below(job))?),
            _ => None,
        });
    }
    rustix::process::chroot(tree)?;
    std::env::set_current_dir("/")?;
    for (edit, archive) in edits.iter().zip(archives) {
        one(edit, archive)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", edit.path())))?;
    }
    Ok(())
}

impl Edit {
    fn path(&self) -> &str {
        match self {
            Self::Write { path, .. }
            | Self::WriteDefault { path, .. }
            | Self::SetLine { path, .. }
            | Self::LinkDefault { path, .. }
            | Self::Remove { path }
            | Self::Directory { path, .. }
            | Self::Extract {
                destination: path, ..
            } => path,
            Self::Init => OWN_INIT,
        }
    }
}

fn one(edit: &Edit, archive: Option<File>) -> io::Result<()> {
    match edit {
        Edit::Write {
            path,
            content,
            mode,
            owner,
            time,
        } => write_text(
            path,
            content,
            *mode,
            resolve_owner(owner.as_deref())?,
            *time,
        ),
        Edit::WriteDefault {
            path,
            content,
            replaces,
        } => {
            let present = match read_text(path) {
                Ok(text) => !replaces
                    .iter()
                    .any(|start| text.starts_with(start.as_str())),
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            };
            if present {
                return Ok(());
            }
            write_text(path, content, 0o644, (0, 0), None)
        }
        Edit::SetLine { path, prefix, line } => {
            let old = match read_text(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                result => result?,
            };
            let new = set_line(&old, prefix, line);
            if new == old {
                return Ok(());
            }
            let mode = fs::metadata(path).map_or(0o644, |meta| meta.permissions().mode() & 0o7777);
            write_text(path, &new, mode, (0, 0), None)
        }
        Edit::LinkDefault {
            path,
            target,
            needs,
        } => {
            if fs::symlink_metadata(path).is_ok() || !Path::new(needs).exists() {
                return Ok(());
            }
            make_parents(Path::new(path))?;
            symlink(target, path)
        }
        Edit::Remove { path } => match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => fs::remove_file(path),
            _ => Ok(()),
        },
        Edit::Directory { path, owner } => {
            make_parents_of(&Path::new(path).join("x"), resolve_owner(owner.as_deref())?)
        }
        Edit::Init => {
            if INIT.is_empty() {
                let message = "this vmfab has no init for images: it was built for another system";
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
            let mut file = replace(Path::new(OWN_INIT))?;
            file.write_all(INIT)?;
            let time = file_time(None, blake3::hash(INIT).as_bytes());
            finish(&file, 0o755, (0, 0), time)?;
            // A link to a shell or to BusyBox may be there: without their own files they are no
            // init.
            make_parents(Path::new(INIT_LINK))?;
            if fs::symlink_metadata(INIT_LINK).is_ok() {
                fs::remove_file(INIT_LINK)?;
            }
            symlink(OWN_INIT, INIT_LINK)
        }
        Edit::Extract {
            destination,
            mode,
            owner,
            ..
        } => {
            let Some(archive) = archive else {
                return Ok(());
            };
            extract(
                archive,
                destination,
                *mode,
                resolve_owner(owner.as_deref())?,
            )
        }
    }
}

/// `old` with `line` in place of the first line that begins with `prefix`, or at the end.
fn set_line(old: &str, prefix: &str, line: &str) -> String {
    let mut lines: Vec<&str> = old.lines().collect();
    match lines
        .iter()
        .position(|candidate| candidate.starts_with(prefix))
    {
        Some(index) => lines[index] = line,
        None => lines.push(line),
    }
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// The content of a regular file. Nothing else is opened for long: the end of a named pipe may
/// never come.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        let message = format!("it has more than {} MiB", LONGEST >> 20);
        return Err(io::Error::other(message));
    }
    Ok(bytes)
}

fn read_text(path: &str) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn write_text(
    path: &str,
    content: &str,
    mode: u32,
    owner: (u32, u32),
    time: Option<i64>,
) -> io::Result<()> {
    let time = file_time(time, blake3::hash(content.as_bytes()).as_bytes());
    let mut file = replace(Path::new(path))?;
    file.write_all(content.as_bytes())?;
    finish(&file, mode, owner, time)
}

/// A new file in the place of whatever is not a directory.
fn replace(path: &Path) -> io::Result<File> {
    make_parents(path)?;
    // Replaced and never opened: it may be a link, a named pipe, or have other names.
    if fs::symlink_metadata(path).is_ok() {
        fs::remove_file(path)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Gives a new file its owner, mode and time, in seconds since 1970.
fn finish(file: &File, mode: u32, owner: (u32, u32), time: i64) -> io::Result<()> {
    std::os::unix::fs::fchown(file, Some(owner.0), Some(owner.1))?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(time.cast_unsigned()))
}

/// Makes the missing directories above `path`, which are root's.
fn make_parents(path: &Path) -> io::Result<()> {
    make_parents_of(path, (0, 0))
}

/// Makes the missing directories above `path`.
fn make_parents_of(path: &Path, owner: (u32, u32)) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut current = path.parent();
    while let Some(directory) = current {
        // What is there and is no directory cannot be made into one.
        if directory.is_dir() {
            break;
        }
        missing.push(directory);
        current = directory.parent();
    }
    for directory in missing.into_iter().rev() {
        make_directory(directory, 0o755, owner)?;
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            return Ok(());
        }
        result => result?,
    }
    std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn extract(
    archive: File,
    destination: &str,
    mode: Option<u32>,
    owner: (u32, u32),
) -> io::Result<()> {
    let mut tar = Reader::seekable(io::BufReader::new(archive));
    while let Some(member) = tar.member()? {
        let inside = Path::new(OsStr::from_bytes(&member.path));
        // Without the dot: a directory "x/." cannot be made.
        let path = match inside == Path::new(".") {
            true => PathBuf::from(destination),
            false => Path::new(destination).join(inside),
        };
        match member.kind {
            Kind::Directory => {
                make_parents(&path)?;
                make_directory(&path, member.mode, owner)?;
            }
            Kind::Symlink => {
                make_parents(&path)?;
                if fs::symlink_metadata(&path).is_ok() {
                    fs::remove_file(&path)?;
                }
                symlink(OsStr::from_bytes(&member.link), &path)?;
                std::os::unix::fs::lchown(&path, Some(owner.0), Some(owner.1))?;
            }
            _ => {
                let file = replace(&path)?;
                tar.write_to(&file)?;
                let mode = mode.unwrap_or(member.mode);
                finish(&file, mode, owner, member.time.seconds)?;
            }
        }
    }
    Ok(())
}

/// `user[:group]` to ids, by the tree's own `/etc/passwd` and `/etc/group`. A user without a group
/// means the user's own group.
fn resolve_owner(owner: Option<&str>) -> io::Result<(u32, u32)> {
    let Some(owner) = owner else {
        return Ok((0, 0));
    };
    let text = |path: &str| match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    };
    owner_ids(owner, &text("/etc/passwd")?, &text("/etc/group")?)
        .map_err(|what| io::Error::new(io::ErrorKind::NotFound, what))
}

/// `user[:group]` to ids, by the texts of passwd(5) and group(5). Without a user it is root.
///
/// # Errors
/// One of the names is in neither.
pub fn owner_ids(owner: &str, passwd: &str, group: &str) -> Result<(u32, u32), String> {
    let (user, group_name) = owner
        .split_once(':')
        .map_or((owner, None), |(u, g)| (u, Some(g)));
    let user = if user.is_empty() { "0" } else { user };
    let field = |text: &str, name: &str, index: usize| -> Option<u32> {
        let line = text
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        line.split(':').nth(index)?.parse().ok()
    };
    let uid = user.parse().ok().or_else(|| field(passwd, user, 2));
    let uid = uid.ok_or_else(|| format!("the image has no user \"{user}\""))?;
    let gid = match group_name {
        Some(name) => name
            .parse()
            .ok()
            .or_else(|| field(group, name, 2))
            .ok_or_else(|| format!("the image has no group \"{name}\""))?,
        None => field(passwd, user, 3).unwrap_or(uid),
    };
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tarball::{Member, Writer};

    #[test]
    fn an_archive_makes_the_directory_that_it_goes_to() {
        let directory = tempfile::tempdir().unwrap();
        let mut archive = Writer::new(tempfile::tempfile().unwrap());
        let mut member = Member {
            path: b".".to_vec(),
            kind: Kind::Directory,
            mode: 0o755,
            ..Member::default()
        };
        archive.add(&member).unwrap();
        (member.path, member.kind, member.size) = (b"file".to_vec(), Kind::File, 1);
        archive.add_file(&member, &mut &b"x"[..]).unwrap();
        let mut archive = archive.finish().unwrap();
        io::Seek::rewind(&mut archive).unwrap();
        let meta = directory.path().metadata().unwrap();
        let owner = std::os::unix::fs::MetadataExt::uid(&meta);
        let group = std::os::unix::fs::MetadataExt::gid(&meta);
        let to = directory.path().join("deep/down");
        extract(archive, to.to_str().unwrap(), Some(0o600), (owner, group)).unwrap();
        assert_eq!(fs::read(to.join("file")).unwrap(), b"x");
        let mode = fs::metadata(to.join("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn whatever_stands_there_is_replaced_and_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let meta = directory.path().metadata().unwrap();
        let owner = (
            std::os::unix::fs::MetadataExt::uid(&meta),
            std::os::unix::fs::MetadataExt::gid(&meta),
        );
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), fifo, 0o644.into(), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        fs::write(at("other"), "other").unwrap();
        fs::hard_link(at("other"), at("name")).unwrap();
        symlink("other", at("link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        for name in ["pipe", "socket", "name", "link", "dangling", "new"] {
            let path = at(name);
            write_text(path.to_str().unwrap(), "text", 0o4711, owner, None).unwrap();
            let meta = fs::symlink_metadata(&path).unwrap();
            assert!(meta.is_file(), "{name}");
            assert_eq!(meta.permissions().mode() & 0o7777, 0o4711, "{name}");
            assert_eq!(fs::read(&path).unwrap(), b"text", "{name}");
        }
        assert_eq!(fs::read(at("other")).unwrap(), b"other");
        fs::create_dir(at("directory")).unwrap();
        assert!(
            write_text(
                at("directory").to_str().unwrap(),
                "text",
                0o644,
                owner,
                None
            )
            .is_err()
        );
        assert!(at("directory").is_dir());
    }

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, 0o644.into(), 0).unwrap();
        assert!(read(pipe.to_str().unwrap()).is_err());
        assert!(read("/dev/zero").is_err());
    }

    #[test]
    fn lines_are_replaced_or_added() {
        assert_eq!(set_line("", "A=", "A=1"), "A=1\n");
        assert_eq!(set_line("A=1\nB=2", "A=", "A=3"), "A=3\nB=2\n");
        assert_eq!(set_line("A=1\n", "B=", "B=2"), "A=1\nB=2\n");
    }

    #[test]
    fn owners_are_looked_up_in_the_tree() {
        let (passwd, group) = ("vm:x:1000:1001::/home/vm:/bin/sh\n", "docker:x:105:vm\n");
        assert_eq!(owner_ids("vm", passwd, group), Ok((1000, 1001)));
        assert_eq!(owner_ids("vm:docker", passwd, group), Ok((1000, 105)));
        assert_eq!(owner_ids("0:7", passwd, group), Ok((0, 7)));
        assert_eq!(owner_ids("12", passwd, group), Ok((12, 12)));
        assert_eq!(owner_ids(":docker", passwd, group), Ok((0, 105)));
        assert!(
            owner_ids("nobody", passwd, group)
                .unwrap_err()
                .contains("nobody")
        );
        assert!(
            owner_ids("vm:wheel", passwd, group)
                .unwrap_err()
                .contains("wheel")
        );
    }
}
