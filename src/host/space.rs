//! Room on this host: on its file systems and in its memory.

use std::io;
use std::path::Path;

use super::capacity::meminfo;

/// A file system with less room than this counts as full: programs fail a little before the last
/// block is taken, and what failed may have given some back.
const FULL: u64 = 16 << 20;

/// Bytes that this user may still write where `path` is. A path that does not exist counts as its
/// nearest parent.
///
/// # Errors
/// The file system cannot be asked.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let place = path.ancestors().find(|ancestor| ancestor.exists());
    let stat = rustix::fs::statvfs(place.unwrap_or(Path::new("/")))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Whether the file system of `path` is full, or so near to it that nothing of any size can be
/// written.
#[must_use]
pub fn is_full(path: &Path) -> bool {
    free_space(path).is_ok_and(|free| free < FULL)
}

/// Bytes of memory that this host has, with its swap; nothing where it does not say.
#[must_use]
pub fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    Some(meminfo(&text, "MemTotal:")? + meminfo(&text, "SwapTotal:").unwrap_or(0))
}
