//! Putting content into the store.
//!
//! ```text
//! caller: bytes ──► buffer ──► cutter ──► batch ──► pool: BLAKE3, known? zstd ──► caller, in order:
//!                                                             journal or packs ◄── append records
//! ```
//!
//! Batches in flight are bounded, so that memory is, whatever the size. The pool is the store's
//! own: the caller may be a thread of another rayon pool, which would otherwise start other work of
//! that pool while it waits.

mod splice;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

pub use splice::ReadAt;

use super::chunker::{BLOCK, Cutter, ENOUGH, Piece};
use crate::digest::{Digest, ObjectRef};
use crate::store::error::StoreError;
use crate::store::format::{Chunk, ChunkList, Kind, MAX_BLOB, RecordHeader, encode_record};
use crate::store::records::Records;
use crate::store::records::sink::Sink;
use crate::store::{Store, pool};

/// Bytes of a batch.
const BATCH: usize = 1 << 20;
/// Bytes that are asked of a stream at once. Pipes give no more than this.
const PIECE: u64 = 256 << 10;

/// Takes the content of an object from front to back.
pub struct ObjectWriter {
    records: Arc<Records>,
    cutter: Cutter,
    /// Bytes that were given: cut up to `cut`.
    buffer: Buffer,
    cut: usize,
    /// Chunks in the cut part of the buffer.
    batch: Vec<Range>,
    /// Where the content stands at `cut`.
    offset: u64,
    flight: Flight,
    list: ChunkList,
    sink: Sink,
}

/// Bytes that were given. What the vector has behind them is kept: to make it anew would cost a
/// pass over it.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// One that begins with `start`, in a vector that was used before.
    fn with(spare: Vec<u8>, start: &[u8]) -> Self {
        let mut buffer = Self {
            bytes: spare,
            length: 0,
        };
        buffer.room(start.len()).copy_from_slice(start);
        buffer.length = start.len();
        buffer
    }

    /// Where the next bytes are put. How many came is to be added to the length.
    fn room(&mut self, length: usize) -> &mut [u8] {
        let end = self.length + length;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.length..end]
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A chunk in a buffer, and in the object.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: usize,
    length: usize,
    offset: u64,
}

/// A batch after its work.
struct Done {
    buffer: Vec<u8>,
    chunks: Vec<(Chunk, Option<(RecordHeader, usize)>)>,
    encoded: Vec<u8>,
}

type Outcome = Result<Done, StoreError>;

/// Batches that are being worked at.
struct Flight {
    sender: Sender<(u64, Outcome)>,
    receiver: Receiver<(u64, Outcome)>,
    /// Number of the next batch that starts.
    next: u64,
    /// Number of the next batch whose records are appended.
    due: u64,
    /// Done, but not due.
    early: BTreeMap<u64, Outcome>,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
}

impl ObjectWriter {
    pub(in crate::store) fn new(store: &Store) -> Result<Self, StoreError> {
        store.records.check_writable()?;
        let (sender, receiver) = channel();
        Ok(Self {
            records: store.records.clone(),
            cutter: Cutter::new(),
            buffer: Buffer::default(),
            cut: 0,
            batch: Vec::new(),
            offset: 0,
            flight: Flight {
                sender,
                receiver,
                next: 0,
                due: 0,
                early: BTreeMap::new(),
                spare: Vec::new(),
            },
            list: ChunkList::default(),
            sink: Sink::default(),
        })
    }

    /// Begins with chunks of other content that began with the bytes `start`; tells how far they
    /// reach. Chunks of a tar do not tell how the rest of it is to be cut: then nothing is taken.
    pub(in crate::store) fn begin_with(&mut self, start: &[u8], chunks: Vec<Chunk>) -> u64 {
        let Some(last) = chunks.last() else { return 0 };
        if !self.cutter.resume(start) {
            return 0;
        }
        self.offset = last.offset + u64::from(last.length);
        self.list.chunks = chunks;
        self.offset
    }

    /// Takes up to `most` bytes from `read`; tells how many, 0 at its end.
    pub(in crate::store) fn fill(
        &mut self,
        most: u64,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> Result<Result<usize, io::Error>, StoreError> {
        let length = self.buffer.len();
        // Small things do not need a large buffer.
        let room = BATCH
            .min(length.max(64 << 10))
            .min(usize::try_from(most).unwrap_or(BATCH));
        let read = loop {
            match read(self.buffer.room(room)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let count = *read.as_ref().unwrap_or(&0);
        self.buffer.length += count;
        if self.buffer.len() >= BATCH + ENOUGH {
            self.cut(false);
            self.dispatch(false)?;
        }
        Ok(read)
    }

    /// Takes `length` zeros.
    pub(in crate::store) fn hole(&mut self, mut length: u64) -> Result<(), StoreError> {
        while length > 0 {
            if self.cut == self.buffer.len() && self.cutter.may_skip() {
                let blocks = length - length % BLOCK as u64;
                if blocks > 0 {
                    self.offset += blocks;
                    length -= blocks;
                    continue;
                }
            }
            // Up to the end of a block and one block of zeros: then all before it can be cut.
            let zeros = (2 * BLOCK as u64 - self.position() % BLOCK as u64).min(length);
            self.fill(zeros, |room| {
                room.fill(0);
                Ok(room.len())
            })?
            .map_err(|_| StoreError::Refused("zeros cannot be had".to_owned()))?;
            length -= zeros;
            self.cut(false);
            if self.buffer.len() >= BATCH {
                self.dispatch(false)?;
            }
        }
        Ok(())
    }

    /// Bytes taken so far.
    fn position(&self) -> u64 {
        self.offset + (self.buffer.len() - self.cut) as u64
    }

    /// Cuts what is in the buffer as far as can be said.
    fn cut(&mut self, end: bool) {
        while self.cut < self.buffer.len() && self.cut_one(end) {}
    }

    /// Cuts one piece; `false` when that depends on bytes that are not there.
    fn cut_one(&mut self, end: bool) -> bool {
        match self.cutter.next(&self.buffer[self.cut..], end) {
            Piece::Chunk(length) => {
                self.batch.push(Range {
                    start: self.cut,
                    length,
                    offset: self.offset,
                });
                self.advance(length);
            }
            Piece::Hole(length) => self.advance(length),
            Piece::More => return false,
        }
        true
    }

    /// Starts the work on what is cut.
    fn dispatch(&mut self, end: bool) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            // Only zeros, or not enough to cut: nothing to work at.
            self.buffer
                .bytes
                .copy_within(self.cut..self.buffer.length, 0);
            self.buffer.length -= self.cut;
            self.cut = 0;
            return Ok(());
        }
        let spare = self.flight.spare.pop().unwrap_or_default();
        let next = Buffer::with(spare, &self.buffer[self.cut..]);
        let buffer = std::mem::replace(&mut self.buffer, next).bytes;
        self.cut = 0;
        let ranges = std::mem::take(&mut self.batch);
        if end && self.flight.next == 0 {
            // All there is: not worth another thread.
            let done = work(&self.records, buffer, &ranges);
            self.flight.early.insert(0, done);
            self.flight.next = 1;
            return self.take(0);
        }
        self.start(move |records| work(records, buffer, &ranges))
    }

    /// Starts a batch.
    fn start(
        &mut self,
        work: impl FnOnce(&Records) -> Outcome + Send + 'static,
    ) -> Result<(), StoreError> {
        let number = self.flight.next;
        self.flight.next += 1;
        let (sender, records) = (self.flight.sender.clone(), self.records.clone());
        pool()?.spawn(move || {
            let _ = sender.send((number, work(&records)));
        });
        self.take(2 * pool()?.current_num_threads() as u64)
    }

    const fn advance(&mut self, length: usize) {
        self.cut += length;
        self.offset += length as u64;
    }

    /// Appends what is done, until at most `most` batches are in flight.
    fn take(&mut self, most: u64) -> Result<(), StoreError> {
        loop {
            while let Some(done) = self.flight.early.remove(&self.flight.due) {
                self.flight.due += 1;
                self.append(done?)?;
            }
            if self.flight.next - self.flight.due <= most {
                return Ok(());
            }
            match self.flight.receiver.recv() {
                Ok((number, done)) => self.flight.early.insert(number, done),
                Err(_) => {
                    return Err(StoreError::Refused(
                        "a thread of the store ended".to_owned(),
                    ));
                }
            };
        }
    }

    fn append(&mut self, done: Done) -> Result<(), StoreError> {
        let mut at = 0;
        for (chunk, record) in done.chunks {
            self.list.chunks.push(chunk);
            if let Some((record, length)) = record {
                let bytes = &done.encoded[at..at + length];
                at += length;
                self.sink.append(&self.records, &record, bytes)?;
            }
        }
        if done.buffer.capacity() > 0 {
            self.flight.spare.push(done.buffer);
        }
        Ok(())
    }

    /// Ends the content; gives the object.
    ///
    /// # Errors
    /// The store fails: then nothing was stored that anybody sees.
    pub fn finish(mut self) -> Result<ObjectRef, StoreError> {
        if self.flight.next == 0 && self.offset == 0 && self.buffer.len() <= MAX_BLOB {
            return put_blob(&self.records, &self.buffer);
        }
        self.cut(true);
        self.dispatch(true)?;
        self.take(0)?;
        self.list.size = self.offset;
        self.sink.finish(&self.records)?;
        let encoded = self.list.encode();
        let object = ObjectRef {
            id: ChunkList::id_of(&encoded),
            size: self.list.size,
        };
        let key = object.id.digest();
        let known = self
            .records
            .rely(key, &[Kind::Object], |_| false)?
            .is_some();
        let mut bytes = std::mem::take(&mut self.sink.small);
        let mut headers = std::mem::take(&mut self.sink.headers);
        if !known {
            self.records.settle()?;
            headers.push(encode_record(&mut bytes, Kind::Object, key, &encoded));
        }
        if !headers.is_empty() {
            self.records.append(&bytes, &headers)?;
        }
        Ok(object)
    }
}

impl io::Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.fill(bytes.len() as u64, |mut room| {
            let length = room.len().min(bytes.len());
            io::Write::write(&mut room, &bytes[..length])
        })
        .map_err(io::Error::other)?
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Names the chunks of a batch, and encodes those that the store does not have.
fn work(records: &Records, buffer: Vec<u8>, ranges: &[Range]) -> Outcome {
    let mut encoded = Vec::new();
    let mut chunks = Vec::with_capacity(ranges.len());
    for range in ranges {
        let content = &buffer[range.start..range.start + range.length];
        let id = Digest::from_bytes(*blake3::hash(content).as_bytes());
        let record = if is_known(records, &id)? {
            None
        } else {
            Some(encode_chunk(&mut encoded, &id, content))
        };
        chunks.push((
            Chunk {
                offset: range.offset,
                length: range.length as u32,
                id,
            },
            record,
        ));
    }
    Ok(Done {
        buffer,
        chunks,
        encoded,
    })
}

/// Whether the store has a chunk that a new object can rely on.
fn is_known(records: &Records, id: &Digest) -> Result<bool, StoreError> {
    Ok(records.rely_on_chunk(id, &HashSet::new())?.is_some())
}

/// Appends the record of a chunk; gives its header and length.
fn encode_chunk(encoded: &mut Vec<u8>, id: &Digest, content: &[u8]) -> (RecordHeader, usize) {
    let start = encoded.len();
    let record = encode_record(encoded, Kind::Chunk, id, content);
    (record, encoded.len() - start)
}

/// The list of content in memory.
pub(in crate::store) fn list_of(content: &[u8]) -> ChunkList {
    let mut cutter = Cutter::new();
    let mut list = ChunkList {
        size: content.len() as u64,
        chunks: Vec::new(),
    };
    let mut at = 0;
    while at < content.len() {
        let length = match cutter.next(&content[at..], true) {
            Piece::Chunk(length) => {
                let id = blake3::hash(&content[at..at + length]);
                list.chunks.push(Chunk {
                    offset: at as u64,
                    length: length as u32,
                    id: Digest::from_bytes(*id.as_bytes()),
                });
                length
            }
            Piece::Hole(length) => length,
            // Not when it was shown everything.
            Piece::More => break,
        };
        at += length;
    }
    list
}

fn put_blob(records: &Records, content: &[u8]) -> Result<ObjectRef, StoreError> {
    let object = ObjectRef {
        id: list_of(content).id(),
        size: content.len() as u64,
    };
    let key = object.id.digest();
    if records
        .rely(key, &[Kind::Object, Kind::Blob], |_| false)?
        .is_none()
    {
        let mut bytes = Vec::new();
        let header = encode_record(&mut bytes, Kind::Blob, key, content);
        records.append(&bytes, &[header])?;
    }
    Ok(object)
}

impl Store {
    /// Begins an object whose content is written bit by bit.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn writer(&self) -> Result<ObjectWriter, StoreError> {
        ObjectWriter::new(self)
    }

    /// Stores what a stream gives.
    ///
    /// # Errors
    /// The stream or the store fails.
    pub fn put(&self, reader: &mut dyn Read) -> Result<ObjectRef, StoreError> {
        self.take(reader)?.finish()
    }

    /// Takes what a stream gives. It becomes an object when the writer is finished.
    ///
    /// # Errors
    /// The stream or the store fails.
    pub fn take(&self, reader: &mut dyn Read) -> Result<ObjectWriter, StoreError> {
        let mut writer = self.writer()?;
        loop {
            match writer.fill(PIECE, |room| reader.read(room))? {
                Ok(0) => return Ok(writer),
                Ok(_) => {}
                Err(source) => {
                    return Err(StoreError::Io {
                        action: "read what is to be stored in",
                        path: self.records.files.root.clone(),
                        source,
                    });
                }
            }
        }
    }

    /// Stores bytes.
    ///
    /// # Errors
    /// The store fails.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<ObjectRef, StoreError> {
        if bytes.len() <= MAX_BLOB {
            self.records.check_writable()?;
            return put_blob(&self.records, bytes);
        }
        self.put(&mut io::Cursor::new(bytes))
    }
}
