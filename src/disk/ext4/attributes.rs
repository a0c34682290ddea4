//! Extended attributes: in the inode where they fit, else in a block of their own. Pure.
//!
//! Source of the format: the kernel's documentation, `Documentation/filesystems/ext4/`, files
//! `attributes.rst` and `checksums.rst`. All numbers are little endian.

use super::BLOCK;
use super::crc::crc32c;

const MAGIC: u32 = 0xEA02_0000;
/// Bytes of an attribute's entry before its name.
const ENTRY: usize = 16;
/// Bytes of the header of a block of attributes.
const HEADER: usize = 32;
/// Where its checksum is.
const CHECKSUM: usize = 0x10;
/// Names are stored without these beginnings. The first ones are whole names.
const PREFIXES: [(u8, &[u8]); 5] = [
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
];

/// An attribute as it is stored. Their order is that of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attribute {
    prefix: u8,
    length: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Attribute {
    /// An attribute as a program sees it; none when its name or value is one that cannot be stored.
    pub(super) fn new(name: &[u8], value: &[u8]) -> Option<Self> {
        let known = PREFIXES.iter().find(|(_, prefix)| name.starts_with(prefix));
        let (prefix, rest) = known.map(|(number, prefix)| (*number, &name[prefix.len()..]))?;
        let is_acl = prefix == 2 || prefix == 3;
        if rest.is_empty() != is_acl || rest.len() > 255 {
            return None;
        }
        Some(Self {
            prefix,
            length: rest.len(),
            name: rest.to_vec(),
            value: match is_acl {
                true => stored_acl(value)?,
                false => value.to_vec(),
            },
        })
    }

    /// Bytes that it takes, in the list of entries and among the values.
    fn room(&self) -> usize {
        (ENTRY + self.name.len()).next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    /// Source: `ext4_xattr_hash_entry` in the kernel's `fs/ext4/xattr.c`.
    fn hash(&self) -> u32 {
        let name = self
            .name
            .iter()
            .fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(name, |hash, word| {
            let mut bytes = [0; 4];
            bytes[..word.len()].copy_from_slice(word);
            hash.rotate_left(16) ^ u32::from_le_bytes(bytes)
        })
    }
}

/// An access control list as it is on disk, from how programs see it: entries without a number, of
/// the owner and the like, are shorter.
fn stored_acl(value: &[u8]) -> Option<Vec<u8>> {
    const VERSION_SEEN: [u8; 4] = [2, 0, 0, 0];
    const VERSION_STORED: [u8; 4] = [1, 0, 0, 0];
    const WITH_NUMBER: [u8; 2] = [0x02, 0x08];
    let entries = value.strip_prefix(&VERSION_SEEN)?;
    let mut stored = VERSION_STORED.to_vec();
    for entry in entries.chunks(8) {
        let length = match WITH_NUMBER.contains(entry.first()?) {
            true => 8,
            false => 4,
        };
        stored.extend(entry.get(..length)?);
    }
    Some(stored)
}

/// Splits attributes into those that fit into `room` bytes in an inode and those for a block; none
/// when they fit into neither.
pub(super) fn split(
    mut attributes: Vec<Attribute>,
    room: usize,
) -> Option<(Vec<Attribute>, Vec<Attribute>)> {
    attributes.sort();
    // A word of zeros ends each list.
    let mut left = room.saturating_sub(4 + 4);
    let (inside, outside): (Vec<_>, Vec<_>) = attributes.into_iter().partition(|attribute| {
        let fits = attribute.room() <= left;
        left -= if fits { attribute.room() } else { 0 };
        fits
    });
    let needed: usize = outside.iter().map(Attribute::room).sum();
    (HEADER + needed + 4 <= BLOCK as usize).then_some((inside, outside))
}

/// Writes attributes into what an inode has behind its fields.
pub(super) fn write_inside(area: &mut [u8], attributes: &[Attribute]) {
    if !attributes.is_empty() {
        area[..4].copy_from_slice(&MAGIC.to_le_bytes());
        // Hashes of entries in inodes are zero, as the kernel has it.
        write_entries(&mut area[4..], 0, 0, attributes, |_| 0);
    }
}

/// The block with these attributes, which is to be block `number`.
pub(super) fn block(attributes: &[Attribute], number: u64, seed: u32) -> Vec<u8> {
    let mut block = vec![0; BLOCK as usize];
    write_entries(&mut block, HEADER, 0, attributes, Attribute::hash);
    let hash = attributes.iter().fold(0_u32, |hash, attribute| {
        hash.rotate_left(16) ^ attribute.hash()
    });
    // One user, one block.
    for (at, value) in [(0, MAGIC), (4, 1), (8, 1), (12, hash)] {
        block[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let checksum = crc32c(crc32c(seed, &number.to_le_bytes()), &block);
    block[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
    block
}

/// Entries from `at` on, values from the end; offsets count from `origin`.
fn write_entries(
    area: &mut [u8],
    mut at: usize,
    origin: usize,
    attributes: &[Attribute],
    hash: impl Fn(&Attribute) -> u32,
) {
    let mut end = area.len() / 4 * 4;
    for attribute in attributes {
        let (name, value) = (&attribute.name, &attribute.value);
        end -= value.len().next_multiple_of(4);
        let offset = if value.is_empty() { 0 } else { end - origin };
        area[at] = name.len() as u8;
        area[at + 1] = attribute.prefix;
        area[at + 2..at + 4].copy_from_slice(&(offset as u16).to_le_bytes());
        area[at + 8..at + 12].copy_from_slice(&(value.len() as u32).to_le_bytes());
        area[at + 12..at + ENTRY].copy_from_slice(&hash(attribute).to_le_bytes());
        area[at + ENTRY..at + ENTRY + name.len()].copy_from_slice(name);
        area[end..end + value.len()].copy_from_slice(value);
        at = (at + ENTRY + name.len()).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_that_cannot_be_stored() {
        assert!(Attribute::new(b"user.note", b"x").is_some());
        assert!(Attribute::new(b"user.", b"x").is_none());
        assert!(Attribute::new(b"other.note", b"x").is_none());
        assert!(Attribute::new(format!("user.{}", "x".repeat(256)).as_bytes(), b"").is_none());
        let acl = |value: &[u8]| Attribute::new(b"system.posix_acl_access", value);
        let seen = [
            [2, 0, 0, 0].as_slice(),
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 4, 0, 232, 3, 0, 0],
        ]
        .concat();
        let stored = acl(&seen).unwrap().value;
        assert_eq!(stored, [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 232, 3, 0, 0]);
        assert!(acl(b"text").is_none());
    }

    #[test]
    fn what_does_not_fit_inside_goes_into_a_block() {
        let attribute =
            |name: &str, length| Attribute::new(name.as_bytes(), &vec![7; length]).unwrap();
        let names = |list: &[Attribute]| {
            let names = list
                .iter()
                .map(|one| String::from_utf8_lossy(&one.name).into_owned());
            names.collect::<Vec<_>>().join(" ")
        };
        let all = vec![
            attribute("user.long", 200),
            attribute("security.capability", 20),
            attribute("user.b", 4),
        ];
        let (inside, outside) = split(all, 96).unwrap();
        assert_eq!(
            (names(&inside), names(&outside)),
            ("b capability".into(), "long".into())
        );
        assert!(split(vec![attribute("user.x", 4040)], 96).is_some());
        assert!(split(vec![attribute("user.x", 4060)], 96).is_none());
    }
}
