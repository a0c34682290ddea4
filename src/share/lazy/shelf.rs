//! Packs of a repository that are here in part: one sparse file for each, as long as the pack.
//!
//! What is at an offset of such a file was read from the registry at that offset. No file says
//! which parts are there: a record has a checksum, so that a process that begins finds the whole
//! ones. A killed process or host loses what was not written, and nothing that is wrong counts as a
//! record. Several processes may fill one file: they write the same bytes.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::parts::Parts;
use crate::digest::Sha256;
use crate::host::{Interrupt, file};
use crate::http::sleep;
use crate::registry::{
    Blob, BlobReader, BlobSource, Delivered, Fetched, Progress, ReadBlobError, RegistryError,
    Repository, Version, read_small,
};
use crate::share::ShareError;
use crate::share::artifact::{Artifact, PackRef};
use crate::share::find::open;
use crate::store::{PackedChunk, chunks_of_table, verify_chunk};

/// Between two tries to reach a registry that does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a guest waits for what is fetched for others, before it is fetched once more: that
/// connection may be dead.
const LIVELY: Duration = Duration::from_secs(2);
/// The most that is asked for at once, in bytes.
const STEP: u64 = 4 << 20;
/// How much is read from a connection at once, in bytes.
const PIECE: usize = 256 << 10;

/// The packs of an artifact, in a repository and here. Clones share them.
#[derive(Clone)]
pub struct Shelf(Arc<Inner>);

struct Inner {
    repository: Arc<dyn Repository>,
    packs: HashMap<Sha256, Pack>,
    /// The list of objects, and where it is kept.
    list: Option<(Blob, PathBuf)>,
    interrupt: Interrupt,
    /// Reads of guests that wait for the registry.
    urgent: AtomicUsize,
}

struct Pack {
    reference: PackRef,
    path: PathBuf,
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    here: Parts,
    /// What is being fetched.
    coming: Vec<Range<u64>>,
}

impl Shelf {
    /// The packs of an artifact, with what earlier processes left of them in `directory`.
    ///
    /// # Errors
    /// A file cannot be made.
    pub fn new(
        repository: Arc<dyn Repository>,
        artifact: &Artifact,
        directory: &Path,
        interrupt: Interrupt,
    ) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let packs = artifact.packs.iter().map(|reference| {
            let pack = Pack::open(*reference, directory)?;
            Ok((reference.blob.digest, pack))
        });
        Ok(Self(Arc::new(Inner {
            repository,
            packs: packs.collect::<io::Result<_>>()?,
            list: artifact
                .objects
                .map(|blob| (blob, directory.join(blob.digest.to_string()))),
            interrupt,
            urgent: AtomicUsize::default(),
        })))
    }

    /// Waits a moment after an error, before the registry is asked again.
    ///
    /// # Errors
    /// The process is to end.
    pub fn wait_after(&self, error: &dyn Display) -> Result<(), ShareError> {
        tracing::debug!(%error, "the registry fails");
        match sleep(PAUSE, &self.0.interrupt) {
            true => Ok(()),
            false => Err(ShareError::Interrupted),
        }
    }

    /// Looks which tables are what they should be: others are fetched again.
    pub fn check_tables(&self) {
        self.0.packs.values().for_each(Pack::check_table);
    }

    /// Finds the whole records of packs, whose chunks are known now.
    pub(super) fn look(&self, pack: &PackRef, chunks: &[PackedChunk]) {
        if let Some(pack) = self.0.packs.get(&pack.blob.digest) {
            pack.look(chunks);
        }
    }

    /// Whether a part of a pack is here.
    pub(super) fn has(&self, pack: &Sha256, range: &Range<u64>) -> bool {
        let pack = self.0.packs.get(pack);
        pack.is_some_and(|pack| lock(&pack.state).here.covers(range))
    }

    /// Reads a part of a pack that is here.
    pub(super) fn read(&self, pack: &Sha256, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let pack = self.0.packs.get(pack);
        let pack = pack.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        pack.file.read_exact_at(buffer, offset)
    }

    /// Says that a part of a pack is here: another process fetched it.
    pub(super) fn found(&self, pack: &Sha256, range: Range<u64>) {
        if let Some(pack) = self.0.packs.get(pack) {
            lock(&pack.state).here.add(range);
        }
    }

    /// Says that a part of a pack is not what it should be: it is fetched again.
    pub(super) fn reject(&self, pack: &Sha256, range: &Range<u64>) {
        if let Some(pack) = self.0.packs.get(pack) {
            lock(&pack.state).here.remove(range);
        }
    }

    /// Says that something of a pack is not what it should be: only whole records stay.
    pub(super) fn doubt(&self, pack: &PackRef, chunks: &[PackedChunk]) {
        self.reject(&pack.blob.digest, &(0..pack.blob.size));
        self.look(pack, chunks);
    }

    /// Fetches what is missing of a part of a pack, before everything that is not urgent.
    ///
    /// # Errors
    /// The registry fails.
    pub(super) fn fetch_now(&self, pack: &Sha256, range: Range<u64>) -> Result<(), ShareError> {
        self.0.urgent.fetch_add(1, Ordering::Relaxed);
        let fetched = self.0.fetch(pack, range, LIVELY);
        self.0.urgent.fetch_sub(1, Ordering::Relaxed);
        fetched
    }

    /// Fetches what is missing of a part of a pack, when nothing urgent is to be fetched; tries
    /// again until it is here.
    ///
    /// # Errors
    /// The process is to end.
    pub(super) fn fetch(&self, pack: &Sha256, range: &Range<u64>) -> Result<(), ShareError> {
        self.0.fetch_at_leisure(pack, range)?;
        self.fetch_soon(pack, range)
    }

    /// The same, whatever else is to be fetched.
    ///
    /// # Errors
    /// The process is to end.
    pub(super) fn fetch_soon(&self, pack: &Sha256, range: &Range<u64>) -> Result<(), ShareError> {
        while let Err(error) = self.0.fetch(pack, range.clone(), Duration::MAX) {
            self.wait_after(&error)?;
        }
        Ok(())
    }

    /// Removes the files: all of it is in the store.
    pub fn remove(&self) {
        for pack in self.0.packs.values() {
            let _ = fs::remove_file(&pack.path);
        }
        if let Some((_, path)) = &self.0.list {
            let _ = fs::remove_file(path);
        }
    }
}

impl Inner {
    /// Waits until nothing urgent is to be fetched.
    fn fetch_at_leisure(&self, pack: &Sha256, range: &Range<u64>) -> Result<(), ShareError> {
        let pack = self.packs.get(pack);
        if pack.is_some_and(|pack| lock(&pack.state).here.covers(range)) {
            return Ok(());
        }
        while self.urgent.load(Ordering::Relaxed) > 0 {
            if !sleep(Duration::from_millis(2), &self.interrupt) {
                return Err(ShareError::Interrupted);
            }
        }
        Ok(())
    }

    /// Fetches what is missing of a part of a pack. What others fetch is waited for, as long as the
    /// patience lasts.
    fn fetch(
        &self,
        pack: &Sha256,
        range: Range<u64>,
        patience: Duration,
    ) -> Result<(), ShareError> {
        let Some(pack) = self.packs.get(pack) else {
            return Ok(());
        };
        loop {
            let Some(gap) = pack.claim(&range, patience) else {
                return Ok(());
            };
            let fetched = self.fetch_gap(pack, gap.clone());
            pack.came(&gap);
            fetched?;
        }
    }

    /// The list of objects; nothing when it is not what it should be.
    fn list(&self, list: &Blob, path: &Path) -> Result<Option<Vec<u8>>, RegistryError> {
        if let Ok(bytes) = fs::read(path)
            && Blob::of(&bytes) == *list
        {
            return Ok(Some(bytes));
        }
        match read_small(&*self.repository, list) {
            Ok(bytes) => {
                // It is fetched again when it cannot be kept.
                let _ = file::cache(path, &bytes);
                Ok(Some(bytes))
            }
            Err(ReadBlobError::Registry(error)) => Err(error),
            Err(ReadBlobError::Wrong(_)) => Ok(None),
        }
    }

    fn fetch_gap(&self, pack: &Pack, gap: Range<u64>) -> Result<(), ShareError> {
        let place = self.repository.name();
        let mut reader = open(&*self.repository, &pack.reference.blob, Some(gap.clone()))?;
        // Where ranges are refused, all of it comes.
        let (mut at, end) = match reader.start == gap.start {
            true => (gap.start, gap.end),
            false => (reader.start, pack.reference.blob.size),
        };
        let mut buffer = vec![0; PIECE];
        while at < end {
            let most = buffer.len().min((end - at) as usize);
            let count = match reader.bytes.read(&mut buffer[..most]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                read => read,
            };
            let count = count.map_err(|error| ShareError::of_reading(&place, error))?;
            pack.file
                .write_all_at(&buffer[..count], at)
                .map_err(|error| ShareError::Cache {
                    path: pack.path.clone(),
                    source: error,
                })?;
            lock(&pack.state).here.add(at..at + count as u64);
            pack.changed.notify_all();
            at += count as u64;
        }
        Ok(())
    }
}

impl Pack {
    fn open(reference: PackRef, directory: &Path) -> io::Result<Self> {
        let path = directory.join(reference.blob.digest.to_string());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        file.set_len(reference.blob.size)?;
        let pack = Self {
            reference,
            path,
            file,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        pack.check_table();
        Ok(pack)
    }

    /// The table is here when it says what the records are.
    fn check_table(&self) {
        let (from, size) = (self.reference.table_offset, self.reference.blob.size);
        let mut table = vec![0; (size - from) as usize];
        let read = self.file.read_exact_at(&mut table, from);
        let mut state = lock(&self.state);
        match read.is_ok() && chunks_of_table(&table, from, size).is_ok() {
            true => state.here.add(from..size),
            false => state.here.remove(&(from..size)),
        }
    }

    fn look(&self, chunks: &[PackedChunk]) {
        let (mut record, mut scratch) = (Vec::new(), Vec::new());
        let mut here = Parts::default();
        let mut data = 0..0;
        for chunk in chunks {
            let range = u64::from(chunk.offset)..chunk.end();
            if range.end > data.end {
                data = self.data_after(range.start);
            }
            if range.start < data.start || range.end > data.end {
                continue;
            }
            record.resize(chunk.stored as usize, 0);
            let read = self.file.read_exact_at(&mut record, range.start);
            if read.is_ok() && verify_chunk(&record, &chunk.id, &mut scratch).is_ok() {
                here.add(range);
            }
        }
        lock(&self.state).here.add_all(here);
    }

    /// The next part of the file that is no hole.
    fn data_after(&self, offset: u64) -> Range<u64> {
        use rustix::fs::{SeekFrom, seek};
        let Ok(start) = seek(&self.file, SeekFrom::Data(offset)) else {
            return u64::MAX..u64::MAX;
        };
        let end = seek(&self.file, SeekFrom::Hole(start)).unwrap_or(u64::MAX);
        start..end
    }

    /// The first part of `range` that is to be fetched by who asks; waits for what others fetch, as
    /// long as the patience lasts. Nothing when all is here.
    fn claim(&self, range: &Range<u64>, patience: Duration) -> Option<Range<u64>> {
        let mut state = lock(&self.state);
        let began = Instant::now();
        loop {
            let mut gap = state.here.gap(range)?;
            gap.end = gap.end.min(gap.start + STEP);
            let is_coming = |at: u64| state.coming.iter().any(|coming| coming.contains(&at));
            let left = patience.saturating_sub(began.elapsed());
            if is_coming(gap.start) && !left.is_zero() {
                let waited = self.changed.wait_timeout(state, left.min(LIVELY));
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let starts = state.coming.iter().map(|coming| coming.start);
            let next = starts
                .filter(|start| *start > gap.start && *start < gap.end)
                .min();
            gap.end = next.unwrap_or(gap.end);
            state.coming.push(gap.clone());
            return Some(gap);
        }
    }

    /// Says that a part was fetched, or not.
    fn came(&self, gap: &Range<u64>) {
        let mut state = lock(&self.state);
        let this = state.coming.iter().position(|coming| coming == gap);
        this.map(|this| state.coming.swap_remove(this));
        drop(state);
        self.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is here of packs comes from here, all else from the repository.
impl Repository for Shelf {
    fn name(&self) -> String {
        self.0.repository.name()
    }

    fn manifest(&self, version: &Version) -> Result<Option<Fetched>, RegistryError> {
        self.0.repository.manifest(version)
    }

    fn put_manifest(
        &self,
        version: &Version,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        self.0.repository.put_manifest(version, media_type, bytes)
    }

    fn has_blob(&self, blob: &Blob) -> Result<bool, RegistryError> {
        self.0.repository.has_blob(blob)
    }

    fn read_blob(
        &self,
        blob: &Blob,
        range: Option<Range<u64>>,
    ) -> Result<BlobReader, RegistryError> {
        if let Some((list, path)) = &self.0.list
            && (list == blob && range.is_none())
            && let Some(bytes) = self.0.list(list, path)?
        {
            return Ok(BlobReader {
                start: 0,
                bytes: Box::new(io::Cursor::new(bytes)),
            });
        }
        if !self.0.packs.contains_key(&blob.digest) {
            return self.0.repository.read_blob(blob, range);
        }
        let range = range.unwrap_or(0..blob.size);
        Ok(BlobReader {
            start: range.start,
            bytes: Box::new(PackReader {
                shelf: self.clone(),
                pack: blob.digest,
                range,
            }),
        })
    }

    fn put_blob(
        &self,
        blob: &Blob,
        source: &dyn BlobSource,
        mounts: &[String],
        progress: &Progress<'_>,
    ) -> Result<Delivered, RegistryError> {
        self.0.repository.put_blob(blob, source, mounts, progress)
    }

    fn tags(&self) -> Result<Vec<String>, RegistryError> {
        self.0.repository.tags()
    }
}

/// A part of a pack, fetched as it is read.
struct PackReader {
    shelf: Shelf,
    pack: Sha256,
    range: Range<u64>,
}

impl Read for PackReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.range.end - self.range.start;
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        let at = self.range.start;
        if !self.shelf.has(&self.pack, &(at..at + count as u64)) {
            let ahead = at..self.range.end.min(at + STEP.max(count as u64));
            self.shelf
                .fetch(&self.pack, &ahead)
                .map_err(io::Error::other)?;
        }
        self.shelf.read(&self.pack, &mut buffer[..count], at)?;
        self.range.start += count as u64;
        Ok(count)
    }
}
