//! An upper directory to a tar: sorted by path, times clamped, no names of users.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{
    LITERAL, OPAQUE, OPAQUE_ATTRIBUTE, OVERLAY_ATTRIBUTES, WHITEOUT, WHITEOUT_PREFIX, is_kept,
    say_left_out, set_time,
};
use crate::tarball::{Kind, Member, StoredFile, Time, Writer, data_of};

/// Packs `upper` into `archive`. A file time at or after `started` becomes `epoch` (all in seconds
/// since 1970), in the archive and on disk, so that `upper` can serve as the unpacked layer. Times
/// from before are those of packages and stay.
///
/// Left out: device nodes and sockets, which an image has no use for (devtmpfs makes the nodes).
pub(in crate::sandbox) fn pack(
    upper: &Path,
    archive: &Path,
    started: i64,
    epoch: i64,
) -> io::Result<()> {
    let file = File::options().write(true).truncate(true).open(archive)?;
    let mut packer = Packer {
        tar: Writer::new(BufWriter::with_capacity(1 << 20, file)),
        links: HashMap::new(),
        started,
        epoch,
    };
    packer.directory(upper, Path::new(""))?;
    packer.tar.finish()?.flush()
}

struct Packer {
    tar: Writer<BufWriter<File>>,
    /// First path of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    started: i64,
    epoch: i64,
}

impl Packer {
    /// Adds what is in `directory`, which is `inside` the archive.
    fn directory(&mut self, directory: &Path, inside: &Path) -> io::Result<()> {
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name());
        }
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            self.entry(&directory.join(&name), &inside.join(&name))
                .map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("{}: {error}", inside.join(&name).display()),
                    )
                })?;
        }
        // Last: reading and writing below must not change it again.
        let meta = fs::symlink_metadata(directory)?;
        self.set_time(directory, &meta)
    }

    /// Sets the time of a file to that in the archive, where it is another one.
    fn set_time(&self, path: &Path, meta: &Metadata) -> io::Result<()> {
        match meta.mtime() >= self.started {
            true => set_time(path, self.time(meta)),
            false => Ok(()),
        }
    }

    fn entry(&mut self, path: &Path, inside: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        let kind = meta.file_type();
        if kind.is_char_device() && meta.rdev() == 0 {
            return self.whiteout(inside);
        }
        if kind.is_char_device() || kind.is_block_device() || kind.is_socket() {
            let what = if kind.is_socket() {
                "the socket"
            } else {
                "the device"
            };
            say_left_out(what, inside.as_os_str().as_bytes());
            // Gone on disk too: the directory serves as the unpacked layer.
            return fs::remove_file(path);
        }
        let mut member = self.member(&meta, inside);
        if meta.nlink() > 1 && !kind.is_dir() {
            let first = self.links.entry((meta.dev(), meta.ino()));
            let first = first.or_insert_with(|| member.path.clone());
            if *first != member.path {
                member.kind = Kind::Link;
                member.link.clone_from(first);
                return self.tar.add(&member);
            }
        }
        member.attributes = attributes(path, &member.path)?;
        if kind.is_dir() {
            member.kind = Kind::Directory;
            self.tar.add(&member)?;
            if is_opaque(path)? {
                self.marker(inside.join(OsStr::from_bytes(OPAQUE)), b"")?;
            }
            return self.directory(path, inside);
        }
        if kind.is_symlink() {
            member.kind = Kind::Symlink;
            member.link = fs::read_link(path)?.into_os_string().into_vec();
            self.tar.add(&member)?;
        } else if kind.is_fifo() {
            member.kind = Kind::Fifo;
            self.tar.add(&member)?;
        } else {
            let file = File::open(path)?;
            member.size = meta.len();
            member.data = data_of(&file, member.size)?;
            self.tar
                .add_file(&member, &mut StoredFile::new(&file, &member))?;
        }
        self.set_time(path, &meta)
    }

    fn member(&self, meta: &Metadata, inside: &Path) -> Member {
        Member {
            path: inside.as_os_str().as_bytes().to_vec(),
            mode: meta.mode() & 0o7777,
            uid: u64::from(meta.uid()),
            gid: u64::from(meta.gid()),
            time: self.time(meta),
            note: match is_reserved(inside) {
                true => LITERAL.to_vec(),
                false => Vec::new(),
            },
            ..Member::default()
        }
    }

    fn time(&self, meta: &Metadata) -> Time {
        if meta.mtime() >= self.started {
            return Time {
                seconds: self.epoch,
                nanoseconds: 0,
            };
        }
        Time {
            seconds: meta.mtime(),
            nanoseconds: u32::try_from(meta.mtime_nsec()).unwrap_or(0),
        }
    }

    fn whiteout(&mut self, inside: &Path) -> io::Result<()> {
        if is_reserved(inside) {
            return self.marker(inside.to_owned(), WHITEOUT);
        }
        let mut name = OsString::from_vec(WHITEOUT_PREFIX.to_vec());
        name.push(inside.file_name().unwrap_or_default());
        self.marker(inside.with_file_name(name), b"")
    }

    /// An empty file whose name says something.
    fn marker(&mut self, inside: PathBuf, note: &[u8]) -> io::Result<()> {
        self.tar.add(&Member {
            path: inside.into_os_string().into_vec(),
            time: Time {
                seconds: self.epoch,
                nanoseconds: 0,
            },
            note: note.to_vec(),
            ..Member::default()
        })
    }
}

/// Whether a name begins as those of whiteouts do.
fn is_reserved(inside: &Path) -> bool {
    let name = inside.file_name().unwrap_or_default();
    name.as_bytes().starts_with(WHITEOUT_PREFIX)
}

pub(in crate::sandbox) fn is_opaque(path: &Path) -> io::Result<bool> {
    let names = attribute_names(path)?;
    let has = names.iter().any(|name| name == OPAQUE_ATTRIBUTE.as_bytes());
    Ok(has && attribute(path, OPAQUE_ATTRIBUTE.as_bytes())? == b"y")
}

/// The extended attributes that are packed, sorted.
pub(in crate::sandbox) fn attributes(
    path: &Path,
    inside: &[u8],
) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut attributes = Vec::new();
    for name in attribute_names(path)? {
        if is_kept(&name) {
            let value = attribute(path, &name)?;
            attributes.push((name, value));
        } else if !name.starts_with(OVERLAY_ATTRIBUTES) && !name.starts_with(b"security.") {
            let name = String::from_utf8_lossy(&name);
            say_left_out(&format!("the attribute {name} of"), inside);
        }
    }
    attributes.sort();
    Ok(attributes)
}

fn attribute_names(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    use rustix::fs::llistxattr;
    use rustix::io::Errno;
    // Most files have none, or few.
    let mut buffer = vec![0_u8; 256];
    let length = match llistxattr(path, buffer.as_mut_slice()) {
        Err(Errno::RANGE) => {
            // The kernel's limit for a list of names.
            buffer.resize(65_536, 0);
            llistxattr(path, buffer.as_mut_slice())
        }
        result => result,
    };
    let length = match length {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let names = buffer[..length].split(|&byte| byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

fn attribute(path: &Path, name: &[u8]) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let length = rustix::fs::lgetxattr(path, name, buffer.as_mut_slice())?;
    buffer.truncate(length);
    Ok(buffer)
}
