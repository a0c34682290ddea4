//! The list of objects of an artifact (`store-format/oci-mapping.md`). Pure.
//!
//! A chunk is not named by its digest here but by its place in a pack of the artifact: whoever
//! reads has the tables of the packs, which name it. Runs of chunks that follow each other in a
//! pack take a few bytes, so that the list of a disk of gigabytes is small, and a new version of it
//! costs little.

use std::collections::HashMap;

use crate::digest::{Digest, ObjectId};
use crate::store::{Chunk, ChunkList, PackedChunk};

const MAGIC: &[u8] = b"vmfabobj";
const VERSION: u32 = 1;
/// The longest list, decoded.
pub(super) const MAX_DECODED: usize = 64 << 20;
/// The most chunks of all objects, and the most runs: disks of a terabyte.
const MAX_CHUNKS: u64 = 16 << 20;
/// The largest object: 64 TiB.
const MAX_SIZE: u64 = 1 << 46;
/// The longest content that is in the list itself.
const MAX_INLINE: u64 = 16_384;
const LEVEL: i32 = 3;

/// An object of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: ObjectId,
    pub(super) content: Content,
}

/// What it consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// These bytes.
    Inline(Vec<u8>),
    /// Chunks and holes.
    Runs {
        /// Bytes of the object.
        size: u64,
        runs: Vec<Run>,
    },
}

/// Chunks that follow each other in the object and in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Zeros before them.
    pub(super) hole: u64,
    /// The pack, by its number in the artifact.
    pub(super) pack: u32,
    /// The first of them, counted in the order of the pack.
    pub(super) first: u32,
    /// How many.
    pub(super) count: u32,
}

/// Where chunks are: pack, and number in it.
pub(super) type Places = HashMap<Digest, (u32, u32)>;

/// The runs of a list; `None` when a chunk has no place.
pub(super) fn runs_of(list: &ChunkList, places: &Places) -> Option<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    let mut end = 0;
    for chunk in &list.chunks {
        let (pack, number) = *places.get(&chunk.id)?;
        let hole = chunk.offset - end;
        end = chunk.offset + u64::from(chunk.length);
        match runs.last_mut() {
            Some(last) if hole == 0 && last.pack == pack && last.first + last.count == number => {
                last.count += 1;
            }
            _ => runs.push(Run {
                hole,
                pack,
                first: number,
                count: 1,
            }),
        }
    }
    Some(runs)
}

/// The list that runs stand for, with the chunks of the packs.
///
/// # Errors
/// They name what the packs do not have, or reach behind the end: a phrase.
pub(super) fn list_of(
    size: u64,
    runs: &[Run],
    packs: &[impl AsRef<Vec<PackedChunk>>],
) -> Result<ChunkList, &'static str> {
    let mut list = ChunkList {
        size,
        chunks: Vec::new(),
    };
    let mut end = 0_u64;
    for run in runs {
        end = end
            .checked_add(run.hole)
            .ok_or("has a hole behind its end")?;
        let chunks = packs
            .get(run.pack as usize)
            .map(AsRef::as_ref)
            .and_then(|chunks| chunks.get(run.first as usize..))
            .and_then(|chunks| chunks.get(..run.count as usize))
            .ok_or("names chunks that its packs do not have")?;
        for chunk in chunks {
            list.chunks.push(Chunk {
                offset: end,
                length: chunk.length,
                id: chunk.id,
            });
            end = end
                .checked_add(u64::from(chunk.length))
                .filter(|&end| end <= size)
                .ok_or("has chunks behind its end")?;
        }
    }
    Ok(list)
}

/// The bytes of the list, compressed.
pub(super) fn encode(objects: &[Listed]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    number(&mut bytes, objects.len() as u64);
    for object in objects {
        bytes.extend_from_slice(object.id.digest().as_bytes());
        match &object.content {
            Content::Inline(content) => {
                bytes.push(0);
                number(&mut bytes, content.len() as u64);
                bytes.extend_from_slice(content);
            }
            Content::Runs { size, runs } => {
                bytes.push(1);
                number(&mut bytes, *size);
                number(&mut bytes, runs.len() as u64);
                for run in runs {
                    number(&mut bytes, run.hole);
                    number(&mut bytes, u64::from(run.pack));
                    number(&mut bytes, u64::from(run.first));
                    number(&mut bytes, u64::from(run.count));
                }
            }
        }
    }
    zstd::bulk::compress(&bytes, LEVEL).expect("bytes in memory can be compressed")
}

/// Reads the bytes of a list.
///
/// # Errors
/// They are none: a phrase.
pub(super) fn decode(compressed: &[u8]) -> Result<Vec<Listed>, &'static str> {
    let bytes = zstd::bulk::decompress(compressed, room(compressed))
        .map_err(|_| "is no list of objects: it cannot be decompressed")?;
    let mut reader = Reader(&bytes);
    if reader.take(8)? != MAGIC {
        return Err("is no list of objects");
    }
    let version: [u8; 4] = reader.array()?;
    if u32::from_le_bytes(version) != VERSION {
        return Err("is a list of objects of another version");
    }
    let count = reader.number()?;
    let mut objects = Vec::new();
    let mut chunks = 0_u64;
    for _ in 0..count {
        let id = ObjectId::new(Digest::from_bytes(reader.array()?));
        let [kind] = reader.array()?;
        let size = reader.number()?;
        let content = match kind {
            0 if size <= MAX_INLINE => Content::Inline(reader.take(size as usize)?.to_vec()),
            1 if size <= MAX_SIZE => {
                let count = reader.number()?;
                let mut runs = Vec::new();
                for _ in 0..count {
                    let run = reader.run()?;
                    // A run of nothing counts, too.
                    chunks += u64::from(run.count).max(1);
                    if chunks > MAX_CHUNKS {
                        return Err("is a list of too many chunks");
                    }
                    runs.push(run);
                }
                Content::Runs { size, runs }
            }
            _ => return Err("is no list of objects: one is of an unknown kind"),
        };
        objects.push(Listed { id, content });
    }
    match reader.0 {
        [] => Ok(objects),
        _ => Err("is no list of objects: something follows it"),
    }
}

/// How much memory the bytes may take decoded, by what they say.
fn room(compressed: &[u8]) -> usize {
    let said = zstd::zstd_safe::get_frame_content_size(compressed);
    let said = said.ok().flatten().unwrap_or(MAX_DECODED as u64);
    (said as usize).min(MAX_DECODED)
}

/// LEB128: seven bits a byte, the lowest first.
fn number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or("is no list of objects: it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // One form for each number.
                return match byte == 0 && shift > 0 {
                    true => Err("is no list of objects: a number is longer than it must be"),
                    false => Ok(value),
                };
            }
        }
        Err("is no list of objects: a number is too large")
    }

    fn small(&mut self) -> Result<u32, &'static str> {
        u32::try_from(self.number()?).map_err(|_| "is no list of objects: a number is too large")
    }

    fn run(&mut self) -> Result<Run, &'static str> {
        Ok(Run {
            hole: self.number()?,
            pack: self.small()?,
            first: self.small()?,
            count: self.small()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> Digest {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Digest::from_bytes(bytes)
    }

    fn packs(lengths: &[Vec<u32>]) -> (Vec<Vec<PackedChunk>>, Places) {
        let mut places = Places::new();
        let mut number = 0;
        let packs = lengths.iter().enumerate().map(|(pack, lengths)| {
            let chunks = lengths.iter().enumerate().map(|(rank, &length)| {
                number += 1;
                places.insert(id(number), (pack as u32, rank as u32));
                PackedChunk {
                    id: id(number),
                    length,
                    offset: 0,
                    stored: 0,
                }
            });
            chunks.collect()
        });
        (packs.collect(), places)
    }

    proptest! {
        #[test]
        fn lists_go_there_and_back(
            lengths in prop::collection::vec(prop::collection::vec(1_u32..1000, 1..9), 1..5),
            picks in prop::collection::vec((any::<prop::sample::Index>(), 0_u64..3), 0..40),
        ) {
            let (packs, places) = packs(&lengths);
            let all: Vec<_> = packs.iter().flatten().collect();
            let mut list = ChunkList::default();
            for (pick, hole) in picks {
                let chunk = all[pick.index(all.len())];
                list.chunks.push(Chunk {
                    offset: list.size + hole * 4096,
                    length: chunk.length,
                    id: chunk.id,
                });
                list.size += hole * 4096 + u64::from(chunk.length);
            }
            let runs = runs_of(&list, &places).unwrap();
            let object = Listed {
                id: list.id(),
                content: Content::Runs { size: list.size, runs: runs.clone() },
            };
            let small = Listed { id: ObjectId::new(id(0)), content: Content::Inline(vec![1, 2]) };
            let objects = [object, small];
            prop_assert_eq!(decode(&encode(&objects)).unwrap(), objects);
            prop_assert_eq!(list_of(list.size, &runs, &packs), Ok(list));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let head = [MAGIC, &VERSION.to_le_bytes()].concat();
            let compressed = zstd::bulk::compress(&[head, bytes].concat(), 1).unwrap();
            if let Ok(objects) = decode(&compressed) {
                prop_assert_eq!(decode(&encode(&objects)).unwrap(), objects);
            }
            prop_assert!(decode(&compressed[..compressed.len() - 1]).is_err());
        }
    }

    #[test]
    fn chunks_that_follow_each_other_are_one_run() {
        let (_, places) = packs(&[vec![4096; 1000], vec![4096; 1000]]);
        let list = ChunkList {
            size: 2000 * 4096,
            chunks: (0..2000)
                .map(|n| Chunk {
                    offset: n * 4096,
                    length: 4096,
                    id: id(n as u32 + 1),
                })
                .collect(),
        };
        let runs = runs_of(&list, &places).unwrap();
        assert_eq!(runs.len(), 2);
    }

    fn with_runs(size: u64, counts: &[u32]) -> Listed {
        let runs = counts.iter().map(|&count| Run {
            hole: 0,
            pack: 0,
            first: 0,
            count,
        });
        Listed {
            id: ObjectId::new(id(1)),
            content: Content::Runs {
                size,
                runs: runs.collect(),
            },
        }
    }

    #[test]
    fn lists_of_too_many_chunks_are_refused() {
        let of = |objects: &[&[u32]]| {
            let objects: Vec<_> = objects.iter().map(|runs| with_runs(1, runs)).collect();
            decode(&encode(&objects)).map(|_| ())
        };
        let most = MAX_CHUNKS as u32;
        for fine in [&[&[most][..]][..], &[&[most - 1, 0]], &[&[1], &[most - 1]]] {
            assert_eq!(of(fine), Ok(()), "{fine:?}");
        }
        for wrong in [
            &[&[most + 1][..]][..],
            &[&[most, 1]],
            &[&[u32::MAX, u32::MAX]],
            // Runs of nothing take memory, too.
            &[&[most, 0]],
            &[&[most], &[1]],
        ] {
            assert_eq!(of(wrong), Err("is a list of too many chunks"), "{wrong:?}");
        }
    }

    #[test]
    fn objects_that_are_too_large_are_refused() {
        let inline = |length: u64| Listed {
            id: ObjectId::new(id(1)),
            content: Content::Inline(vec![7; length as usize]),
        };
        for fine in [with_runs(MAX_SIZE, &[1]), inline(MAX_INLINE)] {
            assert_eq!(decode(&encode(std::slice::from_ref(&fine))), Ok(vec![fine]));
        }
        for wrong in [
            with_runs(MAX_SIZE + 1, &[1]),
            with_runs(u64::MAX, &[]),
            inline(MAX_INLINE + 1),
        ] {
            assert!(decode(&encode(&[wrong])).is_err());
        }
    }

    /// A compressed list that goes on like this after what all begin with.
    fn beginning(rest: &[&[u8]]) -> Vec<u8> {
        let head = [MAGIC, &VERSION.to_le_bytes()].concat();
        let all = [&head[..], &rest.concat()].concat();
        zstd::bulk::compress(&all, 1).unwrap()
    }

    #[test]
    fn no_memory_is_taken_for_what_is_only_said() {
        let id = [0; 32];
        let mut many = Vec::new();
        number(&mut many, u64::MAX);
        for said in [
            // Objects, runs, bytes.
            beginning(&[&many]),
            beginning(&[&[1], &id, &[1, 1], &many]),
            beginning(&[&[1], &id, &[0], &many]),
        ] {
            assert!(decode(&said).is_err());
        }
        // The size of a frame is said in its header, too: here in eight bytes, without a checksum.
        let head = |size: u64| [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &size.to_le_bytes()].concat();
        assert_eq!(room(&head(1000)), 1000);
        for size in [MAX_DECODED as u64 + 1, 1 << 50] {
            assert_eq!(room(&head(size)), MAX_DECODED, "{size}");
        }
        let long = vec![0; MAX_DECODED + 1];
        let error = decode(&zstd::bulk::compress(&long, 1).unwrap()).unwrap_err();
        assert!(error.contains("cannot be decompressed"), "{error}");
    }

    #[test]
    fn runs_that_lie_are_refused() {
        let (packs, _) = packs(&[vec![100; 4]]);
        let run = |hole, pack, first, count| Run {
            hole,
            pack,
            first,
            count,
        };
        let of = |size, run| list_of(size, &[run], &packs);
        assert!(of(400, run(0, 0, 0, 4)).is_ok());
        assert!(of(399, run(0, 0, 0, 4)).is_err());
        assert!(of(400, run(1, 0, 0, 4)).is_err());
        assert!(of(400, run(0, 1, 0, 1)).is_err());
        assert!(of(400, run(0, 0, 3, 2)).is_err());
        assert!(of(400, run(0, 0, u32::MAX, u32::MAX)).is_err());
        assert!(of(400, run(u64::MAX, 0, 0, 1)).is_err());
    }
}
