//! Which chunks go into which packs. Pure.
//!
//! Without packs that are known, the result depends on nothing but the chunks and their order: the
//! same image gives the same packs on every machine. Packs that are where the chunks are to go are
//! used again when at least half of their bytes are needed; the rest goes to new ones. So a new
//! version costs what is new in it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::artifact::{MAX_PACKS, PackRef};
use crate::digest::Digest;
use crate::store::PackedChunk;

/// A new pack ends with the chunk that reaches this many bytes.
const FULL: u64 = 32 << 20;

/// A chunk that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needed {
    pub(super) id: Digest,
    /// Bytes of its record.
    pub(super) stored: u32,
}

/// A pack that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) pack: PackRef,
    pub(super) chunks: Arc<Vec<PackedChunk>>,
}

/// What goes where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Distribution {
    /// Known packs that are used, by number.
    pub(super) kept: Vec<usize>,
    /// The chunks of new ones.
    pub(super) new: Vec<Vec<Digest>>,
}

/// Distributes chunks, each once and in the order in which they are needed.
pub(super) fn distribute(needed: &[Needed], known: &[Known]) -> Distribution {
    let mut kept = choose(needed, known, MAX_PACKS);
    loop {
        let new = fill(needed, known, &kept);
        if kept.len() + new.len() <= MAX_PACKS || kept.is_empty() {
            kept.sort_unstable();
            return Distribution { kept, new };
        }
        // Too many small ones: half of them, the least useful, are made anew.
        kept.truncate(kept.len() / 2);
    }
}

/// The packs to use, those first that have most of what is needed.
fn choose(needed: &[Needed], known: &[Known], most: usize) -> Vec<usize> {
    let mut open: HashSet<Digest> = needed.iter().map(|chunk| chunk.id).collect();
    let useful = |known: &Known, open: &HashSet<Digest>| {
        let chunks = known.chunks.iter().filter(|chunk| open.contains(&chunk.id));
        chunks.map(|chunk| u64::from(chunk.stored)).sum::<u64>()
    };
    let mut order: Vec<(usize, u64)> = known
        .iter()
        .enumerate()
        .map(|(number, known)| (number, useful(known, &open)))
        .collect();
    order
        .sort_by_key(|&(number, bytes)| (std::cmp::Reverse(bytes), known[number].pack.blob.digest));
    let mut kept = Vec::new();
    for (number, _) in order {
        // What others have already does not count.
        let bytes = useful(&known[number], &open);
        if bytes > 0 && bytes * 2 >= known[number].pack.blob.size && kept.len() < most {
            for chunk in known[number].chunks.iter() {
                open.remove(&chunk.id);
            }
            kept.push(number);
        }
    }
    kept
}

/// New packs for what those do not have.
fn fill(needed: &[Needed], known: &[Known], kept: &[usize]) -> Vec<Vec<Digest>> {
    let mut placed: HashSet<Digest> = kept
        .iter()
        .flat_map(|&number| known[number].chunks.iter().map(|chunk| chunk.id))
        .collect();
    let mut new: Vec<Vec<Digest>> = Vec::new();
    let mut bytes = FULL;
    for chunk in needed {
        if !placed.insert(chunk.id) {
            continue;
        }
        if bytes >= FULL {
            new.push(Vec::new());
            bytes = 0;
        }
        bytes += u64::from(chunk.stored);
        if let Some(pack) = new.last_mut() {
            pack.push(chunk.id);
        }
    }
    new
}

/// Where each chunk is, when the packs are these. The first that has it counts.
pub(super) fn places<'a>(
    packs: impl IntoIterator<Item = &'a [PackedChunk]>,
) -> HashMap<Digest, (u32, u32)> {
    let mut places = HashMap::new();
    for (pack, chunks) in packs.into_iter().enumerate() {
        for (number, chunk) in chunks.iter().enumerate() {
            places
                .entry(chunk.id)
                .or_insert((pack as u32, number as u32));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registry::Blob;

    fn id(n: u16) -> Digest {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_le_bytes());
        Digest::from_bytes(bytes)
    }

    fn needed(ids: &[u16], stored: u32) -> Vec<Needed> {
        let chunk = |&n: &u16| Needed { id: id(n), stored };
        ids.iter().map(chunk).collect()
    }

    fn known(ids: &[u16], stored: u32) -> Known {
        let name = Blob::of(format!("{ids:?}").as_bytes()).digest;
        let chunks = ids.iter().map(|&n| PackedChunk {
            id: id(n),
            length: stored,
            offset: 0,
            stored,
        });
        Known {
            pack: PackRef {
                blob: Blob {
                    digest: name,
                    size: u64::from(stored) * ids.len() as u64,
                },
                table_offset: 0,
            },
            chunks: Arc::new(chunks.collect()),
        }
    }

    #[test]
    fn without_known_packs_they_are_filled_one_after_the_other() {
        let ids: Vec<u16> = (0..20).collect();
        let layout = distribute(&needed(&ids, 4 << 20), &[]);
        let sizes: Vec<usize> = layout.new.iter().map(Vec::len).collect();
        assert_eq!(sizes, [8, 8, 4]);
        assert_eq!(
            layout.new.concat(),
            ids.iter().map(|&n| id(n)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn packs_are_used_again_while_half_of_them_is_needed() {
        let old = [known(&[1, 2, 3, 4], 100), known(&[5, 6, 7, 8], 100)];
        let layout = distribute(&needed(&[1, 2, 3, 5, 9], 100), &old);
        assert_eq!(layout.kept, [0]);
        assert_eq!(layout.new, [vec![id(5), id(9)]]);
        // What two packs have is taken from one.
        let old = [known(&[1, 2, 3, 4], 100), known(&[3, 4, 5, 6], 100)];
        let layout = distribute(&needed(&[1, 2, 3, 4, 5], 100), &old);
        assert_eq!(layout.kept, [0]);
        assert_eq!(layout.new, [vec![id(5)]]);
    }

    proptest! {
        #[test]
        fn every_chunk_is_somewhere_and_packs_stay_few(
            ids in prop::collection::vec(0_u16..400, 0..300),
            old in prop::collection::vec(prop::collection::btree_set(0_u16..400, 1..9), 0..200),
        ) {
            let needed = needed(&ids, 1 << 20);
            let old: Vec<Known> = old
                .iter()
                .map(|ids| known(&ids.iter().copied().collect::<Vec<_>>(), 1 << 20))
                .collect();
            let layout = distribute(&needed, &old);
            let kept = layout.kept.iter().map(|&number| &old[number]);
            let mut there: HashSet<Digest> = HashSet::new();
            for known in kept {
                there.extend(known.chunks.iter().map(|chunk| chunk.id));
            }
            for chunk in layout.new.iter().flatten() {
                prop_assert!(there.insert(*chunk), "a chunk is sent twice");
            }
            prop_assert!(needed.iter().all(|chunk| there.contains(&chunk.id)));
            prop_assert!(layout.kept.len() + layout.new.len() <= MAX_PACKS);
        }
    }
}
