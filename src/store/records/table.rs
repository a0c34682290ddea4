//! Looking keys up: in the table of a pack, or in an index of many.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files::{open_file, read_at};
use crate::digest::{Digest, Sha256};
use crate::store::error::{StoreError, damaged};
use crate::store::format::{
    ENTRY, Entry, FormatError, HEADER, INDEX_ENTRY, Kind, Role, TRAILER, Trailer, decode_header,
    decode_index_header,
};

/// Tables up to this many bytes are kept in memory.
const KEPT: u64 = 256 << 10;
/// How much of a larger one is read at once, in entries.
const WINDOW: u64 = 80;

/// Sorted entries in a file: which of its packs has a key, and where.
#[derive(Debug)]
pub(in crate::store) struct Table {
    /// The packs that entries may be in, by number. A pack's own table has one.
    pub(in crate::store) packs: Vec<Sha256>,
    pub(in crate::store) path: PathBuf,
    file: File,
    start: u64,
    count: u64,
    stride: usize,
    kept: Option<Vec<u8>>,
}

/// The head of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct PackHead {
    pub(in crate::store) role: Role,
    pub(in crate::store) journal: u64,
    pub(in crate::store) size: u64,
    pub(in crate::store) trailer: Trailer,
}

impl PackHead {
    /// Header and trailer of a pack.
    pub(in crate::store) fn read(file: &File, path: &Path, size: u64) -> Result<Self, StoreError> {
        if size < (HEADER + TRAILER) as u64 {
            return Err(damaged(path)(FormatError("it ends too early")));
        }
        let (role, journal) =
            decode_header(&read_at(file, path, 0, HEADER)?).map_err(damaged(path))?;
        let end = read_at(file, path, size - TRAILER as u64, TRAILER)?;
        let trailer = Trailer::decode(&end, size).map_err(damaged(path))?;
        Ok(Self {
            role,
            journal,
            size,
            trailer,
        })
    }
}

impl Table {
    /// The table of a pack.
    pub(in crate::store) fn of_pack(
        path: PathBuf,
        name: Sha256,
    ) -> Result<(Self, PackHead), StoreError> {
        let (file, size) = open_file(&path)?;
        let head = PackHead::read(&file, &path, size)?;
        let mut table = Self {
            packs: vec![name],
            path,
            file,
            start: head.trailer.offset,
            count: u64::from(head.trailer.count),
            stride: ENTRY,
            kept: None,
        };
        table.keep()?;
        if let Some(kept) = &table.kept
            && crc32c::crc32c(kept) != head.trailer.checksum
        {
            return Err(damaged(&table.path)(FormatError(
                "the checksum of its table is wrong",
            )));
        }
        Ok((table, head))
    }

    pub(in crate::store) fn of_index(path: PathBuf) -> Result<Self, StoreError> {
        let (file, size) = open_file(&path)?;
        let header = decode_index_header(size, |offset, length| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)
                .map_err(|_| FormatError("it cannot be read"))?;
            Ok::<_, FormatError>(bytes)
        })
        .map_err(damaged(&path))?;
        let mut table = Self {
            start: header.length(),
            count: header.count,
            packs: header.packs,
            path,
            file,
            stride: INDEX_ENTRY,
            kept: None,
        };
        table.keep()?;
        Ok(table)
    }

    fn keep(&mut self) -> Result<(), StoreError> {
        let bytes = self.count * self.stride as u64;
        if bytes <= KEPT {
            self.kept = Some(read_at(&self.file, &self.path, self.start, bytes as usize)?);
        }
        Ok(())
    }

    /// Whether it is an index, not the table of a pack.
    pub(in crate::store) const fn is_index(&self) -> bool {
        self.stride != ENTRY
    }

    /// Entries.
    pub(in crate::store) const fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of one entry: an entry, and the number of its pack in an index.
    pub(in crate::store) const fn stride(&self) -> usize {
        self.stride
    }

    /// The bytes of entries `from..to`.
    pub(in crate::store) fn raw(&self, from: u64, to: u64) -> Result<Vec<u8>, StoreError> {
        let length = (to - from) as usize * self.stride;
        let offset = from * self.stride as u64;
        match &self.kept {
            Some(kept) => Ok(kept[offset as usize..offset as usize + length].to_vec()),
            None => read_at(&self.file, &self.path, self.start + offset, length),
        }
    }

    /// An entry and its pack, from its bytes.
    pub(in crate::store) fn decode(&self, bytes: &[u8]) -> Result<(Entry, Sha256), StoreError> {
        let entry = Entry::decode(bytes).map_err(damaged(&self.path))?;
        let number = match bytes.get(ENTRY..ENTRY + 4) {
            Some(number) if self.stride == INDEX_ENTRY => {
                u32::from_le_bytes([number[0], number[1], number[2], number[3]])
            }
            _ => 0,
        };
        let pack = self
            .packs
            .get(number as usize)
            .ok_or_else(|| damaged(&self.path)(FormatError("it names a pack by a wrong number")))?;
        Ok((entry, *pack))
    }

    /// Gives every entry with this key to `found` until it returns true.
    pub(in crate::store) fn find(
        &self,
        key: &Digest,
        mut found: impl FnMut(Entry, Sha256) -> bool,
    ) -> Result<(), StoreError> {
        if let Some(kept) = &self.kept {
            let mut index = lower_bound(kept, self.stride, key);
            while let Some(bytes) = kept.get(index..index + self.stride)
                && bytes[..32] == key.as_bytes()[..]
            {
                let (entry, pack) = self.decode(bytes)?;
                if found(entry, pack) {
                    return Ok(());
                }
                index += self.stride;
            }
            return Ok(());
        }
        let mut index = self.position(key)?;
        while index < self.count {
            let bytes = self.raw(index, (index + 4).min(self.count))?;
            for bytes in bytes.chunks_exact(self.stride) {
                if bytes[..32] != key.as_bytes()[..] {
                    return Ok(());
                }
                let (entry, pack) = self.decode(bytes)?;
                if found(entry, pack) {
                    return Ok(());
                }
                index += 1;
            }
        }
        Ok(())
    }

    /// The number of entries whose keys are smaller.
    pub(in crate::store) fn lower_bound(&self, key: &Digest) -> Result<u64, StoreError> {
        match &self.kept {
            Some(kept) => Ok((lower_bound(kept, self.stride, key) / self.stride) as u64),
            None => self.position(key),
        }
    }

    /// The number of entries whose keys are smaller. Keys are hashes, so that where a key is can be
    /// guessed; around the guess a window is read, and the search narrows from there.
    fn position(&self, key: &Digest) -> Result<u64, StoreError> {
        let first = u64::from_be_bytes(*key.as_bytes().first_chunk().unwrap_or(&[0; 8]));
        let guess = ((u128::from(first) * u128::from(self.count)) >> 64) as u64;
        let (mut low, mut high) = (0, self.count);
        let mut from = guess.saturating_sub(WINDOW / 2);
        loop {
            from = from.clamp(low, high.saturating_sub(1).max(low));
            let to = (from + WINDOW).min(high);
            if from >= to {
                return Ok(low);
            }
            let window = self.raw(from, to)?;
            let before = (lower_bound(&window, self.stride, key) / self.stride) as u64;
            if before > 0 && before < to - from {
                return Ok(from + before);
            }
            if before == 0 {
                if from == low {
                    return Ok(low);
                }
                high = from;
            } else {
                if to == high {
                    return Ok(high);
                }
                low = to;
            }
            from = low + (high - low) / 2;
        }
    }

    /// Gives all entries in order to `each`.
    pub(in crate::store) fn for_each(
        &self,
        mut each: impl FnMut(Entry, Sha256) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut from = 0;
        while from < self.count {
            let to = (from + 4096).min(self.count);
            for bytes in self.raw(from, to)?.chunks_exact(self.stride) {
                let (entry, pack) = self.decode(bytes)?;
                each(entry, pack)?;
            }
            from = to;
        }
        Ok(())
    }
}

/// Offset of the first entry in `bytes` whose key is not smaller.
fn lower_bound(bytes: &[u8], stride: usize, key: &Digest) -> usize {
    let (mut low, mut high) = (0, bytes.len() / stride);
    while low < high {
        let middle = low + (high - low) / 2;
        if bytes[middle * stride..middle * stride + 32] < key.as_bytes()[..] {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low * stride
}

/// Records of these kinds say that an object is there.
pub(in crate::store) const OBJECTS: [Kind; 2] = [Kind::Object, Kind::Blob];
