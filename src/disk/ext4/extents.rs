//! Which blocks a file has. Pure.
//!
//! Source of the format: the kernel's documentation, `Documentation/filesystems/ext4/ifork.rst`.
//! All numbers are little endian.

use super::BLOCK;
use super::crc::crc32c;
use super::inode::MAP_SIZE;

const MAGIC: u16 = 0xF30A;
/// Bytes of the header of a node of an extent tree, and of each of its entries.
const ENTRY: usize = 12;
/// Entries of a node: of that in the inode, and of a block, which has its checksum at its end.
const IN_INODE: usize = 4;
const IN_BLOCK: usize = (BLOCK as usize - ENTRY - 4) / ENTRY;
/// Extents of more blocks are not initialised.
const LONGEST: u64 = 1 << 15;

/// Blocks of a file that lie in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    logical: u32,
    start: u64,
    length: u64,
}

/// The blocks of a file, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Extents(Vec<Extent>);

impl Extents {
    /// The blocks from `logical` on are so many from `start` on.
    pub(super) fn push(&mut self, logical: u32, start: u64, length: u64) {
        if let Some(last) = self.0.last_mut()
            && u64::from(last.logical) + last.length == u64::from(logical)
            && last.start + last.length == start
            && last.length + length <= LONGEST
        {
            last.length += length;
        } else {
            let extent = Extent {
                logical,
                start,
                length,
            };
            self.0.push(extent);
        }
    }

    /// How many they are.
    pub(super) fn blocks(&self) -> u64 {
        self.0.iter().map(|extent| extent.length).sum()
    }

    /// The map of an inode, and how many blocks of a tree there are: `block` gives the place for
    /// one, and takes its content.
    pub(super) fn map<E>(
        &self,
        seed: u32,
        mut block: impl FnMut(&[u8]) -> Result<u64, E>,
    ) -> Result<([u8; MAP_SIZE], u64), E> {
        let mut entries: Vec<(u32, [u8; ENTRY])> = self
            .0
            .iter()
            .map(|extent| (extent.logical, leaf(extent)))
            .collect();
        let (mut depth, mut blocks) = (0, 0);
        while entries.len() > IN_INODE {
            let mut above = Vec::new();
            for part in entries.chunks(IN_BLOCK) {
                let mut node = vec![0; BLOCK as usize];
                write_node(&mut node, part, IN_BLOCK, depth);
                let end = ENTRY * (IN_BLOCK + 1);
                let checksum = crc32c(seed, &node[..end]);
                node[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
                let first = part[0].0;
                above.push((first, index(first, block(&node)?)));
                blocks += 1;
            }
            entries = above;
            depth += 1;
        }
        let mut map = [0; MAP_SIZE];
        write_node(&mut map, &entries, IN_INODE, depth);
        Ok((map, blocks))
    }
}

fn leaf(extent: &Extent) -> [u8; ENTRY] {
    let start = extent.start.to_le_bytes();
    let mut bytes = [0; ENTRY];
    bytes[..4].copy_from_slice(&extent.logical.to_le_bytes());
    bytes[4..6].copy_from_slice(&(extent.length as u16).to_le_bytes());
    bytes[6..8].copy_from_slice(&start[4..6]);
    bytes[8..].copy_from_slice(&start[..4]);
    bytes
}

fn index(first: u32, block: u64) -> [u8; ENTRY] {
    let block = block.to_le_bytes();
    let mut bytes = [0; ENTRY];
    bytes[..4].copy_from_slice(&first.to_le_bytes());
    bytes[4..8].copy_from_slice(&block[..4]);
    bytes[8..10].copy_from_slice(&block[4..6]);
    bytes
}

fn write_node(node: &mut [u8], entries: &[(u32, [u8; ENTRY])], most: usize, depth: u16) {
    for (at, value) in [
        (0, MAGIC),
        (2, entries.len() as u16),
        (4, most as u16),
        (6, depth),
    ] {
        node[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    for (place, (_, entry)) in node[ENTRY..].chunks_exact_mut(ENTRY).zip(entries) {
        place.copy_from_slice(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_to_their_limit() {
        let mut extents = Extents::default();
        extents.push(0, 100, 5);
        extents.push(5, 105, LONGEST - 5);
        extents.push(LONGEST as u32, 100 + LONGEST, 1);
        extents.push(LONGEST as u32 + 5, 101 + LONGEST, 1);
        let lengths: Vec<u64> = extents.0.iter().map(|extent| extent.length).collect();
        assert_eq!(lengths, [LONGEST, 1, 1]);
    }

    #[test]
    fn many_runs_are_a_tree() {
        for (runs, nodes, depth) in [(4, 0, 0), (5, 1, 1), (340, 1, 1), (1361, 6, 2)] {
            let mut extents = Extents::default();
            for run in 0..runs {
                extents.push(run * 2, u64::from(run) * 3, 1);
            }
            let mut next = 0;
            let map = extents.map(7, |_| {
                next += 1;
                Ok::<u64, ()>(next)
            });
            let (map, blocks) = map.unwrap();
            assert_eq!((blocks, map[6]), (nodes, depth), "{runs}");
        }
    }
}
