//! The disk of an image that is read before all of it is here.
//!
//! ```text
//! read ──► decoded chunks ──► store ──► shelf: parts of packs ──► registry, by ranges
//!           (memory)         (chunks     (files of their own)
//!                             of others)
//! ```
//!
//! A chunk is decoded and hashed before a guest sees one byte of it. What is fetched does not go to
//! the store, where an object is whole or absent, but to a [`Shelf`]; from there all of it is
//! pulled like every image once it is here.

mod shelf;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use shelf::Shelf;

use super::artifact::{Artifact, PackRef};
use super::objects::{Content, list_of};
use super::pull::{ranges, used_chunks};
use super::{BootOrder, ShareError, Sharing, work};
use crate::digest::{Digest, ObjectRef, Sha256};
use crate::nbd::Disk;
use crate::registry::Repository;
use crate::store::{Chunk, PackedChunk, Store, verify_chunk};

/// How much follows a chunk that a guest waits for, in bytes of the pack.
const AHEAD: u64 = 1 << 20;
/// How much of a boot order is sorted by places in packs before it is fetched, in bytes of packs:
/// what lies together comes with one request.
const WINDOW: u64 = 4 << 20;
/// The most decoded bytes that are kept.
const KEPT: usize = 64 << 20;

/// A disk, as far as it is here. It is an object of an artifact.
pub struct PartialDisk {
    store: Store,
    shelf: Shelf,
    size: u64,
    chunks: Vec<Chunk>,
    places: HashMap<Digest, Place>,
    packs: Vec<(PackRef, Arc<Vec<PackedChunk>>)>,
    /// Parts of packs that a pull of the artifact needs, and the store does not have.
    missing: Vec<(Sha256, Range<u64>)>,
    decoded: Mutex<Decoded>,
    /// How long a read waits for a registry that fails.
    patience: Duration,
    /// The chunk that was waited for in vain last.
    failed: Mutex<Option<usize>>,
}

/// Where a chunk is in the artifact.
#[derive(Clone, Copy)]
struct Place {
    pack: usize,
    chunk: PackedChunk,
}

/// Chunks that were decoded, by their numbers; those decoded first go first.
#[derive(Default)]
struct Decoded {
    chunks: HashMap<usize, Arc<Vec<u8>>>,
    order: VecDeque<usize>,
    bytes: usize,
}

impl Sharing<'_> {
    /// Whether a repository gives parts of the packs of an artifact, so that its disk can be read
    /// before it is here.
    ///
    /// # Errors
    /// The repository fails.
    pub fn gives_parts(
        &self,
        repository: &dyn Repository,
        artifact: &Artifact,
        disk: &ObjectRef,
    ) -> Result<bool, ShareError> {
        let listed = self.listed(repository, artifact)?;
        let object = listed.into_iter().find(|object| object.id == disk.id);
        let packs = object.map(|object| used_chunks(&[object]));
        // A disk of a few bytes is in the list itself.
        let pack = packs.and_then(|packs| packs.into_keys().min());
        match pack.and_then(|pack| artifact.packs.get(pack as usize)) {
            Some(pack) => Ok(self.chunks(repository, pack)?.is_some()),
            None => Ok(false),
        }
    }

    /// Opens the disk of an artifact.
    ///
    /// # Errors
    /// The registry fails, or the artifact has no such disk.
    pub fn partial_disk(
        &self,
        shelf: &Shelf,
        artifact: &Artifact,
        disk: &ObjectRef,
        patience: Duration,
    ) -> Result<PartialDisk, ShareError> {
        let invalid = |reason: &str| {
            let what = format!("object {}", disk.id.short());
            ShareError::invalid(&shelf.name(), what, reason)
        };
        let listed = self.listed(shelf, artifact)?;
        let used = used_chunks(&listed);
        let numbered = artifact.packs.iter().enumerate().collect();
        let packs = work::all(numbered, self.parallel, |(number, pack)| {
            let chunks = match used.contains_key(&(number as u32)) {
                true => self.chunks(shelf, pack)?.unwrap_or_default(),
                false => Arc::default(),
            };
            shelf.look(pack, &chunks);
            Ok((*pack, chunks))
        })?;
        let tables: Vec<_> = packs.iter().map(|(_, chunks)| chunks.clone()).collect();
        let mut missing = Vec::new();
        let mut places = HashMap::new();
        for (number, (pack, chunks)) in packs.iter().enumerate() {
            let mut of_pack = Vec::new();
            for range in used.get(&(number as u32)).into_iter().flatten() {
                let range = range.start as usize..range.end as usize;
                for chunk in chunks.get(range).unwrap_or_default() {
                    let place = Place {
                        pack: number,
                        chunk: *chunk,
                    };
                    let is_new = places.insert(chunk.id, place).is_none();
                    if is_new && self.store.chunk_stored(&chunk.id)?.is_none() {
                        of_pack.push(*chunk);
                    }
                }
            }
            of_pack.sort_unstable_by_key(|chunk| chunk.offset);
            missing.extend(
                ranges(&of_pack)
                    .into_iter()
                    .map(|range| (pack.blob.digest, range)),
            );
        }
        let object = listed.into_iter().find(|object| object.id == disk.id);
        let chunks = match object.map(|object| object.content) {
            Some(Content::Runs { size, runs }) => {
                let list = list_of(size, &runs, &tables).map_err(invalid)?;
                if list.id() != disk.id {
                    return Err(invalid("is not what its id says"));
                }
                list.chunks
            }
            _ => return Err(invalid("is not in the artifact")),
        };
        Ok(PartialDisk {
            store: self.store.clone(),
            shelf: shelf.clone(),
            size: disk.size,
            chunks,
            places,
            packs,
            missing,
            decoded: Mutex::default(),
            patience,
            failed: Mutex::default(),
        })
    }
}

impl PartialDisk {
    /// Fetches what a boot reads, in its order, even while a guest waits: that is what it waits for.
    /// Tries again when the registry fails.
    ///
    /// # Errors
    /// The process is to end.
    pub fn fetch_first(&self, order: &BootOrder, parallel: usize) -> Result<(), ShareError> {
        let mut ranges = Vec::new();
        let mut window = BTreeMap::new();
        let mut bytes = 0;
        for place in self.missing_of(order)? {
            window
                .entry(place.pack)
                .or_insert_with(Vec::new)
                .push(place.chunk);
            bytes += u64::from(place.chunk.stored);
            if bytes > WINDOW {
                ranges.extend(self.ranges_of(std::mem::take(&mut window)));
                bytes = 0;
            }
        }
        ranges.extend(self.ranges_of(window));
        work::all(ranges, parallel, |(pack, range)| {
            self.shelf.fetch_soon(&pack, &range)
        })?;
        Ok(())
    }

    /// Where chunks of a boot order are that the store does not have, in the order of its parts.
    fn missing_of(&self, order: &BootOrder) -> Result<Vec<Place>, ShareError> {
        let (mut seen, mut places) = (HashSet::new(), Vec::new());
        for part in order.parts() {
            let first = self
                .chunks
                .partition_point(|chunk| behind(chunk) <= part.start);
            let chunks = self.chunks.iter().skip(first);
            for chunk in chunks.take_while(|chunk| chunk.offset < part.end) {
                if seen.insert(chunk.id) && self.store.chunk_stored(&chunk.id)?.is_none() {
                    places.push(self.place(chunk)?);
                }
            }
        }
        Ok(places)
    }

    /// What is asked for to have some chunks of packs.
    fn ranges_of(
        &self,
        chunks: BTreeMap<usize, Vec<PackedChunk>>,
    ) -> impl Iterator<Item = (Sha256, Range<u64>)> {
        chunks.into_iter().flat_map(|(pack, mut chunks)| {
            chunks.sort_unstable_by_key(|chunk| chunk.offset);
            let digest = self.packs[pack].0.blob.digest;
            ranges(&chunks)
                .into_iter()
                .map(move |range| (digest, range))
        })
    }

    /// Fetches everything that a pull of the artifact needs and is not here, except when a guest
    /// waits. Tries again when the registry fails.
    ///
    /// # Errors
    /// The process is to end.
    pub fn fetch_rest(&self, parallel: usize) -> Result<(), ShareError> {
        let missing = self.missing.iter().collect();
        work::all(missing, parallel, |(pack, range)| {
            self.shelf.fetch(pack, range)
        })?;
        Ok(())
    }

    /// Finds what is wrong of what is here, so that it is fetched again.
    pub fn doubt(&self) {
        for (pack, chunks) in &self.packs {
            self.shelf.doubt(pack, chunks);
        }
    }

    /// Whether the chunk that was waited for in vain last can be had now.
    pub fn is_back(&self) -> bool {
        let mut failed = lock(&self.failed);
        let Some(number) = *failed else {
            return true;
        };
        let wanted = &self.chunks[number];
        let is_here = || matches!(self.here(wanted), Ok(Some(_)));
        let back = is_here() || self.fetch(wanted).is_ok() && is_here();
        if back {
            *failed = None;
        }
        back
    }

    /// Fills a buffer with what is at an offset: bytes of chunks, and zeros between them. Tells
    /// whether `chunk` had them all.
    fn copy(
        &self,
        buffer: &mut [u8],
        offset: u64,
        mut chunk: impl FnMut(usize) -> io::Result<Option<Arc<Vec<u8>>>>,
    ) -> io::Result<bool> {
        let end = offset + buffer.len() as u64;
        let first = self.chunks.partition_point(|chunk| behind(chunk) <= offset);
        let mut filled = offset;
        for (number, wanted) in self.chunks.iter().enumerate().skip(first) {
            if wanted.offset >= end {
                break;
            }
            let Some(content) = chunk(number)? else {
                return Ok(false);
            };
            let from = wanted.offset.max(offset);
            let to = behind(wanted).min(end);
            buffer[(filled - offset) as usize..(from - offset) as usize].fill(0);
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(
                &content[(from - wanted.offset) as usize..(to - wanted.offset) as usize],
            );
            filled = to;
        }
        buffer[(filled - offset) as usize..].fill(0);
        Ok(true)
    }

    /// A chunk, from wherever it is. A registry that fails is asked again, as long as the patience
    /// lasts.
    fn chunk(&self, number: usize) -> Result<Arc<Vec<u8>>, ShareError> {
        if let Some(content) = self.decoded().get(number) {
            return Ok(content);
        }
        let wanted = &self.chunks[number];
        let asked = Instant::now();
        loop {
            let error = match self.here(wanted) {
                Ok(Some(content)) => {
                    let content = Arc::new(content);
                    self.decoded().keep(number, content.clone());
                    return Ok(content);
                }
                Ok(None) => match self.fetch(wanted) {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if asked.elapsed() > self.patience {
                *lock(&self.failed) = Some(number);
                return Err(error);
            }
            self.shelf.wait_after(&error)?;
        }
    }

    /// A chunk that is in the store or on the shelf, verified.
    fn here(&self, wanted: &Chunk) -> Result<Option<Vec<u8>>, ShareError> {
        let mut content = Vec::new();
        let fits = |content: &[u8]| content.len() == wanted.length as usize;
        // A damaged one is fetched.
        if let Ok(true) = self.store.read_chunk(&wanted.id, &mut content)
            && fits(&content)
        {
            return Ok(Some(content));
        }
        let place = self.place(wanted)?;
        let (range, pack) = (range(&place.chunk), self.packs[place.pack].0.blob.digest);
        // Another process may have fetched it.
        let known = self.shelf.has(&pack, &range);
        let mut record = vec![0; place.chunk.stored as usize];
        let read = self.shelf.read(&pack, &mut record, range.start);
        if read.is_ok() && verify_chunk(&record, &wanted.id, &mut content).is_ok() && fits(&content)
        {
            self.shelf.found(&pack, range);
            return Ok(Some(content));
        }
        if !known {
            return Ok(None);
        }
        self.shelf.reject(&pack, &range);
        let what = format!("pack {}", pack.short());
        let reason = "has a chunk that is not what its digest says";
        Err(ShareError::invalid(&self.shelf.name(), what, reason))
    }

    /// Fetches a chunk, and what follows it in its pack.
    fn fetch(&self, wanted: &Chunk) -> Result<(), ShareError> {
        let place = self.place(wanted)?;
        let (pack, _) = &self.packs[place.pack];
        let mut range = range(&place.chunk);
        range.end = range.end.max((range.start + AHEAD).min(pack.table_offset));
        self.shelf.fetch_now(&pack.blob.digest, range)
    }

    fn place(&self, wanted: &Chunk) -> Result<Place, ShareError> {
        self.places.get(&wanted.id).copied().ok_or_else(|| {
            let what = format!("chunk {}", wanted.id.short());
            ShareError::invalid(&self.shelf.name(), what, "is in none of the packs")
        })
    }

    fn decoded(&self) -> MutexGuard<'_, Decoded> {
        lock(&self.decoded)
    }
}

impl Disk for PartialDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_now(&self, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
        self.copy(buffer, offset, |number| Ok(self.decoded().get(number)))
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let chunk = |number| self.chunk(number).map(Some).map_err(io::Error::other);
        self.copy(buffer, offset, chunk).map(drop)
    }
}

impl Decoded {
    fn get(&self, number: usize) -> Option<Arc<Vec<u8>>> {
        self.chunks.get(&number).cloned()
    }

    fn keep(&mut self, number: usize, content: Arc<Vec<u8>>) {
        self.bytes += content.len();
        if let Some(before) = self.chunks.insert(number, content) {
            self.bytes -= before.len();
            return;
        }
        self.order.push_back(number);
        while self.bytes > KEPT {
            let Some(content) = self
                .order
                .pop_front()
                .and_then(|old| self.chunks.remove(&old))
            else {
                return;
            };
            self.bytes -= content.len();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a chunk ends in its disk.
fn behind(chunk: &Chunk) -> u64 {
    chunk.offset + u64::from(chunk.length)
}

/// Where the record of a chunk is in its pack.
fn range(chunk: &PackedChunk) -> Range<u64> {
    u64::from(chunk.offset)..chunk.end()
}
