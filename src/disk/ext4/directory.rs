//! The blocks of a directory: a list when one block is enough, else with an index over the hashes
//! of names. Pure.
//!
//! Source of the format: the kernel's documentation,
//! `Documentation/filesystems/ext4/directory.rst`. All numbers are little endian.

use super::BLOCK;
use super::crc::crc32c;
use super::hash::NameHash;

const SIZE: usize = BLOCK as usize;
/// The last bytes of a block are an entry without a name that holds its checksum.
const TAIL: usize = 12;
const CHECKSUM_MARK: u8 = 0xDE;
/// Bytes of an entry before its name.
const HEAD: usize = 8;
const DIRECTORY: u8 = 2;
/// Half MD4.
const HASH_VERSION: u8 = 1;
/// Bytes of an entry of the index. The last of a block holds the checksum.
const INDEX: usize = 8;
/// Where the entries of the index begin: in the first block, and in the others.
const ROOT: usize = 32;
const NODE: usize = 8;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) inode: u32,
    /// As directories tell types: 1 is a file, 2 a directory.
    pub(super) kind: u8,
}

impl Entry {
    pub(super) fn directory(name: &str, inode: u32) -> Self {
        Self {
            name: name.into(),
            inode,
            kind: DIRECTORY,
        }
    }

    pub(super) const fn is_directory(&self) -> bool {
        self.kind == DIRECTORY
    }

    fn length(&self) -> usize {
        HEAD + self.name.len().next_multiple_of(4)
    }
}

/// A directory that is to be written.
pub(super) struct Directory<'a> {
    pub(super) number: u32,
    pub(super) parent: u32,
    /// Without `.` and `..`.
    pub(super) entries: &'a [Entry],
    /// The least number of blocks.
    pub(super) least: usize,
}

pub(super) struct Blocks {
    pub(super) bytes: Vec<u8>,
    pub(super) indexed: bool,
}

impl Directory<'_> {
    /// Its blocks; none when it has more names than an index of two levels can hold. `seed` is that
    /// of what belongs to its inode.
    pub(super) fn blocks(&self, hash: &NameHash, seed: u32) -> Option<Blocks> {
        let dots = [
            Entry::directory(".", self.number),
            Entry::directory("..", self.parent),
        ];
        let all: Vec<&Entry> = dots.iter().chain(self.entries).collect();
        let length: usize = all.iter().map(|entry| entry.length()).sum();
        if length <= SIZE - TAIL {
            let mut bytes = leaf(&all, seed);
            for _ in 1..self.least {
                bytes.extend(leaf(&[], seed));
            }
            return Some(Blocks {
                bytes,
                indexed: false,
            });
        }
        let leaves = self.leaves(hash);
        let starts: Vec<(u32, u32)> = leaves
            .iter()
            .zip(1..)
            .map(|(leaf, block)| (leaf.first, block))
            .collect();
        let mut nodes = Vec::new();
        let mut top = starts;
        let in_root = (SIZE - ROOT) / INDEX - 1;
        if top.len() > in_root {
            let in_node = (SIZE - NODE) / INDEX - 1;
            let behind = 1 + leaves.len() as u32;
            let parts: Vec<&[(u32, u32)]> = top.chunks(in_node).collect();
            let above = parts.iter().zip(behind..);
            let above = above.map(|(part, block)| (part[0].0, block)).collect();
            for part in parts {
                nodes.extend(self.node(part, seed));
            }
            top = above;
        }
        if top.len() > in_root {
            return None;
        }
        let mut bytes = self.root(&top, !nodes.is_empty(), seed);
        for one in &leaves {
            bytes.extend(leaf(&one.entries, seed));
        }
        bytes.extend(nodes);
        Some(Blocks {
            bytes,
            indexed: true,
        })
    }

    /// The names by their hashes, as many in a block as fit.
    fn leaves(&self, hash: &NameHash) -> Vec<Leaf<'_>> {
        let mut hashed: Vec<(u32, &Entry)> = self
            .entries
            .iter()
            .map(|entry| (hash.of(&entry.name), entry))
            .collect();
        hashed.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        let mut leaves: Vec<Leaf<'_>> = Vec::new();
        let mut last = 0;
        for (hash, entry) in hashed {
            let room = SIZE - TAIL - entry.length();
            if let Some(leaf) = leaves.last_mut().filter(|leaf| leaf.length <= room) {
                leaf.length += entry.length();
                leaf.entries.push(entry);
            } else {
                // The first block begins at 0. The lowest bit says that names of this hash are in
                // the block before, too.
                let first = match leaves.is_empty() {
                    true => 0,
                    false => hash | u32::from(hash == last),
                };
                leaves.push(Leaf {
                    first,
                    length: entry.length(),
                    entries: vec![entry],
                });
            }
            last = hash;
        }
        leaves
    }

    /// The first block: entries of `.` and `..`, and the top of the index behind them.
    fn root(&self, entries: &[(u32, u32)], has_nodes: bool, seed: u32) -> Vec<u8> {
        let mut block = vec![0; SIZE];
        put_entry(&mut block[..12], self.number, DIRECTORY, b".");
        put_entry(&mut block[12..], self.parent, DIRECTORY, b"..");
        let about = [HASH_VERSION, 8, u8::from(has_nodes), 0];
        block[28..ROOT].copy_from_slice(&about);
        put_index(&mut block, ROOT, entries, seed);
        block
    }

    /// A block of the lower level of the index: an entry without a name that fills it, and the
    /// index in it.
    fn node(&self, entries: &[(u32, u32)], seed: u32) -> Vec<u8> {
        let mut block = vec![0; SIZE];
        put_entry(&mut block, 0, 0, b"");
        put_index(&mut block, NODE, entries, seed);
        block
    }
}

/// A block of names, and the hash that it begins with.
struct Leaf<'a> {
    first: u32,
    length: usize,
    entries: Vec<&'a Entry>,
}

/// An entry that fills `room`.
fn put_entry(room: &mut [u8], inode: u32, kind: u8, name: &[u8]) {
    let length = room.len() as u16;
    room[..4].copy_from_slice(&inode.to_le_bytes());
    room[4..6].copy_from_slice(&length.to_le_bytes());
    room[6] = name.len() as u8;
    room[7] = kind;
    room[HEAD..HEAD + name.len()].copy_from_slice(name);
}

/// A block of names. The last one has the room that is left.
fn leaf(entries: &[&Entry], seed: u32) -> Vec<u8> {
    let mut block = vec![0; SIZE];
    let mut at = 0;
    for (index, entry) in entries.iter().enumerate() {
        let end = match index + 1 == entries.len() {
            true => SIZE - TAIL,
            false => at + entry.length(),
        };
        put_entry(&mut block[at..end], entry.inode, entry.kind, &entry.name);
        at = end;
    }
    if entries.is_empty() {
        put_entry(&mut block[..SIZE - TAIL], 0, 0, b"");
    }
    let checksum = crc32c(seed, &block[..SIZE - TAIL]);
    put_entry(&mut block[SIZE - TAIL..], 0, CHECKSUM_MARK, b"");
    block[SIZE - 4..].copy_from_slice(&checksum.to_le_bytes());
    block
}

/// The entries of an index: hashes and blocks. In the place of the first hash is how many there
/// are.
fn put_index(block: &mut [u8], from: usize, entries: &[(u32, u32)], seed: u32) {
    let most = (SIZE - from) / INDEX - 1;
    for (place, (hash, target)) in block[from..].chunks_exact_mut(INDEX).zip(entries) {
        place[..4].copy_from_slice(&hash.to_le_bytes());
        place[4..].copy_from_slice(&target.to_le_bytes());
    }
    block[from..from + 2].copy_from_slice(&(most as u16).to_le_bytes());
    block[from + 2..from + 4].copy_from_slice(&(entries.len() as u16).to_le_bytes());
    // Source: `ext4_dx_csum` in the kernel's `fs/ext4/namei.c`: what is used, and the last entry
    // with its checksum as zero.
    let used = crc32c(seed, &block[..from + entries.len() * INDEX]);
    let checksum = crc32c(used, &[0; INDEX]);
    block[SIZE - 4..].copy_from_slice(&checksum.to_le_bytes());
}
