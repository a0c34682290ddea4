//! Headers of qcow, version 1 (QEMU's `block/qcow.c`). Numbers are big-endian.

use super::{ForeignError, Parts, array, malformed, part};
use crate::disk::ReadAt;
use crate::image::DiskFormat;

const FORMAT: DiskFormat = DiskFormat::Qcow;
const LENGTH: usize = 48;
/// In entries of tables of the second level.
const COMPRESSED: u64 = 1 << 63;

/// The size of the disk in a file that is whole.
pub(super) fn check(file: &dyn ReadAt, image_size: u64) -> Result<u64, ForeignError> {
    let head = part(FORMAT, file, 0, LENGTH)?;
    if !head.starts_with(b"QFI\xfb\0\0\0\x01") {
        return Err(malformed(FORMAT, "it does not begin as one"));
    }
    let long = |at| u64::from_be_bytes(array(&head, at));
    if long(8) != 0 {
        return Err(ForeignError::NamesFile {
            format: FORMAT,
            what: "it has a backing file".to_owned(),
        });
    }
    if array(&head, 36) != [0; 4] {
        return Err(ForeignError::Unsupported {
            format: FORMAT,
            what: "is encrypted".to_owned(),
            help: "decrypt it first: qemu-img convert with --object secret".to_owned(),
        });
    }
    let (bits, table_bits) = (u32::from(head[32]), u32::from(head[33]));
    // As QEMU has it.
    if !(9..=16).contains(&bits) || !(6..=13).contains(&table_bits) {
        return Err(malformed(FORMAT, "its clusters have an impossible size"));
    }
    let (size, cluster) = (long(24), 1_u64 << bits);
    let mut parts = Parts::new(FORMAT, file)?.bounded(image_size);
    let entries = size.div_ceil(cluster << table_bits);
    let first = parts.table(long(40), entries.saturating_mul(8))?;
    let split = 63 - bits;
    for (number, at) in (0_u64..).zip(first.chunks_exact(8)) {
        let at = u64::from_be_bytes(array(at, 0));
        if at == 0 {
            continue;
        }
        let second = parts.table(at, 8 << table_bits)?;
        for (index, word) in (0_u64..).zip(second.chunks_exact(8)) {
            let word = u64::from_be_bytes(array(word, 0));
            if word & COMPRESSED != 0 {
                let length = (word & !COMPRESSED) >> split;
                parts.inside(word & ((1 << split) - 1), length)?;
                parts.unpacks_to(cluster)?;
            } else if word != 0 {
                let from = (number << table_bits) + index;
                let used = size.saturating_sub(from.saturating_mul(cluster));
                parts.data(word, used.min(cluster))?;
            }
        }
    }
    Ok(size)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An empty disk of 1 MiB.
    pub(crate) fn header() -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, b"QFI\xfb\0\0\0\x01");
        put(24, &(1_u64 << 20).to_be_bytes());
        put(32, &[12, 9]);
        put(40, &48_u64.to_be_bytes());
        bytes
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        assert_eq!(check(&header().as_slice(), 0).unwrap(), 1 << 20);
        let changed = |at: usize, value: u8| {
            let mut bytes = header();
            bytes[at] = value;
            check(&bytes.as_slice(), 0).unwrap_err().to_string()
        };
        insta::assert_snapshot!(changed(15, 1), @"the qcow file is not the whole disk: it has a backing file");
        insta::assert_snapshot!(changed(39, 1), @"the qcow file is encrypted");
        insta::assert_snapshot!(changed(32, 60), @"it is not a readable qcow: its clusters have an impossible size");
        insta::assert_snapshot!(changed(52, 1), @"it is not a readable qcow: it ends after 8192 bytes, before what its tables name");
    }
}
