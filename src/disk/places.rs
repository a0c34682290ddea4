//! Where on a disk there may be ext4 file systems: on all of it, or on its partitions. Pure.
//!
//! Sources: UEFI specification, chapter 5 (MBR and GPT); the kernel's
//! `Documentation/filesystems/ext4` (superblock).

use std::io;

use super::ReadAt;

const SECTOR: u64 = 512;
/// The most partitions that are looked at. Usual are 128.
const MOST: u32 = 1024;
const PROTECTIVE: u8 = 0xEE;

/// The offsets in bytes at which something begins that looks like an ext2, ext3 or ext4 file
/// system. Logical partitions of an MBR are not looked at.
///
/// # Errors
/// The disk cannot be read.
pub fn ext4_places(disk: &dyn ReadAt) -> io::Result<Vec<u64>> {
    let size = disk.size()?;
    let mut starts = vec![0];
    if size >= 2 * SECTOR {
        starts.extend(partitions(disk, size)?);
    }
    let mut found = Vec::new();
    for start in starts {
        // The superblock is at 1024, its mark at 56 in it.
        let mark = start.saturating_add(1024 + 56);
        if mark.saturating_add(2) <= size && disk.bytes_at(mark, 2)? == [0x53, 0xEF] {
            found.push(start);
        }
    }
    Ok(found)
}

fn partitions(disk: &dyn ReadAt, size: u64) -> io::Result<Vec<u64>> {
    let boot = disk.bytes_at(0, SECTOR as usize)?;
    if !boot.ends_with(&[0x55, 0xAA]) {
        return Ok(Vec::new());
    }
    let number = |bytes: &[u8], at: usize| -> u64 {
        let bytes = bytes.get(at..at + 4).unwrap_or(&[]);
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let entries: Vec<&[u8]> = boot[446..510].chunks_exact(16).collect();
    if entries.iter().all(|entry| entry[4] != PROTECTIVE) {
        let used = entries.iter().filter(|entry| entry[4] != 0);
        return Ok(used.map(|entry| number(entry, 8) * SECTOR).collect());
    }
    let header = disk.bytes_at(SECTOR, SECTOR as usize)?;
    if !header.starts_with(b"EFI PART") {
        return Ok(Vec::new());
    }
    let long = |bytes: &[u8], at: usize| number(bytes, at + 4) << 32 | number(bytes, at);
    let (table, length) = (
        long(&header, 72).saturating_mul(SECTOR),
        number(&header, 84),
    );
    let count = number(&header, 80).min(u64::from(MOST));
    let mut starts = Vec::new();
    for index in 0..count {
        let at = table.saturating_add(index * length);
        if length < 48 || at.saturating_add(48) > size {
            break;
        }
        let entry = disk.bytes_at(at, 48)?;
        if entry[..16] != [0; 16] {
            starts.push(long(&entry, 32).saturating_mul(SECTOR));
        }
    }
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_marks(size: usize, starts: &[usize]) -> Vec<u8> {
        let mut disk = vec![0; size];
        for start in starts {
            disk[start + 1080..start + 1082].copy_from_slice(&[0x53, 0xEF]);
        }
        disk
    }

    #[test]
    fn the_whole_disk_and_partitions() {
        let find = |disk: &[u8]| ext4_places(&disk).unwrap();
        assert_eq!(find(&with_marks(4096, &[0])), [0]);
        assert_eq!(find(&[]), [0; 0]);
        let mut mbr = with_marks(1 << 20, &[0x8000]);
        mbr[510..512].copy_from_slice(&[0x55, 0xAA]);
        for (entry, (kind, sector)) in [(0x0c, 0x10), (0x83, 0x40)].into_iter().enumerate() {
            mbr[446 + 16 * entry + 4] = kind;
            mbr[446 + 16 * entry + 8] = sector;
        }
        assert_eq!(find(&mbr), [0x8000]);
        mbr[450] = PROTECTIVE;
        mbr[512..520].copy_from_slice(b"EFI PART");
        (mbr[584], mbr[592], mbr[596]) = (2, 4, 128);
        mbr[1024 + 128] = 1;
        mbr[1024 + 128 + 32] = 0x40;
        assert_eq!(find(&mbr), [0x8000]);
    }

    proptest! {
        #[test]
        fn tables_that_lie_are_no_harm(writes in prop::collection::vec((440_usize..2000, any::<u64>()), 0..20)) {
            let mut disk = with_marks(8192, &[]);
            disk[510..512].copy_from_slice(&[0x55, 0xAA]);
            disk[450] = PROTECTIVE;
            disk[512..520].copy_from_slice(b"EFI PART");
            for (at, value) in writes {
                disk[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            ext4_places(&disk.as_slice()).unwrap();
        }
    }
}
