//! VHDX headers. Source: Microsoft's open specification MS-VHDX. Numbers are little-endian.
//!
//! ```text
//! 0         "vhdxfile"
//! 192 KiB   region table, and its copy at 256 KiB ──► metadata region ──► items: size, parameters, parent
//! ```

use super::{ForeignError, Parts, array, malformed, part};
use crate::disk::ReadAt;
use crate::image::DiskFormat;

const FORMAT: DiskFormat = DiskFormat::Vhdx;
const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of a region table, and of a metadata table.
const TABLE: usize = 64 << 10;
const ENTRY: usize = 32;
/// The most entries of both kinds of tables.
const MOST: usize = 2047;

// As they are in the file.
const METADATA: [u8; 16] = guid(0x8B7C_A206, 0x4790, 0x4B9A, 0xB8FE_575F_050F_886E);
const BLOCKS: [u8; 16] = guid(0x2DC2_7766, 0xF623, 0x4200, 0x9D64_115E_9BFD_4A08);
const PARAMETERS: [u8; 16] = guid(0xCAA1_6737, 0xFA36, 0x4D43, 0xB3B6_33F0_AA44_E76B);
const SIZE: [u8; 16] = guid(0x2FA5_4224, 0xCD1B, 0x4876, 0xB211_5DBE_D83B_F4B8);
const PARENT: [u8; 16] = guid(0xA8D3_5F2D, 0xB30B, 0x454D, 0xABF7_D3D8_4834_AB0C);
/// States of blocks that are in the file: wholly, or in part.
const PRESENT: [u64; 2] = [6, 7];
/// In the flags of the file parameters.
const HAS_PARENT: u32 = 1 << 1;

const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (
        a.to_le_bytes(),
        b.to_le_bytes(),
        c.to_le_bytes(),
        d.to_be_bytes(),
    );
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6],
        d[7],
    ]
}

/// The size of the disk in a file that is whole.
pub(super) fn check(file: &dyn ReadAt) -> Result<u64, ForeignError> {
    if part(FORMAT, file, 0, 8)? != b"vhdxfile" {
        return Err(malformed(FORMAT, "it does not begin as one"));
    }
    let mut size = None;
    // Of the two copies programs take the first that is whole, or the other one.
    for at in REGION_TABLES {
        let mut table = part(FORMAT, file, at, TABLE)?;
        let checksum: [u8; 4] = array(&table, 4);
        table[4..8].fill(0);
        if !table.starts_with(b"regi") || crc32c::crc32c(&table).to_le_bytes() != checksum {
            continue;
        }
        let count = u32::from_le_bytes(array(&table, 8)) as usize;
        let mut blocks = None;
        for entry in table[16..].chunks_exact(ENTRY).take(count.min(MOST)) {
            let offset = u64::from_le_bytes(array(entry, 16));
            if entry.starts_with(&METADATA) {
                size = Some(metadata(file, offset)?);
            } else if entry.starts_with(&BLOCKS) {
                let length = u64::from(u32::from_le_bytes(array(entry, 24)));
                blocks = Some((offset, length));
            }
        }
        if let (Some(blocks), Some((_, block))) = (blocks, size) {
            check_blocks(file, blocks, u64::from(block))?;
        }
    }
    size.map(|(size, _)| size)
        .ok_or_else(|| malformed(FORMAT, "it has no complete region table"))
}

/// Looks whether all blocks are in the file, of `block` bytes each.
fn check_blocks(
    file: &dyn ReadAt,
    (offset, length): (u64, u64),
    block: u64,
) -> Result<(), ForeignError> {
    let mut parts = Parts::new(FORMAT, file)?;
    for entry in parts.table(offset, length)?.chunks_exact(8) {
        let entry = u64::from_le_bytes(array(entry, 0));
        if PRESENT.contains(&(entry & 7)) {
            parts.data(entry >> 20 << 20, block)?;
        }
    }
    Ok(())
}

/// The sizes of the disk and of its blocks from the metadata region at `region`.
fn metadata(file: &dyn ReadAt, region: u64) -> Result<(u64, u32), ForeignError> {
    let table = part(FORMAT, file, region, TABLE)?;
    if !table.starts_with(b"metadata") {
        return Err(malformed(FORMAT, "its metadata is not where it should be"));
    }
    let differencing = || ForeignError::NamesFile {
        format: FORMAT,
        what: "it holds the differences from another disk".to_owned(),
    };
    let count = usize::from(u16::from_le_bytes(array(&table, 10)));
    let (mut size, mut block) = (None, 0);
    for entry in table[ENTRY..].chunks_exact(ENTRY).take(count.min(MOST)) {
        let at = region.saturating_add(u64::from(u32::from_le_bytes(array(entry, 16))));
        if entry.starts_with(&PARENT) {
            return Err(differencing());
        } else if entry.starts_with(&PARAMETERS) {
            let parameters = part(FORMAT, file, at, 8)?;
            block = u32::from_le_bytes(array(&parameters, 0));
            let flags = u32::from_le_bytes(array(&parameters, 4));
            if flags & HAS_PARENT != 0 {
                return Err(differencing());
            }
        } else if entry.starts_with(&SIZE) {
            size = Some(u64::from_le_bytes(array(&part(FORMAT, file, at, 8)?, 0)));
        }
    }
    size.map(|size| (size, block))
        .ok_or_else(|| malformed(FORMAT, "its metadata has no size"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The headers of a disk of 1 MiB.
    pub(crate) fn header(parent: bool) -> Vec<u8> {
        let mut bytes = vec![0; 512 << 10];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, b"vhdxfile");
        let mut table = vec![0; TABLE];
        table[..4].copy_from_slice(b"regi");
        table[8] = 1;
        table[16..32].copy_from_slice(&METADATA);
        table[32..40].copy_from_slice(&(320_u64 << 10).to_le_bytes());
        let checksum = crc32c::crc32c(&table);
        table[4..8].copy_from_slice(&checksum.to_le_bytes());
        // Only the copy.
        put(256 << 10, &table);
        let region = 320 << 10;
        put(region, b"metadata");
        put(region + 10, &[2]);
        put(region + 32, &PARAMETERS);
        put(region + 48, &(TABLE as u32).to_le_bytes());
        put(region + 64, &SIZE);
        put(region + 80, &(TABLE as u32 + 8).to_le_bytes());
        put(region + TABLE + 4, &[if parent { 2 } else { 0 }]);
        put(region + TABLE + 8, &(1_u64 << 20).to_le_bytes());
        bytes
    }

    #[test]
    fn differences_from_another_disk_are_refused() {
        assert_eq!(check(&header(false).as_slice()).unwrap(), 1 << 20);
        insta::assert_snapshot!(check(&header(true).as_slice()).unwrap_err(), @"the vhdx file is not the whole disk: it holds the differences from another disk");
        let mut damaged = header(false);
        damaged[(256 << 10) + 20] ^= 1;
        insta::assert_snapshot!(check(&damaged.as_slice()).unwrap_err(), @"it is not a readable vhdx: it has no complete region table");
    }
}
