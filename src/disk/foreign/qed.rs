//! QED headers (QEMU's `docs/interop/qed_spec.rst`). Numbers are little-endian.

use super::{ForeignError, Parts, array, malformed, part};
use crate::disk::ReadAt;
use crate::image::DiskFormat;

const FORMAT: DiskFormat = DiskFormat::Qed;
const LENGTH: usize = 64;
const BACKING_FILE: u64 = 1;
/// A check of the tables is due, which reading does not need.
const NEEDS_CHECK: u64 = 1 << 1;
/// In tables: a cluster of zeros.
const ZEROS: u64 = 1;

/// The size of the disk in a file that is whole.
pub(super) fn check(file: &dyn ReadAt) -> Result<u64, ForeignError> {
    let head = part(FORMAT, file, 0, LENGTH)?;
    if !head.starts_with(b"QED\0") {
        return Err(malformed(FORMAT, "it does not begin as one"));
    }
    let number = |at| u64::from(u32::from_le_bytes(array(&head, at)));
    let long = |at| u64::from_le_bytes(array(&head, at));
    let features = long(16);
    if features & BACKING_FILE != 0 {
        return Err(ForeignError::NamesFile {
            format: FORMAT,
            what: "it has a backing file".to_owned(),
        });
    }
    if features & !NEEDS_CHECK != 0 {
        return Err(ForeignError::Unsupported {
            format: FORMAT,
            what: format!("has features that are not known (bits {features:#x})"),
            help: "convert it with the program that made it: qemu-img convert -O qcow2".to_owned(),
        });
    }
    let (cluster, table) = (number(4), number(8).saturating_mul(number(4)));
    if !cluster.is_power_of_two() || !(1..=16).contains(&number(8)) {
        return Err(malformed(FORMAT, "its clusters have an impossible size"));
    }
    let size = long(48);
    let in_table = table / 8;
    let mut parts = Parts::new(FORMAT, file)?;
    let first = parts.table(long(40), table)?;
    for (number, at) in (0_u64..).zip(first.chunks_exact(8)) {
        let at = u64::from_le_bytes(array(at, 0));
        if at == 0 {
            continue;
        }
        let second = parts.table(at, table)?;
        for (index, at) in (0_u64..).zip(second.chunks_exact(8)) {
            let at = u64::from_le_bytes(array(at, 0));
            if at > ZEROS {
                let from = number.saturating_mul(in_table).saturating_add(index);
                let used = size.saturating_sub(from.saturating_mul(cluster));
                parts.data(at, used.min(cluster))?;
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
        let mut bytes = vec![0; 12_288];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, b"QED\0");
        put(4, &4096_u32.to_le_bytes());
        put(8, &1_u32.to_le_bytes());
        put(40, &4096_u64.to_le_bytes());
        put(48, &(1_u64 << 20).to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        assert_eq!(check(&header().as_slice()).unwrap(), 1 << 20);
        let changed = |at: usize, value: u8| {
            let mut bytes = header();
            bytes[at] = value;
            check(&bytes.as_slice()).unwrap_err().to_string()
        };
        insta::assert_snapshot!(changed(16, 1), @"the qed file is not the whole disk: it has a backing file");
        insta::assert_snapshot!(changed(16, 8), @"the qed file has features that are not known (bits 0x8)");
        insta::assert_snapshot!(changed(8, 17), @"it is not a readable qed: its clusters have an impossible size");
        insta::assert_snapshot!(changed(4098, 7), @"it is not a readable qed: it ends after 12288 bytes, before what its tables name");
    }
}
