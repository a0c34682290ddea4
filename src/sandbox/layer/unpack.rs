//! A tar to a directory that an overlay mount takes as a layer.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, XattrFlags};
use tar::EntryType;

use super::super::ids::not_owned;
use super::{
    OPAQUE, OPAQUE_ATTRIBUTE, PAX_ATTRIBUTE, WHITEOUT_PREFIX, is_kept, set_time, whiteout,
};
use crate::sandbox::confinement::Changes;

/// Unpacks `archive` into the new directory `target`. Entries must stay inside: no absolute paths,
/// no `..`, and no path that goes through a link of the archive.
pub(in crate::sandbox) fn unpack(
    archive: &Path,
    target: &Path,
    changes: Changes,
) -> io::Result<()> {
    fs::create_dir(target)?;
    unpack_into(archive, target, changes)
}

/// As [`unpack`], into an empty directory.
pub(in crate::sandbox) fn unpack_into(
    archive: &Path,
    target: &Path,
    changes: Changes,
) -> io::Result<()> {
    fs::set_permissions(target, fs::Permissions::from_mode(0o755))?;
    let mut tar = tar::Archive::new(BufReader::with_capacity(1 << 20, File::open(archive)?));
    let mut directory_times = HashMap::new();
    for entry in tar.entries()? {
        let mut entry = entry?;
        let inside = entry.path()?.into_owned();
        one(&mut entry, &inside, target, changes, &mut directory_times).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", inside.display()))
        })?;
    }
    for (path, seconds) in directory_times {
        set_time(&path, seconds)?;
    }
    Ok(())
}

fn one<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    inside: &Path,
    target: &Path,
    changes: Changes,
    directory_times: &mut HashMap<PathBuf, i64>,
) -> io::Result<()> {
    let path = resolve(target, inside)?;
    if path == target {
        return Ok(());
    }
    let name = inside
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if name == OPAQUE {
        let directory = path.parent().unwrap_or(target);
        return Ok(rustix::fs::lsetxattr(
            directory,
            OPAQUE_ATTRIBUTE,
            b"y",
            XattrFlags::empty(),
        )?);
    }
    if let Some(removed) = name.strip_prefix(WHITEOUT_PREFIX) {
        return whiteout(target, &path.with_file_name(removed), changes);
    }
    let kind = entry.header().entry_type();
    let attributes = attributes(entry)?;
    // What is there is replaced, and never followed.
    if fs::symlink_metadata(&path).is_ok_and(|meta| !meta.is_dir()) {
        fs::remove_file(&path)?;
    }
    match kind {
        EntryType::Directory => match fs::create_dir(&path) {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && fs::symlink_metadata(&path)?.is_dir() => {}
            result => result?,
        },
        // The owner, mode and time are those of the file that it links to.
        EntryType::Link => return fs::hard_link(resolve(target, &link_target(entry)?)?, &path),
        // The guest's devtmpfs makes device nodes.
        EntryType::Char | EntryType::Block => return Ok(()),
        _ => make(entry, kind, &path)?,
    }
    let seconds = set_metadata(entry.header(), kind, &path, attributes)?;
    if kind == EntryType::Directory {
        directory_times.insert(path, seconds);
        Ok(())
    } else {
        set_time(&path, seconds)
    }
}

/// Makes what an entry is, where nothing is yet.
pub(super) fn make<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    kind: EntryType,
    path: &Path,
) -> io::Result<()> {
    match kind {
        EntryType::Directory => fs::create_dir(path),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            io::copy(entry, &mut file).map(drop)
        }
        EntryType::Symlink => std::os::unix::fs::symlink(link_target(entry)?, path),
        EntryType::Fifo => Ok(rustix::fs::mknodat(
            CWD,
            path,
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )?),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "entries of type {:?} are not supported",
                char::from(other.as_byte())
            ),
        )),
    }
}

/// Sets owner, mode and attributes as an entry says; gives the time that it says.
pub(super) fn set_metadata(
    header: &tar::Header,
    kind: EntryType,
    path: &Path,
    attributes: Vec<(String, Vec<u8>)>,
) -> io::Result<i64> {
    let (user, group) = (header.uid()?, header.gid()?);
    let own = || {
        let id = |number: u64| u32::try_from(number).map_err(io::Error::other);
        let (uid, gid) = (Uid::from_raw(id(user)?), Gid::from_raw(id(group)?));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(CWD, path, Some(uid), Some(gid), flags)?)
    };
    own().map_err(|error| not_owned(error, user, group))?;
    if kind != EntryType::Symlink {
        // After the owner: changing that clears set-user-id.
        let mode = header.mode()? & 0o7777;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    for (name, value) in attributes {
        rustix::fs::lsetxattr(path, name.as_str(), &value, XattrFlags::empty())?;
    }
    Ok(header.mtime()?.cast_signed())
}

/// The place of an archive path below `target`.
fn resolve(target: &Path, inside: &Path) -> io::Result<PathBuf> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
    let mut path = target.to_owned();
    let mut parts = inside.components().peekable();
    while let Some(part) = parts.next() {
        match part {
            Component::CurDir => continue,
            Component::Normal(name) => path.push(name),
            _ => return refuse("the path leads out of the layer"),
        }
        if parts.peek().is_some() {
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => return refuse("the path goes through something that is no directory"),
                // Layers of other builders may leave out directories that exist below.
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&path)?,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(path)
}

pub(super) fn link_target<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<PathBuf> {
    let target = entry.link_name()?;
    target
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a link without a target"))
}

pub(super) fn attributes<R: Read>(
    entry: &mut tar::Entry<'_, R>,
) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let key = extension.key().map_err(io::Error::other)?;
            if key.starts_with("GNU.sparse.") {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "sparse files in pax form are not supported; make the tar without --sparse",
                ));
            }
            if let Some(name) = key.strip_prefix(PAX_ATTRIBUTE)
                && is_kept(name)
            {
                found.push((name.to_owned(), extension.value_bytes().to_owned()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::pack;
    use super::*;

    /// What an archive holds, a line for each entry.
    fn list(archive: &Path) -> String {
        let mut tar = tar::Archive::new(File::open(archive).unwrap());
        let mut lines = String::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let attributes = attributes(&mut entry).unwrap();
            let header = entry.header();
            let kind = header.entry_type();
            let line = format!(
                "{:?} {} {:o} {} {:?} {attributes:?}\n",
                kind,
                entry.path().unwrap().display(),
                header.mode().unwrap(),
                header.mtime().unwrap(),
                entry.link_name().unwrap(),
            );
            lines.push_str(&line);
        }
        lines
    }

    #[test]
    fn packing_what_was_unpacked_gives_the_same_bytes() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let upper = at("upper");
        fs::create_dir_all(upper.join("b/sub")).unwrap();
        fs::create_dir_all(upper.join("a")).unwrap();
        fs::write(upper.join("b/file"), "content").unwrap();
        fs::set_permissions(upper.join("b/file"), fs::Permissions::from_mode(0o4755)).unwrap();
        set_time(&upper.join("b/file"), 1_000_000).unwrap();
        fs::hard_link(upper.join("b/file"), upper.join("a/other")).unwrap();
        fs::write(upper.join("b/sub").join("n".repeat(180)), "long name").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", upper.join("a/link")).unwrap();
        rustix::fs::lsetxattr(upper.join("a"), OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
            .unwrap();
        rustix::fs::lsetxattr(upper.join("b"), "user.note", b"kept", XattrFlags::empty()).unwrap();
        rustix::fs::mknodat(
            CWD,
            upper.join("gone"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
        .unwrap();

        File::create(at("one.tar")).unwrap();
        pack(&upper, &at("one.tar"), 1_500_000_000, 42).unwrap();
        insta::assert_snapshot!(list(&at("one.tar")).replace(&"n".repeat(180), "nnn"), @r#"
        Directory a 755 42 None []
        Regular a/.wh..wh..opq 0 42 None []
        Symlink a/link 777 42 Some("/etc/passwd") []
        Regular a/other 4755 1000000 None []
        Directory b 755 42 None [("user.note", [107, 101, 112, 116])]
        Link b/file 4755 1000000 Some("a/other") []
        Directory b/sub 755 42 None []
        Regular b/sub/nnn 644 42 None []
        Regular .wh.gone 0 42 None []
        "#);
        unpack(&at("one.tar"), &at("unpacked"), Changes::OnDisk).unwrap();
        File::create(at("two.tar")).unwrap();
        pack(&at("unpacked"), &at("two.tar"), 1_500_000_000, 7).unwrap();
        // Only the markers' own time is another: they have none on disk.
        assert_eq!(
            list(&at("one.tar")),
            list(&at("two.tar")).replace(" 0 7 ", " 0 42 ")
        );
    }

    #[test]
    fn entries_that_lead_out_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let archive = scratch.path().join("bad.tar");
        type Attempt = dyn Fn(&mut tar::Builder<File>);
        let attempts: [&Attempt; 4] = [
            &|tar| raw(tar, b"../evil", EntryType::Regular, b""),
            &|tar| raw(tar, b"/evil", EntryType::Regular, b""),
            // A directory in place of a link is made anew, with nothing of what the link led to.
            &|tar| {
                raw(tar, b"way", EntryType::Symlink, b"/tmp");
                raw(tar, b"way", EntryType::Directory, b"");
                raw(tar, b"way/../../evil", EntryType::Regular, b"");
            },
            &|tar| {
                raw(tar, b"door", EntryType::Symlink, b"/tmp");
                raw(tar, b"door/evil", EntryType::Regular, b"");
            },
        ];
        for (index, attempt) in attempts.iter().enumerate() {
            let mut tar = tar::Builder::new(File::create(&archive).unwrap());
            attempt(&mut tar);
            tar.into_inner().unwrap();
            let target = scratch.path().join(index.to_string());
            let error = unpack(&archive, &target, Changes::OnDisk).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
    }

    /// Adds an entry with a path that the library would refuse to write.
    fn raw(tar: &mut tar::Builder<File>, path: &[u8], kind: EntryType, link: &[u8]) {
        let mut header = tar::Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..path.len()].copy_from_slice(path);
        gnu.linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.set_cksum();
        tar.append(&header, io::empty()).unwrap();
    }
}
