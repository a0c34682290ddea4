//! Files of others, as far as decides whether they can be trusted to be a whole disk.

use super::{COMPRESSED, DATA_FILE, FEATURES, HEADER, MAGIC, OFFSET, SECTOR, ZERO};
use crate::disk::ReadAt;
use crate::disk::foreign::{ForeignError, Parts, array, malformed, part};
use crate::image::DiskFormat;

const FORMAT: DiskFormat = DiskFormat::Qcow2;
/// Length of a header of version 2, in bytes.
const LENGTH_2: usize = 72;
/// The header and its extensions are in the first cluster, which has at most 2 MiB.
const MOST: u64 = 2 << 20;

/// Incompatible features that qemu-img reads: "dirty" reference counts, which reading does not
/// need, another compression, and subclusters.
const READABLE: u64 = 1 | 1 << 3 | 1 << 4;
const CORRUPT: u64 = 1 << 1;
const SUBCLUSTERS: u64 = 1 << 4;

/// Bytes of an entry of a table of the second level, and of one with the bitmap of subclusters.
const ENTRY: usize = 8;
const LONG_ENTRY: usize = 16;

/// Header extensions that are looked for.
const END: u32 = 0;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const ENCRYPTION: u32 = 0x0537_be77;

/// The size of the disk in a file that is whole.
pub(in crate::disk) fn check(file: &dyn ReadAt, image_size: u64) -> Result<u64, ForeignError> {
    let head = part(FORMAT, file, 0, LENGTH_2)?;
    if !head.starts_with(MAGIC) {
        return Err(malformed(FORMAT, "it does not begin as one"));
    }
    let number = |at| u32::from_be_bytes(array(&head, at));
    let long = |at| u64::from_be_bytes(array(&head, at));
    let unsupported = |what: &str, help: &str| ForeignError::Unsupported {
        format: FORMAT,
        what: what.to_owned(),
        help: help.to_owned(),
    };
    if long(8) != 0 {
        let length = number(16).min(1023) as usize;
        let name = file.bytes_at(long(8), length).unwrap_or_default();
        let name = String::from_utf8_lossy(&name).into_owned();
        return Err(names(format!("its backing file is {name:?}")));
    }
    if number(32) != 0 {
        let help = "decrypt it first: qemu-img convert with --object secret";
        return Err(unsupported("is encrypted", help));
    }
    let mut entry = ENTRY;
    let extensions = match number(4) {
        2 => LENGTH_2 as u64,
        3 => {
            let head = part(FORMAT, file, 0, HEADER as usize)?;
            let features = u64::from_be_bytes(array(&head, FEATURES));
            if features & DATA_FILE != 0 {
                return Err(names("its data is in another file".to_owned()));
            }
            if features & CORRUPT != 0 {
                let help = "repair it with qemu-img check -r all, or download it again";
                return Err(unsupported("is marked as corrupt", help));
            }
            if features & !READABLE != 0 {
                let what = format!(
                    "has features that are not known (bits {:#x})",
                    features & !READABLE
                );
                let help = "convert it with the program that made it: qemu-img convert -O qcow2";
                return Err(unsupported(&what, help));
            }
            if features & SUBCLUSTERS != 0 {
                entry = LONG_ENTRY;
            }
            u64::from(u32::from_be_bytes(array(&head, 100))).max(u64::from(HEADER))
        }
        version => {
            let what = format!("has version {version}; 2 and 3 are known");
            return Err(unsupported(&what, "convert it with a newer qemu-img"));
        }
    };
    check_extensions(file, extensions)?;
    let bits = number(20);
    if !(9..=21).contains(&bits) {
        return Err(malformed(FORMAT, format!("clusters of 2^{bits} bytes")));
    }
    let first = (long(40), u64::from(number(36)) * 8);
    let parts = Parts::new(FORMAT, file)?.bounded(image_size);
    check_tables(parts, first, long(24), bits, entry)?;
    Ok(long(24))
}

/// Looks whether all clusters are in the file: `first` is the place of the table of the first
/// level, `size` that of the disk, `bits` that of clusters and `entry` that of entries of the
/// second level.
fn check_tables(
    mut parts: Parts<'_>,
    first: (u64, u64),
    size: u64,
    bits: u32,
    entry: usize,
) -> Result<(), ForeignError> {
    let cluster = 1 << bits;
    let has_subclusters = entry == LONG_ENTRY;
    // The offset and the number of sectors of compressed clusters.
    let split = 62 - (bits - 8);
    let in_table = cluster / entry as u64;
    let table = parts.table(first.0, first.1)?;
    for (number, at) in (0_u64..).zip(table.chunks_exact(8)) {
        let at = u64::from_be_bytes(array(at, 0)) & OFFSET;
        if at == 0 {
            continue;
        }
        let table = parts.table(at, cluster)?;
        for (index, words) in (0_u64..).zip(table.chunks_exact(entry)) {
            let word = u64::from_be_bytes(array(words, 0));
            if word & COMPRESSED != 0 {
                let sectors = (word & (COMPRESSED - 1)) >> split;
                let from = word & ((1 << split) - 1);
                // The last sector need not be whole.
                let last = (from / SECTOR + sectors) * SECTOR;
                parts.inside(from.max(last), 1)?;
                parts.unpacks_to(cluster)?;
            } else if word & OFFSET != 0 {
                // Of a cluster only what is used need be there: of the disk's last one what is of
                // the disk, and what was written of it.
                let from = number.saturating_mul(in_table).saturating_add(index);
                let used = size.saturating_sub(from.saturating_mul(cluster));
                let written = match has_subclusters {
                    true => last_subcluster(u64::from_be_bytes(array(words, 8))) * (cluster / 32),
                    false if word & ZERO != 0 => 0,
                    false => cluster,
                };
                parts.data(word & OFFSET, used.min(written))?;
            }
        }
    }
    Ok(())
}

/// The number of subclusters up to the last one that was written: the low half of the bitmap has a
/// bit for each.
const fn last_subcluster(bitmap: u64) -> u64 {
    (32 - (bitmap as u32).leading_zeros()) as u64
}

fn check_extensions(file: &dyn ReadAt, mut at: u64) -> Result<(), ForeignError> {
    // Files of version 2 without extensions may end right here.
    let end = file.size().map_err(ForeignError::Io)?.min(MOST);
    while at + 8 <= end {
        let head = part(FORMAT, file, at, 8)?;
        match u32::from_be_bytes(array(&head, 0)) {
            END => return Ok(()),
            DATA_FILE_NAME => return Err(names("its data is in another file".to_owned())),
            ENCRYPTION => {
                return Err(ForeignError::Unsupported {
                    format: FORMAT,
                    what: "is encrypted".to_owned(),
                    help: "decrypt it first: qemu-img convert with --object secret".to_owned(),
                });
            }
            _ => {}
        }
        let length = u64::from(u32::from_be_bytes(array(&head, 4)));
        at += 8 + length.next_multiple_of(8);
    }
    Ok(())
}

const fn names(what: String) -> ForeignError {
    ForeignError::NamesFile {
        format: FORMAT,
        what,
    }
}

#[cfg(test)]
pub(in crate::disk) mod tests {
    use super::*;

    /// A header of version 3 for a disk of 1 MiB.
    pub(crate) fn header() -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, b"QFI\xfb");
        put(4, &3_u32.to_be_bytes());
        put(20, &16_u32.to_be_bytes());
        put(24, &(1_u64 << 20).to_be_bytes());
        put(100, &104_u32.to_be_bytes());
        bytes
    }

    fn changed(at: usize, part: &[u8]) -> String {
        let mut bytes = header();
        bytes[at..at + part.len()].copy_from_slice(part);
        check(&bytes.as_slice(), 0).unwrap_err().to_string()
    }

    /// A disk of 512 MiB in 256 KiB: all clusters are one that is compressed.
    pub(crate) fn bomb() -> Vec<u8> {
        const CLUSTER: usize = 65_536;
        let mut bytes = header();
        bytes.resize(4 * CLUSTER, 0);
        let mut put = |at: usize, value: u64| {
            bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
        };
        put(24, 512 << 20);
        put(32, 1);
        put(40, CLUSTER as u64);
        put(CLUSTER, 2 * CLUSTER as u64);
        for entry in 0..CLUSTER / ENTRY {
            put(
                2 * CLUSTER + entry * ENTRY,
                COMPRESSED | (3 * CLUSTER as u64),
            );
        }
        bytes
    }

    #[test]
    fn what_compressed_clusters_give_is_bounded() {
        let bomb = bomb();
        assert_eq!(check(&bomb.as_slice(), 512 << 20).unwrap(), 512 << 20);
        let error = check(&bomb.as_slice(), 1 << 20).unwrap_err();
        insta::assert_snapshot!(error, @"the qcow2 file unpacks to more than 64M");
        insta::assert_snapshot!(error.help(), @r#"its compressed parts may have as much as image-size says, and 256 times the size of the file; when this is what you want, raise the limit in the configuration (docs/config.md): limits image-size="1G""#);
    }

    #[test]
    fn what_names_files_or_is_not_known_is_refused() {
        assert_eq!(check(&header().as_slice(), 0).unwrap(), 1 << 20);
        insta::assert_snapshot!(changed(8, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3]), @r#"the qcow2 file is not the whole disk: its backing file is "\0\0\0""#);
        insta::assert_snapshot!(changed(79, &[4]), @"the qcow2 file is not the whole disk: its data is in another file");
        insta::assert_snapshot!(changed(104, b"DATA\0\0\0\x04/etc"), @"the qcow2 file is not the whole disk: its data is in another file");
        // Behind an extension that does not matter.
        insta::assert_snapshot!(changed(104, b"\x68\x03\xf8\x57\0\0\0\x01x\0\0\0\0\0\0\0DATA\0\0\0\x01/"), @"the qcow2 file is not the whole disk: its data is in another file");
        insta::assert_snapshot!(changed(35, &[2]), @"the qcow2 file is encrypted");
        insta::assert_snapshot!(changed(79, &[2]), @"the qcow2 file is marked as corrupt");
        insta::assert_snapshot!(changed(79, &[0x41]), @"the qcow2 file has features that are not known (bits 0x40)");
        insta::assert_snapshot!(changed(7, &[4]), @"the qcow2 file has version 4; 2 and 3 are known");
        insta::assert_snapshot!(changed(36, &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0xff, 0xf8]), @"it is not a readable qcow2: it ends after 65536 bytes, before what its tables name");
        insta::assert_snapshot!(changed(20, &[0, 0, 0, 60]), @"it is not a readable qcow2: clusters of 2^60 bytes");
        insta::assert_snapshot!(changed(0, b"X"), @"it is not a readable qcow2: it does not begin as one");
        let short = &header()[..50];
        insta::assert_snapshot!(check(&short, 0).unwrap_err(), @"it is not a readable qcow2: it ends before its header does");
    }
}
