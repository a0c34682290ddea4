//! VDI headers, as VirtualBox writes them and QEMU reads them (`block/vdi.c`). Numbers are
//! little-endian.

use super::{ForeignError, Parts, array, malformed, part};
use crate::disk::ReadAt;
use crate::image::DiskFormat;

const FORMAT: DiskFormat = DiskFormat::Vdi;
const LENGTH: usize = 512;
const VERSION: u32 = 0x1_0001;
/// Kinds of disks: in blocks as they are needed, and with all of them.
const WHOLE: [u32; 2] = [1, 2];
/// Blocks that are not there: never written, and discarded.
const NOT_THERE: u32 = 0xffff_fffe;
/// The ids of the disk that this one holds the differences from: of the link, and of the parent.
const PARENT: std::ops::Range<usize> = 0x1a8..0x1c8;

/// The size of the disk in a file that is whole.
pub(super) fn check(file: &dyn ReadAt) -> Result<u64, ForeignError> {
    let head = part(FORMAT, file, 0, LENGTH)?;
    let number = |at| u32::from_le_bytes(array(&head, at));
    if number(0x40) != 0xbeda_107f {
        return Err(malformed(FORMAT, "it does not begin as one"));
    }
    if number(0x44) != VERSION {
        return Err(ForeignError::Unsupported {
            format: FORMAT,
            what: format!(
                "has version {}.{}; 1.1 is known",
                number(0x44) >> 16,
                number(0x44) & 0xffff
            ),
            help: "convert it with VirtualBox: VBoxManage clonemedium FILE NEW.vdi".to_owned(),
        });
    }
    if !WHOLE.contains(&number(0x4c)) || head[PARENT].iter().any(|byte| *byte != 0) {
        return Err(ForeignError::NamesFile {
            format: FORMAT,
            what: "it holds the differences from another disk".to_owned(),
        });
    }
    let size = u64::from_le_bytes(array(&head, 0x170));
    let (block, count) = (u64::from(number(0x178)), u64::from(number(0x180)));
    if block == 0 || count.saturating_mul(block) < size {
        return Err(malformed(FORMAT, "its blocks are fewer than the disk has"));
    }
    let mut parts = Parts::new(FORMAT, file)?;
    let data = u64::from(number(0x158));
    let map = parts.table(number(0x154).into(), count * 4)?;
    for (index, entry) in (0_u64..).zip(map.chunks_exact(4)) {
        let entry = u32::from_le_bytes(array(entry, 0));
        if entry < NOT_THERE {
            let used = size.saturating_sub(index * block).min(block);
            parts.data(data + u64::from(entry) * block, used)?;
        }
    }
    Ok(size)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A disk of 1 MiB, in one block that is not there.
    pub(crate) fn header() -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        let mut put = |at: usize, value: u32| {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        put(0x40, 0xbeda_107f);
        put(0x44, VERSION);
        put(0x4c, 1);
        put(0x154, 512);
        put(0x158, 1024);
        put(0x170, 1 << 20);
        put(0x178, 1 << 20);
        put(0x180, 1);
        put(512, u32::MAX);
        bytes
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        assert_eq!(check(&header().as_slice()).unwrap(), 1 << 20);
        let changed = |at: usize, value: u32| {
            let mut bytes = header();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            check(&bytes.as_slice()).unwrap_err().to_string()
        };
        insta::assert_snapshot!(changed(0x4c, 4), @"the vdi file is not the whole disk: it holds the differences from another disk");
        insta::assert_snapshot!(changed(0x1b8, 7), @"the vdi file is not the whole disk: it holds the differences from another disk");
        insta::assert_snapshot!(changed(0x44, 1), @"the vdi file has version 0.1; 1.1 is known");
        insta::assert_snapshot!(changed(512, 0), @"it is not a readable vdi: it ends after 8192 bytes, before what its tables name");
        insta::assert_snapshot!(changed(0x178, 7), @"it is not a readable vdi: its blocks are fewer than the disk has");
    }
}
