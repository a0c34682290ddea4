//! What a fresh ext4 file system says of itself: superblock and group descriptors.
//!
//! Source of the format: the kernel's documentation, `Documentation/filesystems/ext4/`, files
//! `super.rst`, `group_descr.rst`, `bitmaps.rst` and `checksums.rst`. All numbers are little
//! endian.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::{DiskError, io_error};
use super::BLOCK;
use super::crc::{crc32c, u16_at, u32_at};
use super::hash::NameHash;
use super::inode;

/// The superblock begins here, whatever the block size.
const SUPERBLOCK: u64 = 1024;
/// Its checksum is at its end, and covers what is before.
const SUPERBLOCK_CHECKSUM: usize = 0x3FC;
/// How many KiB were ever written to the file system: eight bytes.
const WRITTEN: std::ops::Range<usize> = 0x178..0x180;
const MAGIC: u16 = 0xEF53;
const METADATA_CHECKSUMS: u32 = 0x400;
const CHECKSUM_SEED: u32 = 0x2000;
const META_GROUPS: u32 = 0x10;
const WIDE: u32 = 0x80;
const INODE: u64 = inode::SIZE as u64;
/// Directories are hashed with half MD4.
const HALF_MD4: u8 = 1;
const UNSIGNED_HASH: u32 = 0x2;
/// Bytes of a group descriptor with the high halves of its numbers.
const WIDE_DESCRIPTOR: usize = 64;
/// The inode bitmap of the group was never written, nor were its inodes.
const INODES_UNINITIALISED: u16 = 0x1;
/// The block bitmap of the group was never written.
const BLOCKS_UNINITIALISED: u16 = 0x2;
const DESCRIPTOR_CHECKSUM: usize = 0x1E;

/// What the superblock says, as far as it is needed here.
pub(super) struct Geometry {
    pub(super) block_size: u64,
    pub(super) first_block: u64,
    pub(super) blocks_per_group: u64,
    pub(super) seed: u32,
    pub(super) blocks: u64,
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    /// The first inode that is not for the file system itself: of `lost+found`.
    pub(super) first_inode: u32,
    pub(super) hash: NameHash,
    reserved_descriptors: u64,
    descriptor_size: usize,
}

/// A group descriptor.
pub(super) struct Group {
    number: u32,
    bytes: Vec<u8>,
}

impl Geometry {
    pub(super) fn read(file: &File, offset: u64) -> Result<Self, DiskError> {
        let other = |what: &str| DiskError::NotExt4(what.to_owned());
        let mut sb = [0; 1024];
        file.read_exact_at(&mut sb, offset + SUPERBLOCK)
            .map_err(io_error("read"))?;
        if u16_at(&sb, 0x38) != MAGIC {
            return Err(other("no superblock"));
        }
        if crc32c(!0, &sb[..SUPERBLOCK_CHECKSUM]) != u32_at(&sb, SUPERBLOCK_CHECKSUM) {
            return Err(other("the superblock's checksum is wrong"));
        }
        let (incompatible, read_only) = (u32_at(&sb, 0x60), u32_at(&sb, 0x64));
        if read_only & METADATA_CHECKSUMS == 0 || incompatible & META_GROUPS != 0 {
            return Err(other("its features are not the expected ones"));
        }
        let block_log = u32_at(&sb, 0x18);
        let layout = Self {
            block_size: 1024_u64.checked_shl(block_log).unwrap_or(0),
            first_block: u32_at(&sb, 0x14).into(),
            blocks: u64::from(u32_at(&sb, 0x4)) | u64::from(u32_at(&sb, 0x150)) << 32,
            blocks_per_group: u32_at(&sb, 0x20).into(),
            inodes_per_group: u32_at(&sb, 0x28),
            inodes: u32_at(&sb, 0x0),
            first_inode: u32_at(&sb, 0x54),
            reserved_descriptors: u16_at(&sb, 0xCE).into(),
            hash: NameHash {
                seed: [0xEC, 0xF0, 0xF4, 0xF8].map(|at| u32_at(&sb, at)),
                signed: u32_at(&sb, 0x160) & UNSIGNED_HASH == 0,
            },
            descriptor_size: if incompatible & WIDE == 0 {
                32
            } else {
                u16_at(&sb, 0xFE).into()
            },
            seed: if incompatible & CHECKSUM_SEED == 0 {
                crc32c(!0, &sb[0x68..0x78])
            } else {
                u32_at(&sb, 0x270)
            },
        };
        if layout.block_size != BLOCK
            || layout.blocks_per_group != BLOCK * 8
            || layout.blocks <= layout.first_block
            || usize::from(u16_at(&sb, 0x58)) != inode::SIZE
            || sb[0xFC] != HALF_MD4
            || !(1..=BLOCK as u32 * 8).contains(&layout.inodes_per_group)
            || layout.first_inode < 3
            || layout.descriptor_size < 32
        {
            return Err(other("impossible sizes"));
        }
        Ok(layout)
    }

    /// All group descriptors.
    pub(super) fn groups(&self, file: &File, offset: u64) -> Result<Vec<Group>, DiskError> {
        let count = self
            .blocks
            .saturating_sub(self.first_block)
            .div_ceil(self.blocks_per_group);
        let mut table = vec![0; count as usize * self.descriptor_size];
        file.read_exact_at(&mut table, self.descriptors(offset))
            .map_err(io_error("read"))?;
        let descriptors = table.chunks_exact(self.descriptor_size);
        let groups = (0..).zip(descriptors).map(|(number, bytes)| Group {
            number,
            bytes: bytes.to_vec(),
        });
        Ok(groups.collect())
    }

    /// Writes descriptors that were changed, with their checksums.
    pub(super) fn write_group(
        &self,
        file: &File,
        offset: u64,
        group: &mut Group,
    ) -> Result<(), DiskError> {
        group.bytes[DESCRIPTOR_CHECKSUM..DESCRIPTOR_CHECKSUM + 2].fill(0);
        let checksum = crc32c(self.seed, &group.number.to_le_bytes());
        let checksum = crc32c(checksum, &group.bytes).to_le_bytes();
        group.bytes[DESCRIPTOR_CHECKSUM..DESCRIPTOR_CHECKSUM + 2].copy_from_slice(&checksum[..2]);
        let at = u64::from(group.number) * self.descriptor_size as u64;
        file.write_all_at(&group.bytes, self.descriptors(offset) + at)
            .map_err(io_error("write"))
    }

    fn descriptors(&self, offset: u64) -> u64 {
        offset + (self.first_block + 1) * self.block_size
    }

    /// The first blocks of a group whose bitmap was never written: a copy of the superblock and of
    /// the group descriptors, with what is reserved for more of them, or nothing.
    pub(super) fn copies(&self, group: usize) -> u64 {
        if !has_superblock(group as u64) {
            return 0;
        }
        let groups = (self.blocks - self.first_block).div_ceil(self.blocks_per_group);
        let table = groups * self.descriptor_size as u64;
        1 + table.div_ceil(self.block_size) + self.reserved_descriptors
    }

    /// How many blocks a group has: the last one may have fewer.
    pub(super) fn blocks_of(&self, group: usize) -> u64 {
        let first = self.first_block + group as u64 * self.blocks_per_group;
        (self.blocks - first).min(self.blocks_per_group)
    }

    /// Where an inode is in the file.
    pub(super) fn inode(&self, groups: &[Group], offset: u64, number: u32) -> u64 {
        let (group, index) = self.group_of(number);
        offset + groups[group].address(0x8, 0x28) * self.block_size + u64::from(index) * INODE
    }

    /// The group of an inode, and its place there.
    pub(super) const fn group_of(&self, number: u32) -> (usize, u32) {
        let number = number - 1;
        (
            (number / self.inodes_per_group) as usize,
            number % self.inodes_per_group,
        )
    }

    /// Clears what the superblock and its copies say of how much was written: that depends on the
    /// host's file systems.
    pub(super) fn forget_writes(&self, file: &File, offset: u64) -> Result<(), DiskError> {
        let groups = self
            .blocks
            .saturating_sub(self.first_block)
            .div_ceil(self.blocks_per_group);
        for group in (0..groups).filter(|&group| has_superblock(group)) {
            let at = match group {
                0 => SUPERBLOCK,
                _ => (self.first_block + group * self.blocks_per_group) * self.block_size,
            };
            let mut sb = [0; 1024];
            file.read_exact_at(&mut sb, offset + at)
                .map_err(io_error("read"))?;
            if u16_at(&sb, 0x38) != MAGIC {
                return Err(DiskError::NotExt4(format!(
                    "no superblock in group {group}"
                )));
            }
            sb[WRITTEN].fill(0);
            let checksum = crc32c(!0, &sb[..SUPERBLOCK_CHECKSUM]);
            sb[SUPERBLOCK_CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
            file.write_all_at(&sb, offset + at)
                .map_err(io_error("write"))?;
        }
        Ok(())
    }

    /// Writes into the superblock how much is free.
    pub(super) fn set_free(
        &self,
        file: &File,
        offset: u64,
        blocks: u64,
        inodes: u32,
    ) -> Result<(), DiskError> {
        let mut sb = [0; 1024];
        let at = offset + SUPERBLOCK;
        file.read_exact_at(&mut sb, at).map_err(io_error("read"))?;
        let blocks = blocks.to_le_bytes();
        sb[0xC..0x10].copy_from_slice(&blocks[..4]);
        sb[0x158..0x15C].copy_from_slice(&blocks[4..]);
        sb[0x10..0x14].copy_from_slice(&inodes.to_le_bytes());
        let checksum = crc32c(!0, &sb[..SUPERBLOCK_CHECKSUM]);
        sb[SUPERBLOCK_CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        file.write_all_at(&sb, at).map_err(io_error("write"))
    }
}

/// Whether a group begins with a superblock (`sparse_super`): 0, 1, and powers of 3, 5 and 7.
fn has_superblock(group: u64) -> bool {
    let is_power_of = |base: u64| {
        let mut rest = group;
        while rest > 1 && rest.is_multiple_of(base) {
            rest /= base;
        }
        rest == 1
    };
    group == 0 || [3, 5, 7].into_iter().any(is_power_of)
}

impl Group {
    fn is_wide(&self) -> bool {
        self.bytes.len() >= WIDE_DESCRIPTOR
    }

    /// A number of 32 bits in two halves.
    fn wide(&self, low: usize, high: usize) -> u64 {
        let high = match self.is_wide() {
            true => u16_at(&self.bytes, high),
            false => 0,
        };
        u64::from(u16_at(&self.bytes, low)) | u64::from(high) << 16
    }

    fn set_wide(&mut self, low: usize, high: usize, value: u32) {
        let value = value.to_le_bytes();
        self.bytes[low..low + 2].copy_from_slice(&value[..2]);
        if self.is_wide() {
            self.bytes[high..high + 2].copy_from_slice(&value[2..]);
        }
    }

    /// A number of 64 bits in two halves.
    fn address(&self, low: usize, high: usize) -> u64 {
        let high = match self.is_wide() {
            true => u32_at(&self.bytes, high),
            false => 0,
        };
        u64::from(u32_at(&self.bytes, low)) | u64::from(high) << 32
    }

    fn flags(&self) -> u16 {
        u16_at(&self.bytes, 0x12)
    }

    /// How many of its blocks are free.
    pub(super) fn free_blocks(&self) -> u64 {
        self.wide(0xC, 0x2C)
    }

    /// How many of its inodes are free.
    pub(super) fn free_inodes(&self) -> u32 {
        self.wide(0xE, 0x2E) as u32
    }

    /// Whether its block bitmap was never written.
    pub(super) fn is_fresh(&self) -> bool {
        self.flags() & BLOCKS_UNINITIALISED != 0
    }

    /// The block with its inode bitmap.
    pub(super) fn inode_bitmap(&self) -> u64 {
        self.address(0x4, 0x24)
    }

    /// Sets what depends on its inodes, of which the first `used` are in use, `directories` of them
    /// for directories.
    pub(super) fn set_inodes(
        &mut self,
        bitmap: &[u8],
        all: u32,
        used: u32,
        directories: u32,
        seed: u32,
    ) {
        let flags = self.flags() & !INODES_UNINITIALISED;
        self.bytes[0x12..0x14].copy_from_slice(&flags.to_le_bytes());
        self.set_wide(0xE, 0x2E, all - used);
        self.set_wide(0x10, 0x30, directories);
        self.set_wide(0x1C, 0x32, all - used);
        self.set_wide(0x1A, 0x3A, crc32c(seed, bitmap));
    }

    /// The block with its block bitmap.
    pub(super) fn block_bitmap(&self) -> u64 {
        self.address(0x0, 0x20)
    }

    /// Sets what depends on the block bitmap, which is written.
    pub(super) fn set_block_bitmap(&mut self, bitmap: &[u8], free: u64, seed: u32) {
        let flags = self.flags() & !BLOCKS_UNINITIALISED;
        self.bytes[0x12..0x14].copy_from_slice(&flags.to_le_bytes());
        self.set_wide(0xC, 0x2C, free as u32);
        self.set_wide(0x18, 0x38, crc32c(seed, bitmap));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_the_superblock_are_where_the_format_puts_them() {
        let groups: Vec<u64> = (0..130).filter(|&group| has_superblock(group)).collect();
        assert_eq!(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }
}
