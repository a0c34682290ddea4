//! The bytes of the store: pure encoders and decoders for what `store-format/` specifies. Decoders
//! take any input; what they refuse, they refuse with a [`FormatError`], and never with a panic.

mod action;
mod features;
mod index;
mod list;
mod pack;

pub(super) use action::{MAX_ACTION, decode_action, decode_sorted, encode_action};
pub(super) use features::{Access, FORMAT_JSON, MAX_FORMAT_JSON, check_features};
pub(super) use index::{INDEX_ENTRY, IndexHeader, decode_index_header, encode_index_header};
pub(crate) use list::{Chunk, ChunkList};
pub(crate) use pack::{
    ENTRY, Entry, HEADER, Kind, MAX_BLOB, RECORD, RecordHeader, Role, TRAILER, Trailer,
    decode_header, decode_payload, decode_table, encode_header, encode_record, encode_table,
};

/// What is wrong with bytes that were to be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FormatError(pub(super) &'static str);

/// Bytes of a fixed length out of a longer slice.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], FormatError> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(FormatError("it ends too early"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, FormatError> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, FormatError> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, FormatError> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn zeros(bytes: &[u8]) -> Result<(), FormatError> {
    if bytes.iter().all(|&byte| byte == 0) {
        Ok(())
    } else {
        Err(FormatError("reserved bytes are not zero"))
    }
}
