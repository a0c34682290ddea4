//! Files, links and directories into a file system that has none.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::super::{DiskError, io_error};
use super::attributes;
use super::crc::{u16_at, u32_at};
use super::directory::{Directory, Entry};
use super::extents::Extents;
use super::inode::{self, INDEXED, Inode, MAP_SIZE, Meta, USES_EXTENTS, add_link, seed_of};
use super::space::{Space, Use};
use super::{BLOCK, MOST_LINKS};

/// The directory `/`.
pub(super) const ROOT: u32 = 2;
/// Bytes of a file that are read at once.
const PIECE: usize = 256 * BLOCK as usize;
/// Directories may have more names than links are counted: then the count is this.
const UNCOUNTED: u16 = 1;

/// A file system that is being filled.
pub(super) struct Writer<'a> {
    space: Space<'a>,
    buffer: Vec<u8>,
    /// The directory that only a check of the file system puts files into.
    pub(super) lost_and_found: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn open(file: &'a File, offset: u64) -> Result<Self, DiskError> {
        let mut space = Space::open(file, offset)?;
        let lost_and_found = space.layout.first_inode;
        // Both are rewritten.
        for directory in [ROOT, lost_and_found] {
            let bytes: [u8; inode::SIZE] = space.read_inode(directory)?;
            let map = &bytes[0x28..0x28 + MAP_SIZE];
            // They have one extent.
            if u16_at(map, 2) != 1 || u16_at(map, 6) != 0 {
                return Err(DiskError::NotExt4("its directories are not new".to_owned()));
            }
            let start = u64::from(u32_at(map, 20)) | u64::from(u16_at(map, 18)) << 32;
            for block in start..start + u64::from(u16_at(map, 16)) {
                space.release(block)?;
            }
        }
        Ok(Self {
            space,
            buffer: vec![0; PIECE],
            lost_and_found,
        })
    }

    /// The number of the next file.
    pub(super) fn number(&mut self) -> Result<u32, DiskError> {
        self.space.take_inode()
    }

    /// Writes a file with its content. Blocks of zeros become holes, whether they are ones in
    /// `content` or not.
    pub(super) fn file(
        &mut self,
        number: u32,
        meta: Meta,
        content: &File,
    ) -> Result<(), DiskError> {
        let size = content
            .metadata()
            .map_err(io_error("read a file for"))?
            .len();
        let extents = self.copy(content, size)?;
        let (map, tree) = self.map(number, &extents)?;
        let blocks = extents.blocks() + tree;
        self.inode(number, meta, size, 1, USES_EXTENTS, map, blocks)
    }

    fn copy(&mut self, content: &File, size: u64) -> Result<Extents, DiskError> {
        let failed = || io_error("read a file for");
        let mut extents = Extents::default();
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        while at < size {
            at = match seek(content, SeekFrom::Data(at)) {
                // Rounded down, but never back.
                Ok(data) => at.max(data / BLOCK * BLOCK),
                Err(Errno::NXIO) => break,
                Err(error) => return Err(failed()(error.into())),
            };
            let length = (size - at).min(PIECE as u64) as usize;
            content
                .read_exact_at(&mut buffer[..length], at)
                .map_err(failed())?;
            let padded = length.next_multiple_of(BLOCK as usize);
            buffer[length..padded].fill(0);
            self.put(&buffer[..padded], (at / BLOCK) as u32, &mut extents)?;
            at += padded as u64;
        }
        self.buffer = buffer;
        Ok(extents)
    }

    /// Writes blocks of a file, the ones of zeros excepted.
    fn put(&mut self, bytes: &[u8], first: u32, extents: &mut Extents) -> Result<(), DiskError> {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        let blocks: Vec<bool> = bytes
            .chunks(BLOCK as usize)
            .map(|block| block != ZEROS)
            .collect();
        let mut at = 0;
        while at < blocks.len() {
            let run = blocks[at..].iter().take_while(|block| **block).count();
            if run == 0 {
                at += 1;
                continue;
            }
            let place = self.space.take(Use::Data, run as u64)?;
            let count = (place.end - place.start) as usize;
            let part = at * BLOCK as usize..(at + count) * BLOCK as usize;
            self.space.write(place.start, &bytes[part])?;
            extents.push(first + at as u32, place.start, count as u64);
            at += count;
        }
        Ok(())
    }

    /// Writes a symbolic link.
    pub(super) fn link(&mut self, number: u32, meta: Meta, target: &[u8]) -> Result<(), DiskError> {
        let size = target.len() as u64;
        if target.len() < MAP_SIZE {
            let mut map = [0; MAP_SIZE];
            map[..target.len()].copy_from_slice(target);
            return self.inode(number, meta, size, 1, 0, map, 0);
        }
        let mut block = target.to_vec();
        block.resize(BLOCK as usize, 0);
        let mut extents = Extents::default();
        self.put(&block, 0, &mut extents)?;
        let (map, _) = self.map(number, &extents)?;
        self.inode(number, meta, size, 1, USES_EXTENTS, map, 1)
    }

    /// Writes a FIFO, a socket or a device node.
    pub(super) fn special(
        &mut self,
        number: u32,
        meta: Meta,
        device: (u32, u32),
    ) -> Result<(), DiskError> {
        let (major, minor) = device;
        let mut map = [0; MAP_SIZE];
        // Small numbers have a form of their own, in the first word.
        let (at, value) = match major < 256 && minor < 256 {
            true => (0, major << 8 | minor),
            false => (4, minor & 0xff | major << 8 | (minor & !0xff) << 12),
        };
        map[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self.inode(number, meta, 0, 1, 0, map, 0)
    }

    /// Gives a file one more name; tells whether it may have one more.
    pub(super) fn add_name(&mut self, number: u32) -> Result<bool, DiskError> {
        let mut bytes: [u8; inode::SIZE] = self.space.read_inode(number)?;
        let added = add_link(&mut bytes, number, self.space.layout.seed);
        self.space.write_inode(number, &bytes)?;
        Ok(added)
    }

    /// Writes a directory, when all that is in it has its number.
    pub(super) fn directory(
        &mut self,
        meta: Meta,
        directory: &Directory<'_>,
    ) -> Result<(), DiskError> {
        let number = directory.number;
        let layout = &self.space.layout;
        let blocks = directory.blocks(&layout.hash, seed_of(number, layout.seed));
        let blocks = blocks.ok_or(DiskError::LargeDirectory(directory.entries.len()))?;
        let (mut extents, mut done) = (Extents::default(), 0);
        let count = blocks.bytes.len() / BLOCK as usize;
        while done < count {
            let place = self.space.take(Use::Directories, (count - done) as u64)?;
            let next = done + (place.end - place.start) as usize;
            let part = done * BLOCK as usize..next * BLOCK as usize;
            self.space.write(place.start, &blocks.bytes[part])?;
            extents.push(done as u32, place.start, (next - done) as u64);
            done = next;
        }
        let (map, tree) = self.map(number, &extents)?;
        let below = directory
            .entries
            .iter()
            .filter(|entry| entry.is_directory());
        let links = match u16::try_from(below.count() + 2) {
            Ok(links) if links <= MOST_LINKS => links,
            _ => UNCOUNTED,
        };
        let flags = USES_EXTENTS | if blocks.indexed { INDEXED } else { 0 };
        let size = blocks.bytes.len() as u64;
        self.space.add_directory(number);
        self.inode(number, meta, size, links, flags, map, count as u64 + tree)
    }

    /// An entry of `lost+found`.
    pub(super) fn lost_and_found_entry(&self) -> Entry {
        Entry::directory("lost+found", self.lost_and_found)
    }

    fn map(&mut self, number: u32, extents: &Extents) -> Result<([u8; MAP_SIZE], u64), DiskError> {
        let space = &mut self.space;
        extents.map(seed_of(number, space.layout.seed), |node| {
            let block = space.take(Use::Data, 1)?.start;
            space.write(block, node)?;
            Ok(block)
        })
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "they are what an inode consists of"
    )]
    fn inode(
        &mut self,
        number: u32,
        mut meta: Meta,
        size: u64,
        links: u16,
        flags: u32,
        map: [u8; MAP_SIZE],
        mut blocks: u64,
    ) -> Result<(), DiskError> {
        let all = std::mem::take(&mut meta.attributes);
        let (inside, outside) = attributes::split(all, inode::ROOM).ok_or(DiskError::Attributes)?;
        meta.attributes = inside;
        let mut attribute_block = 0;
        if !outside.is_empty() {
            attribute_block = self.space.take(Use::Data, 1)?.start;
            let seed = self.space.layout.seed;
            let block = attributes::block(&outside, attribute_block, seed);
            self.space.write(attribute_block, &block)?;
            blocks += 1;
        }
        let inode = Inode {
            meta,
            size,
            links,
            flags,
            map,
            blocks,
            attribute_block,
        };
        let bytes = inode.to_bytes(number, self.space.layout.seed);
        self.space.write_inode(number, &bytes)
    }

    pub(super) fn finish(self) -> Result<(), DiskError> {
        self.space.finish()
    }
}

/// The error of reading the tree.
pub(super) fn not_read(error: impl Into<io::Error>) -> DiskError {
    io_error("read a file for")(error.into())
}
