//! The head of an index file (`store-format/packs.md`). Its entries are those of tables.

use super::{ENTRY, FormatError, array, u32_at, u64_at, zeros};
use crate::digest::Sha256;

/// Length of an entry in bytes: that of a table and the number of a pack.
pub(crate) const INDEX_ENTRY: usize = ENTRY + 4;
const HEAD: usize = 32;

/// What is before the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexHeader {
    /// The packs, by their numbers.
    pub(crate) packs: Vec<Sha256>,
    pub(crate) count: u64,
}

impl IndexHeader {
    /// Where the entries begin.
    pub(crate) const fn length(&self) -> u64 {
        (HEAD + 32 * self.packs.len()) as u64
    }
}

pub(crate) fn encode_index_header(header: &IndexHeader) -> Vec<u8> {
    let names: Vec<u8> = header
        .packs
        .iter()
        .flat_map(|pack| *pack.as_bytes())
        .collect();
    let mut bytes = b"vmfabidx".to_vec();
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&(header.packs.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&header.count.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&names).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&names);
    bytes
}

/// The header of an index file of `size` bytes. `read` gives so many bytes at an offset.
///
/// # Errors
/// It is none, or does not fit the size.
pub(crate) fn decode_index_header<E: From<FormatError>>(
    size: u64,
    read: impl Fn(u64, usize) -> Result<Vec<u8>, E>,
) -> Result<IndexHeader, E> {
    if size < HEAD as u64 {
        return Err(FormatError("it ends too early").into());
    }
    let head = read(0, HEAD)?;
    if array(&head, 0)? != *b"vmfabidx" || u32_at(&head, 8)? != 1 {
        return Err(FormatError("it does not begin as an index").into());
    }
    zeros(&head[28..])?;
    let packs = u64::from(u32_at(&head, 12)?);
    let count = u64_at(&head, 16)?;
    let expected = count
        .checked_mul(INDEX_ENTRY as u64)
        .and_then(|entries| entries.checked_add(HEAD as u64 + packs * 32));
    if expected != Some(size) {
        return Err(FormatError("an index does not fit its size").into());
    }
    // Fits in memory: it fits in the file.
    let names = read(HEAD as u64, packs as usize * 32)?;
    if crc32c::crc32c(&names) != u32_at(&head, 24)? {
        return Err(FormatError("the checksum of an index is wrong").into());
    }
    let packs = names
        .chunks_exact(32)
        .map(|name| array(name, 0).map(Sha256::from_bytes))
        .collect::<Result<_, _>>()?;
    Ok(IndexHeader { packs, count })
}
