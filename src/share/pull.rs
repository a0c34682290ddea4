//! From a repository to the store.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::artifact::{Artifact, PackRef};
use super::find::{open, small_blob};
use super::objects::{self, Content, Listed, list_of};
use super::work::{self, Task};
use super::{ShareError, Sharing};
use crate::digest::{Digest, ObjectId, ObjectRef, Sha256};
use crate::http::sleep;
use crate::registry::Repository;
use crate::store::{IncomingError, Intake, PackedChunk, Parts, StoreError, verify_chunk};

/// Bytes between two ranges that are rather read than asked around.
const GAP: u64 = 32 << 10;
/// What one more request costs, in bytes.
const REQUEST: u64 = 64 << 10;
/// The longest range that is asked for.
const LONGEST: u64 = 4 << 20;
/// How long to wait before looking again whether another process has a pack.
const PAUSE: Duration = Duration::from_millis(200);

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The config's bytes.
    pub config: Vec<u8>,
    /// The objects that are here now, in the order of the artifact.
    pub objects: Vec<ObjectRef>,
    /// Bytes of packs that were fetched.
    pub fetched: u64,
}

/// What is to be had of a pack.
enum Need {
    Whole(PackRef),
    /// Some of its chunks.
    Chunks(PackRef, Vec<PackedChunk>),
}

impl Sharing<'_> {
    /// Brings the objects of an artifact into the store: all, or those that are `wanted`. What is
    /// here already is not fetched.
    ///
    /// # Errors
    /// Something cannot be had or is not what it should be: then what was fetched stays for the
    /// next time.
    pub fn pull(
        &self,
        repository: &dyn Repository,
        artifact: &Artifact,
        wanted: Option<&HashSet<ObjectId>>,
        name: &str,
    ) -> Result<Pulled, ShareError> {
        let config = self.config(repository, artifact)?;
        let mut listed = self.listed(repository, artifact)?;
        if let Some(wanted) = wanted {
            listed.retain(|object| wanted.contains(&object.id));
        }
        let objects: Vec<ObjectRef> = listed.iter().map(object_ref).collect();
        let own: HashSet<Sha256> = artifact.packs.iter().map(|pack| pack.blob.digest).collect();
        let mut missing = Vec::new();
        for object in listed {
            if !self.is_here(&object_ref(&object), &own)? {
                missing.push(object);
            }
        }
        let listed = missing;
        let mut fetched = 0;
        if !listed.is_empty() {
            let name = format!("pull {name} from {}", repository.name());
            let task = Task::new(self.sink, self.interrupt, name);
            self.store.claim()?;
            let packs = self.fetch(repository, artifact, &listed, &own, &task)?;
            fetched = task.moved();
            for object in &listed {
                self.store_listed(repository, object, &packs, &own)?;
            }
            task.done();
        }
        self.memory.heard(&repository.name(), &artifact.packs);
        Ok(Pulled {
            config,
            objects,
            fetched,
        })
    }

    /// The objects of an artifact.
    pub(super) fn listed(
        &self,
        repository: &dyn Repository,
        artifact: &Artifact,
    ) -> Result<Vec<Listed>, ShareError> {
        let Some(blob) = &artifact.objects else {
            return Ok(Vec::new());
        };
        let bytes = small_blob(repository, blob, "list of objects")?;
        objects::decode(&bytes).map_err(|reason| {
            ShareError::invalid(&repository.name(), "the list of objects", reason)
        })
    }

    /// Whether an object is here, and its chunks are what they should be as far as they came with
    /// other artifacts than the one with the packs `own`: an artifact that lied does not keep one
    /// that does not from mending it.
    fn is_here(&self, object: &ObjectRef, own: &HashSet<Sha256>) -> Result<bool, ShareError> {
        if !self.store.has_object(object) {
            return Ok(false);
        }
        let Ok(Parts::List(list)) = self.store.parts(&object.id) else {
            return Ok(true);
        };
        for chunk in &list.chunks {
            if !self.store.has_chunk(&chunk.id, own)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fetches the chunks that the objects need; gives what is in the packs, by their numbers.
    fn fetch(
        &self,
        repository: &dyn Repository,
        artifact: &Artifact,
        listed: &[Listed],
        own: &HashSet<Sha256>,
        task: &Task<'_>,
    ) -> Result<Vec<Arc<Vec<PackedChunk>>>, ShareError> {
        let used = used_chunks(listed);
        let nothing = Arc::new(Vec::new());
        let mut packs = vec![nothing; artifact.packs.len()];
        let numbers: Vec<(usize, PackRef)> = artifact
            .packs
            .iter()
            .copied()
            .enumerate()
            .filter(|(number, _)| used.contains_key(&(*number as u32)))
            .collect();
        let tables = work::all(numbers, self.parallel, |(number, pack)| {
            task.check()?;
            Ok((number, pack, self.chunks(repository, &pack)?))
        })?;
        let mut needs = Vec::new();
        let mut asked = HashSet::new();
        for (number, pack, chunks) in tables {
            let need = match &chunks {
                // Ranges are refused here.
                None => Some(Need::Whole(pack)),
                Some(chunks) => {
                    task.check()?;
                    self.need(pack, chunks, &used[&(number as u32)], own, &mut asked)?
                }
            };
            packs[number] = chunks.unwrap_or_default();
            if let Some(need) = need {
                task.expect(need.bytes());
                needs.push((number, need));
            }
        }
        // The largest first, so that none is waited for at the end.
        needs.sort_by_key(|(_, need)| std::cmp::Reverse(need.bytes()));
        let received = work::all(needs, self.parallel, |(number, need)| {
            let chunks = match need {
                Need::Whole(pack) => Some(self.receive(repository, &pack, task)?),
                Need::Chunks(pack, chunks) => {
                    self.receive_chunks(repository, &pack, &chunks, task)?
                }
            };
            Ok((number, chunks))
        })?;
        for (number, chunks) in received {
            if let Some(chunks) = chunks {
                packs[number] = Arc::new(chunks);
            }
        }
        Ok(packs)
    }

    /// What is to be had of a pack whose chunks are known. `own` are the packs of the artifact.
    fn need(
        &self,
        pack: PackRef,
        chunks: &[PackedChunk],
        used: &[Range<u32>],
        own: &HashSet<Sha256>,
        asked: &mut HashSet<Digest>,
    ) -> Result<Option<Need>, ShareError> {
        let mut missing = Vec::new();
        for range in used {
            let range = range.start as usize..range.end as usize;
            // What is behind the end is told when the list is made.
            for chunk in chunks.get(range).unwrap_or_default() {
                if !self.store.has_chunk(&chunk.id, own)? && asked.insert(chunk.id) {
                    missing.push(*chunk);
                }
            }
        }
        if missing.is_empty() {
            return Ok(None);
        }
        missing.sort_unstable_by_key(|chunk| chunk.offset);
        let by_ranges: u64 = ranges(&missing)
            .iter()
            .map(|range| range.end - range.start + REQUEST)
            .sum();
        Ok(Some(match by_ranges < pack.blob.size {
            true => Need::Chunks(pack, missing),
            false => Need::Whole(pack),
        }))
    }

    /// Receives all of a pack, or what is still missing of it.
    fn receive(
        &self,
        repository: &dyn Repository,
        pack: &PackRef,
        task: &Task<'_>,
    ) -> Result<Vec<PackedChunk>, ShareError> {
        let (name, size) = (pack.blob.digest, pack.blob.size);
        let wrong = |error: IncomingError| match error {
            IncomingError::Store(error) => error.into(),
            IncomingError::Read(error) => cut(repository)(error),
            IncomingError::Wrong(error) => {
                let what = format!("pack {}", name.short());
                ShareError::invalid(&repository.name(), what, format!("is wrong: {error}"))
            }
        };
        let mut incoming = loop {
            task.check()?;
            let begun = self
                .store
                .incoming(&self.downloads, name, size, pack.table_offset);
            match begun.map_err(wrong)? {
                Some(incoming) => break incoming,
                // Another process receives it.
                None if !sleep(PAUSE, self.interrupt) => return Err(ShareError::Interrupted),
                None => {}
            }
            if let Some(chunks) = self.store.pack_chunks(&name)? {
                task.step(size as i64);
                return Ok(chunks);
            }
        };
        // It may have come while another process had the file.
        if let Some(chunks) = self.store.pack_chunks(&name)? {
            incoming.forget();
            task.step(size as i64);
            return Ok(chunks);
        }
        let resumed = incoming.position();
        task.step(resumed as i64);
        if incoming.position() < size {
            let mut reader = open(repository, &pack.blob, Some(incoming.position()..size))?;
            // What is here comes again where parts are refused.
            let again = incoming.position().saturating_sub(reader.start);
            io::copy(&mut (&mut reader.bytes).take(again), &mut io::sink())
                .map_err(cut(repository))?;
            loop {
                task.check()?;
                match incoming.take(&mut reader.bytes).map_err(wrong)? {
                    0 => break,
                    count => task.step(count as i64),
                }
            }
        }
        let came = incoming.position();
        match incoming.finish() {
            // What was here from before was damaged: nothing of it is left.
            Err(IncomingError::Wrong(_)) if resumed > 0 => {
                task.step(-(came as i64));
                self.receive(repository, pack, task)
            }
            finished => finished.map_err(wrong),
        }
    }

    /// Receives some chunks of a pack. Where ranges are refused all the same, all of it: then its
    /// chunks are given.
    fn receive_chunks(
        &self,
        repository: &dyn Repository,
        pack: &PackRef,
        chunks: &[PackedChunk],
        task: &Task<'_>,
    ) -> Result<Option<Vec<PackedChunk>>, ShareError> {
        let mut intake = self.store.intake()?;
        let received = self.receive_ranges(repository, pack, chunks, &mut intake, task);
        // What came is not asked for again, whatever became of the rest.
        intake.finish()?;
        match received? {
            true => Ok(None),
            false => self.receive(repository, pack, task).map(Some),
        }
    }

    /// Takes chunks of a pack one after the other; tells whether ranges are not refused.
    fn receive_ranges(
        &self,
        repository: &dyn Repository,
        pack: &PackRef,
        chunks: &[PackedChunk],
        intake: &mut Intake,
        task: &Task<'_>,
    ) -> Result<bool, ShareError> {
        let mut rest = chunks;
        let (mut buffer, mut scratch) = (Vec::new(), Vec::new());
        for range in ranges(chunks) {
            task.check()?;
            let mut reader = open(repository, &pack.blob, Some(range.clone()))?;
            if reader.start != range.start {
                return Ok(false);
            }
            buffer.resize((range.end - range.start) as usize, 0);
            reader
                .bytes
                .read_exact(&mut buffer)
                .map_err(cut(repository))?;
            let count = rest.partition_point(|chunk| chunk.end() <= range.end);
            let (here, later) = rest.split_at(count);
            rest = later;
            for chunk in here {
                let from = (u64::from(chunk.offset) - range.start) as usize;
                let record = &buffer[from..from + chunk.stored as usize];
                let header = verify_chunk(record, &chunk.id, &mut scratch).map_err(|error| {
                    let what = format!("pack {}", pack.blob.digest.short());
                    ShareError::invalid(&repository.name(), what, format!("is wrong: {error}"))
                })?;
                intake.take(&header, record)?;
            }
            task.step(buffer.len() as i64);
        }
        Ok(true)
    }

    /// Stores an object whose chunks are here. It is as good as the packs of its artifact, its
    /// `own`.
    fn store_listed(
        &self,
        repository: &dyn Repository,
        object: &Listed,
        packs: &[Arc<Vec<PackedChunk>>],
        own: &HashSet<Sha256>,
    ) -> Result<(), ShareError> {
        let what = || format!("object {}", object.id.short());
        let invalid = |reason: &str| ShareError::invalid(&repository.name(), what(), reason);
        let id = match &object.content {
            Content::Inline(bytes) => self.store.put_bytes(bytes)?.id,
            Content::Runs { size, runs } => {
                let list = list_of(*size, runs, packs).map_err(invalid)?;
                if list.id() != object.id {
                    return Err(invalid("is not what its id says"));
                }
                let stored = self.store.put_list(&list, own);
                stored
                    .map_err(|error| match error {
                        StoreError::DamagedObject { reason, .. } => invalid(&reason),
                        other => other.into(),
                    })?
                    .id
            }
        };
        match id == object.id {
            true => Ok(()),
            false => Err(invalid("is not what its id says")),
        }
    }
}

impl Need {
    /// Bytes that are to be fetched.
    fn bytes(&self) -> u64 {
        match self {
            Self::Whole(pack) => pack.blob.size,
            Self::Chunks(_, chunks) => {
                let ranges = ranges(chunks);
                ranges.iter().map(|range| range.end - range.start).sum()
            }
        }
    }
}

fn object_ref(object: &Listed) -> ObjectRef {
    ObjectRef {
        id: object.id,
        size: match &object.content {
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Runs { size, .. } => *size,
        },
    }
}

/// The chunks that objects use, by the number of the pack, each once.
pub(super) fn used_chunks(listed: &[Listed]) -> HashMap<u32, Vec<Range<u32>>> {
    let mut used: HashMap<u32, Vec<Range<u32>>> = HashMap::new();
    for object in listed {
        if let Content::Runs { runs, .. } = &object.content {
            for run in runs {
                let range = run.first..run.first.saturating_add(run.count);
                used.entry(run.pack).or_default().push(range);
            }
        }
    }
    for ranges in used.values_mut() {
        ranges.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u32>> = Vec::new();
        for range in ranges.drain(..) {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        *ranges = merged;
    }
    used
}

/// The ranges to ask for, for chunks in the order of the file.
pub(super) fn ranges(chunks: &[PackedChunk]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for chunk in chunks {
        let start = u64::from(chunk.offset);
        match ranges.last_mut() {
            Some(last) if start <= last.end + GAP && chunk.end() - last.start <= LONGEST => {
                last.end = last.end.max(chunk.end());
            }
            _ => ranges.push(start..chunk.end()),
        }
    }
    ranges
}

fn cut(repository: &dyn Repository) -> impl FnOnce(io::Error) -> ShareError {
    let name = repository.name();
    move |error| ShareError::of_reading(&name, error)
}
