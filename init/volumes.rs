//! Volumes and directories of the host, which the process finds where vmfab says.

use crate::sys::sys;
use crate::table::{self, Mount};
use crate::{say, setup, wait};

const HERE: isize = -100;
/// The longest path, with a NUL.
const LONGEST: usize = 512;
/// How often a device is looked for, every tenth of a second: it may come a moment later.
const TRIES: u32 = 100;

/// Mounts them; whether all are there. A new volume gets the owner and the mode of the directory
/// that it is mounted on, and begins empty.
pub fn mount() -> bool {
    let room = setup::room();
    let length = setup::told(b"io.systemd.credential.binary:vmfab.mounts=", room);
    let mut all = true;
    for mount in table::mounts(&room[..length.unwrap_or(0)]) {
        if !one(&mount) {
            say(&[b"unhealthy: cannot mount ", mount.what, b" at ", mount.at]);
            all = false;
        }
    }
    all
}

fn one(mount: &Mount<'_>) -> bool {
    let (Some(at), Some(kind)) = (text(&[mount.at]), text(&[mount.kind])) else {
        return false;
    };
    directories(&at);
    let before = owner(&at);
    for _ in 0..TRIES {
        let source = match table::uuid(mount.what) {
            Some(uuid) => device(uuid),
            None => text(&[mount.what]),
        };
        if let (Some(source), Some(options)) = (source, text(&[mount.options])) {
            let flags = usize::from(mount.read_only);
            let (from, to, kind) = (source.as_ptr(), at.as_ptr(), kind.as_ptr());
            if sys!(MOUNT, from, to, kind, flags, options.as_ptr()) == 0 {
                begin(mount, before);
                if mount.kind == b"ext4" && !mount.read_only {
                    grow(&source, &at);
                }
                return true;
            }
        }
        wait(&[], 100);
    }
    false
}

/// What a new file system has is this directory, and nothing else.
fn begin(mount: &Mount<'_>, (uid, gid, mode): (u32, u32, u32)) {
    let (Some(at), Some(lost)) = (text(&[mount.at]), text(&[mount.at, b"/lost+found"])) else {
        return;
    };
    const DIRECTORY: usize = 0x200;
    if sys!(UNLINKAT, HERE, lost.as_ptr(), DIRECTORY) == 0 {
        sys!(FCHOWNAT, HERE, at.as_ptr(), uid, gid, 0);
        sys!(FCHMODAT, HERE, at.as_ptr(), mode & 0o7777);
    }
}

/// Lets a file system fill its disk, which may have become larger. Source: `linux/fs.h` for the size
/// of a disk, "The Super Block" of the kernel's documentation of ext4, `ext4.h` for the request.
fn grow(disk: &[u8; LONGEST], at: &[u8; LONGEST]) {
    const SIZE_OF_DISK: usize = 0x8008_1272;
    const RESIZE: usize = 0x4008_6610;
    const LOG_BLOCK_SIZE: usize = 1024 + 0x18;
    let disk = sys!(OPENAT, HERE, disk.as_ptr(), 0o2000000, 0);
    let root = sys!(OPENAT, HERE, at.as_ptr(), 0o2000000, 0);
    let (mut size, mut log) = (0u64, 0u32);
    let known = sys!(IOCTL, disk, SIZE_OF_DISK, &raw mut size) == 0
        && sys!(PREAD64, disk, &raw mut log, 4, LOG_BLOCK_SIZE) == 4;
    if known && log <= 6 {
        let blocks = size >> (10 + log);
        sys!(IOCTL, root, RESIZE, &raw const blocks);
    }
    sys!(CLOSE, disk);
    sys!(CLOSE, root);
}

/// A text with a NUL behind it.
fn text(parts: &[&[u8]]) -> Option<[u8; LONGEST]> {
    let mut text = [0; LONGEST];
    let mut length = 0;
    for &byte in parts.iter().copied().flatten() {
        *text[..LONGEST - 1].get_mut(length)? = byte;
        length += 1;
    }
    Some(text)
}

/// Makes a directory, and those above it.
fn directories(path: &[u8; LONGEST]) {
    for at in 1..LONGEST {
        if path[at] == b'/' || path[at] == 0 {
            let mut above = *path;
            above[at] = 0;
            sys!(MKDIRAT, HERE, above.as_ptr(), 0o755);
            if path[at] == 0 {
                return;
            }
        }
    }
}

/// Owner, group and mode of a file. Source: `linux/stat.h`, `struct statx`.
fn owner(path: &[u8; LONGEST]) -> (u32, u32, u32) {
    const MODE_UID_GID: usize = 0x1a;
    let mut found = [0u32; 64];
    sys!(STATX, HERE, path.as_ptr(), 0, MODE_UID_GID, &raw mut found);
    (found[5], found[6], found[7] & 0xffff)
}

/// The disk with this ext4 file system. Source: "The Super Block" of the kernel's documentation of
/// ext4.
fn device(uuid: [u8; 16]) -> Option<[u8; LONGEST]> {
    const PLACE: usize = 1024 + 0x68;
    // By virtio; SCSI, SATA or IDE; NVMe.
    let kinds: [(&[u8], u8, &[u8]); 3] = [
        (b"/dev/vd", b'a', b""),
        (b"/dev/sd", b'a', b""),
        (b"/dev/nvme", b'0', b"n1"),
    ];
    let mut disks = kinds.into_iter().flat_map(|(before, first, behind)| {
        let ends = first..first + if first == b'0' { 10 } else { 26 };
        ends.filter_map(move |end| text(&[before, &[end], behind]))
    });
    disks.find_map(|path| {
        let file = sys!(OPENAT, HERE, path.as_ptr(), 0o2000000, 0);
        if file < 0 {
            return None;
        }
        let mut found = [0u8; 16];
        sys!(PREAD64, file, &raw mut found, found.len(), PLACE);
        sys!(CLOSE, file);
        (found == uuid).then_some(path)
    })
}
