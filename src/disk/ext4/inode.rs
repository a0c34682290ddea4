//! One inode as bytes. Pure.
//!
//! Source of the format: the kernel's documentation, `Documentation/filesystems/ext4/`, files
//! `inodes.rst` and `checksums.rst`. All numbers are little endian.

use super::attributes::{self, Attribute};
use super::crc::{crc32c, u16_at};

/// Bytes of an inode, as `mke2fs` is told.
pub(super) const SIZE: usize = 256;
/// Bytes that every inode has; what follows is counted by `i_extra_isize`.
const OLD_SIZE: usize = 128;
/// All fields that there are.
const EXTRA: usize = 32;
/// Bytes behind the fields: for attributes.
pub(super) const ROOM: usize = SIZE - OLD_SIZE - EXTRA;
const LINKS: usize = 0x1A;
const CHECKSUM_LOW: usize = 0x7C;
const CHECKSUM_HIGH: usize = 0x82;
const MAP: usize = 0x28;
/// Bytes of the map of blocks; short links are in its place.
pub(super) const MAP_SIZE: usize = 60;
/// Blocks are counted in these.
const SECTORS: u64 = super::BLOCK / 512;

pub(super) const USES_EXTENTS: u32 = 0x8_0000;
pub(super) const INDEXED: u32 = 0x1000;

/// What is known of a file beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Type and permissions.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970, and nanoseconds.
    pub(super) modified: (i64, u32),
    pub(super) attributes: Vec<Attribute>,
}

/// An inode that is to be written.
pub(super) struct Inode {
    pub(super) meta: Meta,
    pub(super) size: u64,
    pub(super) links: u16,
    pub(super) flags: u32,
    pub(super) map: [u8; MAP_SIZE],
    /// All blocks that belong to it.
    pub(super) blocks: u64,
    /// The block with more attributes, or 0.
    pub(super) attribute_block: u64,
}

impl Inode {
    /// Its bytes; the attributes of `meta` must fit.
    pub(super) fn to_bytes(&self, number: u32, seed: u32) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let Meta {
            mode,
            uid,
            gid,
            modified,
            ..
        } = self.meta;
        // The low and the high part of a number are far from each other.
        for (value, low, high) in [(uid, 0x02, 0x78), (gid, 0x18, 0x7A)] {
            put(low, &value.to_le_bytes()[..2]);
            put(high, &value.to_le_bytes()[2..]);
        }
        let sectors = (self.blocks * SECTORS).to_le_bytes();
        let size = self.size.to_le_bytes();
        let block = self.attribute_block.to_le_bytes();
        put(0x00, &mode.to_le_bytes());
        put(0x04, &size[..4]);
        put(0x6C, &size[4..]);
        put(0x1C, &sectors[..4]);
        put(0x74, &sectors[4..6]);
        put(0x68, &block[..4]);
        put(0x76, &block[4..6]);
        put(LINKS, &self.links.to_le_bytes());
        put(0x20, &self.flags.to_le_bytes());
        put(MAP, &self.map);
        put(0x80, &(EXTRA as u16).to_le_bytes());
        // All times are that of the last change. Bits beyond the first 32 are in the extra word,
        // below the nanoseconds.
        let (seconds, nanoseconds) = modified;
        let low = seconds as i32;
        let epoch = ((seconds - i64::from(low)) >> 32) as u32 & 3;
        let extra = nanoseconds << 2 | epoch;
        for (field, more) in [(0x08, 0x8C), (0x0C, 0x84), (0x10, 0x88), (0x90, 0x94)] {
            put(field, &low.to_le_bytes());
            put(more, &extra.to_le_bytes());
        }
        attributes::write_inside(&mut bytes[OLD_SIZE + EXTRA..], &self.meta.attributes);
        set_checksum(&mut bytes, number, seed);
        bytes
    }
}

/// Adds a name to a file; tells whether there may be one more.
pub(super) fn add_link(bytes: &mut [u8; SIZE], number: u32, seed: u32) -> bool {
    let links = u16_at(bytes, LINKS);
    if links >= super::MOST_LINKS {
        return false;
    }
    bytes[LINKS..LINKS + 2].copy_from_slice(&(links + 1).to_le_bytes());
    set_checksum(bytes, number, seed);
    true
}

/// The seed of the checksums of what belongs to an inode. Its generation is 0.
pub(super) fn seed_of(number: u32, seed: u32) -> u32 {
    crc32c(crc32c(seed, &number.to_le_bytes()), &[0; 4])
}

/// The checksum covers the inode with its checksum taken as zero.
fn set_checksum(bytes: &mut [u8; SIZE], number: u32, seed: u32) {
    for at in [CHECKSUM_LOW, CHECKSUM_HIGH] {
        bytes[at..at + 2].fill(0);
    }
    let checksum = crc32c(seed_of(number, seed), bytes).to_le_bytes();
    bytes[CHECKSUM_LOW..CHECKSUM_LOW + 2].copy_from_slice(&checksum[..2]);
    bytes[CHECKSUM_HIGH..CHECKSUM_HIGH + 2].copy_from_slice(&checksum[2..]);
}
