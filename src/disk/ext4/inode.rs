//! One inode as bytes: times, order of extended attributes, checksum. Pure.
//!
//! Source of the format: the kernel's documentation, `Documentation/filesystems/ext4/`, files
//! `inodes.rst`, `attributes.rst` and `checksums.rst`. All numbers are little endian.

/// Bytes that every inode has; what follows is counted by `i_extra_isize`.
const OLD_SIZE: usize = 128;
const MODE: usize = 0x00;
const ATIME: usize = 0x08;
const CTIME: usize = 0x0C;
const MTIME: usize = 0x10;
const GENERATION: usize = 0x64;
const CHECKSUM_LOW: usize = 0x7C;
const EXTRA_SIZE: usize = 0x80;
const CHECKSUM_HIGH: usize = 0x82;
const CTIME_EXTRA: usize = 0x84;
const MTIME_EXTRA: usize = 0x88;
const ATIME_EXTRA: usize = 0x8C;
const CRTIME: usize = 0x90;
const CRTIME_EXTRA: usize = 0x94;

const ATTRIBUTE_MAGIC: u32 = 0xEA02_0000;
/// Bytes of an attribute's entry before its name.
const ENTRY: usize = 16;

/// The extended attributes in the inode are not as the format says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// CRC-32C as ext4 uses it: no inversion at the end.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// Makes access, change and creation time equal to the modification time, sorts the extended
/// attributes that are in the inode, and computes its checksum. An unused inode (mode 0) is left
/// as it is. `seed` is the file system's checksum seed.
pub(super) fn normalise(inode: &mut [u8], number: u32, seed: u32) -> Result<(), Malformed> {
    if u16_at(inode, MODE) == 0 {
        return Ok(());
    }
    let extra = usize::from(u16_at(inode, EXTRA_SIZE));
    if OLD_SIZE + extra > inode.len() {
        return Err(Malformed);
    }
    let end = OLD_SIZE + extra;
    for (field, source, needs) in [
        (ATIME, MTIME, OLD_SIZE),
        (CTIME, MTIME, OLD_SIZE),
        (ATIME_EXTRA, MTIME_EXTRA, ATIME_EXTRA + 4),
        (CTIME_EXTRA, MTIME_EXTRA, MTIME_EXTRA + 4),
        (CRTIME, MTIME, CRTIME + 4),
        (CRTIME_EXTRA, MTIME_EXTRA, CRTIME_EXTRA + 4),
    ] {
        if needs <= end {
            inode.copy_within(source..source + 4, field);
        }
    }
    sort_attributes(&mut inode[end..])?;
    set_checksum(inode, number, seed);
    Ok(())
}

/// The checksum covers the seed, the inode's number and generation, and the inode with its
/// checksum taken as zero.
fn set_checksum(inode: &mut [u8], number: u32, seed: u32) {
    let high = u16_at(inode, EXTRA_SIZE) as usize + OLD_SIZE >= CHECKSUM_HIGH + 2;
    inode[CHECKSUM_LOW..CHECKSUM_LOW + 2].fill(0);
    if high {
        inode[CHECKSUM_HIGH..CHECKSUM_HIGH + 2].fill(0);
    }
    let seed = crc32c(seed, &number.to_le_bytes());
    let seed = crc32c(seed, &inode[GENERATION..GENERATION + 4]);
    let checksum = crc32c(seed, inode).to_le_bytes();
    inode[CHECKSUM_LOW..CHECKSUM_LOW + 2].copy_from_slice(&checksum[..2]);
    if high {
        inode[CHECKSUM_HIGH..CHECKSUM_HIGH + 2].copy_from_slice(&checksum[2..]);
    }
}

struct Attribute {
    prefix: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// mke2fs stores attributes in the order in which the host's file system lists them. `area` is
/// what follows the inode's fields.
fn sort_attributes(area: &mut [u8]) -> Result<(), Malformed> {
    if area.len() < 4 || u32_at(area, 0) != ATTRIBUTE_MAGIC {
        return Ok(());
    }
    let area = &mut area[4..];
    let mut attributes = read_attributes(area)?;
    if attributes.len() < 2 {
        return Ok(());
    }
    attributes.sort_by(|a, b| (a.prefix, &a.name).cmp(&(b.prefix, &b.name)));
    write_attributes(area, &attributes)
}

fn read_attributes(area: &[u8]) -> Result<Vec<Attribute>, Malformed> {
    let mut attributes = Vec::new();
    let mut at = 0;
    // Four zero bytes end the list.
    while at + 4 <= area.len() && u32_at(area, at) != 0 {
        let entry = area.get(at..at + ENTRY).ok_or(Malformed)?;
        let offset = usize::from(u16_at(entry, 2));
        let size = u32_at(entry, 8) as usize;
        if u32_at(entry, 4) != 0 {
            // A value in an inode of its own: the feature is never switched on.
            return Err(Malformed);
        }
        let name_end = at + ENTRY + usize::from(entry[0]);
        let value_end = offset.checked_add(size).ok_or(Malformed)?;
        attributes.push(Attribute {
            prefix: entry[1],
            name: area.get(at + ENTRY..name_end).ok_or(Malformed)?.to_vec(),
            value: area.get(offset..value_end).ok_or(Malformed)?.to_vec(),
        });
        at = name_end.next_multiple_of(4);
    }
    Ok(attributes)
}

/// Entries from the start, values from the end, hashes zero, as mke2fs does.
fn write_attributes(area: &mut [u8], attributes: &[Attribute]) -> Result<(), Malformed> {
    area.fill(0);
    let mut at = 0;
    let mut end = area.len();
    for attribute in attributes {
        let room = attribute.value.len().next_multiple_of(4);
        end = end.checked_sub(room).ok_or(Malformed)?;
        let next = (at + ENTRY + attribute.name.len()).next_multiple_of(4);
        if next > end {
            return Err(Malformed);
        }
        area[at] = attribute.name.len() as u8;
        area[at + 1] = attribute.prefix;
        area[at + 2..at + 4].copy_from_slice(&(end as u16).to_le_bytes());
        area[at + 8..at + 12].copy_from_slice(&(attribute.value.len() as u32).to_le_bytes());
        area[at + ENTRY..at + ENTRY + attribute.name.len()].copy_from_slice(&attribute.name);
        area[end..end + attribute.value.len()].copy_from_slice(&attribute.value);
        at = next;
    }
    Ok(())
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_has_the_published_check_value() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
    }

    fn attribute(prefix: u8, name: &str, value: &[u8]) -> Attribute {
        Attribute {
            prefix,
            name: name.into(),
            value: value.into(),
        }
    }

    fn inode_with(attributes: &[Attribute]) -> Vec<u8> {
        let mut inode = vec![0; 256];
        inode[MODE..2].copy_from_slice(&0o100_644_u16.to_le_bytes());
        inode[EXTRA_SIZE] = 32;
        inode[MTIME] = 9;
        let area = &mut inode[OLD_SIZE + 32..];
        area[..4].copy_from_slice(&ATTRIBUTE_MAGIC.to_le_bytes());
        write_attributes(&mut area[4..], attributes).unwrap();
        inode
    }

    #[test]
    fn times_and_order_of_attributes_do_not_count() {
        let acl = || attribute(2, "", &[1, 0, 0, 0, 9]);
        let capability = || attribute(6, "capability", &[3; 20]);
        let mut one = inode_with(&[acl(), capability()]);
        let mut two = inode_with(&[capability(), acl()]);
        one[ATIME] = 1;
        two[CTIME] = 2;
        two[CRTIME_EXTRA] = 3;
        assert_ne!(one, two);
        normalise(&mut one, 12, 0x1234).unwrap();
        normalise(&mut two, 12, 0x1234).unwrap();
        assert_eq!(one, two);
        assert_eq!((one[ATIME], one[CTIME], one[CRTIME]), (9, 9, 9));
        let kept = read_attributes(&one[OLD_SIZE + 36..]).unwrap();
        assert_eq!(kept[1].name, b"capability");
        assert_eq!(kept[1].value, [3; 20]);
        normalise(&mut two, 13, 0x1234).unwrap();
        assert_ne!(one, two, "the checksum covers the number");
    }

    #[test]
    fn unused_inodes_stay_as_they_are() {
        let mut inode = vec![0; 256];
        inode[CTIME] = 1;
        let before = inode.clone();
        normalise(&mut inode, 5, 1).unwrap();
        assert_eq!(inode, before);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_or_taken(
            mut inode in proptest::collection::vec(proptest::num::u8::ANY, 256),
            magic in proptest::bool::ANY,
        ) {
            if magic {
                inode[EXTRA_SIZE..EXTRA_SIZE + 2].copy_from_slice(&[32, 0]);
                inode[OLD_SIZE + 32..OLD_SIZE + 36].copy_from_slice(&ATTRIBUTE_MAGIC.to_le_bytes());
            }
            let _ = normalise(&mut inode, 12, 0);
        }
    }
}
