//! Headers of Parallels' disks (QEMU's `docs/interop/parallels.rst`). Numbers are little-endian.

use super::{ForeignError, Parts, array, malformed, part};
use crate::disk::ReadAt;
use crate::image::DiskFormat;

const FORMAT: DiskFormat = DiskFormat::Parallels;
const LENGTH: usize = 64;
const SECTOR: u64 = 512;

/// The size of the disk in a file that is whole.
pub(super) fn check(file: &dyn ReadAt) -> Result<u64, ForeignError> {
    let head = part(FORMAT, file, 0, LENGTH)?;
    let number = |at| u64::from(u32::from_le_bytes(array(&head, at)));
    let block = number(28) * SECTOR;
    // The old mark counts places in sectors, and sizes in 32 bits.
    let (unit, sectors) = match &head[..16] {
        b"WithoutFreeSpace" => (SECTOR, number(36)),
        b"WithouFreSpacExt" => (block, u64::from_le_bytes(array(&head, 36))),
        _ => return Err(malformed(FORMAT, "it does not begin as one")),
    };
    let (count, size) = (number(32), sectors.saturating_mul(SECTOR));
    if block == 0 || count.saturating_mul(block) < size {
        return Err(malformed(FORMAT, "its blocks are fewer than the disk has"));
    }
    let mut parts = Parts::new(FORMAT, file)?;
    let table = parts.table(LENGTH as u64, count * 4)?;
    for (index, entry) in (0_u64..).zip(table.chunks_exact(4)) {
        let entry = u64::from(u32::from_le_bytes(array(entry, 0)));
        if entry != 0 {
            let used = size.saturating_sub(index.saturating_mul(block));
            parts.data(entry.saturating_mul(unit), used.min(block))?;
        }
    }
    Ok(size)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An empty disk of 1 MiB.
    pub(crate) fn header() -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, b"WithouFreSpacExt");
        put(16, &2_u32.to_le_bytes());
        put(28, &2048_u32.to_le_bytes());
        put(32, &1_u32.to_le_bytes());
        put(36, &2048_u64.to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        assert_eq!(check(&header().as_slice()).unwrap(), 1 << 20);
        let changed = |at: usize, value: u8| {
            let mut bytes = header();
            bytes[at] = value;
            check(&bytes.as_slice()).unwrap_err().to_string()
        };
        insta::assert_snapshot!(changed(64, 1), @"it is not a readable parallels: it ends after 4096 bytes, before what its tables name");
        insta::assert_snapshot!(changed(35, 1), @"it is not a readable parallels: it ends after 4096 bytes, before what its tables name");
        insta::assert_snapshot!(changed(32, 0), @"it is not a readable parallels: its blocks are fewer than the disk has");
    }
}
