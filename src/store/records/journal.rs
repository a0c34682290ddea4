//! Journals: files of records that grow. A process writes to one of its own; small things go there,
//! and what is large goes to packs (`store-format/packs.md`, `protocol.md` W2).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::files::{Files, list_directory, read_at};
use super::session::{Holder, Session};
use crate::digest::Sha256;
use crate::store::error::{StoreError, io_error};
use crate::store::format::{
    Entry, HEADER, RECORD, RecordHeader, Role, decode_header, encode_header, encode_table,
};
use crate::store::random;

/// A journal is sealed at the first record behind this many bytes.
const FULL: u64 = 1 << 20;
/// How much is read at once.
const READ: usize = 1 << 20;

/// Records of a journal from some offset on.
#[derive(Debug, Default)]
pub(in crate::store) struct Scanned {
    /// The records, in order.
    pub(in crate::store) entries: Vec<Entry>,
    /// Where the last whole record ends; 0 when there is no header.
    pub(in crate::store) end: u64,
}

/// Reads the records from `offset` on (0, or where an earlier scan ended), up to the first that is
/// not whole.
pub(in crate::store) fn scan(file: &File, path: &Path, offset: u64) -> Result<Scanned, StoreError> {
    let size = file.metadata().map_err(io_error("look at", path))?.len();
    let mut scanned = Scanned {
        entries: Vec::new(),
        end: offset,
    };
    if offset == 0 {
        if size < HEADER as u64 {
            return Ok(scanned);
        }
        let header = decode_header(&read_at(file, path, 0, HEADER)?);
        if !header.is_ok_and(|(role, number)| role == Role::Catalog && is_name(path, number)) {
            return Ok(scanned);
        }
        scanned.end = HEADER as u64;
    }
    let mut wanted = READ;
    while scanned.end < size && size <= u64::from(u32::MAX) {
        let length = (size - scanned.end).min(wanted as u64) as usize;
        let bytes = read_at(file, path, scanned.end, length)?;
        let mut at = 0;
        while let Ok((record, _)) = RecordHeader::decode_record(&bytes[at..]) {
            scanned.entries.push(Entry {
                record,
                offset: (scanned.end + at as u64) as u32,
            });
            at += record.length() as usize;
        }
        scanned.end += at as u64;
        if at > 0 {
            wanted = READ;
            continue;
        }
        // Longer than what was read, or the end.
        match RecordHeader::parse(&bytes) {
            Ok((record, _)) if record.length() > length as u64 && length < READ.max(wanted) => {
                break;
            }
            Ok((record, _))
                if record.length() > length as u64 && record.length() <= size - scanned.end =>
            {
                wanted = record.length() as usize;
            }
            _ => break,
        }
    }
    Ok(scanned)
}

/// Whether a journal of this number belongs at `path`.
fn is_name(path: &Path, number: u64) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name == format!("{number:016x}"))
}

/// Whether a whole record begins anywhere behind `offset`: then the bytes at `offset` are damage,
/// and not what a killed writer left.
pub(in crate::store) fn goes_on_behind(
    file: &File,
    path: &Path,
    offset: u64,
) -> Result<bool, StoreError> {
    let size = file.metadata().map_err(io_error("look at", path))?.len();
    if offset < HEADER as u64 || offset >= size {
        return Ok(false);
    }
    let bytes = read_at(file, path, offset, (size - offset) as usize)?;
    Ok((1..=bytes.len().saturating_sub(RECORD)).any(|at| {
        // Most offsets fail at the first look, without a checksum.
        RecordHeader::decode_record(&bytes[at..]).is_ok()
    }))
}

/// The journal that this process writes to.
#[derive(Debug)]
pub(in crate::store) struct Writer {
    pub(in crate::store) number: u64,
    path: PathBuf,
    file: File,
    length: u64,
    entries: Vec<Entry>,
    /// Whether there is something behind the last record.
    torn: bool,
}

impl Writer {
    /// Takes a journal that nobody writes to, or makes a new one.
    pub(in crate::store) fn acquire(files: &Files) -> Result<Self, StoreError> {
        for (number, path) in list(files)? {
            if let Some(writer) = Self::take(files, number, path)? {
                return Ok(writer);
            }
        }
        let number = random();
        let path = Holder::Journal(number).path(files);
        // Its name never comes without its header: that would be damage.
        let file = files.create_locked(&path, &encode_header(Role::Catalog, number))?;
        Ok(Self {
            number,
            path,
            file,
            length: HEADER as u64,
            entries: Vec::new(),
            torn: false,
        })
    }

    /// Takes this journal when nobody has it and it is not damaged.
    pub(in crate::store) fn take(
        files: &Files,
        number: u64,
        path: PathBuf,
    ) -> Result<Option<Self>, StoreError> {
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        if file.try_lock().is_err() || !is_named(&file, &path) {
            return Ok(None);
        }
        let scanned = scan(&file, &path, 0)?;
        let size = file.metadata().map_err(io_error("look at", &path))?.len();
        // A header that is there and wrong is damage too.
        let headless = scanned.end == 0 && size >= HEADER as u64;
        if headless || goes_on_behind(&file, &path, scanned.end)? {
            return Ok(None);
        }
        if size > scanned.end {
            files.truncate(&file, &path, scanned.end)?;
        }
        let mut writer = Self {
            number,
            path,
            file,
            length: scanned.end,
            entries: scanned.entries,
            torn: false,
        };
        if writer.length == 0 {
            writer.begin(files)?;
        }
        Ok(Some(writer))
    }

    fn begin(&mut self, files: &Files) -> Result<(), StoreError> {
        let header = encode_header(Role::Catalog, self.number);
        files.write_at(&self.file, &self.path, &header, 0)?;
        files.sync(&self.file, &self.path)?;
        self.length = HEADER as u64;
        Ok(())
    }

    /// Appends encoded records. Gives where they are. When it fails, the first of them may be
    /// there; the last is not.
    pub(in crate::store) fn append(
        &mut self,
        files: &Files,
        bytes: &[u8],
        records: &[RecordHeader],
    ) -> Result<Vec<Entry>, StoreError> {
        if self.length + bytes.len() as u64 > u64::from(u32::MAX) {
            return Err(StoreError::Refused(
                "a list of chunks of 4 GiB cannot be stored".to_owned(),
            ));
        }
        self.mend(files)?;
        if let Err(error) = files.write_at(&self.file, &self.path, bytes, self.length) {
            self.cut_off(files);
            return Err(error);
        }
        let mut offset = self.length;
        let mut entries = Vec::with_capacity(records.len());
        for record in records {
            entries.push(Entry {
                record: *record,
                offset: offset as u32,
            });
            offset += record.length();
        }
        self.length = offset;
        self.entries.extend_from_slice(&entries);
        Ok(entries)
    }

    /// Makes sure that nothing is behind the last record.
    fn mend(&mut self, files: &Files) -> Result<(), StoreError> {
        if self.torn {
            files.truncate(&self.file, &self.path, self.length)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Cuts off the record that was not written whole: it must not stand before later ones. Those
    /// before it stay, as other processes may have seen them, and will go on reading behind them.
    fn cut_off(&mut self, files: &Files) {
        if let Ok(scanned) = scan(&self.file, &self.path, self.length) {
            self.length = scanned.end;
            self.entries.extend(scanned.entries);
        }
        self.torn = true;
        let _ = self.mend(files);
    }

    /// Whether it should be sealed.
    pub(in crate::store) fn is_full(&self, files: &Files) -> bool {
        self.length > files.limit(FULL)
    }

    /// Whether it has no records.
    pub(in crate::store) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes a pack of it. `session`, if any, relies on it before it is there. When that fails, it
    /// may still be a journal ([`is_journal`](Self::is_journal)), and can be written to.
    pub(in crate::store) fn seal(
        &mut self,
        files: &Files,
        session: Option<&Session>,
    ) -> Result<Sha256, StoreError> {
        self.mend(files)?;
        let name = self.become_pack(files, session).inspect_err(|_| {
            if self.is_journal() {
                self.cut_off(files);
            }
        })?;
        files.sync_directory(&files.root.join("packs"))?;
        files.sync_directory(&files.root.join("journals"))?;
        Ok(name)
    }

    fn become_pack(&self, files: &Files, session: Option<&Session>) -> Result<Sha256, StoreError> {
        let table = encode_table(&self.entries, self.length);
        files.write_at(&self.file, &self.path, &table, self.length)?;
        let name = hash_file(&self.file, &self.path)?;
        files.sync(&self.file, &self.path)?;
        if let Some(session) = session {
            session.pin(files, Holder::Pack(name), || true)?;
        }
        files.rename(&self.path, &files.path("packs", name))?;
        // Not before: it may have to go on as a journal.
        let _ = self.file.set_permissions(Permissions::from_mode(0o400));
        Ok(name)
    }

    /// Whether it has still its name.
    pub(in crate::store) fn is_journal(&self) -> bool {
        is_named(&self.file, &self.path)
    }

    /// Removes it. It must be empty.
    pub(in crate::store) fn remove(self, files: &Files) -> Result<(), StoreError> {
        files.remove(&self.path).map(drop)
    }
}

/// All journals, by number and path.
pub(in crate::store) fn list(files: &Files) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let directory = files.root.join("journals");
    let mut journals = Vec::new();
    for entry in list_directory(&directory)? {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.len() == 16) else {
            continue;
        };
        match u64::from_str_radix(name, 16) {
            Ok(number) if format!("{number:016x}") == name => journals.push((number, entry.path())),
            _ => {}
        }
    }
    journals.sort();
    Ok(journals)
}

/// Whether the file at `path` is still this one.
fn is_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

/// The SHA-256 of a whole file.
pub(in crate::store) fn hash_file(file: &File, path: &Path) -> Result<Sha256, StoreError> {
    let size = file.metadata().map_err(io_error("look at", path))?.len();
    let mut hasher = sha2::Sha256::new();
    let mut offset = 0;
    while offset < size {
        let length = (size - offset).min(READ as u64);
        hasher.update(read_at(file, path, offset, length as usize)?);
        offset += length;
    }
    Ok(Sha256::from_bytes(hasher.finalize().into()))
}
