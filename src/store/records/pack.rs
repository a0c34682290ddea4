//! Writing packs, and reading records of packs and journals.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use sha2::Digest as _;

use super::Records;
use super::files::Files;
use super::received::is_marked;
use super::session::{Holder, Session};
use crate::digest::{Digest, Sha256};
use crate::store::content::ingest::list_of;
use crate::store::error::{StoreError, damaged, io_error};
use crate::store::format::{
    ChunkList, ENTRY, Entry, FormatError, Kind, RecordHeader, Role, decode_payload, encode_header,
    encode_table,
};

/// A pack ends at the first record behind this many bytes.
pub(in crate::store) const FULL: u64 = 32 << 20;
/// How much of a file is read at once when records are copied, in bytes.
const WINDOW: u64 = 1 << 20;
/// What is gathered before it is written.
const BUFFER: usize = 1 << 20;

/// A pack that is being written, under a temporary name.
pub(in crate::store) struct PackWriter {
    file: tempfile::NamedTempFile,
    hasher: sha2::Sha256,
    buffer: Vec<u8>,
    written: u64,
    entries: Vec<Entry>,
    full: u64,
}

impl PackWriter {
    pub(in crate::store) fn new(files: &Files, role: Role) -> Result<Self, StoreError> {
        let mut writer = Self {
            file: files.temporary()?,
            hasher: sha2::Sha256::new(),
            buffer: Vec::with_capacity(BUFFER + BUFFER / 2),
            written: 0,
            entries: Vec::new(),
            full: files.limit(FULL),
        };
        writer.buffer.extend_from_slice(&encode_header(role, 0));
        Ok(writer)
    }

    const fn length(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Whether it should end.
    pub(in crate::store) const fn is_full(&self) -> bool {
        self.length() > self.full
    }

    /// Appends one encoded record.
    pub(in crate::store) fn append(
        &mut self,
        files: &Files,
        record: &RecordHeader,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let offset = u32::try_from(self.length())
            .map_err(|_| StoreError::Refused("a record of 4 GiB cannot be stored".to_owned()))?;
        self.entries.push(Entry {
            record: *record,
            offset,
        });
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() as u64 >= files.limit(BUFFER as u64) {
            self.flush(files)?;
        }
        Ok(())
    }

    fn flush(&mut self, files: &Files) -> Result<(), StoreError> {
        self.hasher.update(&self.buffer);
        files.write_at(
            self.file.as_file(),
            self.file.path(),
            &self.buffer,
            self.written,
        )?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Adds table and trailer, and puts the pack in its place. `session` relies on it before it is
    /// there.
    pub(in crate::store) fn seal(
        mut self,
        files: &Files,
        session: &Session,
    ) -> Result<Sha256, StoreError> {
        let table = encode_table(&self.entries, self.length());
        self.buffer.extend_from_slice(&table);
        self.flush(files)?;
        let name = Sha256::from_bytes(self.hasher.finalize().into());
        session.pin(files, Holder::Pack(name), || true)?;
        files.publish(self.file, &files.path("packs", name), 0o400)?;
        Ok(name)
    }
}

/// Copies records into new packs, as they are.
pub(in crate::store) struct Rewriter {
    records: Arc<Records>,
    role: Role,
    /// Whether records are only counted.
    dry: bool,
    pack: Option<PackWriter>,
    /// The pack before, on its way to the disk.
    sealing: Option<JoinHandle<Result<Sha256, StoreError>>>,
    packs: Vec<Sha256>,
    written: u64,
    buffer: Vec<u8>,
}

impl Rewriter {
    pub(in crate::store) fn new(records: &Arc<Records>, role: Role, dry: bool) -> Self {
        Self {
            records: records.clone(),
            role,
            dry,
            pack: None,
            sealing: None,
            packs: Vec::new(),
            written: 0,
            buffer: Vec::new(),
        }
    }

    /// Copies the records that `entries` say are in `file`, which is that of `holder`. Damage is
    /// not copied, and of a received pack nothing that is not what its key says: the new pack has
    /// no mark.
    pub(in crate::store) fn copy(
        &mut self,
        holder: &Holder,
        file: &File,
        path: &Path,
        mut entries: Vec<Entry>,
    ) -> Result<(), StoreError> {
        let written = entries
            .iter()
            .map(|entry| entry.record.length() + ENTRY as u64);
        self.written += written.sum::<u64>();
        if self.dry {
            return Ok(());
        }
        let files = &self.records.files;
        let received = matches!(holder, Holder::Pack(pack) if is_marked(files, pack));
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut content = Vec::new();
        read_many(file, path, &mut entries, &mut buffer, |entry, record| {
            check_stored(record, path, entry)?;
            if received && decode_record(record, path, entry, &mut content).is_err() {
                self.written -= entry.record.length() + ENTRY as u64;
                return Ok(());
            }
            self.append(entry, record)
        })?;
        self.buffer = buffer;
        Ok(())
    }

    fn append(&mut self, entry: &Entry, record: &[u8]) -> Result<(), StoreError> {
        let files = &self.records.files;
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(PackWriter::new(files, self.role)?),
        };
        pack.append(files, &entry.record, record)?;
        if pack.is_full() {
            self.seal()?;
        }
        Ok(())
    }

    /// Starts to seal the pack, in the background: forcing it to disk takes time.
    fn seal(&mut self) -> Result<(), StoreError> {
        self.join()?;
        if let Some(pack) = self.pack.take() {
            let records = self.records.clone();
            self.sealing = Some(std::thread::spawn(move || {
                pack.seal(&records.files, &records.session)
            }));
        }
        Ok(())
    }

    fn join(&mut self) -> Result<(), StoreError> {
        if let Some(sealing) = self.sealing.take() {
            let name = sealing
                .join()
                .map_err(|_| StoreError::Refused("a thread of the store ended".to_owned()))??;
            self.packs.push(name);
        }
        Ok(())
    }

    /// Puts the last pack in its place. Gives the packs, and how many bytes they have.
    pub(in crate::store) fn finish(mut self) -> Result<(Vec<Sha256>, u64), StoreError> {
        self.seal()?;
        self.join()?;
        Ok((std::mem::take(&mut self.packs), self.written))
    }
}

impl Drop for Rewriter {
    fn drop(&mut self) {
        if let Some(sealing) = self.sealing.take() {
            let _ = sealing.join();
        }
    }
}

/// Gives the bytes of many records to `each`, in the order of the file. Those that lie close
/// together are read at once. Nothing is checked.
pub(in crate::store) fn read_many(
    file: &File,
    path: &Path,
    entries: &mut [Entry],
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&Entry, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    entries.sort_unstable_by_key(|entry| entry.offset);
    let end = |entry: &Entry| u64::from(entry.offset) + entry.record.length();
    let mut rest: &[Entry] = entries;
    while let Some(first) = rest.first() {
        let start = u64::from(first.offset);
        let count = rest
            .iter()
            .take_while(|entry| end(entry) <= start + WINDOW)
            .count()
            .max(1);
        let (group, later) = rest.split_at(count);
        let length = group.iter().map(end).max().unwrap_or(start) - start;
        check_fits(file, path, first)?;
        buffer.resize(length as usize, 0);
        file.read_exact_at(buffer, start)
            .map_err(io_error("read", path))?;
        for entry in group {
            let at = (u64::from(entry.offset) - start) as usize;
            each(entry, &buffer[at..at + entry.record.length() as usize])?;
        }
        rest = later;
    }
    Ok(())
}

/// Reads a record whole, with its header, and checks its checksum and that `entry` tells the truth.
pub(in crate::store) fn read_stored(
    file: &File,
    path: &Path,
    entry: &Entry,
    buffer: &mut Vec<u8>,
) -> Result<(), StoreError> {
    check_fits(file, path, entry)?;
    buffer.resize(entry.record.length() as usize, 0);
    file.read_exact_at(buffer, u64::from(entry.offset))
        .map_err(io_error("read", path))?;
    check_stored(buffer, path, entry)
}

/// Whether `bytes` are the whole record that `entry` says.
pub(in crate::store) fn check_stored(
    bytes: &[u8],
    path: &Path,
    entry: &Entry,
) -> Result<(), StoreError> {
    match RecordHeader::decode_record(bytes) {
        Ok((record, _)) if record == entry.record => Ok(()),
        Ok(_) => Err(damaged(path)(FormatError("its table contradicts a record"))),
        Err(error) => Err(damaged(path)(error)),
    }
}

/// Reads the record that `entry` says is in `file`, checks it, and decodes its payload into `out`.
/// `buffer` is scratch.
pub(in crate::store) fn read_record(
    file: &File,
    path: &Path,
    entry: &Entry,
    buffer: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    check_fits(file, path, entry)?;
    buffer.resize(entry.record.length() as usize, 0);
    file.read_exact_at(buffer, u64::from(entry.offset))
        .map_err(io_error("read", path))?;
    decode_record(buffer, path, entry, out)
}

/// Whether a long record is in its file at all, before memory is taken for it.
fn check_fits(file: &File, path: &Path, entry: &Entry) -> Result<(), StoreError> {
    if entry.record.stored <= 1 << 20 {
        return Ok(());
    }
    let size = file.metadata().map_err(io_error("look at", path))?.len();
    if u64::from(entry.offset) + entry.record.length() <= size {
        return Ok(());
    }
    Err(damaged(path)(FormatError(
        "a record reaches behind its end",
    )))
}

/// Checks and decodes a record that was read, whose place in its file `entry` says.
pub(in crate::store) fn decode_record(
    bytes: &[u8],
    path: &Path,
    entry: &Entry,
    out: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let at = |error: FormatError| StoreError::Damaged {
        path: path.to_owned(),
        reason: format!("{error} (at byte {})", entry.offset),
    };
    let (record, payload) = RecordHeader::decode_record(bytes).map_err(at)?;
    if record != entry.record {
        return Err(at(FormatError("its table contradicts a record")));
    }
    decode_payload(&record, payload, out).map_err(at)?;
    if is_named(record.kind, &record.key, out) {
        Ok(())
    } else {
        Err(at(FormatError("a record's content does not match its key")))
    }
}

/// Whether a record of this kind and content has this key.
fn is_named(kind: Kind, key: &Digest, content: &[u8]) -> bool {
    match kind {
        Kind::Chunk => blake3::hash(content).as_bytes() == key.as_bytes(),
        Kind::Object => ChunkList::id_of(content).digest() == key,
        Kind::Blob => list_of(content).id().digest() == key,
        // The key says nothing of the content.
        Kind::Action => true,
    }
}
