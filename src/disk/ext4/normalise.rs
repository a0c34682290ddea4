//! Removing from a fresh ext4 file system what depends on the moment of its making.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::{DiskError, io_error};
use super::inode::{self, crc32c, u16_at, u32_at};

/// The superblock begins here, whatever the block size.
const SUPERBLOCK: u64 = 1024;
const MAGIC: u16 = 0xEF53;
const METADATA_CHECKSUMS: u32 = 0x400;
const CHECKSUM_SEED: u32 = 0x2000;
const META_GROUPS: u32 = 0x10;
const WIDE: u32 = 0x80;
/// The inode table of the group was never written.
const INODES_UNINITIALISED: u16 = 0x1;

/// Makes the file system at `offset` in `file` a function of the tree's content: access, change
/// and creation times become the modification time, extended attributes are sorted. Checksums
/// follow. Only inodes in use are read and written, so the file stays sparse and the time depends
/// on the number of files, not on the size.
///
/// # Errors
/// The file cannot be read or written, or holds another kind of file system.
pub fn normalise(file: &File, offset: u64) -> Result<(), DiskError> {
    let layout = Layout::read(file, offset)?;
    let mut buffer = Vec::new();
    for group in layout.groups(file, offset)? {
        buffer.resize(group.used as usize * layout.inode_size, 0);
        let position = offset + group.table * layout.block_size;
        file.read_exact_at(&mut buffer, position)
            .map_err(io_error("read"))?;
        let inodes = buffer.chunks_exact_mut(layout.inode_size);
        for (number, inode) in (group.first..).zip(inodes) {
            inode::normalise(inode, number, layout.seed)
                .map_err(|_| DiskError::Attributes(number))?;
        }
        file.write_all_at(&buffer, position)
            .map_err(io_error("write"))?;
    }
    Ok(())
}

/// What the superblock says, as far as it is needed here.
struct Layout {
    block_size: u64,
    first_block: u64,
    blocks: u64,
    blocks_per_group: u64,
    inodes_per_group: u32,
    inode_size: usize,
    descriptor_size: usize,
    seed: u32,
}

/// The used part of a group's inode table.
struct Group {
    /// Number of its first inode.
    first: u32,
    /// How many are, or may be, in use.
    used: u32,
    /// Block of the table.
    table: u64,
}

impl Layout {
    fn read(file: &File, offset: u64) -> Result<Self, DiskError> {
        let other = |what: &str| DiskError::NotExt4(what.to_owned());
        let mut sb = [0; 1024];
        file.read_exact_at(&mut sb, offset + SUPERBLOCK)
            .map_err(io_error("read"))?;
        if u16_at(&sb, 0x38) != MAGIC {
            return Err(other("no superblock"));
        }
        if crc32c(!0, &sb[..0x3FC]) != u32_at(&sb, 0x3FC) {
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
            inode_size: u16_at(&sb, 0x58).into(),
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
        if block_log > 6
            || layout.blocks_per_group == 0
            || layout.inode_size < 160
            || layout.descriptor_size < 32
        {
            return Err(other("impossible sizes"));
        }
        Ok(layout)
    }

    fn groups(&self, file: &File, offset: u64) -> Result<Vec<Group>, DiskError> {
        let count = self
            .blocks
            .saturating_sub(self.first_block)
            .div_ceil(self.blocks_per_group);
        let mut table = vec![0; count as usize * self.descriptor_size];
        file.read_exact_at(
            &mut table,
            offset + (self.first_block + 1) * self.block_size,
        )
        .map_err(io_error("read"))?;
        let mut groups = Vec::new();
        let mut first = 1_u32;
        for descriptor in table.chunks_exact(self.descriptor_size) {
            let wide = |low: u32, high: usize| {
                if self.descriptor_size >= 64 {
                    u64::from(low) | u64::from(u32_at(descriptor, high)) << 32
                } else {
                    low.into()
                }
            };
            let mut unused = u32::from(u16_at(descriptor, 0x1C));
            if self.descriptor_size >= 64 {
                unused |= u32::from(u16_at(descriptor, 0x32)) << 16;
            }
            if u16_at(descriptor, 0x12) & INODES_UNINITIALISED == 0 {
                groups.push(Group {
                    first,
                    used: self.inodes_per_group.saturating_sub(unused),
                    table: wide(u32_at(descriptor, 0x8), 0x28),
                });
            }
            first = first.wrapping_add(self.inodes_per_group);
        }
        Ok(groups)
    }
}
