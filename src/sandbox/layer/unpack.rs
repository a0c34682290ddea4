//! A layer of vmfab to a directory that an overlay mount takes as a layer.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, XattrFlags};

use super::super::ids::not_owned;
use super::{
    LITERAL, OPAQUE, OPAQUE_ATTRIBUTE, WHITEOUT, WHITEOUT_PREFIX, is_kept, set_time, whiteout,
};
use crate::sandbox::confinement::Changes;
use crate::tarball::{Kind, Member, Reader, Time};

/// Unpacks `archive` into the new directory `target`. Entries must stay inside: no absolute paths,
/// no `..`, and no path that goes through a link of the archive.
pub(in crate::sandbox) fn unpack(
    archive: &Path,
    target: &Path,
    changes: Changes,
) -> io::Result<()> {
    fs::create_dir(target)?;
    fs::set_permissions(target, fs::Permissions::from_mode(0o755))?;
    let mut tar = Reader::new(BufReader::with_capacity(1 << 20, File::open(archive)?));
    let mut directory_times = HashMap::new();
    while let Some(member) = tar.member()? {
        one(&mut tar, &member, target, changes, &mut directory_times)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", member.name())))?;
    }
    for (path, time) in directory_times {
        set_time(&path, time)?;
    }
    Ok(())
}

fn one(
    tar: &mut Reader<BufReader<File>>,
    member: &Member,
    target: &Path,
    changes: Changes,
    directory_times: &mut HashMap<PathBuf, Time>,
) -> io::Result<()> {
    let inside = Path::new(OsStr::from_bytes(&member.path));
    let path = resolve(target, inside)?;
    if path == target {
        return Ok(());
    }
    let name = inside.file_name().unwrap_or_default().as_bytes();
    match member.note.as_slice() {
        b"" if name == OPAQUE => {
            let directory = path.parent().unwrap_or(target);
            let flags = XattrFlags::empty();
            return Ok(rustix::fs::lsetxattr(
                directory,
                OPAQUE_ATTRIBUTE,
                b"y",
                flags,
            )?);
        }
        b"" => {
            if let Some(removed) = name.strip_prefix(WHITEOUT_PREFIX) {
                let removed = path.with_file_name(OsStr::from_bytes(removed));
                return whiteout(target, &removed, changes);
            }
        }
        WHITEOUT => return whiteout(target, &path, changes),
        LITERAL => {}
        _ => return Err(invalid("its note is unknown: another vmfab made the layer")),
    }
    // What is there is replaced, and never followed.
    if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_dir()) {
        fs::remove_file(&path)?;
    }
    match member.kind {
        Kind::Directory => match fs::create_dir(&path) {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && fs::symlink_metadata(&path)?.is_dir() => {}
            result => result?,
        },
        // The owner, mode and time are those of the file that it links to.
        Kind::Link => {
            let to = Path::new(OsStr::from_bytes(&member.link));
            return fs::hard_link(resolve(target, to)?, &path);
        }
        _ => make(tar, member, &path)?,
    }
    set_metadata(member, &path)?;
    match member.kind {
        Kind::Directory => drop(directory_times.insert(path, member.time)),
        _ => set_time(&path, member.time)?,
    }
    Ok(())
}

/// Makes what a member is, where nothing is yet.
pub(super) fn make<R: io::Read>(
    tar: &mut Reader<R>,
    member: &Member,
    path: &Path,
) -> io::Result<()> {
    match member.kind {
        Kind::Directory => fs::create_dir(path),
        Kind::File => {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            tar.write_to(&file)
        }
        Kind::Symlink => std::os::unix::fs::symlink(OsStr::from_bytes(&member.link), path),
        Kind::Fifo => {
            let mode = Mode::RUSR | Mode::WUSR;
            Ok(rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0)?)
        }
        Kind::Link | Kind::CharDevice | Kind::BlockDevice => {
            Err(invalid("the layer has a device in it"))
        }
        Kind::Other(flag) => Err(invalid(&format!(
            "entries of type {:?} are not supported",
            char::from(flag)
        ))),
    }
}

/// Sets owner, mode and attributes as a member says.
pub(in crate::sandbox) fn set_metadata(member: &Member, path: &Path) -> io::Result<()> {
    let (user, group) = (member.uid, member.gid);
    let own = || {
        let id = |number: u64| u32::try_from(number).map_err(io::Error::other);
        let (uid, gid) = (Uid::from_raw(id(user)?), Gid::from_raw(id(group)?));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(CWD, path, Some(uid), Some(gid), flags)?)
    };
    own().map_err(|error| not_owned(error, user, group))?;
    if member.kind != Kind::Symlink {
        // After the owner: changing that clears set-user-id.
        fs::set_permissions(path, fs::Permissions::from_mode(member.mode))?;
    }
    for (name, value) in member.attributes.iter().filter(|(name, _)| is_kept(name)) {
        rustix::fs::lsetxattr(path, name.as_slice(), value, XattrFlags::empty()).map_err(
            |error| {
                let name = String::from_utf8_lossy(name);
                let error = io::Error::from(error);
                io::Error::new(error.kind(), format!("the attribute {name}: {error}"))
            },
        )?;
    }
    Ok(())
}

/// The place of an archive path below `target`.
fn resolve(target: &Path, inside: &Path) -> io::Result<PathBuf> {
    let mut path = target.to_owned();
    let mut parts = inside.components().peekable();
    while let Some(part) = parts.next() {
        match part {
            Component::CurDir => continue,
            Component::Normal(name) => path.push(name),
            _ => return Err(invalid("the path leads out of the layer")),
        }
        if parts.peek().is_some() {
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => {
                    return Err(invalid(
                        "the path goes through something that is no directory",
                    ));
                }
                // The opaque directory of another program may come after what is in it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&path)?,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(path)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}
