//! Layers as tar archives, with the whiteouts of the OCI image specification.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/layer.md>. A file `.wh.NAME`
//! removes `NAME` of the layers below; a file `.wh..wh..opq` hides all that the layers below have
//! in its directory. On disk, in a directory that an overlay mount takes as a layer, the same is
//! said by a character device 0:0 and by the attribute `user.overlay.opaque`
//! (<https://docs.kernel.org/filesystems/overlayfs.html>). Where such a device cannot be made, as
//! on another overlay, an attribute says it (Linux 6.8 and later).
//!
//! A layer of vmfab is the tree that a step made, whatever is in it: unpacking and packing it again
//! gives the same bytes. Names that the specification reserves are names like others in a tree. A
//! pax record `VMFAB.note` says so of a member:
//!
//! | `VMFAB.note` | |
//! |---|---|
//! | `literal` | a file whose name begins with `.wh.` |
//! | `whiteout` | removes the file of this very name, which begins with `.wh.` |
//!
//! What a layer cannot hold is left out and said in the log of the step: device nodes, sockets, and
//! attributes that belong to a host.

mod apply;
mod pack;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, lsetxattr, mknodat,
    utimensat,
};

use super::confinement::Changes;
use crate::tarball::{Member, Time};

pub use apply::Form;
pub(super) use apply::apply;
pub(super) use pack::{attributes, is_opaque, pack};
pub(super) use unpack::{set_metadata, unpack};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Notes of members whose names are reserved.
const LITERAL: &[u8] = b"literal";
const WHITEOUT: &[u8] = b"whiteout";
const OPAQUE_ATTRIBUTE: &str = "user.overlay.opaque";
/// Of an empty file in a directory whose [`OPAQUE_ATTRIBUTE`] is `x`, in a layer whose own is: it
/// is a whiteout.
const WHITEOUT_ATTRIBUTE: &str = "user.overlay.whiteout";
/// Attributes of overlayfs are about the mount, not about the files.
const OVERLAY_ATTRIBUTES: &[u8] = b"user.overlay.";
/// Attributes that belong to files wherever they are. Labels of security modules belong to a host.
const PACKED_ATTRIBUTES: [&[u8]; 3] = [b"security.capability", b"system.posix_acl_", b"user."];

/// Whether an image keeps an extended attribute.
pub(super) fn is_kept(attribute: &[u8]) -> bool {
    let mut kept = PACKED_ATTRIBUTES.iter();
    kept.any(|prefix| attribute.starts_with(prefix)) && !attribute.starts_with(OVERLAY_ATTRIBUTES)
}

/// Attributes in an archive of others that an image does not keep.
#[derive(Debug, Default)]
pub struct AttributesLeftOut(BTreeMap<Vec<u8>, (String, u64)>);

impl AttributesLeftOut {
    /// Takes them from a member.
    pub fn take_from(&mut self, member: &mut Member) {
        let path = &member.path;
        let (kept, left): (Vec<_>, Vec<_>) = std::mem::take(&mut member.attributes)
            .into_iter()
            .partition(|(name, _)| is_kept(name));
        member.attributes = kept;
        for (name, _) in left {
            let first = || (String::from_utf8_lossy(path).into_owned(), 0);
            self.0.entry(name).or_insert_with(first).1 += 1;
        }
    }

    /// A line for each name, for the log of the step.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, (first, count))| {
            let name = String::from_utf8_lossy(name);
            let files = match count {
                1 => String::new(),
                2 => " and 1 more file".to_owned(),
                more => format!(" and {} more files", more - 1),
            };
            format!("left out of the layer: attribute {name} of {first}{files}")
        })
    }
}

/// Notes in the layer at `root` that it removes the file `path` of the layers below.
pub(super) fn whiteout(root: &Path, path: &Path, changes: Changes) -> io::Result<()> {
    match changes {
        Changes::OnDisk => mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0)?,
        Changes::InMemory => {
            let directory = path.parent().unwrap_or(root);
            for place in [directory, root] {
                // It hides all that the layers below have there, and cannot say both.
                if is_opaque(place)? {
                    return Ok(());
                }
                lsetxattr(place, OPAQUE_ATTRIBUTE, b"x", XattrFlags::empty())?;
            }
            std::fs::File::create_new(path)?;
            lsetxattr(path, WHITEOUT_ATTRIBUTE, b"y", XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Whether a file of an unpacked layer removes one of the layers below.
pub(super) fn is_whiteout(path: &Path, meta: &Metadata) -> bool {
    let on_disk = meta.file_type().is_char_device() && meta.rdev() == 0;
    let marked = || lgetxattr(path, WHITEOUT_ATTRIBUTE, &mut [0; 1][..]).is_ok();
    on_disk || meta.is_file() && meta.len() == 0 && marked()
}

/// Sets the time of a file.
pub(super) fn set_time(path: &Path, time: Time) -> io::Result<()> {
    let time = Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into)
}

/// A line for the log of the step: something is not in the layer.
pub(super) fn say_left_out(what: &str, path: &[u8]) {
    let path = String::from_utf8_lossy(path);
    let _ = writeln!(io::stderr(), "left out of the layer: {what} {path}");
}
