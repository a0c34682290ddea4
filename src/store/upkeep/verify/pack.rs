//! One pack or journal, structure or every byte.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::Digest as _;

use crate::digest::{Digest, ObjectId, Sha256};
use crate::store::content::ingest::list_of;
use crate::store::error::{StoreError, damaged, io_error};
use crate::store::format::{
    ChunkList, ENTRY, Entry, FormatError, HEADER, Kind, RECORD, RecordHeader, Role, decode_action,
    decode_payload,
};
use crate::store::records::files::open_file;
use crate::store::records::table::PackHead;
use crate::store::upkeep::walk::JournalPart;
use crate::store::upkeep::watch::Watch;

/// How much is read at once: what was read is still in the processor's cache when it is decoded.
const PIECE: usize = 512 << 10;

/// Records of a file that cannot be used.
#[derive(Debug, Default)]
pub(super) enum Bad {
    #[default]
    None,
    All,
    /// By offset, sorted.
    At(Vec<u32>),
}

impl Bad {
    pub(super) fn has(&self, offset: u32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::At(offsets) => offsets.binary_search(&offset).is_ok(),
        }
    }
}

/// The entries of a table, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    count: u64,
    sum: u64,
}

impl Fingerprint {
    pub(super) fn add(&mut self, hasher: &RandomState, entry: &[u8]) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(hasher.hash_one(&entry[..ENTRY]));
    }
}

/// What was found in a file.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Of the pack's table.
    pub(super) fingerprint: Fingerprint,
    /// What is wrong with the file: the first thing that was found.
    pub(super) reason: Option<String>,
    pub(super) bad: Bad,
}

impl Checked {
    fn broken(error: impl ToString) -> Self {
        Self {
            reason: Some(error.to_string()),
            bad: Bad::All,
            ..Self::default()
        }
    }
}

/// Looks at a pack; nothing when it is gone. What is wrong with the file is in the result; only
/// giving up is an error.
pub(super) fn check_pack(
    path: &Path,
    name: Sha256,
    quick: bool,
    hasher: &RandomState,
    watch: &Watch<'_>,
) -> Result<Option<Checked>, StoreError> {
    watch.step(0)?;
    let (file, size) = match open_file(path) {
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Ok(Some(Checked::broken(error))),
        Ok(opened) => opened,
    };
    let table = PackHead::read(&file, path, size).and_then(|head| {
        let (entries, fingerprint) = read_table(&file, path, &head, !quick, hasher)?;
        Ok((head, entries, fingerprint))
    });
    let (head, entries, fingerprint) = match table {
        Ok(read) => read,
        Err(error) => {
            watch.step(if quick { 0 } else { size })?;
            return Ok(Some(Checked::broken(without_path(error))));
        }
    };
    let mut checked = Checked {
        fingerprint,
        ..Checked::default()
    };
    if quick {
        return Ok(Some(checked));
    }
    let mut stream = Stream::new(&file, path, size, watch);
    let scanned = scan(&mut stream, &entries, head.trailer.offset);
    let (bad, mut reason) = match scanned {
        Err(StoreError::Interrupted) => return Err(StoreError::Interrupted),
        // It cannot be read to its end.
        Err(error) => (Bad::All, Some(without_path(error))),
        Ok(found) => found,
    };
    checked.bad = bad;
    if !matches!(checked.bad, Bad::All) {
        match stream.hash() {
            Err(StoreError::Interrupted) => return Err(StoreError::Interrupted),
            Err(error) => reason = reason.or(Some(without_path(error))),
            Ok(hash) if hash != name => {
                reason.get_or_insert("its content does not match its name".to_owned());
            }
            Ok(_) => {}
        }
    }
    checked.reason = reason;
    Ok(Some(checked))
}

/// Looks at the records of a journal.
pub(super) fn check_journal(
    journal: &JournalPart,
    quick: bool,
    watch: &Watch<'_>,
) -> Result<Checked, StoreError> {
    let mut checked = Checked::default();
    if journal.goes_on()? {
        checked.reason = Some(format!(
            "there are records behind damaged ones (at byte {})",
            journal.end
        ));
    }
    let size = journal.file.metadata().map_or(0, |meta| meta.len());
    if journal.end == 0 && size >= HEADER as u64 {
        checked.reason = Some("it does not begin as a journal of its name".to_owned());
    }
    if quick || journal.end == 0 {
        return Ok(checked);
    }
    let mut stream = Stream::new(&journal.file, &journal.path, journal.end, watch);
    let mut entries = journal.entries.clone();
    entries.sort_unstable_by_key(|entry| entry.offset);
    match scan(&mut stream, &entries, journal.end) {
        Err(StoreError::Interrupted) => Err(StoreError::Interrupted),
        Err(error) => Ok(Checked::broken(without_path(error))),
        Ok((bad, reason)) => {
            checked.bad = bad;
            checked.reason = checked.reason.or(reason);
            Ok(checked)
        }
    }
}

fn without_path(error: StoreError) -> String {
    match error {
        StoreError::Damaged { reason, .. } => reason,
        StoreError::Io { source, .. } => format!("it cannot be read: {source}"),
        other => other.to_string(),
    }
}

/// Checks the table of a pack. Gives its entries sorted by offset, when they are to be kept.
fn read_table(
    file: &File,
    path: &Path,
    head: &PackHead,
    keep: bool,
    hasher: &RandomState,
) -> Result<(Vec<Entry>, Fingerprint), StoreError> {
    let count = head.trailer.count as usize;
    let mut entries = Vec::with_capacity(if keep { count } else { 0 });
    let mut fingerprint = Fingerprint::default();
    let mut checksum = 0;
    let mut last: Option<(Digest, Kind)> = None;
    let mut buffer = Vec::new();
    for first in (0..count).step_by(PIECE / ENTRY) {
        let many = (count - first).min(PIECE / ENTRY);
        buffer.resize(many * ENTRY, 0);
        let offset = head.trailer.offset + (first * ENTRY) as u64;
        file.read_exact_at(&mut buffer, offset)
            .map_err(io_error("read", path))?;
        checksum = crc32c::crc32c_append(checksum, &buffer);
        for bytes in buffer.chunks_exact(ENTRY) {
            let wrong = |text| damaged(path)(FormatError(text));
            let entry = Entry::decode(bytes).map_err(damaged(path))?;
            let order = (entry.record.key, entry.record.kind);
            if last.replace(order).is_some_and(|last| last >= order) {
                return Err(wrong("its table is not in order"));
            }
            let end = u64::from(entry.offset) + entry.record.length();
            if (entry.offset as usize) < HEADER || end > head.trailer.offset {
                return Err(wrong("its table has a record that is not in the file"));
            }
            if head.role == Role::Data && entry.record.kind != Kind::Chunk {
                return Err(wrong("it is a data pack and has more than chunks"));
            }
            fingerprint.add(hasher, bytes);
            if keep {
                entries.push(entry);
            }
        }
    }
    if checksum != head.trailer.checksum {
        return Err(damaged(path)(FormatError(
            "the checksum of its table is wrong",
        )));
    }
    entries.sort_unstable_by_key(|entry| entry.offset);
    Ok((entries, fingerprint))
}

/// Goes through the records from the header to `end`. `entries` are sorted by offset; what is
/// between them has to be records that were replaced.
fn scan(
    stream: &mut Stream<'_>,
    entries: &[Entry],
    end: u64,
) -> Result<(Bad, Option<String>), StoreError> {
    let mut bad = Vec::new();
    let mut reason = None;
    let mut out = Vec::new();
    let mut position = HEADER as u64;
    for entry in entries {
        let offset = u64::from(entry.offset);
        let fits = position <= offset && replaced(stream, &mut position, offset)?;
        if !fits {
            reason.get_or_insert_with(|| {
                format!("there is something else between its records (at byte {position})")
            });
        }
        if position > offset {
            bad.push(entry.offset);
            continue;
        }
        let bytes = stream.bytes(offset, entry.record.length() as usize)?;
        if let Err(error) = check_record(bytes, &entry.record, &mut out) {
            bad.push(entry.offset);
            reason.get_or_insert_with(|| format!("{error} (at byte {offset})"));
        }
        position = offset + entry.record.length();
    }
    if position < end && !replaced(stream, &mut position, end)? {
        reason.get_or_insert_with(|| {
            format!("there is something else behind its records (at byte {position})")
        });
    }
    let bad = if bad.is_empty() {
        Bad::None
    } else {
        Bad::At(bad)
    };
    Ok((bad, reason))
}

/// Passes over whole records up to `end`; tells whether there is nothing else.
fn replaced(stream: &mut Stream<'_>, position: &mut u64, end: u64) -> Result<bool, StoreError> {
    while *position < end {
        if end - *position < RECORD as u64 {
            return Ok(false);
        }
        let length = match RecordHeader::parse(stream.bytes(*position, RECORD)?) {
            Ok((record, _)) if record.length() <= end - *position => record.length(),
            _ => return Ok(false),
        };
        if RecordHeader::decode_record(stream.bytes(*position, length as usize)?).is_err() {
            return Ok(false);
        }
        *position += length;
    }
    Ok(true)
}

/// Checks a record down to its content.
fn check_record(
    bytes: &[u8],
    expected: &RecordHeader,
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let (record, payload) = RecordHeader::decode_record(bytes)?;
    if record != *expected {
        return Err(FormatError("its table contradicts a record"));
    }
    // Shorter than its content: compressed.
    let content = if record.stored < record.content {
        decode_payload(&record, payload, out)?;
        out.as_slice()
    } else {
        payload
    };
    let right = match record.kind {
        Kind::Chunk => blake3::hash(content).as_bytes() == record.key.as_bytes(),
        Kind::Object => {
            ChunkList::decode(content)?;
            ChunkList::id_of(content) == ObjectId::new(record.key)
        }
        Kind::Blob => list_of(content).id() == ObjectId::new(record.key),
        Kind::Action => decode_action(content).is_ok(),
    };
    if right {
        Ok(())
    } else {
        Err(FormatError("a record's content is not what its name says"))
    }
}

/// A file that is read once from front to back, and hashed on the way.
struct Stream<'a> {
    file: &'a File,
    path: &'a Path,
    size: u64,
    hasher: sha2::Sha256,
    watch: &'a Watch<'a>,
    /// The file from `base` on is in the first `filled` bytes.
    buffer: Vec<u8>,
    base: u64,
    filled: usize,
}

impl<'a> Stream<'a> {
    fn new(file: &'a File, path: &'a Path, size: u64, watch: &'a Watch<'a>) -> Self {
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
        Self {
            file,
            path,
            size,
            hasher: sha2::Sha256::new(),
            watch,
            buffer: vec![0; 2 * PIECE],
            base: 0,
            filled: 0,
        }
    }

    /// The bytes from `offset` on, which must not be before those that were asked for last. They
    /// must be in the file.
    fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8], StoreError> {
        let end = offset + length as u64;
        while self.end() < end {
            self.more(offset, length)?;
        }
        let at = (offset - self.base) as usize;
        Ok(&self.buffer[at..at + length])
    }

    const fn end(&self) -> u64 {
        self.base + self.filled as u64
    }

    /// Reads on; what is before `keep` is forgotten.
    fn more(&mut self, keep: u64, length: usize) -> Result<(), StoreError> {
        let forget = keep.clamp(self.base, self.end()) - self.base;
        self.buffer.copy_within(forget as usize..self.filled, 0);
        self.base += forget;
        self.filled -= forget as usize;
        let room = length + PIECE;
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let count = (self.size - self.end()).min(PIECE as u64) as usize;
        let count = count.min(self.buffer.len() - self.filled);
        let part = &mut self.buffer[self.filled..self.filled + count];
        self.file
            .read_exact_at(part, self.base + self.filled as u64)
            .map_err(io_error("read", self.path))?;
        self.hasher.update(&*part);
        self.filled += count;
        self.watch.step(count as u64)
    }

    /// The SHA-256 of the whole file.
    fn hash(mut self) -> Result<Sha256, StoreError> {
        while self.end() < self.size {
            self.more(self.end(), 0)?;
        }
        Ok(Sha256::from_bytes(self.hasher.finalize().into()))
    }
}
