//! Objects as files: decoded in parallel into a sparse file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rayon::prelude::*;

use super::read::{Content, chunk, content};
use crate::digest::ObjectId;
use crate::store::error::{StoreError, io_error};
use crate::store::format::{Chunk, Kind};
use crate::store::records::pack::decode_record;
use crate::store::records::session::Holder;
use crate::store::records::table::OBJECTS;
use crate::store::records::view::Location;
use crate::store::{Store, on_pool};

/// Records that lie together in a pack are read at once, up to this many bytes.
const TOGETHER: u64 = 1 << 20;

/// A chunk that is to be decoded.
struct Wanted<'a> {
    chunk: &'a Chunk,
    location: Location,
}

impl Store {
    /// Writes an object's content to `file`, which must be empty: holes stay holes.
    ///
    /// # Errors
    /// The object is not there or damaged, or the file cannot be written.
    pub fn write_to(&self, id: &ObjectId, file: &File, path: &Path) -> Result<(), StoreError> {
        self.records.rely_to_read(id.digest(), &OBJECTS)?;
        let list = match content(&self.records, id)? {
            Content::Blob(bytes) => {
                return file
                    .write_all_at(&bytes, 0)
                    .map_err(io_error("write", path));
            }
            Content::Chunks(list) => list,
        };
        file.set_len(list.size).map_err(io_error("size", path))?;
        let locate = |chunk| -> Result<Wanted<'_>, StoreError> {
            let chunk: &Chunk = chunk;
            // Who relies on an object relies on its chunks.
            let locations = self.records.locate(&chunk.id, &[Kind::Chunk])?;
            let location = *locations.first().ok_or_else(|| StoreError::DamagedObject {
                id: *id,
                reason: format!("its chunk {} is not in the store", chunk.id.short()),
            })?;
            Ok(Wanted { chunk, location })
        };
        let mut wanted: Vec<Wanted<'_>> =
            list.chunks.iter().map(locate).collect::<Result<_, _>>()?;
        wanted.sort_by_key(|wanted| (wanted.location.holder, wanted.location.entry.offset));
        let groups: Vec<&[Wanted<'_>]> = wanted.chunk_by(together).collect();
        on_pool(|| {
            groups.par_iter().try_for_each_init(
                Default::default,
                |buffers: &mut (Vec<u8>, Vec<u8>), group| {
                    self.write_group(id, group, file, path, buffers)
                },
            )
        })?
    }

    /// Reads a group of records at once, and writes what they hold.
    fn write_group(
        &self,
        id: &ObjectId,
        group: &[Wanted<'_>],
        file: &File,
        path: &Path,
        (buffer, out): &mut (Vec<u8>, Vec<u8>),
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        let start = u64::from(first.location.entry.offset);
        let end = u64::from(last.location.entry.offset) + last.location.entry.record.length();
        let read = self
            .records
            .open(&first.location.holder)
            .and_then(|(pack, name)| {
                buffer.resize((end - start) as usize, 0);
                pack.read_exact_at(buffer, start)
                    .map_err(io_error("read", &name))?;
                Ok(name)
            });
        for wanted in group {
            let entry = &wanted.location.entry;
            let at = (u64::from(entry.offset) - start) as usize;
            let decoded = match &read {
                Ok(name) => {
                    let bytes = &buffer[at..at + entry.record.length() as usize];
                    decode_record(bytes, name, entry, out).is_ok()
                        && out.len() == wanted.chunk.length as usize
                }
                Err(_) => false,
            };
            if !decoded {
                // It went elsewhere, or there is another copy, or an error that says what is wrong.
                chunk(&self.records, id, wanted.chunk, out)?;
            }
            file.write_all_at(out, wanted.chunk.offset)
                .map_err(io_error("write", path))?;
        }
        Ok(())
    }
}

/// Whether two records, in order, are read at once.
fn together(one: &Wanted<'_>, next: &Wanted<'_>) -> bool {
    let (a, b) = (&one.location, &next.location);
    let end = u64::from(a.entry.offset) + a.entry.record.length();
    // Not across the multiples, so that groups are not longer than these.
    a.holder == b.holder
        && matches!(a.holder, Holder::Pack(_))
        && end == u64::from(b.entry.offset)
        && u64::from(a.entry.offset) / TOGETHER == u64::from(b.entry.offset) / TOGETHER
}
