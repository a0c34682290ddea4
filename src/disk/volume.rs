//! A small FAT file system as a whole disk, for files that a guest is to find by the label.

use std::fs::File;

use super::fat::{self, Volume};
use super::{DiskError, MEBIBYTE, io_error};

/// The size in bytes. A FAT32 cannot be much smaller; nearly all of it is a hole.
const SIZE: u64 = 136 * MEBIBYTE;

/// Writes `files`, names and contents, to the empty `file`, which becomes a disk with the label
/// `label`, of at most 11 characters. `id` is its volume id.
///
/// # Errors
/// The label or the files are too long, or the file cannot be written.
pub fn write_volume(
    file: &File,
    label: &str,
    id: u32,
    files: &[(&str, &[u8])],
) -> Result<(), DiskError> {
    let mut padded = [b' '; 11];
    padded
        .get_mut(..label.len())
        .filter(|_| label.is_ascii())
        .ok_or_else(|| DiskError::Label(label.to_owned()))?
        .copy_from_slice(label.as_bytes());
    let volume = Volume {
        size: SIZE,
        offset: 0,
        id,
        label: padded,
        files: files.to_vec(),
    };
    let pieces = fat::image(&volume).map_err(|_| DiskError::TooSmall {
        size: SIZE,
        needed: files.iter().map(|(_, content)| content.len() as u64).sum(),
    })?;
    file.set_len(SIZE).map_err(io_error("size"))?;
    for (at, bytes) in pieces {
        std::os::unix::fs::FileExt::write_all_at(file, &bytes, at).map_err(io_error("write"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn files_are_found_by_the_label() {
        let file = tempfile::tempfile().unwrap();
        write_volume(&file, "cidata", 7, &[("meta-data", b"instance-id: x")]).unwrap();
        let fs = fatfs::FileSystem::new(&file, fatfs::FsOptions::new()).unwrap();
        assert_eq!(fs.volume_label(), "cidata");
        let mut text = String::new();
        let mut found = fs.root_dir().open_file("meta-data").unwrap();
        found.read_to_string(&mut text).unwrap();
        assert_eq!(text, "instance-id: x");
        let long = write_volume(&file, "much too long", 7, &[]);
        assert!(matches!(long, Err(DiskError::Label(_))));
    }
}
