//! Directories side by side.
//!
//! mke2fs gives a directory its blocks when it comes to it, between the contents of files. In them are numbers of inodes,
//! and a file that is new moves the numbers of all behind it: then each of these blocks is another one, and with it the
//! chunk around it, for which the contents of files have to be stored and sent again. Side by side they are a few chunks
//! of their own.
//!
//! Source of the format: the kernel's documentation, `Documentation/filesystems/ext4/`, files `ifork.rst` and
//! `bitmaps.rst`. All numbers are little endian.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::{DiskError, io_error};
use super::inode::{u16_at, u32_at};
use super::layout::{Group, Layout};

const MODE: usize = 0x00;
const SECTORS: usize = 0x1C;
const FLAGS: usize = 0x20;
const BLOCK_MAP: usize = 0x28;
const BLOCK_MAP_SIZE: usize = 60;
const DIRECTORY: u16 = 0o040_000;
const KIND: u16 = 0o170_000;
const USES_EXTENTS: u32 = 0x8_0000;
const EXTENT_MAGIC: u16 = 0xF30A;
/// Bytes of the header of a node of an extent tree, and of each of its entries.
const EXTENT: usize = 12;
/// What fits into the inode.
const ENTRIES_IN_INODE: u16 = 4;
/// Extents of more blocks are not initialised.
const LONGEST: u64 = 1 << 15;
const SECTOR: u64 = 512;

/// A directory whose blocks are to be moved.
struct Directory {
    /// Where its inode is in the file.
    inode: u64,
    /// Its blocks, in their order.
    blocks: Vec<u64>,
    /// The blocks of its extent tree.
    tree: Vec<u64>,
}

/// Moves the blocks of all directories of the file system at `offset` in `file` to a group in its middle that nothing else
/// uses: so their place does not depend on how much is before it. Where there is no such group all stays as it is.
/// Checksums of inodes are left to [`normalise()`](super::normalise()).
///
/// # Errors
/// The file cannot be read or written, or holds another kind of file system.
pub fn gather_directories(file: &File, offset: u64) -> Result<(), DiskError> {
    let layout = Layout::read(file, offset)?;
    let mut groups = layout.groups(file, offset)?;
    let disk = Disk {
        file,
        offset,
        layout,
    };
    let directories = disk.directories(&groups)?;
    let count: u64 = directories.iter().map(|one| one.blocks.len() as u64).sum();
    let Some(target) = disk.target(&groups, count) else {
        return Ok(());
    };
    let first = disk.layout.first_block + target as u64 * disk.layout.blocks_per_group;
    let mut content = Vec::new();
    let mut freed: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    let mut shorter = 0;
    for directory in &directories {
        let start = first + content.len() as u64 / disk.layout.block_size;
        for &block in &directory.blocks {
            content.extend_from_slice(&disk.block(block)?);
        }
        disk.point(directory, start)?;
        for &block in directory.blocks.iter().chain(&directory.tree) {
            let (group, index) = disk.place(block);
            freed.entry(group).or_default().push(index);
        }
        shorter += directory.tree.len() as u64;
    }
    disk.write(first, &content)?;
    for (group, indexes) in freed {
        disk.free(&mut groups[group], group, &indexes)?;
    }
    disk.take(&mut groups[target], count)?;
    match shorter {
        0 => Ok(()),
        count => Layout::add_free_blocks(file, offset, count),
    }
}

/// A file system in a file.
struct Disk<'a> {
    file: &'a File,
    offset: u64,
    layout: Layout,
}

impl Disk<'_> {
    fn block(&self, block: u64) -> Result<Vec<u8>, DiskError> {
        let mut bytes = vec![0; self.layout.block_size as usize];
        let position = self.offset + block * self.layout.block_size;
        self.file
            .read_exact_at(&mut bytes, position)
            .map_err(io_error("read"))?;
        Ok(bytes)
    }

    fn write(&self, block: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let position = self.offset + block * self.layout.block_size;
        self.file
            .write_all_at(bytes, position)
            .map_err(io_error("write"))
    }

    /// Whether these blocks are behind the superblock and not behind the end.
    fn has(&self, start: u64, length: u64) -> bool {
        let end = start.checked_add(length);
        start > self.layout.first_block && end.is_some_and(|end| end <= self.layout.blocks)
    }

    /// The group of a block, and its number there.
    const fn place(&self, block: u64) -> (usize, u64) {
        let number = block - self.layout.first_block;
        let per_group = self.layout.blocks_per_group;
        ((number / per_group) as usize, number % per_group)
    }

    /// The first group from the middle on of which nothing is used, when so many blocks fit.
    fn target(&self, groups: &[Group], count: u64) -> Option<usize> {
        let all = self.layout.blocks_per_group;
        // A bitmap is a block.
        if count == 0 || count > all || all != self.layout.block_size * 8 {
            return None;
        }
        (groups.len() / 2..groups.len()).find(|&number| groups[number].free_blocks() == all)
    }

    fn directories(&self, groups: &[Group]) -> Result<Vec<Directory>, DiskError> {
        let mut directories = Vec::new();
        for group in groups {
            let Some(inodes) = self.layout.inodes(self.file, self.offset, group)? else {
                continue;
            };
            let size = self.layout.inode_size;
            let positions = (inodes.position..).step_by(size);
            for (position, inode) in positions.zip(inodes.bytes.chunks_exact(size)) {
                let is_directory = u16_at(inode, MODE) & KIND == DIRECTORY;
                if !is_directory || u32_at(inode, FLAGS) & USES_EXTENTS == 0 {
                    continue;
                }
                let mut directory = Directory {
                    inode: position,
                    blocks: Vec::new(),
                    tree: Vec::new(),
                };
                let root = &inode[BLOCK_MAP..BLOCK_MAP + BLOCK_MAP_SIZE];
                self.collect(root, None, &mut directory)?;
                if (1..=LONGEST).contains(&(directory.blocks.len() as u64)) {
                    directories.push(directory);
                }
            }
        }
        Ok(directories)
    }

    /// Collects the blocks below a node of an extent tree, which is `above` the leaves.
    fn collect(
        &self,
        node: &[u8],
        above: Option<u16>,
        directory: &mut Directory,
    ) -> Result<(), DiskError> {
        let wrong = || DiskError::NotExt4("a directory has an impossible extent tree".to_owned());
        let (entries, depth) = (usize::from(u16_at(node, 2)), u16_at(node, 6));
        let is_next = above.is_none_or(|above| above.checked_sub(1) == Some(depth));
        if u16_at(node, 0) != EXTENT_MAGIC || !is_next || depth > 5 {
            return Err(wrong());
        }
        let entries = node.get(EXTENT..EXTENT * (entries + 1)).ok_or_else(wrong)?;
        for entry in entries.chunks_exact(EXTENT) {
            if depth > 0 {
                let block = u64::from(u32_at(entry, 4)) | u64::from(u16_at(entry, 8)) << 32;
                if !self.has(block, 1) {
                    return Err(wrong());
                }
                directory.tree.push(block);
                self.collect(&self.block(block)?, Some(depth), directory)?;
                continue;
            }
            let length = u64::from(u16_at(entry, 4));
            // Directories have no holes, and nothing that is not initialised.
            if u64::from(u32_at(entry, 0)) != directory.blocks.len() as u64 || length > LONGEST {
                return Err(wrong());
            }
            let start = u64::from(u32_at(entry, 8)) | u64::from(u16_at(entry, 6)) << 32;
            if !self.has(start, length) {
                return Err(wrong());
            }
            directory.blocks.extend(start..start + length);
        }
        Ok(())
    }

    /// Has a directory's inode say that its blocks are one run from `start` on.
    fn point(&self, directory: &Directory, start: u64) -> Result<(), DiskError> {
        let mut inode = vec![0; BLOCK_MAP + BLOCK_MAP_SIZE];
        self.file
            .read_exact_at(&mut inode, directory.inode)
            .map_err(io_error("read"))?;
        let map = &mut inode[BLOCK_MAP..];
        map[EXTENT..].fill(0);
        for (at, value) in [
            (2, 1),
            (4, ENTRIES_IN_INODE),
            (6, 0),
            (EXTENT + 4, directory.blocks.len() as u16),
            (EXTENT + 6, (start >> 32) as u16),
        ] {
            map[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        map[EXTENT + 8..EXTENT + 12].copy_from_slice(&(start as u32).to_le_bytes());
        let less = directory.tree.len() as u64 * self.layout.block_size / SECTOR;
        let sectors = u32_at(&inode, SECTORS).saturating_sub(less as u32);
        inode[SECTORS..SECTORS + 4].copy_from_slice(&sectors.to_le_bytes());
        self.file
            .write_all_at(&inode, directory.inode)
            .map_err(io_error("write"))
    }

    /// Gives blocks of a group free, and makes them zeros.
    fn free(&self, group: &mut Group, number: usize, indexes: &[u64]) -> Result<(), DiskError> {
        let mut bitmap = self.block(group.block_bitmap())?;
        let zeros = vec![0; self.layout.block_size as usize];
        let first = self.layout.first_block + number as u64 * self.layout.blocks_per_group;
        for &index in indexes {
            let (byte, bit) = ((index / 8) as usize, 1 << (index % 8));
            if bitmap[byte] & bit == 0 {
                let what = "a block of a directory is not in use, or twice";
                return Err(DiskError::NotExt4(what.to_owned()));
            }
            bitmap[byte] &= !bit;
            self.write(first + index, &zeros)?;
        }
        let free = group.free_blocks() + indexes.len() as u64;
        self.write_bitmap(group, &bitmap, free)
    }

    /// Takes the first blocks of a group of which nothing is used.
    fn take(&self, group: &mut Group, count: u64) -> Result<(), DiskError> {
        let mut bitmap = vec![0; self.layout.block_size as usize];
        for index in 0..count {
            bitmap[(index / 8) as usize] |= 1 << (index % 8);
        }
        let free = group.free_blocks() - count;
        self.write_bitmap(group, &bitmap, free)
    }

    fn write_bitmap(&self, group: &mut Group, bitmap: &[u8], free: u64) -> Result<(), DiskError> {
        self.write(group.block_bitmap(), bitmap)?;
        group.set_block_bitmap(bitmap, free, self.layout.seed);
        self.layout.write_group(self.file, self.offset, group)
    }
}
