//! What takes space in a store.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::walk::Walk;
use crate::digest::{Digest, ObjectId};
use crate::store::Store;
use crate::store::content::read::{Content, content};
use crate::store::error::{StoreError, io_error};
use crate::store::format::{ChunkList, Kind};
use crate::store::records::table::OBJECTS;

/// What takes space in a store. Sizes are in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Sizes of all objects.
    pub logical: u64,
    /// The same with equal chunks counted once and holes left out.
    pub deduplicated: u64,
    /// Packs and journals: what is kept of it, compressed.
    pub stored: u64,
    pub objects: u64,
    /// Different chunks.
    pub chunks: u64,
    pub results: u64,
    pub packs: Files,
    pub journals: Files,
    pub index: Files,
}

/// Files of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Files {
    /// How many.
    pub count: u64,
    pub bytes: u64,
}

/// What a group of objects takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GroupUsage {
    /// Sizes of its objects; an object that is in it twice counts once.
    pub logical: u64,
    /// Records of its objects and their chunks, compressed; what other groups have, too, counts
    /// fully.
    pub stored: u64,
    /// The part of that which no other group has.
    pub unique: u64,
    /// Objects that are not there or cannot be read.
    pub missing: u64,
}

/// A record that a group needs, by the first bytes of its key: as many as a group has chunks have
/// to be in memory at once, and two chunks that share 64 bits of their hash would make a number a
/// little wrong.
type Wanted = (u64, u32);

impl Store {
    /// What takes space, in all and by group.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn usage(&self, groups: &[Vec<ObjectId>]) -> Result<(Usage, Vec<GroupUsage>), StoreError> {
        let mut usages = vec![GroupUsage::default(); groups.len()];
        let mut wanted: Vec<Wanted> = Vec::new();
        for ((number, objects), usage) in (0..).zip(groups).zip(&mut usages) {
            let distinct: HashSet<&ObjectId> = objects.iter().collect();
            for id in distinct {
                match content(&self.records, id) {
                    Ok(Content::Blob(bytes)) => usage.logical += bytes.len() as u64,
                    Ok(Content::Chunks(ChunkList { size, chunks })) => {
                        usage.logical += size;
                        wanted.extend(chunks.iter().map(|chunk| (start(&chunk.id), number)));
                    }
                    Err(_) => {
                        usage.missing += 1;
                        continue;
                    }
                }
                wanted.push((start(id.digest()), number));
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut usage = self.walk_usage(&wanted, &mut usages)?;
        let files = |name| files(&self.root().join(name));
        usage.packs = files("packs")?;
        usage.journals = files("journals")?;
        usage.index = files("index")?;
        usage.stored = usage.packs.bytes + usage.journals.bytes;
        Ok((usage, usages))
    }

    /// Bytes of packs and journals. Nothing is read but the lengths of files.
    ///
    /// # Errors
    /// A directory cannot be listed.
    pub fn stored(&self) -> Result<u64, StoreError> {
        let bytes = |name| files(&self.root().join(name)).map(|files| files.bytes);
        Ok(bytes("packs")? + bytes("journals")?)
    }

    /// Sums up all records; `wanted` is sorted as they come.
    fn walk_usage(
        &self,
        mut wanted: &[Wanted],
        usages: &mut [GroupUsage],
    ) -> Result<Usage, StoreError> {
        let snapshot = self.records.snapshot()?;
        let mut walk = Walk::new(&snapshot, None)?;
        let mut usage = Usage::default();
        let mut same = Vec::new();
        let mut last_object = None;
        while walk.next(&mut same)? {
            let record = same[0].entry.record;
            // One that is there as a blob and with a list counts once.
            if OBJECTS.contains(&record.kind) && last_object.replace(record.key) == Some(record.key)
            {
                continue;
            }
            match record.kind {
                Kind::Chunk => {
                    usage.chunks += 1;
                    usage.deduplicated += u64::from(record.content);
                }
                Kind::Blob => {
                    usage.objects += 1;
                    usage.deduplicated += u64::from(record.content);
                    usage.logical += u64::from(record.content);
                }
                Kind::Object => {
                    usage.objects += 1;
                    let start = self.records.read_start(&same[0]);
                    // One that cannot be read is for verify to find.
                    usage.logical += start.map_or(0, u64::from_le_bytes);
                }
                Kind::Action => {
                    usage.results += 1;
                    continue;
                }
            }
            let key = start(&record.key);
            let before = wanted.partition_point(|(other, _)| *other < key);
            wanted = &wanted[before..];
            let users = wanted.partition_point(|(other, _)| *other == key);
            for (_, group) in &wanted[..users] {
                let group = &mut usages[*group as usize];
                group.stored += record.length();
                group.unique += if users == 1 { record.length() } else { 0 };
            }
        }
        Ok(usage)
    }
}

fn start(key: &Digest) -> u64 {
    u64::from_be_bytes(*key.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

fn files(directory: &Path) -> Result<Files, StoreError> {
    let mut files = Files::default();
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let entry = entry.map_err(io_error("list", directory))?;
        // One that is gone meanwhile takes nothing.
        if let Ok(meta) = entry.metadata()
            && meta.is_file()
        {
            files.count += 1;
            files.bytes += meta.len();
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new()
            .update(&[seed])
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    #[test]
    fn shared_content_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (common, one, two) = (noise(0, 2 << 20), noise(1, 1 << 20), noise(2, 1 << 20));
        let first = store.put_bytes(&[common.clone(), one].concat()).unwrap();
        let second = store.put_bytes(&[common, two].concat()).unwrap();
        let small = store.put_bytes(b"small").unwrap();
        let absent = ObjectId::new(Digest::from_bytes([1; 32]));
        let groups = [
            vec![first.id, first.id, small.id],
            vec![second.id, small.id, absent],
            vec![small.id],
        ];
        let (usage, groups) = store.usage(&groups).unwrap();
        assert_eq!(usage.objects, 3);
        assert_eq!(usage.logical, (6 << 20) + 5);
        let near = |value: u64, expected: u64| value.abs_diff(expected) < 300_000;
        assert!(near(usage.deduplicated, 4 << 20), "{usage:?}");
        assert!(near(usage.stored, 4 << 20), "{usage:?}");
        assert_eq!(groups[0].logical, (3 << 20) + 5);
        assert!(near(groups[0].stored, 3 << 20), "{groups:?}");
        assert!(near(groups[0].unique, 1 << 20), "{groups:?}");
        assert_eq!(groups[1].missing, 1);
        assert_eq!((groups[2].logical, groups[2].unique), (5, 0));
    }
}
