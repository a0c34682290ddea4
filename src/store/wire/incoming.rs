//! Packs and records that come from elsewhere.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::Digest as _;

use super::PackedChunk;
use crate::digest::Sha256;
use crate::store::Store;
use crate::store::error::{StoreError, io_error};
use crate::store::format::{
    Entry, FormatError, HEADER, Kind, RECORD, RecordHeader, Role, decode_header, encode_table,
};
use crate::store::records::Records;
use crate::store::records::received::mark;
use crate::store::records::session::Holder;
use crate::store::records::sink::Sink;

/// What is gathered before it is written: what a killed process loses, for each pack.
const BUFFER: usize = 256 << 10;
/// After how much the disk begins to write, so that little is left to wait for at the end.
const BEHIND: u64 = 2 << 20;

/// Something from elsewhere could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncomingError {
    /// It is not what it should be.
    #[error("{0}")]
    Wrong(FormatError),
    /// Where it comes from fails.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FormatError> for IncomingError {
    fn from(error: FormatError) -> Self {
        Self::Wrong(error)
    }
}

/// A pack that is being received, in a file that stays when it is not finished, so that another
/// call goes on with it.
pub(crate) struct IncomingPack {
    records: Arc<Records>,
    name: Sha256,
    size: u64,
    /// Where its table begins.
    table_offset: u64,
    file: File,
    path: PathBuf,
    written: u64,
    /// Where what the disk was not asked to write yet begins.
    behind: u64,
    /// Room for what is not written yet, and how much of it is taken.
    buffer: Vec<u8>,
    pending: usize,
    check: Check,
}

/// What is known of the bytes so far.
struct Check {
    hasher: sha2::Sha256,
    /// Bytes that were looked at as header, records or table.
    parsed: u64,
    /// What was not looked at yet: less than a record.
    rest: Vec<u8>,
    entries: Vec<Entry>,
    table: Vec<u8>,
}

impl Check {
    fn new() -> Self {
        Self {
            hasher: sha2::Sha256::new(),
            parsed: 0,
            rest: Vec::new(),
            entries: Vec::new(),
            table: Vec::new(),
        }
    }

    fn take(&mut self, mut bytes: &[u8], table_offset: u64) -> Result<(), FormatError> {
        self.hasher.update(bytes);
        let mut rest = std::mem::take(&mut self.rest);
        while self.parsed < table_offset {
            if rest.is_empty() {
                match self.part(bytes, table_offset)? {
                    Part::Whole(length) => bytes = &bytes[length..],
                    Part::Needs(_) => {
                        rest.extend_from_slice(bytes);
                        break;
                    }
                }
            } else {
                match self.part(&rest, table_offset)? {
                    Part::Whole(_) => rest.clear(),
                    Part::Needs(_) if bytes.is_empty() => break,
                    Part::Needs(length) => {
                        let (more, later) = bytes.split_at(bytes.len().min(length - rest.len()));
                        rest.extend_from_slice(more);
                        bytes = later;
                    }
                }
            }
        }
        self.rest = rest;
        if self.parsed == table_offset {
            self.table.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Looks at the header or the record with which `left` begins.
    fn part(&mut self, left: &[u8], table_offset: u64) -> Result<Part, FormatError> {
        let length = if self.parsed == 0 {
            let Some(header) = left.get(..HEADER) else {
                return Ok(Part::Needs(HEADER));
            };
            if decode_header(header)? != (Role::Data, 0) {
                return Err(FormatError("it is no pack of chunks"));
            }
            HEADER
        } else {
            if left.len() < RECORD {
                return Ok(Part::Needs(RECORD));
            }
            let (header, _) = RecordHeader::parse(left)?;
            // Before memory is taken for it: others may be long.
            if header.kind != Kind::Chunk {
                return Err(FormatError("it has other records than those of chunks"));
            }
            if self.parsed + header.length() > table_offset {
                return Err(FormatError("a record reaches behind its end"));
            }
            let length = header.length() as usize;
            let Some(record) = left.get(..length) else {
                return Ok(Part::Needs(length));
            };
            RecordHeader::decode_record(record)?;
            self.entries.push(Entry {
                record: header,
                offset: u32::try_from(self.parsed).map_err(|_| FormatError("a pack has 4 GiB"))?,
            });
            length
        };
        self.parsed += length as u64;
        Ok(Part::Whole(length))
    }
}

/// How much of what was looked at goes together.
enum Part {
    /// The first bytes, which are right.
    Whole(usize),
    /// There is not enough of it: so many bytes from its beginning on are needed to tell more.
    Needs(usize),
}

impl Store {
    /// Begins to receive the pack `name`, or goes on with what is in `directory` of it. `None` when
    /// another process is receiving it there.
    ///
    /// # Errors
    /// The file cannot be made or read, or the lengths cannot be.
    pub(crate) fn incoming(
        &self,
        directory: &Path,
        name: Sha256,
        size: u64,
        table_offset: u64,
    ) -> Result<Option<IncomingPack>, IncomingError> {
        self.records.check_writable()?;
        if table_offset < HEADER as u64 || table_offset > size || size >= 1 << 32 {
            return Err(FormatError("a pack's lengths do not go together").into());
        }
        fs::create_dir_all(directory).map_err(io_error("create", directory))?;
        let path = directory.join(format!("{name}.pack.partial"));
        let Some(file) = open_locked(&path)? else {
            return Ok(None);
        };
        let mut pack = IncomingPack {
            records: self.records.clone(),
            name,
            size,
            table_offset,
            file,
            path,
            written: 0,
            behind: 0,
            buffer: vec![0; BUFFER],
            pending: 0,
            check: Check::new(),
        };
        pack.resume()?;
        Ok(Some(pack))
    }
}

/// The file, made when it is not there, with its lock; `None` when another process has that.
fn open_locked(path: &Path) -> Result<Option<File>, StoreError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let mut opened = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600));
        if opened
            .as_ref()
            .is_err_and(|&error| error == rustix::io::Errno::ACCESS)
        {
            // It was finished but for its place when its process was killed.
            let _ = fs::set_permissions(path, Permissions::from_mode(0o600));
            opened = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600));
        }
        let file = opened
            .map(File::from)
            .map_err(|error| io_error("open", path)(error.into()))?;
        if file.try_lock().is_err() {
            return Ok(None);
        }
        // Whoever had it may have finished or removed it.
        let meta = file.metadata().map_err(io_error("look at", path))?;
        let same = fs::symlink_metadata(path).is_ok_and(|there| there.ino() == meta.ino());
        if meta.nlink() > 0 && same {
            return Ok(Some(file));
        }
    }
}

/// Has the disk begin to write a part of a file, without waiting for it: Linux does so for bytes
/// that are said not to be needed soon (`mm/fadvise.c`), and keeps them as long as they are not
/// written; what is written by then has to be read from disk again.
fn begin_writing(file: &File, offset: u64, length: u64) {
    let length = std::num::NonZeroU64::new(length);
    // It is advice: all is written in any case when the pack is forced to disk.
    let _ = rustix::fs::fadvise(file, offset, length, rustix::fs::Advice::DontNeed);
}

impl IncomingPack {
    /// Reads what is there. What is wrong with it begins anew.
    fn resume(&mut self) -> Result<(), StoreError> {
        let mut file = &self.file;
        loop {
            let count = file
                .read(&mut self.buffer)
                .map_err(io_error("read", &self.path))?;
            if count == 0 {
                self.behind = self.written;
                return Ok(());
            }
            self.written += count as u64;
            let bytes = &self.buffer[..count];
            let good =
                self.written <= self.size && self.check.take(bytes, self.table_offset).is_ok();
            if !good {
                self.check = Check::new();
                self.written = 0;
                return self.records.files.truncate(&self.file, &self.path, 0);
            }
        }
    }

    /// How many bytes are here.
    #[must_use]
    pub(crate) const fn position(&self) -> u64 {
        self.written + self.pending as u64
    }

    /// Takes the next bytes of `from`, as many as come at once, and tells how many; none at its
    /// end.
    ///
    /// # Errors
    /// They are not those of such a pack: then nothing of it is kept. Or they cannot be read or
    /// written.
    pub(crate) fn take(&mut self, from: &mut impl Read) -> Result<usize, IncomingError> {
        let count = loop {
            match from.read(&mut self.buffer[self.pending..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(IncomingError::Read)?,
            }
        };
        let bytes = &self.buffer[self.pending..self.pending + count];
        let checked = if self.position() + count as u64 > self.size {
            Err(FormatError("there are more bytes than it has"))
        } else {
            self.check.take(bytes, self.table_offset)
        };
        if let Err(error) = checked {
            self.discard();
            return Err(error.into());
        }
        self.pending += count;
        if self.pending == self.buffer.len() {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let files = &self.records.files;
        let pending = &self.buffer[..self.pending];
        files.write_at(&self.file, &self.path, pending, self.written)?;
        self.written += self.pending as u64;
        self.pending = 0;
        if self.written - self.behind >= BEHIND {
            begin_writing(&self.file, self.behind, self.written - self.behind);
            self.behind = self.written;
        }
        Ok(())
    }

    /// Ends without keeping anything: the pack came from elsewhere.
    pub(crate) fn forget(mut self) {
        self.discard();
    }

    /// Forgets what is here of it.
    fn discard(&mut self) {
        self.pending = 0;
        // What cannot be removed is looked at the next time.
        let _ = self.records.files.remove(&self.path);
    }

    /// Puts the pack in its place, marked as received, when all of it is here, with the sums it
    /// should have. Gives its chunks, in the order of the file.
    ///
    /// # Errors
    /// It is not what its name says, or the store fails.
    pub(crate) fn finish(mut self) -> Result<Vec<PackedChunk>, IncomingError> {
        let name = Sha256::from_bytes(self.check.hasher.clone().finalize().into());
        let right = if self.position() != self.size {
            Err(FormatError("it ends too early"))
        } else if name != self.name {
            Err(FormatError("its content is not what its digest says"))
        } else if encode_table(&self.check.entries, self.table_offset) != self.check.table {
            Err(FormatError("its table is not that of its records"))
        } else {
            Ok(())
        };
        if let Err(error) = right {
            self.discard();
            return Err(error.into());
        }
        self.flush()?;
        let files = &self.records.files;
        self.file
            .set_permissions(Permissions::from_mode(0o400))
            .map_err(io_error("set the mode of", &self.path))?;
        files.sync(&self.file, &self.path)?;
        let holder = Holder::Pack(self.name);
        let marked = mark(files, [&self.name])?;
        self.records.session.pin(files, holder, || true)?;
        self.records.unsettle();
        let place = files.path("packs", self.name);
        match files.rename(&self.path, &place) {
            Err(StoreError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::CrossesDevices =>
            {
                self.copy(&place)?;
            }
            renamed => renamed?,
        }
        drop(marked);
        // Another thread may have forced the names to disk since.
        self.records.unsettle();
        files.sync_directory(&files.root.join("packs"))?;
        self.records.add_packs(&[self.name])?;
        Ok(super::packed(std::mem::take(&mut self.check.entries)))
    }

    /// Where the file cannot be renamed into the store, its bytes are copied.
    fn copy(&self, place: &Path) -> Result<(), StoreError> {
        let files = &self.records.files;
        let temporary = files.temporary()?;
        let from = fs::File::open(&self.path).map_err(io_error("open", &self.path))?;
        std::io::copy(&mut &from, &mut temporary.as_file())
            .map_err(io_error("write", temporary.path()))?;
        files.publish(temporary, place, 0o400)?;
        files.remove(&self.path).map(drop)
    }
}

impl Drop for IncomingPack {
    fn drop(&mut self) {
        // What came is not asked for again.
        let _ = self.flush();
    }
}

/// Takes single records that come from elsewhere.
pub(crate) struct Intake {
    records: Arc<Records>,
    sink: Sink,
}

impl Store {
    /// Begins to take single chunks.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub(crate) fn intake(&self) -> Result<Intake, StoreError> {
        self.records.check_writable()?;
        Ok(Intake {
            records: self.records.clone(),
            sink: Sink::default(),
        })
    }
}

impl Intake {
    /// Takes a record that [`verify_chunk`] found right; `bytes` are all of it.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn take(&mut self, record: &RecordHeader, bytes: &[u8]) -> Result<(), StoreError> {
        self.sink.append(&self.records, record, bytes)
    }

    /// Makes all of them findable.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.sink.finish(&self.records)?;
        let bytes = std::mem::take(&mut self.sink.small);
        let headers = std::mem::take(&mut self.sink.headers);
        if headers.is_empty() {
            return Ok(());
        }
        self.records.append(&bytes, &headers)
    }
}

/// The chunk of a record whose place is known.
impl PackedChunk {
    /// Where its record ends in the pack.
    #[must_use]
    pub(crate) const fn end(&self) -> u64 {
        self.offset as u64 + self.stored as u64
    }
}
