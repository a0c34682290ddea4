//! An upper directory to a tar: sorted by path, times clamped, no names of users.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::{OPAQUE, OPAQUE_ATTRIBUTE, PAX_ATTRIBUTE, WHITEOUT_PREFIX, is_kept, set_time};

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
        tar: Builder::new(BufWriter::with_capacity(1 << 20, file)),
        links: HashMap::new(),
        started,
        epoch,
    };
    packer.tar.mode(tar::HeaderMode::Complete);
    packer.directory(upper, Path::new(""))?;
    packer.tar.into_inner()?.flush()
}

struct Packer {
    tar: Builder<BufWriter<File>>,
    /// First path of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
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
        set_time(directory, self.time(&meta))
    }

    fn entry(&mut self, path: &Path, inside: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        let kind = meta.file_type();
        if kind.is_char_device() && meta.rdev() == 0 {
            return self.whiteout(inside);
        }
        if kind.is_char_device() || kind.is_block_device() || kind.is_socket() {
            // Gone on disk too: the directory serves as the unpacked layer.
            return fs::remove_file(path);
        }
        if meta.nlink() > 1 && !kind.is_dir() {
            if let Some(first) = self.links.get(&(meta.dev(), meta.ino())) {
                let mut header = self.header(&meta, EntryType::Link);
                header.set_size(0);
                return self.tar.append_link(&mut header, inside, first.clone());
            }
            self.links
                .insert((meta.dev(), meta.ino()), inside.to_owned());
        }
        self.attributes(path)?;
        if kind.is_dir() {
            let mut header = self.header(&meta, EntryType::Directory);
            self.tar.append_data(&mut header, inside, io::empty())?;
            if is_opaque(path)? {
                self.marker(&inside.join(OPAQUE))?;
            }
            return self.directory(path, inside);
        }
        if kind.is_symlink() {
            let mut header = self.header(&meta, EntryType::Symlink);
            self.tar
                .append_link(&mut header, inside, fs::read_link(path)?)?;
        } else if kind.is_fifo() {
            let mut header = self.header(&meta, EntryType::Fifo);
            self.tar.append_data(&mut header, inside, io::empty())?;
        } else {
            let mut header = self.header(&meta, EntryType::Regular);
            header.set_size(meta.len());
            self.tar
                .append_data(&mut header, inside, File::open(path)?)?;
        }
        set_time(path, self.time(&meta))
    }

    fn header(&self, meta: &Metadata, kind: EntryType) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(meta.mode() & 0o7777);
        header.set_uid(u64::from(meta.uid()));
        header.set_gid(u64::from(meta.gid()));
        header.set_mtime(self.time(meta).cast_unsigned());
        header.set_size(0);
        header
    }

    /// A tar knows no time before 1970.
    fn time(&self, meta: &Metadata) -> i64 {
        let time = if meta.mtime() >= self.started {
            self.epoch
        } else {
            meta.mtime()
        };
        time.max(0)
    }

    /// Writes the extended attributes of the next entry.
    fn attributes(&mut self, path: &Path) -> io::Result<()> {
        let mut attributes = Vec::new();
        for name in attribute_names(path)? {
            if !is_kept(&name) {
                continue;
            }
            attributes.push((format!("{PAX_ATTRIBUTE}{name}"), attribute(path, &name)?));
        }
        attributes.sort();
        let pairs: Vec<(&str, &[u8])> = attributes
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        if pairs.is_empty() {
            Ok(())
        } else {
            self.tar.append_pax_extensions(pairs)
        }
    }

    fn whiteout(&mut self, inside: &Path) -> io::Result<()> {
        let mut name = OsString::from(WHITEOUT_PREFIX);
        name.push(inside.file_name().unwrap_or(OsStr::new("")));
        self.marker(&inside.with_file_name(name))
    }

    /// An empty file whose name says something.
    fn marker(&mut self, inside: &Path) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0);
        header.set_mtime(self.epoch.max(0).cast_unsigned());
        header.set_size(0);
        self.tar.append_data(&mut header, inside, io::empty())
    }
}

pub(super) fn is_opaque(path: &Path) -> io::Result<bool> {
    Ok(attribute_names(path)?
        .iter()
        .any(|name| name == OPAQUE_ATTRIBUTE)
        && attribute(path, OPAQUE_ATTRIBUTE)? == b"y")
}

fn attribute_names(path: &Path) -> io::Result<Vec<String>> {
    // The kernel's limit for a list of names.
    let mut buffer = vec![0_u8; 65_536];
    let length = match rustix::fs::llistxattr(path, buffer.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let names = buffer[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    Ok(names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect())
}

fn attribute(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let length = rustix::fs::lgetxattr(path, name, buffer.as_mut_slice())?;
    buffer.truncate(length);
    Ok(buffer)
}
