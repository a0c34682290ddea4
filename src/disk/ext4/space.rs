//! Which blocks and inodes of a file system are free, and taking them.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::super::{DiskError, io_error};
use super::BLOCK;
use super::geometry::{Geometry, Group};

/// What blocks are taken for: each kind has a place of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Contents of files and all else.
    Data = 0,
    /// Blocks of directories.
    Directories = 1,
}

/// A file system in a file, with what is free in it.
pub(super) struct Space<'a> {
    file: &'a File,
    offset: u64,
    pub(super) layout: Geometry,
    groups: Vec<Group>,
    /// Free blocks of each group.
    free: Vec<u64>,
    /// Block bitmaps of groups that were asked for.
    bitmaps: Vec<Option<Vec<u8>>>,
    /// Directories in each group.
    directories: Vec<u32>,
    /// Blocks, and inodes, that were written last.
    blocks: Batch,
    inodes: Batch,
    /// Where the next block is looked for, for each use.
    next: [u64; 2],
    next_inode: u32,
}

/// Bytes that follow each other in a file and are written together.
#[derive(Default)]
struct Batch {
    at: u64,
    bytes: Vec<u8>,
}

/// The most bytes of a batch.
const BATCH: usize = 256 << 10;

impl Batch {
    fn write(&mut self, file: &File, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let follows = at == self.at + self.bytes.len() as u64;
        if !follows || self.bytes.len() + bytes.len() > BATCH {
            self.flush(file)?;
            self.at = at;
        }
        if bytes.len() < BATCH {
            self.bytes.extend_from_slice(bytes);
            return Ok(());
        }
        self.at += bytes.len() as u64;
        file.write_all_at(bytes, at).map_err(io_error("write"))
    }

    fn flush(&mut self, file: &File) -> Result<(), DiskError> {
        let written = file.write_all_at(&self.bytes, self.at);
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        written.map_err(io_error("write"))
    }
}

impl<'a> Space<'a> {
    /// The space of a file system that `mke2fs` made and that has no files.
    pub(super) fn open(file: &'a File, offset: u64) -> Result<Self, DiskError> {
        let layout = Geometry::read(file, offset)?;
        let groups = layout.groups(file, offset)?;
        let reserved = layout.first_inode;
        if groups[0].free_inodes() != layout.inodes_per_group - reserved {
            return Err(DiskError::NotExt4("it has files already".to_owned()));
        }
        // Directories lie in the middle: there their place does not depend on how much is before
        // it.
        let half = groups.len() / 2;
        let unused = (half..groups.len())
            .find(|&group| groups[group].free_blocks() == layout.blocks_per_group);
        let middle = unused.map_or(0, |group| group as u64 * layout.blocks_per_group);
        Ok(Self {
            file,
            offset,
            free: groups.iter().map(Group::free_blocks).collect(),
            bitmaps: vec![None; groups.len()],
            blocks: Batch::default(),
            inodes: Batch::default(),
            directories: vec![0; groups.len()],
            next: [layout.first_block, layout.first_block + middle],
            next_inode: reserved + 1,
            groups,
            layout,
        })
    }

    pub(super) fn read(&self, block: u64) -> Result<Vec<u8>, DiskError> {
        let mut bytes = vec![0; BLOCK as usize];
        self.file
            .read_exact_at(&mut bytes, self.offset + block * BLOCK)
            .map_err(io_error("read"))?;
        Ok(bytes)
    }

    pub(super) fn write(&mut self, block: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let at = self.offset + block * BLOCK;
        self.blocks.write(self.file, at, bytes)
    }

    pub(super) fn read_inode<const SIZE: usize>(
        &mut self,
        number: u32,
    ) -> Result<[u8; SIZE], DiskError> {
        self.inodes.flush(self.file)?;
        let mut bytes = [0; SIZE];
        let at = self.layout.inode(&self.groups, self.offset, number);
        self.file
            .read_exact_at(&mut bytes, at)
            .map_err(io_error("read"))?;
        Ok(bytes)
    }

    pub(super) fn write_inode(&mut self, number: u32, bytes: &[u8]) -> Result<(), DiskError> {
        let at = self.layout.inode(&self.groups, self.offset, number);
        self.inodes.write(self.file, at, bytes)
    }

    /// The next inode.
    pub(super) fn take_inode(&mut self) -> Result<u32, DiskError> {
        if self.next_inode > self.layout.inodes {
            return Err(DiskError::TooManyFiles(self.layout.inodes));
        }
        self.next_inode += 1;
        Ok(self.next_inode - 1)
    }

    /// Notes that an inode is that of a directory.
    pub(super) fn add_directory(&mut self, number: u32) {
        let (group, _) = self.layout.group_of(number);
        self.directories[group] += 1;
    }

    /// At most `most` free blocks in one run, the first ones that there are.
    pub(super) fn take(&mut self, kind: Use, most: u64) -> Result<Range<u64>, DiskError> {
        let start = self.next[kind as usize].min(self.layout.blocks - 1);
        let from = self.place(start).0;
        let count = self.groups.len();
        // The group where it begins is looked through again at the end, from its first block on.
        for turn in 0..=count {
            let group = (from + turn) % count;
            let index = if turn == 0 { self.place(start).1 } else { 0 };
            if self.free[group] == 0 {
                continue;
            }
            if let Some(run) = self.take_in(group, index, most)? {
                self.next[kind as usize] = run.end;
                return Ok(run);
            }
        }
        Err(DiskError::Full)
    }

    fn take_in(
        &mut self,
        group: usize,
        index: u64,
        most: u64,
    ) -> Result<Option<Range<u64>>, DiskError> {
        let end = self.layout.blocks_of(group);
        let bitmap = self.bitmap(group)?;
        let is_free = |index: &u64| bitmap[(index / 8) as usize] >> (index % 8) & 1 == 0;
        let Some(first) = (index..end).find(is_free) else {
            return Ok(None);
        };
        let run =
            first..first + (first..end).take(most as usize).take_while(is_free).count() as u64;
        for index in run.clone() {
            bitmap[(index / 8) as usize] |= 1 << (index % 8);
        }
        self.free[group] -= run.end - run.start;
        let before = self.layout.first_block + group as u64 * self.layout.blocks_per_group;
        Ok(Some(before + run.start..before + run.end))
    }

    /// Gives a block free, and makes it zeros.
    pub(super) fn release(&mut self, block: u64) -> Result<(), DiskError> {
        let (group, index) = self.place(block);
        let bitmap = self.bitmap(group)?;
        bitmap[(index / 8) as usize] &= !(1 << (index % 8));
        self.free[group] += 1;
        self.write(block, &[0; BLOCK as usize])
    }

    /// The group of a block, and its number there.
    const fn place(&self, block: u64) -> (usize, u64) {
        let number = block - self.layout.first_block;
        let per_group = self.layout.blocks_per_group;
        ((number / per_group) as usize, number % per_group)
    }

    fn bitmap(&mut self, group: usize) -> Result<&mut Vec<u8>, DiskError> {
        if self.bitmaps[group].is_none() {
            self.bitmaps[group] = Some(match self.groups[group].is_fresh() {
                true => self.fresh_bitmap(group)?,
                false => self.read(self.groups[group].block_bitmap())?,
            });
        }
        Ok(self.bitmaps[group].get_or_insert_default())
    }

    /// What the bitmap is that `mke2fs` left out.
    fn fresh_bitmap(&self, group: usize) -> Result<Vec<u8>, DiskError> {
        let (used, all) = (self.layout.copies(group), self.layout.blocks_of(group));
        if self.free[group] != all - used {
            let what = format!("group {group} has other blocks than expected");
            return Err(DiskError::NotExt4(what));
        }
        let mut bitmap = vec![0; BLOCK as usize];
        // What is behind the end counts as used.
        for index in (0..used).chain(all..BLOCK * 8) {
            bitmap[(index / 8) as usize] |= 1 << (index % 8);
        }
        Ok(bitmap)
    }

    /// Writes what is free now.
    pub(super) fn finish(mut self) -> Result<(), DiskError> {
        let last = self.layout.group_of(self.next_inode - 1).0;
        for number in 0..self.groups.len() {
            let bitmap = self.bitmaps[number].take();
            if let Some(bitmap) = &bitmap {
                self.write(self.groups[number].block_bitmap(), bitmap)?;
                let free = self.free[number];
                self.groups[number].set_block_bitmap(bitmap, free, self.layout.seed);
            }
            if number <= last {
                self.finish_inodes(number)?;
            }
            if bitmap.is_some() || number <= last {
                let group = &mut self.groups[number];
                self.layout.write_group(self.file, self.offset, group)?;
            }
        }
        self.blocks.flush(self.file)?;
        self.inodes.flush(self.file)?;
        let blocks = self.free.iter().sum();
        let inodes = self.layout.inodes - (self.next_inode - 1);
        self.layout
            .set_free(self.file, self.offset, blocks, inodes)?;
        self.layout.forget_writes(self.file, self.offset)
    }

    fn finish_inodes(&mut self, number: usize) -> Result<(), DiskError> {
        let all = self.layout.inodes_per_group;
        let before = number as u32 * all;
        let used = (self.next_inode - 1 - before).min(all);
        let mut bitmap = vec![0_u8; BLOCK as usize];
        for index in (0..used).chain(all..BLOCK as u32 * 8) {
            bitmap[(index / 8) as usize] |= 1 << (index % 8);
        }
        self.write(self.groups[number].inode_bitmap(), &bitmap)?;
        let counted = &bitmap[..(all / 8) as usize];
        let directories = self.directories[number];
        self.groups[number].set_inodes(counted, all, used, directories, self.layout.seed);
        Ok(())
    }
}
