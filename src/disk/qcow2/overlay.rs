//! Overlays: an empty qcow2 over another disk, written without starting `qemu-img`.
//!
//! Its L1 table is all zero: nothing is allocated, every read goes to the backing file. What QEMU
//! has written to one, [`Overlay`] reads.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{CLUSTER, DATA_FILE, FEATURES, Places, l1_entries};
use crate::failure::Failure;
use crate::host::beneath::open_unlinked;
use crate::text::shown_size;

pub use super::map::{Extent, Overlay};

/// The format allows no longer names.
const BACKING_NAME_MAX: usize = 1023;
/// Largest disk, so that the tables fit the one refcount block: far above what file systems do.
pub(super) const SIZE_MAX: u64 = 1 << 50;

/// Writes an overlay of `size` bytes over the raw file `backing` of `backing_size` bytes. The path
/// of the backing file is absolute. An odd size is rounded up to a sector.
///
/// # Errors
/// It is too large or too small, or cannot be written.
pub fn create(path: &Path, backing: &str, backing_size: u64, size: u64) -> Result<(), Failure> {
    check_size(size, backing_size)?;
    write(path, ("raw", backing), size)
}

/// Makes sure that an overlay does not hide the end of the disk below it.
///
/// # Errors
/// It does.
pub fn check_size(size: u64, backing_size: u64) -> Result<(), Failure> {
    if size >= backing_size {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "a disk of {} is smaller than the image's disk of {}: machines' disks can only be larger",
        shown_size(size),
        shown_size(backing_size)
    )))
}

/// Writes an overlay of `size` bytes over another one, which is named relative to its directory.
///
/// # Errors
/// It is too large or too small, or cannot be written.
pub fn create_over(path: &Path, below: &str, size: u64) -> Result<(), Failure> {
    write(path, ("qcow2", below), size)
}

fn write(path: &Path, backing: (&str, &str), size: u64) -> Result<(), Failure> {
    let failed = |source| Failure::of_io("write the overlay", path, &source);
    if size > SIZE_MAX {
        let message = format!("a disk of {size} bytes is too large; the maximum is {SIZE_MAX}");
        return Err(Failure::failed(message));
    }
    if backing.1.len() > BACKING_NAME_MAX {
        return Err(Failure::failed(format!(
            "the path of the image's disk is longer than {BACKING_NAME_MAX} bytes"
        )));
    }
    let places = Places::new(l1_entries(size), 0, 0);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(failed)?;
    places
        .write_front(&mut file, size, Some(backing))
        .map_err(failed)?;
    // The L1 table is a hole.
    file.set_len(places.end * CLUSTER).map_err(failed)
}

/// Looks at the header of an overlay before QEMU does: a qcow2 can name any file of the host as the
/// one with its data ("incompatible features", bit 2), and the directory of a project may come from
/// elsewhere. The name of a backing file does no harm, QEMU is told another.
///
/// # Errors
/// It does, or the header cannot be read.
pub fn check(path: &Path) -> Result<(), Failure> {
    let mut features = [0; 8];
    let read =
        open_unlinked(path).and_then(|file| file.read_exact_at(&mut features, FEATURES as u64));
    read.map_err(Failure::io("read the overlay", path))?;
    if u64::from_be_bytes(features) & DATA_FILE != 0 {
        let path = path.display();
        let message = format!("the overlay {path} names a separate data file");
        return Err(Failure::failed(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{HEADER, SECTOR, TABLE, run};
    use super::*;

    /// A disk with a byte at its start and at its end, below a name with all that quoting can get
    /// wrong.
    fn backing(directory: &Path, size: u64) -> String {
        let path = directory.join("di,sk: \"1\"");
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(b"first", 0).unwrap();
        file.write_all_at(b"last", size - 4).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn qemu_img_takes_it_for_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let mib = 1 << 20;
        for (name, size) in [
            ("same", 10 * mib),
            ("larger", 3 << 30),
            ("much larger", 5 << 40),
        ] {
            let overlay = directory.path().join(name);
            let backing = backing(directory.path(), 10 * mib);
            create(&overlay, &backing, 10 * mib, size).unwrap();
            let overlay = overlay.to_str().unwrap();

            run("qemu-img", ["check", "-q", overlay]);
            let info = run("qemu-img", ["info", "--output=json", overlay]);
            let info: serde_json::Value = serde_json::from_str(&info).unwrap();
            assert_eq!(info["virtual-size"], size);
            assert_eq!(info["backing-filename"], backing);
            assert_eq!(info["backing-filename-format"], "raw");
            assert_eq!(info["format-specific"]["data"]["compat"], "1.1");
            assert_eq!(info["format-specific"]["data"]["corrupt"], false);
        }
    }

    #[test]
    fn reads_go_through_and_writes_stay() {
        let directory = tempfile::tempdir().unwrap();
        let size = 10 << 20;
        let overlay = directory.path().join("overlay");
        let backing = backing(directory.path(), size);
        let before = std::fs::read(&backing).unwrap();
        create(&overlay, &backing, size, 2 * size).unwrap();
        let path = overlay.to_str().unwrap();

        let requests = ["-c", "write -P 0x2a 1M 64k", "-c", "write -P 0x2b 15M 64k"];
        run(
            "qemu-io",
            ["-f", "qcow2"].iter().chain(&requests).chain([&path]),
        );
        run("qemu-img", ["check", "-q", path]);

        let raw = directory.path().join("raw");
        run(
            "qemu-img",
            ["convert", "-O", "raw", path, raw.to_str().unwrap()],
        );
        let raw = std::fs::read(raw).unwrap();
        let mut expected = before.clone();
        expected.resize(2 * size as usize, 0);
        expected[1 << 20..][..64 << 10].fill(0x2a);
        expected[15 << 20..][..64 << 10].fill(0x2b);
        assert!(
            raw == expected,
            "the overlay reads other bytes than expected"
        );
        assert_eq!(std::fs::read(&backing).unwrap(), before);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("overlay");
        let refused = |backing: &str, backing_size, size| {
            create(&path, backing, backing_size, size)
                .unwrap_err()
                .to_string()
        };
        insta::assert_snapshot!(refused("/d", 2048, 1024), @"a disk of 1K is smaller than the image's disk of 2K: machines' disks can only be larger");
        insta::assert_snapshot!(refused("/d", 0, u64::MAX), @"a disk of 18446744073709551615 bytes is too large; the maximum is 1125899906842624");
        insta::assert_snapshot!(refused(&"d".repeat(1024), 0, 0), @"the path of the image's disk is longer than 1023 bytes");
        assert!(!path.exists());
    }

    proptest! {
        #[test]
        fn the_tables_cover_the_disk(size in 0..=SIZE_MAX, name in "/[a-z/]{0,1022}") {
            let places = Places::new(l1_entries(size), 0, 0);
            let mut front = Vec::new();
            places.write_front(&mut front, size, Some(("raw", &name))).unwrap();
            let number = |at: usize| u64::from_be_bytes(front[at..at + 8].try_into().unwrap());
            let l1_entries = u64::from(u32::from_be_bytes(front[36..40].try_into().unwrap()));
            prop_assert!(number(24) >= size && number(24) < size + SECTOR);
            prop_assert!(l1_entries * TABLE * CLUSTER >= size);
            prop_assert!(number(40) + l1_entries * 8 <= places.end * CLUSTER);
            prop_assert_eq!(front.len() as u64, 3 * CLUSTER);
            let name_at = number(8) as usize;
            prop_assert!(name_at > HEADER as usize);
            prop_assert_eq!(&front[name_at..name_at + name.len()], name.as_bytes());
            let counted = front[2 * CLUSTER as usize..]
                .chunks(2)
                .filter(|count| count == &[0, 1])
                .count();
            prop_assert_eq!(counted as u64, places.end);
        }
    }
}
