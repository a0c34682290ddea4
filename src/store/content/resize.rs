//! Objects with another size: what they have in common with the old one is not stored again.

use std::collections::HashSet;
use std::io;

use super::read::{Content, content};
use crate::digest::{ObjectId, ObjectRef};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::format::Chunk;

/// What tells how content is cut.
const START: u64 = 512;

impl Store {
    /// The first `size` bytes of a disk, or the disk with zeros behind its end: the object that
    /// storing that content would give. Chunks are shared, and only the last ones are read.
    ///
    /// # Errors
    /// The object is not there or damaged, or the store fails.
    pub fn resize(&self, id: &ObjectId, size: u64) -> Result<ObjectRef, StoreError> {
        let reader = self.open_object(id)?;
        let mut writer = self.writer()?;
        let kept = size.min(reader.size());
        let mut start = vec![0; START.min(reader.size()) as usize];
        reader
            .read_exact_at(&mut start, 0)
            .map_err(|error| damaged(id, &error))?;
        let (chunks, mut position) = match content(&self.records, id)? {
            // One piece for all of it.
            Content::Blob(_) => (vec![(0, kept)], 0),
            Content::Chunks(list) => {
                // The last chunk ends where the content does, and not where it would be cut.
                let whole = list.chunks.len().saturating_sub(1);
                let before = |chunk: &&Chunk| end_of(chunk) <= kept;
                let shared = list.chunks[..whole].iter().take_while(before).copied();
                let position = writer.begin_with(&start, self.relied_on(shared)?);
                let rest = list.chunks.iter().filter(|chunk| end_of(chunk) > position);
                let rest = rest.map(|chunk| (chunk.offset, end_of(chunk).min(kept)));
                (rest.collect(), position)
            }
        };
        for (from, to) in chunks.into_iter().take_while(|(from, to)| from < to) {
            writer.hole(from - position)?;
            position = from;
            while position < to {
                let read = |room: &mut [u8]| {
                    reader.read_exact_at(room, position)?;
                    Ok(room.len())
                };
                let count = writer.fill(to - position, read)?;
                position += count.map_err(|error| damaged(id, &error))? as u64;
            }
        }
        writer.hole(size - position)?;
        writer.finish()
    }

    /// As many of the chunks, from the first on, as this process can rely on without storing them.
    fn relied_on(&self, chunks: impl Iterator<Item = Chunk>) -> Result<Vec<Chunk>, StoreError> {
        let mut found = Vec::new();
        for chunk in chunks {
            let relied_on = self.records.rely_on_chunk(&chunk.id, &HashSet::new())?;
            if relied_on.is_none() {
                break;
            }
            found.push(chunk);
        }
        Ok(found)
    }
}

const fn end_of(chunk: &Chunk) -> u64 {
    chunk.offset + chunk.length as u64
}

fn damaged(id: &ObjectId, error: &io::Error) -> StoreError {
    StoreError::DamagedObject {
        id: *id,
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of zeros and of bytes that do not repeat.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let piece = (any::<bool>(), 0_usize..400_000, any::<u64>());
        prop::collection::vec(piece, 0..5).prop_map(|pieces| {
            let mut bytes = Vec::new();
            for (zeros, length, seed) in pieces {
                let mut hash = blake3::Hasher::new();
                hash.update(&seed.to_le_bytes());
                let from = bytes.len();
                bytes.resize(from + length, 0);
                if !zeros {
                    hash.finalize_xof().fill(&mut bytes[from..]);
                }
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn it_is_what_storing_the_content_gives(
            mut bytes in content(),
            size in 0_usize..2_000_000,
            tar in any::<bool>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path().join("store")).unwrap();
            if tar {
                let mut archive = tar::Builder::new(Vec::new());
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, "file", &bytes[..]).unwrap();
                bytes = archive.into_inner().unwrap();
            }
            let object = store.put(&mut &bytes[..]).unwrap();
            let resized = store.resize(&object.id, size as u64).unwrap();
            bytes.resize(size, 0);
            prop_assert_eq!(resized, store.put(&mut &bytes[..]).unwrap());
        }
    }

    #[test]
    fn only_the_end_is_stored_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let mut bytes = vec![0; 24 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let object = store.put(&mut &bytes[..]).unwrap();
        let used = || {
            let packs = std::fs::read_dir(store.root().join("packs")).unwrap();
            let sizes = packs.map(|pack| pack.unwrap().metadata().unwrap().len());
            sizes.sum::<u64>()
        };
        let before = used();
        store.resize(&object.id, object.size - 512).unwrap();
        store.resize(&object.id, object.size + (1 << 40)).unwrap();
        let added = used() - before;
        assert!(added < 1 << 20, "{added} bytes more");
    }
}
