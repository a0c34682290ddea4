//! Packs and journals: header, records, table, trailer (`store-format/packs.md`).

use std::cell::RefCell;

use super::{FormatError, MAX_ACTION, array, u32_at, u64_at, zeros};
use crate::digest::Digest;
use crate::store::content::chunker::MAX as MAX_CHUNK;

/// How a file of records begins.
pub(crate) const MAGIC: &[u8] = b"vmfabpck";
/// Length of the header of a file of records, in bytes.
pub(crate) const HEADER: usize = 32;
/// Length of a record's header.
pub(crate) const RECORD: usize = 48;
/// Length of an entry of the table.
pub(crate) const ENTRY: usize = 48;
/// Length of the trailer.
pub(crate) const TRAILER: usize = 32;
/// The longest blob.
pub(crate) const MAX_BLOB: usize = 16_384;
/// Level of zstd: 3 per cent larger than level 3 on system files, and half again as fast.
const LEVEL: i32 = 1;

/// What a file of records holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Chunks only.
    Data,
    /// Objects, blobs, action results, and chunks.
    Catalog,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    Chunk = 1,
    Object = 2,
    Blob = 3,
    Action = 4,
}

impl Kind {
    const fn from_byte(byte: u8) -> Result<Self, FormatError> {
        match byte {
            1 => Ok(Self::Chunk),
            2 => Ok(Self::Object),
            3 => Ok(Self::Blob),
            4 => Ok(Self::Action),
            _ => Err(FormatError("a record is of an unknown kind")),
        }
    }
}

/// How a payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Encoding {
    Plain = 0,
    Zstd = 1,
}

/// A record without its payload and checksum; also what an entry of a table says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) encoding: Encoding,
    /// Bytes of the payload in the file.
    pub(crate) stored: u32,
    /// Bytes of the payload when it is decoded.
    pub(crate) content: u32,
    pub(crate) key: Digest,
}

/// An entry of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) record: RecordHeader,
    /// Offset of the record in the file, in bytes.
    pub(crate) offset: u32,
}

impl RecordHeader {
    /// Bytes of the whole record in the file.
    pub(crate) const fn length(&self) -> u64 {
        RECORD as u64 + self.stored as u64
    }

    /// Kind and lengths, from the bytes at `at`: kind, encoding, zero, stored, content.
    fn decode(bytes: &[u8], at: usize, key: Digest) -> Result<Self, FormatError> {
        let [kind, encoding, zero @ ..] = array::<4>(bytes, at)?;
        zeros(&zero)?;
        let header = Self {
            kind: Kind::from_byte(kind)?,
            encoding: match encoding {
                0 => Encoding::Plain,
                1 => Encoding::Zstd,
                _ => return Err(FormatError("a payload has an unknown encoding")),
            },
            stored: u32_at(bytes, at + 4)?,
            content: u32_at(bytes, at + 8)?,
            key,
        };
        header.check()?;
        Ok(header)
    }

    /// Limits of lengths, so that none is believed before memory is taken for it.
    fn check(&self) -> Result<(), FormatError> {
        let (least, most, may_compress) = match self.kind {
            Kind::Chunk => (1, MAX_CHUNK, true),
            Kind::Blob => (0, MAX_BLOB, true),
            Kind::Object => (8, u32::MAX as usize, false),
            Kind::Action => (10, MAX_ACTION, false),
        };
        let content = self.content as usize;
        if content < least || content > most {
            return Err(FormatError("a record's length is out of bounds"));
        }
        let fits = match self.encoding {
            Encoding::Plain => self.stored == self.content,
            // A writer compresses only where it saves something.
            Encoding::Zstd => may_compress && self.stored < self.content,
        };
        if fits {
            Ok(())
        } else {
            Err(FormatError("a record's lengths do not match"))
        }
    }

    fn encode(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[0] = self.kind as u8;
        bytes[1] = self.encoding as u8;
        bytes[4..8].copy_from_slice(&self.stored.to_le_bytes());
        bytes[8..].copy_from_slice(&self.content.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes` and its checksum, which is not checked here.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, u32), FormatError> {
        let key = Digest::from_bytes(array(bytes, 16)?);
        Ok((Self::decode(bytes, 4, key)?, u32_at(bytes, 0)?))
    }

    /// The record at the start of `bytes`, whole and with a right checksum, and its payload as
    /// stored.
    pub(crate) fn decode_record(bytes: &[u8]) -> Result<(Self, &[u8]), FormatError> {
        let (header, checksum) = Self::parse(bytes)?;
        let length = usize::try_from(header.length()).map_err(|_| FormatError("too long"))?;
        let record = bytes
            .get(..length)
            .ok_or(FormatError("a record ends too early"))?;
        if crc32c::crc32c(&record[4..]) != checksum {
            return Err(FormatError("the checksum of a record is wrong"));
        }
        Ok((header, &record[RECORD..]))
    }
}

impl Entry {
    /// # Errors
    /// A field is out of its bounds.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let key = Digest::from_bytes(array(bytes, 0)?);
        Ok(Self {
            record: RecordHeader::decode(bytes, 32, key)?,
            offset: u32_at(bytes, 44)?,
        })
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..32].copy_from_slice(self.record.key.as_bytes());
        bytes[32..44].copy_from_slice(&self.record.encode());
        bytes[44..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }
}

/// The header of a pack or journal.
pub(crate) fn encode_header(role: Role, journal: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8] = 1;
    bytes[12] = match role {
        Role::Data => 1,
        Role::Catalog => 2,
    };
    bytes[16..24].copy_from_slice(&journal.to_le_bytes());
    bytes
}

/// Role and journal number.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<(Role, u64), FormatError> {
    if !bytes.starts_with(MAGIC) {
        return Err(FormatError("it does not begin as a pack"));
    }
    if u32_at(bytes, 8)? != 1 {
        return Err(FormatError("it is a pack of another version"));
    }
    let role = match u32_at(bytes, 12)? {
        1 => Role::Data,
        2 => Role::Catalog,
        _ => return Err(FormatError("it is a pack of an unknown role")),
    };
    zeros(&array::<8>(bytes, 24)?)?;
    Ok((role, u64_at(bytes, 16)?))
}

/// Appends a record to `out`; compresses where that is shorter and allowed.
pub(crate) fn encode_record(
    out: &mut Vec<u8>,
    kind: Kind,
    key: &Digest,
    content: &[u8],
) -> RecordHeader {
    let start = out.len();
    out.resize(start + RECORD, 0);
    let mut encoding = Encoding::Plain;
    if matches!(kind, Kind::Chunk | Kind::Blob) && compress(content, out) {
        encoding = Encoding::Zstd;
    } else {
        out.truncate(start + RECORD);
        out.extend_from_slice(content);
    }
    let header = RecordHeader {
        kind,
        encoding,
        stored: length(out.len() - start - RECORD),
        content: length(content.len()),
        key: *key,
    };
    finish_record(&mut out[start..], &header);
    header
}

/// Lengths of records are below 4 GiB: chunks and blobs by their limits, lists because an object of
/// that many chunks has more than a terabyte.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a record is shorter than 4 GiB")
}

fn finish_record(record: &mut [u8], header: &RecordHeader) {
    record[4..16].copy_from_slice(&header.encode());
    record[16..RECORD].copy_from_slice(header.key.as_bytes());
    let checksum = crc32c::crc32c(&record[4..]);
    record[..4].copy_from_slice(&checksum.to_le_bytes());
}

thread_local! {
    /// With room for what it makes.
    static COMPRESSOR: RefCell<(Option<zstd::bulk::Compressor<'static>>, Vec<u8>)> =
        const { RefCell::new((None, Vec::new())) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends `content`, a chunk or a blob, compressed; tells whether that is shorter (otherwise
/// nothing is appended).
fn compress(content: &[u8], out: &mut Vec<u8>) -> bool {
    COMPRESSOR.with_borrow_mut(|(compressor, scratch)| {
        if compressor.is_none() {
            *compressor = zstd::bulk::Compressor::new(LEVEL).ok();
            scratch.resize(MAX_CHUNK, 0);
        }
        // Room for less than the content: what does not fit is not worth it.
        let room = scratch.get_mut(..content.len().saturating_sub(1));
        let (Some(compressor), Some(room)) = (compressor, room) else {
            return false;
        };
        match compressor.compress_to_buffer(content, room) {
            Ok(length) => {
                out.extend_from_slice(&room[..length]);
                true
            }
            Err(_) => false,
        }
    })
}

/// Decodes a payload into `out`, which is replaced. Never more than the content length is decoded.
///
/// # Errors
/// It is not a frame of exactly the content length.
pub(crate) fn decode_payload(
    header: &RecordHeader,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let wrong = FormatError("a payload does not decompress to its length");
    if header.encoding == Encoding::Plain {
        out.clear();
        out.extend_from_slice(payload);
        return Ok(());
    }
    // One frame, and nothing behind it.
    match zstd::zstd_safe::find_frame_compressed_size(payload) {
        Ok(length) if length == payload.len() => {}
        _ => return Err(wrong),
    }
    out.resize(header.content as usize, 0);
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        if decompressor.is_none() {
            *decompressor = zstd::bulk::Decompressor::new().ok();
        }
        let decompressor = decompressor.as_mut().ok_or(wrong)?;
        match decompressor.decompress_to_buffer(payload, out.as_mut_slice()) {
            Ok(length) if length == header.content as usize => Ok(()),
            _ => Err(wrong),
        }
    })
}

/// The table and trailer of a pack whose records end at `offset`. `entries` in order of writing.
pub(crate) fn encode_table(entries: &[Entry], offset: u64) -> Vec<u8> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    // Stable: of equal ones the last written is the last.
    sorted.sort_by_key(|entry| (entry.record.key, entry.record.kind));
    let mut table = Vec::with_capacity(sorted.len() * ENTRY + TRAILER);
    for (index, entry) in sorted.iter().enumerate() {
        let again = sorted.get(index + 1).is_some_and(|next| {
            (next.record.key, next.record.kind) == (entry.record.key, entry.record.kind)
        });
        if !again {
            table.extend_from_slice(&entry.encode());
        }
    }
    let trailer = Trailer {
        checksum: crc32c::crc32c(&table),
        count: length(table.len() / ENTRY),
        offset,
    };
    table.extend_from_slice(&trailer.encode());
    table
}

/// The entries of a table without its trailer.
///
/// # Errors
/// One of them is none.
pub(crate) fn decode_table(bytes: &[u8]) -> Result<Vec<Entry>, FormatError> {
    bytes.chunks(ENTRY).map(Entry::decode).collect()
}

/// The end of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// CRC-32C of the table.
    pub(crate) checksum: u32,
    /// Entries in the table.
    pub(crate) count: u32,
    /// Where the table begins.
    pub(crate) offset: u64,
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        bytes[..4].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.count.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[24..].copy_from_slice(b"vmfabend");
        bytes
    }

    /// The trailer of a file of `size` bytes.
    ///
    /// # Errors
    /// It is none, or does not fit the size.
    pub(crate) fn decode(bytes: &[u8], size: u64) -> Result<Self, FormatError> {
        if array(bytes, 24)? != *b"vmfabend" {
            return Err(FormatError("it does not end as a pack"));
        }
        zeros(&array::<8>(bytes, 16)?)?;
        let trailer = Self {
            checksum: u32_at(bytes, 0)?,
            count: u32_at(bytes, 4)?,
            offset: u64_at(bytes, 8)?,
        };
        let end = (u64::from(trailer.count) * ENTRY as u64 + TRAILER as u64)
            .checked_add(trailer.offset)
            .filter(|_| trailer.offset >= HEADER as u64);
        if end == Some(size) && size <= u64::from(u32::MAX) {
            Ok(trailer)
        } else {
            Err(FormatError("its table does not fit its size"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    #[test]
    fn a_record_round_trips_compressed_or_not() {
        let mut out = vec![9; 5];
        for content in [vec![7; 5000], (0..=255).collect::<Vec<u8>>()] {
            out.truncate(5);
            let header = encode_record(&mut out, Kind::Chunk, &key(1), &content);
            let (decoded, payload) = RecordHeader::decode_record(&out[5..]).unwrap();
            assert_eq!(decoded, header);
            let mut back = Vec::new();
            decode_payload(&decoded, payload, &mut back).unwrap();
            assert_eq!(back, content);
        }
    }

    #[test]
    fn a_bomb_is_refused_at_its_length() {
        let frame = zstd::bulk::compress(&vec![0; 100 << 20], 3).unwrap();
        let header = RecordHeader {
            kind: Kind::Chunk,
            encoding: Encoding::Zstd,
            stored: frame.len() as u32,
            content: 262_144,
            key: key(1),
        };
        let mut out = Vec::new();
        assert!(decode_payload(&header, &frame, &mut out).is_err());
        assert!(out.capacity() <= 262_144);
    }

    #[test]
    fn a_table_keeps_the_last_of_equal_keys() {
        let entry = |n, offset| Entry {
            record: RecordHeader {
                kind: Kind::Action,
                encoding: Encoding::Plain,
                stored: 10,
                content: 10,
                key: key(n),
            },
            offset,
        };
        let bytes = encode_table(&[entry(2, 32), entry(1, 90), entry(2, 148)], 206);
        let trailer = Trailer::decode(&bytes[bytes.len() - TRAILER..], 206 + bytes.len() as u64);
        assert_eq!(trailer.unwrap().count, 2);
        assert_eq!(Entry::decode(&bytes).unwrap(), entry(1, 90));
        assert_eq!(Entry::decode(&bytes[ENTRY..]).unwrap(), entry(2, 148));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_in_a_record_is_found(bit in 0_usize..(48 + 40) * 8) {
            let mut out = Vec::new();
            encode_record(&mut out, Kind::Action, &key(3), &[5; 40]);
            out[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(RecordHeader::decode_record(&out).is_err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RecordHeader::decode_record(&bytes);
            let _ = Entry::decode(&bytes);
            let _ = Trailer::decode(&bytes, bytes.len() as u64);
            let _ = decode_header(&bytes);
        }
    }
}
