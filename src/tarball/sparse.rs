//! Files with holes: where their data is.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};

use super::{BLOCK, Member, damaged};

/// Files with fewer bytes in holes than this are written as they are: they cost little, and more
/// programs read them.
const MIN_HOLES: u64 = 1 << 20;
/// The most parts of a map that are written: it must fit into an extended header.
const MAX_PARTS: usize = 16 << 10;
/// The most parts of a map that are read.
pub(super) const MAX_READ: usize = 1 << 20;
/// Bytes that are read and written at once.
const BUFFER: usize = 256 << 10;

/// A map as the parts of the content that are stored. They come in order, do not overlap, and lie
/// within the size.
pub(super) fn parts(
    pairs: impl IntoIterator<Item = (u64, u64)>,
    size: u64,
) -> io::Result<Vec<Range<u64>>> {
    let mut parts = Vec::new();
    let mut behind = 0;
    for (start, length) in pairs {
        let end = start.checked_add(length).filter(|end| *end <= size);
        let Some(end) = end.filter(|_| start >= behind) else {
            return Err(damaged("its map is no map"));
        };
        behind = end;
        if length > 0 {
            parts.push(start..end);
        }
    }
    Ok(parts)
}

/// The parts of a file that are more than zeros, when the rest is large. What counts is the
/// content, by blocks of 4 KiB, and not how a file system keeps it.
///
/// # Errors
/// The file cannot be read.
pub fn data_of(file: &File, size: u64) -> io::Result<Option<Vec<Range<u64>>>> {
    if size < MIN_HOLES {
        return Ok(None);
    }
    let mut parts: Vec<Range<u64>> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut position = 0;
    while let Some(extent) = extent(file, position, size)? {
        // Blocks begin at multiples of their length.
        position = extent.start - extent.start % BLOCK;
        while position < extent.end {
            let length = (size - position).min(BUFFER as u64);
            let bytes = &mut buffer[..length as usize];
            file.read_exact_at(bytes, position)?;
            for (number, block) in (0..).zip(bytes.chunks(BLOCK as usize)) {
                let start = position + number * BLOCK;
                if is_zero(block) {
                    continue;
                }
                let end = start + block.len() as u64;
                match parts.last_mut() {
                    Some(last) if last.end >= start => last.end = end,
                    _ => parts.push(start..end),
                }
            }
            position += length;
        }
    }
    let mut gap = BLOCK;
    while parts.len() > MAX_PARTS {
        gap *= 2;
        parts = joined(parts, gap);
    }
    let stored: u64 = parts.iter().map(|part| part.end - part.start).sum();
    Ok((size - stored >= MIN_HOLES).then_some(parts))
}

/// Parts with less than `gap` between them as one.
fn joined(parts: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for part in parts {
        match joined.last_mut() {
            Some(last) if part.start - last.end < gap => last.end = part.end,
            _ => joined.push(part),
        }
    }
    joined
}

/// The next part of a file that the file system keeps, from a position on; `None` when the rest of
/// its `size` is a hole.
///
/// # Errors
/// The file cannot be asked.
pub fn extent(file: &File, position: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    if position >= size {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(position)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(rustix::io::Errno::INVAL) => return Ok(Some(position..size)),
        Err(error) => return Err(error.into()),
    };
    if start >= size {
        return Ok(None);
    }
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some(start..end.min(size)))
}

/// What is stored of a file that is a member, its parts one after the other.
pub struct StoredFile<'a> {
    file: &'a File,
    parts: VecDeque<Range<u64>>,
}

impl<'a> StoredFile<'a> {
    /// The parts that the member names, or all of the file.
    #[must_use]
    pub fn new(file: &'a File, member: &Member) -> Self {
        let parts = match &member.data {
            Some(parts) => parts.iter().cloned().collect(),
            None => std::iter::once(0..member.size).collect(),
        };
        Self { file, parts }
    }
}

impl Read for StoredFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.parts.pop_front_if(|part| part.is_empty());
        let Some(part) = self.parts.front_mut() else {
            return Ok(0);
        };
        let left = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..length], part.start)?;
        part.start += count as u64;
        Ok(count)
    }
}

/// Writes bytes to a place of a new file, and leaves out blocks of zeros.
pub(super) fn write_data(file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    let mut pending = 0;
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = position + pending as u64;
        let length = rest.len().min((BLOCK - at % BLOCK) as usize);
        let block;
        (block, rest) = rest.split_at(length);
        if is_zero(block) {
            file.write_all_at(&bytes[..pending], position)?;
            position = at + length as u64;
            bytes = rest;
            pending = 0;
        } else {
            pending += length;
        }
    }
    file.write_all_at(&bytes[..pending], position)
}

/// A new file that is written from front to back. Blocks of zeros become holes.
pub struct FileWithHoles<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> FileWithHoles<'a> {
    /// Writes to an empty file.
    #[must_use]
    pub const fn new(file: &'a File) -> Self {
        Self { file, position: 0 }
    }

    /// Gives the file its length: its end may be a hole.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn finish(self) -> io::Result<()> {
        self.file.set_len(self.position)
    }
}

impl Write for FileWithHoles<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_data(self.file, bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A buffer for the content of a file of this size.
pub(super) fn buffer(size: u64) -> Vec<u8> {
    vec![0; BUFFER.min(usize::try_from(size).unwrap_or(BUFFER))]
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
    bytes == &ZEROS[..bytes.len()]
}
