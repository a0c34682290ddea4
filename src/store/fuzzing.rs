//! The decoders of the store, one function for each, which take any bytes: what `fuzz/` runs, and a
//! test replays. They panic when something is wrong; to refuse bytes is fine. Not part of a usual
//! build.

use std::io::{Seek, SeekFrom, Write};

use tempfile::NamedTempFile;

use crate::digest::{Digest, Sha256};
use crate::store::content::chunker::book::{by_steps, by_the_book};
use crate::store::format::{
    Access, ChunkList, Entry, FormatError, HEADER, Kind, RecordHeader, TRAILER, Trailer,
    check_features, decode_action, decode_header, decode_index_header, decode_payload,
    encode_action, encode_header, encode_index_header, encode_record,
};
use crate::store::records::journal;
use crate::store::records::session::Holder;
use crate::store::records::table::Table;

/// A target: its name, which is that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 9] = [
    ("action", action),
    ("chunker", chunker),
    ("format", format),
    ("index", index),
    ("journal", journal),
    ("list", list),
    ("pack", pack),
    ("record", record),
    ("session", session),
];

/// A record: header, checksum, payload. What is decoded is encoded to a record that says the same.
///
/// The bytes are tried with a right checksum too: few that were changed have one.
pub fn record(bytes: &[u8]) {
    decode_record(bytes);
    if let Ok((header, _)) = RecordHeader::parse(bytes)
        && let Some(record) = bytes.get(4..header.length() as usize)
    {
        let checksum = crc32c::crc32c(record).to_le_bytes();
        decode_record(&[&checksum, record].concat());
    }
}

fn decode_record(bytes: &[u8]) {
    let Ok((header, payload)) = RecordHeader::decode_record(bytes) else {
        return;
    };
    let mut content = Vec::new();
    if decode_payload(&header, payload, &mut content).is_err() {
        return;
    }
    assert_eq!(content.len(), header.content as usize);
    assert!(header.kind == Kind::Object || content.len() <= 1 << 20);
    let mut again = Vec::new();
    encode_record(&mut again, header.kind, &header.key, &content);
    let (other, payload) = RecordHeader::decode_record(&again).expect("it was just encoded");
    let mut same = Vec::new();
    decode_payload(&other, payload, &mut same).expect("it was just encoded");
    assert_eq!(
        (other.kind, other.key, same),
        (header.kind, header.key, content)
    );
}

/// The list of an object. A valid one has one encoding, and its chunks follow each other within the
/// size.
pub fn list(bytes: &[u8]) {
    let Ok(list) = ChunkList::decode(bytes) else {
        return;
    };
    let mut end = 0;
    for chunk in &list.chunks {
        assert!(chunk.offset >= end && chunk.length > 0);
        end = chunk.offset + u64::from(chunk.length);
    }
    assert!(end <= list.size);
    assert_eq!(list.encode(), bytes);
}

/// An action result. A valid one has one encoding.
pub fn action(bytes: &[u8]) {
    if let Ok((time, outputs)) = decode_action(bytes) {
        assert_eq!(encode_action(time, &outputs).as_deref(), Some(bytes));
    }
}

/// `format.json`.
pub fn format(bytes: &[u8]) {
    match check_features(bytes) {
        Ok(Access::OtherVersion(version)) => assert_ne!(version, 1),
        Ok(Access::Read(features) | Access::Features(features)) => assert!(!features.is_empty()),
        Ok(Access::Write) | Err(_) => {}
    }
}

/// The header of an index, and its entries as the file of one. A valid header has one encoding.
pub fn index(bytes: &[u8]) {
    let read = |offset: u64, length: usize| {
        let start = usize::try_from(offset).ok();
        let part = start.and_then(|start| bytes.get(start..start.checked_add(length)?));
        part.map(<[u8]>::to_vec)
            .ok_or(FormatError("it ends too early"))
    };
    if let Ok(header) = decode_index_header(bytes.len() as u64, read) {
        let encoded = encode_index_header(&header);
        assert_eq!(encoded.len() as u64, header.length());
        assert_eq!(encoded, bytes[..encoded.len()]);
    }
    let file = file_of(bytes);
    if let Ok(table) = Table::of_index(file.path().to_owned()) {
        look_up_all(&table);
    }
}

/// A pack: header, table and trailer; with a right checksum of the table too.
pub fn pack(bytes: &[u8]) {
    decode_pack(bytes);
    let size = bytes.len();
    if let Some(start) = size.checked_sub(TRAILER)
        && let Ok(trailer) = Trailer::decode(&bytes[start..], size as u64)
    {
        let mut bytes = bytes.to_vec();
        let checksum = crc32c::crc32c(&bytes[trailer.offset as usize..start]);
        bytes[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
        decode_pack(&bytes);
    }
}

fn decode_pack(bytes: &[u8]) {
    let file = file_of(bytes);
    let name = Sha256::from_bytes([7; 32]);
    if let Ok((table, head)) = Table::of_pack(file.path().to_owned(), name) {
        assert_eq!(head.size, bytes.len() as u64);
        let decoded = decode_header(bytes).expect("the head of the pack was read");
        assert_eq!(decoded, (head.role, head.journal));
        assert_eq!(encode_header(head.role, head.journal), bytes[..HEADER]);
        look_up_all(&table);
    }
}

/// Every entry of a table whose keys are in order is found by its key.
fn look_up_all(table: &Table) {
    let mut entries: Vec<Entry> = Vec::new();
    let all = table.for_each(|entry, _| {
        entries.push(entry);
        Ok(())
    });
    for entry in &entries {
        assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(entry));
        let mut found = false;
        let looked = table.find(&entry.record.key, |other, _| {
            found |= other == *entry;
            false
        });
        if all.is_ok() && entries.is_sorted_by_key(|entry| entry.record.key) {
            assert!(looked.is_ok() && found);
        }
    }
}

/// A journal. Records follow each other; what is appended where they end is found from there on.
pub fn journal(bytes: &[u8]) {
    let temporary = file_of(bytes);
    let (mut file, path) = (temporary.as_file(), temporary.path());
    let Ok(scanned) = journal::scan(file, path, 0) else {
        return;
    };
    let mut end = HEADER as u64;
    for entry in &scanned.entries {
        assert_eq!(u64::from(entry.offset), end);
        let record = &bytes[entry.offset as usize..];
        assert_eq!(
            RecordHeader::decode_record(record).map(|found| found.0),
            Ok(entry.record)
        );
        end += entry.record.length();
    }
    assert!(scanned.end == end || scanned.end == 0 && scanned.entries.is_empty());
    assert!(scanned.end <= bytes.len() as u64);
    let _ = journal::goes_on_behind(file, path, scanned.end);
    file.set_len(scanned.end)
        .and_then(|()| file.seek(SeekFrom::End(0)))
        .expect("the temporary file is writable");
    if scanned.end > 0 {
        let mut more = Vec::new();
        let key = Digest::from_bytes([1; 32]);
        encode_record(&mut more, Kind::Action, &key, &[0; 10]);
        file.write_all(&more)
            .expect("the temporary file is writable");
        let rest = journal::scan(file, path, scanned.end).expect("it was read before");
        assert_eq!(rest.entries.len(), 1);
        assert_eq!(rest.end, scanned.end + more.len() as u64);
    }
}

/// The lines of a session.
pub fn session(bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        if let Some(holder) = Holder::parse(line) {
            assert_eq!(Holder::parse(&holder.to_string()), Some(holder));
        }
    }
}

/// The cutter, shown content bit by bit, against the naive one. The bytes say what the content is:
/// parts of four bytes, since content by itself would have to be long before it is cut.
pub fn chunker(bytes: &[u8]) {
    let Some((&step, parts)) = bytes.split_first() else {
        return;
    };
    let mut content = Vec::new();
    for part in parts.chunks_exact(4).take(12) {
        let length = usize::from(u16::from_le_bytes([part[2], part[3]]));
        match part[0] % 4 {
            0 => {
                let start = content.len();
                content.resize(start + length, 0);
                let mut hasher = blake3::Hasher::new();
                hasher
                    .update(&part[1..2])
                    .finalize_xof()
                    .fill(&mut content[start..]);
            }
            1 => content.resize(content.len() + length, 0),
            2 => content.resize(content.len() + length * 2, part[1]),
            _ => {
                let mut record = [0; 512];
                record[124..136].copy_from_slice(format!("{:011o} ", length * 2).as_bytes());
                record[156] = part[1];
                record[257..262].copy_from_slice(b"ustar");
                content.extend_from_slice(&record);
            }
        }
    }
    assert_eq!(
        by_steps(&content, (usize::from(step) + 1) * 701),
        by_the_book(&content)
    );
}

/// A temporary file of these bytes.
fn file_of(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("temporary files can be made");
    file.write_all(bytes)
        .expect("temporary files can be written");
    file
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Mutants of each file of a corpus; of one for the chunker, which takes longer.
    const MUTANTS: u64 = 400;
    const LONG_MUTANTS: u64 = 20;

    /// Numbers that look random, the same ones each time (xorshift64).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end.max(1) as u64) as usize
        }
    }

    /// One to four changes: a flipped bit, a byte of an edge, an end cut off, bytes out, bytes of
    /// another file in.
    fn mutant(original: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = original.to_vec();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(bytes.len());
            match numbers.below(8) {
                0..4 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
                4 if !bytes.is_empty() => bytes[at] = [0, 1, 127, 128, 255][numbers.below(5)],
                5 => bytes.truncate(at),
                6 => {
                    let end = bytes.len().min(at + 1 + numbers.below(60));
                    bytes.drain(at.min(end)..end);
                }
                _ => {
                    let from = numbers.below(other.len());
                    let to = other.len().min(from + numbers.below(100));
                    bytes.splice(at..at, other[from.min(to)..to].iter().copied());
                }
            }
        }
        bytes
    }

    #[test]
    fn the_corpus_and_mutants_of_it_pass() {
        for (name, target) in TARGETS {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("fuzz/corpus")
                .join(name);
            let mut paths: Vec<_> = fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            paths.sort();
            assert!(paths.len() > 3, "the corpus of {name} is small");
            let corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
            let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
            for bytes in &corpus {
                target(bytes);
                let mutants = if name == "chunker" {
                    LONG_MUTANTS
                } else {
                    MUTANTS
                };
                for _ in 0..mutants {
                    let other = &corpus[numbers.below(corpus.len())];
                    target(&mutant(bytes, other, &mut numbers));
                }
            }
        }
    }
}
