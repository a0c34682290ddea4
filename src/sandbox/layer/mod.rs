//! Layers as tar archives, with the whiteouts of the OCI image specification.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/layer.md>. A file `.wh.NAME`
//! removes `NAME` of the layers below; a file `.wh..wh..opq` hides all that the layers below have in
//! its directory. On disk, in a directory that an overlay mount takes as a layer, the same is said
//! by a character device 0:0 and by the attribute `user.overlay.opaque`
//! (<https://docs.kernel.org/filesystems/overlayfs.html>). Where such a device cannot be made, as on another
//! overlay, an attribute says it (Linux 6.8 and later).

mod apply;
mod pack;
mod unpack;

use std::io;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat,
};

use super::confinement::Changes;
pub(super) use apply::apply;
pub(super) use pack::pack;
pub(super) use unpack::{unpack, unpack_into};

const WHITEOUT_PREFIX: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
const OPAQUE_ATTRIBUTE: &str = "user.overlay.opaque";
/// Of an empty file in a directory whose [`OPAQUE_ATTRIBUTE`] is `x`, in a layer whose own is: it is a whiteout.
const WHITEOUT_ATTRIBUTE: &str = "user.overlay.whiteout";
/// Attributes of overlayfs are about the mount, not about the files.
const OVERLAY_ATTRIBUTES: &str = "user.overlay.";
/// Attributes that belong to files wherever they are. Labels of security modules belong to a host.
const PACKED_ATTRIBUTES: [&str; 3] = ["security.capability", "system.posix_acl_", "user."];
/// Prefix of extended attributes in pax headers, as GNU tar, libarchive and Docker write them.
const PAX_ATTRIBUTE: &str = "SCHILY.xattr.";

/// Whether an extended attribute is kept.
pub(super) fn is_kept(attribute: &str) -> bool {
    let mut kept = PACKED_ATTRIBUTES.iter();
    kept.any(|prefix| attribute.starts_with(prefix)) && !attribute.starts_with(OVERLAY_ATTRIBUTES)
}

/// Notes in the layer at `root` that it removes the file `path` of the layers below.
pub(super) fn whiteout(root: &Path, path: &Path, changes: Changes) -> io::Result<()> {
    match changes {
        Changes::OnDisk => mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0)?,
        Changes::InMemory => {
            let directory = path.parent().unwrap_or(root);
            for place in [directory, root] {
                // It hides all that the layers below have there, and cannot say both.
                if pack::is_opaque(place)? {
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

/// Sets the time of a file to whole seconds: what a tar holds.
fn set_time(path: &Path, seconds: i64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into)
}
