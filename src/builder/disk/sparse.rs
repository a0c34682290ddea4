//! A disk in memory that holds only what was written to it.
//!
//! The FAT library works in small steps: one cluster, four bytes of the allocation table. In memory
//! these cost nothing, and the file is then written once, in large pieces and without the zeros.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

const CHUNK: u64 = 64 * 1024;
/// Blocks of zeros of this size are left out of the file.
const BLOCK: usize = 4096;

#[derive(Debug)]
pub(super) struct SparseDisk {
    chunks: BTreeMap<u64, Box<[u8]>>,
    position: u64,
    size: u64,
}

impl SparseDisk {
    pub(super) fn new(size: u64) -> Self {
        Self {
            chunks: BTreeMap::new(),
            position: 0,
            size,
        }
    }

    /// Writes what is not zero to `file` from `offset` on. The range must read as zeros before.
    pub(super) fn write_to(&self, file: &File, offset: u64) -> io::Result<()> {
        for (index, chunk) in &self.chunks {
            let start = offset + index * CHUNK;
            let blocks: Vec<&[u8]> = chunk.chunks(BLOCK).collect();
            let mut at = 0;
            for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
                let length = run.len() * BLOCK;
                if !is_zero(run[0]) {
                    file.write_all_at(&chunk[at..at + length], start + at as u64)?;
                }
                at += length;
            }
        }
        Ok(())
    }

    /// The chunk at the position, the offset in it, and how many bytes up to its end or the disk's.
    fn place(&self) -> (u64, usize, usize) {
        let inside = self.position % CHUNK;
        let left = (CHUNK - inside).min(self.size.saturating_sub(self.position));
        (self.position / CHUNK, inside as usize, left as usize)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

impl Read for SparseDisk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (index, inside, left) = self.place();
        let count = left.min(buffer.len());
        match self.chunks.get(&index) {
            Some(chunk) => buffer[..count].copy_from_slice(&chunk[inside..inside + count]),
            None => buffer[..count].fill(0),
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for SparseDisk {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let (index, inside, left) = self.place();
        let count = left.min(buffer.len());
        let chunk = self
            .chunks
            .entry(index)
            .or_insert_with(|| vec![0; CHUNK as usize].into_boxed_slice());
        chunk[inside..inside + count].copy_from_slice(&buffer[..count]);
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SparseDisk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.size.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_has_what_was_written_and_holes_elsewhere() {
        let mut disk = SparseDisk::new(64 << 20);
        disk.seek(SeekFrom::Start(CHUNK - 3)).unwrap();
        disk.write_all(b"across chunks").unwrap();
        disk.seek(SeekFrom::End(-4)).unwrap();
        disk.write_all(b"last").unwrap();
        assert_eq!(disk.write(b"beyond").unwrap(), 0);
        let file = tempfile::tempfile().unwrap();
        file.set_len((64 << 20) + 5 * 4096).unwrap();
        disk.write_to(&file, 4096).unwrap();
        let mut found = [0; 13];
        file.read_exact_at(&mut found, 4096 + CHUNK - 3).unwrap();
        assert_eq!(&found, b"across chunks");
        assert!(file.metadata().unwrap().blocks() * 512 <= 64 * 1024);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn it_reads_back_like_an_array(
            writes in prop::collection::vec(
                (0_usize..300_000, prop::collection::vec(any::<u8>(), 0..70_000)), 0..6),
        ) {
            let mut model = vec![0; 300_000];
            let mut disk = SparseDisk::new(300_000);
            for (at, bytes) in writes {
                let count = bytes.len().min(model.len() - at);
                model[at..at + count].copy_from_slice(&bytes[..count]);
                disk.seek(SeekFrom::Start(at as u64)).unwrap();
                disk.write_all(&bytes[..count]).unwrap();
            }
            disk.rewind().unwrap();
            let mut all = Vec::new();
            disk.read_to_end(&mut all).unwrap();
            prop_assert_eq!(all, model);
        }
    }
}
