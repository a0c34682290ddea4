//! The GPT of a UEFI disk: where its partitions lie, and writing its tables.
//!
//! Sources: UEFI specification, chapter 5; the Discoverable Partitions Specification for the types
//! of root partitions and for the attribute "grow file system".

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;

use ::gpt::disk::LogicalBlockSize;
use ::gpt::mbr::ProtectiveMBR;
use ::gpt::partition::Partition;
use ::gpt::{GptConfig, partition_types};

use super::esp::Target;
use super::{DiskError, DiskIds, MEBIBYTE};

const SECTOR: u64 = 512;
/// systemd grows the file system to the size of its partition when it mounts it.
const GROW_FILE_SYSTEM: u64 = 1 << 59;
/// Less than this makes no sense for a root partition.
const LEAST_ROOT: u64 = 16 * MEBIBYTE;

/// Where the partitions of a UEFI disk lie, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The EFI system partition.
    pub esp: Range<u64>,
    /// The root partition. It ends 1 MiB before the disk, where the second table is.
    pub root: Range<u64>,
}

impl Layout {
    /// Lays out a disk of `size` bytes, which must be a multiple of 1 MiB (see
    /// [`disk_size`](super::disk_size)), around an EFI system partition of `esp` bytes.
    ///
    /// # Errors
    /// [`DiskError::TooSmall`].
    pub fn new(size: u64, esp: u64) -> Result<Self, DiskError> {
        let esp_end = MEBIBYTE + esp.next_multiple_of(MEBIBYTE);
        let needed = esp_end + LEAST_ROOT + MEBIBYTE;
        if size < needed {
            return Err(DiskError::TooSmall { size, needed });
        }
        Ok(Self {
            esp: MEBIBYTE..esp_end,
            root: esp_end..size - MEBIBYTE,
        })
    }

    /// Writes the protective MBR and both copies of the table. The file has its final length.
    ///
    /// # Errors
    /// [`DiskError::Mbr`] or [`DiskError::Gpt`].
    pub fn write(&self, file: &File, ids: &DiskIds, target: Target) -> Result<(), DiskError> {
        let partition = |kind, guid, range: &Range<u64>, flags, name: &str| Partition {
            part_type_guid: kind,
            part_guid: guid,
            first_lba: range.start / SECTOR,
            last_lba: range.end / SECTOR - 1,
            flags,
            name: name.to_owned(),
        };
        let root_type = match target {
            Target::X86_64 => partition_types::LINUX_ROOT_X64,
            Target::Aarch64 => partition_types::LINUX_ROOT_ARM_64,
        };
        let partitions = BTreeMap::from([
            (
                1,
                partition(partition_types::EFI, ids.esp, &self.esp, 0, "esp"),
            ),
            (
                2,
                partition(root_type, ids.root, &self.root, GROW_FILE_SYSTEM, "root"),
            ),
        ]);
        let sectors = (self.root.end + MEBIBYTE) / SECTOR;
        let mut device = file;
        write_tables(&mut device, ids, partitions, sectors)
    }
}

fn write_tables(
    device: &mut &File,
    ids: &DiskIds,
    partitions: BTreeMap<u32, Partition>,
    sectors: u64,
) -> Result<(), DiskError> {
    // A larger disk than the field can tell has the largest value there, as the specification says.
    let protected = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(protected).overwrite_lba0(device)?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(device, Some(ids.disk))?;
    table.update_partitions(partitions)?;
    table.write()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Seek;

    use super::*;

    #[test]
    fn a_disk_that_is_too_small_is_refused() {
        let error = Layout::new(256 << 20, 256 << 20).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a disk of 268435456 bytes is too small: boot files and partition tables alone need \
             287309824"
        );
        assert!(Layout::new(287_309_824, 256 << 20).is_ok());
    }

    #[test]
    fn both_tables_are_there_and_say_the_same() {
        let layout = Layout::new(64 << 20, 16 << 20).unwrap();
        let ids = DiskIds::new(&[3; 32], &[3; 32]);
        let write = || {
            let mut file = tempfile::tempfile().unwrap();
            file.set_len(64 << 20).unwrap();
            layout.write(&file, &ids, Target::X86_64).unwrap();
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            (file, bytes)
        };
        let (file, bytes) = write();
        assert_eq!(bytes, write().1);
        let table = GptConfig::new().open_from_device(&file).unwrap();
        assert_eq!(table.guid(), &ids.disk);
        let root = &table.partitions()[&2];
        assert_eq!(root.part_guid, ids.root);
        assert_eq!(root.first_lba * SECTOR, layout.root.start);
        assert_eq!((root.last_lba + 1) * SECTOR, layout.root.end);
        let backup = table.backup_header().unwrap();
        assert_eq!(backup.current_lba, (64 << 20) / SECTOR - 1);
        assert_eq!(&bytes[510..512], [0x55, 0xAA]);
    }
}
