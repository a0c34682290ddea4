//! An object that equals another one but in some places, without reading the rest.
//!
//! In content that is no tar, cutting knows nothing but the bytes since the last chunk or block of
//! zeros ended (`store-format/chunking.md`). So it can begin anew at any end of a chunk of the
//! base, and once it ends a chunk behind a change where the base has such an end too, all that
//! follows is cut as it was:
//!
//! ```text
//! base     ├──a──┼──b──┼──c──┼──d──┼──0000──┼──e──┤
//! change               ╰┄┄┄╯
//! new      ├──a──┼──b'─┼──────c'───┼──0000──┼──e──┤
//!                └ cut from here   └ to here
//! ```
//!
//! It begins with the chunk before when that ends where the change begins: it may have ended for a
//! block of zeros that is none any more. In a tar the place of every record depends on all headers
//! before, so content that is or becomes a tar is cut as a whole.

use std::io;
use std::ops::Range;

use super::{BATCH, Done, ObjectWriter, Outcome, encode_chunk, is_known};
use crate::digest::{ObjectId, ObjectRef};
use crate::store::Store;
use crate::store::content::chunker::{BLOCK, Cutter, RECORD, is_tar};
use crate::store::content::read::{Content, chunk, content};
use crate::store::error::StoreError;
use crate::store::format::{Chunk, MAX_BLOB};
use crate::store::records::Records;
use crate::store::records::table::OBJECTS;

/// Bytes that are read at once behind a change.
const STEP: u64 = 64 << 10;
/// Chunks of the base that are looked up in one batch. All of them may have to be copied.
const KEPT: usize = 64;

/// Gives the bytes of the new content at an offset: all of the buffer.
pub type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

impl Store {
    /// Stores the object of `size` bytes that equals `base` but in the ranges `changed`, sorted and
    /// disjoint. It may be larger than the base: what is behind that and not in a range is zeros.
    /// `read` is asked for what is in the ranges and for bytes around them, and must be able to
    /// give all of the new content.
    ///
    /// The result is the same as that of [`put`](Self::put) with the whole content, when the base
    /// was made by this program; the time is that of the changes, and of looking up each chunk of
    /// the base.
    ///
    /// # Errors
    /// The base is not there or damaged, the ranges or the size are not possible, `read` or the
    /// store fails.
    pub fn splice(
        &self,
        base: &ObjectRef,
        size: u64,
        changed: &[Range<u64>],
        read: &mut ReadAt<'_>,
    ) -> Result<ObjectRef, StoreError> {
        let mut input = Input { store: self, read };
        self.records.rely_to_read(base.id.digest(), &OBJECTS)?;
        let found = content(&self.records, &base.id)?;
        check(base, &found, size, changed)?;
        let old = match found {
            Content::Chunks(list) if size > MAX_BLOB as u64 && !input.is_tar(base)? => list.chunks,
            _ => return input.whole(size),
        };
        let mut writer = self.writer()?;
        // Chunks before this one are in the new object, or replaced.
        let mut next = 0;
        let blocks = blocks(base.size, size, changed);
        let mut dirty = blocks.as_slice();
        while let Some(range) = dirty.first() {
            let begin = restart(&old, range.start);
            let kept = next + old[next..].partition_point(|chunk| chunk.offset < begin);
            writer.keep(base.id, &old[next..kept])?;
            let end = writer.cut_again(begin, size, &mut dirty, &old, &mut input)?;
            next = kept + old[kept..].partition_point(|chunk| chunk.offset < end);
        }
        writer.keep(base.id, &old[next..])?;
        writer.offset = size;
        writer.finish()
    }
}

fn check(
    base: &ObjectRef,
    found: &Content,
    size: u64,
    changed: &[Range<u64>],
) -> Result<(), StoreError> {
    let refused = |what: &str| Err(StoreError::Refused(what.to_owned()));
    let there = match found {
        Content::Chunks(list) => list.size,
        Content::Blob(bytes) => bytes.len() as u64,
    };
    if there != base.size {
        return Err(StoreError::DamagedObject {
            id: base.id,
            reason: format!("it has {there} bytes and should have {}", base.size),
        });
    }
    if size < base.size {
        return refused("an object cannot be spliced to a smaller one");
    }
    let mut end = 0;
    for range in changed {
        if range.start < end || range.end < range.start || range.end > size {
            return refused("ranges to splice overlap, are not in order, or reach behind the end");
        }
        end = range.end;
    }
    Ok(())
}

/// Whole blocks that changed, in order, not touching each other; the last one may end with the
/// content.
fn blocks(base_size: u64, size: u64, changed: &[Range<u64>]) -> Vec<Range<u64>> {
    let block = BLOCK as u64;
    let mut all: Vec<Range<u64>> = changed.iter().filter(|r| !r.is_empty()).cloned().collect();
    if size > base_size && !base_size.is_multiple_of(block) {
        // Its last block was a short one.
        all.push(base_size - 1..base_size);
        all.sort_by_key(|range| range.start);
    }
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(all.len());
    for range in all {
        let start = range.start - range.start % block;
        let end = range.end.next_multiple_of(block).min(size);
        match merged.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => merged.push(start..end),
        }
    }
    merged
}

/// Where cutting begins for a change at `start`: with the chunk that it is in, or that ends there.
fn restart(old: &[Chunk], start: u64) -> u64 {
    let number = old.partition_point(|chunk| end_of(chunk) < start);
    match old.get(number) {
        Some(chunk) if chunk.offset < start => chunk.offset,
        _ => start,
    }
}

/// Whether no chunk of the base goes on across `position`.
fn is_border(old: &[Chunk], position: u64) -> bool {
    let number = old.partition_point(|chunk| end_of(chunk) <= position);
    old.get(number).is_none_or(|chunk| chunk.offset >= position)
}

const fn end_of(chunk: &Chunk) -> u64 {
    chunk.offset + chunk.length as u64
}

/// The new content.
struct Input<'a, 'b> {
    store: &'a Store,
    read: &'a mut ReadAt<'b>,
}

impl Input<'_, '_> {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        (self.read)(offset, buffer).map_err(|source| StoreError::Io {
            action: "read what is to be stored in",
            path: self.store.root().to_owned(),
            source,
        })
    }

    /// Whether the base is a tar, or the new content.
    fn is_tar(&mut self, base: &ObjectRef) -> Result<bool, StoreError> {
        let mut start = [0; RECORD];
        self.read(0, &mut start)?;
        if is_tar(&start) {
            return Ok(true);
        }
        if base.size < RECORD as u64 {
            return Ok(false);
        }
        let reader = self.store.open_object(&base.id)?;
        reader
            .read_exact_at(&mut start, 0)
            .map_err(|error| StoreError::DamagedObject {
                id: base.id,
                reason: error.to_string(),
            })?;
        Ok(is_tar(&start))
    }

    /// Stores all of the new content.
    fn whole(&mut self, size: u64) -> Result<ObjectRef, StoreError> {
        let mut writer = self.store.writer()?;
        let mut offset = 0;
        while offset < size {
            let mut outcome = Ok(());
            let taken = writer.fill(size - offset, |room| {
                outcome = self.read(offset, room);
                Ok(room.len())
            })?;
            outcome?;
            offset += taken.unwrap_or_default() as u64;
        }
        writer.finish()
    }
}

impl ObjectWriter {
    /// Takes chunks of the base as they are.
    fn keep(&mut self, base: ObjectId, chunks: &[Chunk]) -> Result<(), StoreError> {
        for chunks in chunks.chunks(KEPT) {
            let chunks = chunks.to_vec();
            self.start(move |records| look_up(records, base, chunks))?;
        }
        Ok(())
    }

    /// Cuts from `begin` until the cuts are those of the base again, which is told. Removes the
    /// changes that it has come across.
    fn cut_again(
        &mut self,
        begin: u64,
        size: u64,
        dirty: &mut &[Range<u64>],
        old: &[Chunk],
        input: &mut Input<'_, '_>,
    ) -> Result<u64, StoreError> {
        self.cutter = Cutter::within_disk();
        self.offset = begin;
        let mut passed = 0;
        let end = loop {
            let position = self.position();
            let target = dirty.get(passed).map_or(0, |range| range.end);
            let more = if target > position {
                (target - position).min(BATCH as u64)
            } else {
                STEP
            };
            let more = more.min(size - position);
            input.read(position, self.buffer.room(more as usize))?;
            self.buffer.length += more as usize;
            let at_end = position + more == size;
            let done = self.cut_until(at_end, |offset| {
                while dirty.get(passed).is_some_and(|range| range.end <= offset) {
                    passed += 1;
                }
                // Where the next change begins, cutting goes on: the chunk may have ended for
                // zeros.
                let clean = dirty.get(passed).is_none_or(|range| range.start > offset);
                passed > 0 && clean && is_border(old, offset)
            });
            if done || at_end {
                break self.offset;
            }
            if self.buffer.len() >= BATCH {
                self.dispatch(false)?;
            }
        };
        self.buffer.length = self.cut;
        self.dispatch(false)?;
        *dirty = &dirty[passed..];
        Ok(end)
    }

    /// Cuts what is in the buffer as far as can be said, or until `enough` says so of where a piece
    /// ended.
    fn cut_until(&mut self, end: bool, mut enough: impl FnMut(u64) -> bool) -> bool {
        while self.cut < self.buffer.len() {
            if !self.cut_one(end) {
                return false;
            }
            if enough(self.offset) {
                return true;
            }
        }
        false
    }
}

/// Relies on chunks of the base; those on which it cannot are stored once more.
fn look_up(records: &Records, base: ObjectId, chunks: Vec<Chunk>) -> Outcome {
    let mut encoded = Vec::new();
    let mut bytes = Vec::new();
    let mut found = Vec::with_capacity(chunks.len());
    for kept in chunks {
        let record = if is_known(records, &kept.id)? {
            None
        } else {
            chunk(records, &base, &kept, &mut bytes)?;
            Some(encode_chunk(&mut encoded, &kept.id, &bytes))
        };
        found.push((kept, record));
    }
    Ok(Done {
        buffer: Vec::new(),
        chunks: found,
        encoded,
    })
}
