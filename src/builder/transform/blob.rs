//! The input of a transform, as the readers of formats want it.

use std::io::{self, Read, Seek, SeekFrom};

use crate::disk::ReadAt;
use crate::host::Interrupt;
use crate::store::ObjectReader;

/// An object that is read in any of the three ways. Reading ends with an error when the user gives
/// up.
pub(super) struct Blob {
    reader: ObjectReader,
    position: u64,
    interrupt: Interrupt,
}

impl Blob {
    pub(super) const fn new(reader: ObjectReader, interrupt: Interrupt) -> Self {
        Self {
            reader,
            position: 0,
            interrupt,
        }
    }

    /// Its first bytes, at most `length`.
    pub(super) fn head(&self, length: usize) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.reader.size()).map_or(length, |size| size.min(length));
        self.bytes_at(0, length)
    }
}

impl ReadAt for Blob {
    fn size(&self) -> io::Result<u64> {
        Ok(self.reader.size())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.interrupt.requested() {
            return Err(io::Error::other("interrupted"));
        }
        self.reader.read_exact_at(buffer, offset)
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.reader.size().saturating_sub(self.position);
        let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        self.read_exact_at(&mut buffer[..length], self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for Blob {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.reader.size().checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
