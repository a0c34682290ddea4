//! Overlays: an empty qcow2 over a raw disk, written without starting `qemu-img`.
//!
//! Format: QEMU's `docs/interop/qcow2.txt`, version 3, all numbers big endian. Clusters have 64
//! KiB.
//!
//! ```text
//! cluster 0       header, header extensions, name of the backing file
//! cluster 1       refcount table: one entry, cluster 2
//! cluster 2       refcount block: 1 for each cluster of this file
//! cluster 3 …     L1 table, all zero: nothing is allocated, every read goes to the backing file
//! ```
//!
//! What QEMU has written to one, [`Overlay`] reads.

mod map;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use map::{Extent, Overlay};

use crate::host::beneath::open_unlinked;
use crate::text::shown_size;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of the disk that one L1 entry covers: an L2 table is a cluster of 8-byte entries.
const L1_COVERS: u64 = CLUSTER * (CLUSTER / 8);
/// Length of a version 3 header without the optional fields after it.
const HEADER_LENGTH: u32 = 104;
/// Header extension "backing file format name".
const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;
/// The format allows no longer names.
const BACKING_NAME_MAX: usize = 1023;
/// Disks are multiples of this.
const SECTOR: u64 = 512;
/// Largest disk, so that the tables fit the one refcount block: far above what file systems do.
const SIZE_MAX: u64 = 1 << 50;

/// An overlay cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The overlay would hide the end of the disk below it.
    #[error(
        "a disk of {} is smaller than the image's disk of {}: machines' disks can only be larger",
        shown_size(*asked),
        shown_size(*backing)
    )]
    Smaller {
        /// Asked size in bytes.
        asked: u64,
        /// Size of the backing disk in bytes.
        backing: u64,
    },
    /// No qcow2 of this program gets as large.
    #[error("a disk of {0} bytes is too large; the maximum is {SIZE_MAX}")]
    TooLarge(u64),
    /// The format has no room for the name.
    #[error("the path of the image's disk is longer than {BACKING_NAME_MAX} bytes")]
    BackingName,
    /// The header of the overlay is not one of this program.
    #[error("the overlay {} names a separate data file", .0.display())]
    DataFile(std::path::PathBuf),
    /// It is not one of those that this program makes and QEMU writes to.
    #[error("the overlay {} cannot be read: {why}", path.display())]
    Damaged {
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Reading failed.
    #[error("read the overlay {}: {source}", path.display())]
    Read {
        path: std::path::PathBuf,
        source: io::Error,
    },
    /// Writing failed.
    #[error("write the overlay {}: {source}", path.display())]
    Io {
        path: std::path::PathBuf,
        source: io::Error,
    },
}

/// Writes an overlay of `size` bytes over the raw file `backing` of `backing_size` bytes. The path
/// of the backing file is absolute. An odd size is rounded up to a sector.
///
/// # Errors
/// See [`OverlayError`].
pub fn create(
    path: &Path,
    backing: &str,
    backing_size: u64,
    size: u64,
) -> Result<(), OverlayError> {
    if size < backing_size {
        return Err(OverlayError::Smaller {
            asked: size,
            backing: backing_size,
        });
    }
    write(path, &head(backing, "raw", size)?)
}

/// Writes an overlay of `size` bytes over another one, which is named relative to its directory.
///
/// # Errors
/// See [`OverlayError`].
pub fn create_over(path: &Path, below: &str, size: u64) -> Result<(), OverlayError> {
    write(path, &head(below, "qcow2", size)?)
}

fn write(path: &Path, head: &Head) -> Result<(), OverlayError> {
    let failed = |source| OverlayError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::options()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(failed)?;
    file.write_all_at(&head.bytes, 0).map_err(failed)?;
    // The L1 table is a hole.
    file.set_len(head.clusters * CLUSTER).map_err(failed)
}

/// Looks at the header of an overlay before QEMU does: a qcow2 can name any file of the host as the
/// one with its data ("incompatible features", bit 2), and the directory of a project may come from
/// elsewhere. The name of a backing file does no harm, QEMU is told another.
///
/// # Errors
/// It does, or the header cannot be read.
pub fn check(path: &Path) -> Result<(), OverlayError> {
    const INCOMPATIBLE_FEATURES: u64 = 72;
    const DATA_FILE: u64 = 1 << 2;
    let mut features = [0; 8];
    let read = open_unlinked(path)
        .and_then(|file| file.read_exact_at(&mut features, INCOMPATIBLE_FEATURES));
    read.map_err(|source| OverlayError::Io {
        path: path.to_owned(),
        source,
    })?;
    if u64::from_be_bytes(features) & DATA_FILE != 0 {
        return Err(OverlayError::DataFile(path.to_owned()));
    }
    Ok(())
}

struct Head {
    /// Clusters 0 to 2.
    bytes: Vec<u8>,
    /// Clusters of the whole file.
    clusters: u64,
}

/// The clusters before the L1 table. Pure.
fn head(backing: &str, format: &str, size: u64) -> Result<Head, OverlayError> {
    if size > SIZE_MAX {
        return Err(OverlayError::TooLarge(size));
    }
    if backing.len() > BACKING_NAME_MAX {
        return Err(OverlayError::BackingName);
    }
    let size = size.next_multiple_of(SECTOR);
    let l1_entries = size.div_ceil(L1_COVERS).max(1);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    let clusters = 3 + l1_clusters;

    let mut extensions = Vec::new();
    extensions.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
    extensions.extend((format.len() as u32).to_be_bytes());
    extensions.extend(format.as_bytes());
    extensions.resize(extensions.len().next_multiple_of(8), 0);
    extensions.extend([0; 8]); // the end of the extensions
    let name_offset = u64::from(HEADER_LENGTH) + extensions.len() as u64;

    let mut bytes = Vec::with_capacity(3 * CLUSTER as usize);
    bytes.extend(b"QFI\xfb");
    bytes.extend(3_u32.to_be_bytes()); // version
    bytes.extend(name_offset.to_be_bytes());
    bytes.extend((backing.len() as u32).to_be_bytes());
    bytes.extend(CLUSTER_BITS.to_be_bytes());
    bytes.extend(size.to_be_bytes());
    bytes.extend(0_u32.to_be_bytes()); // no encryption
    bytes.extend((l1_entries as u32).to_be_bytes());
    bytes.extend((3 * CLUSTER).to_be_bytes()); // L1 table
    bytes.extend(CLUSTER.to_be_bytes()); // refcount table
    bytes.extend(1_u32.to_be_bytes()); // its clusters
    bytes.extend(0_u32.to_be_bytes()); // no snapshots
    bytes.extend(0_u64.to_be_bytes());
    bytes.extend(0_u64.to_be_bytes()); // incompatible features
    bytes.extend(0_u64.to_be_bytes()); // compatible features
    bytes.extend(0_u64.to_be_bytes()); // autoclear features
    bytes.extend(4_u32.to_be_bytes()); // refcounts of 2^4 bits
    bytes.extend(HEADER_LENGTH.to_be_bytes());
    debug_assert_eq!(bytes.len(), HEADER_LENGTH as usize);
    bytes.extend(extensions);
    bytes.extend(backing.as_bytes());

    bytes.resize(CLUSTER as usize, 0);
    bytes.extend((2 * CLUSTER).to_be_bytes()); // the refcount block
    bytes.resize(2 * CLUSTER as usize, 0);
    for _ in 0..clusters {
        bytes.extend(1_u16.to_be_bytes());
    }
    bytes.resize(3 * CLUSTER as usize, 0);
    Ok(Head { bytes, clusters })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// Runs `qemu-img`; a host without it fails the test.
    fn qemu_img(arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("qemu-img")
            .args(arguments)
            .output()
            .expect("qemu-img runs (package qemu-utils)");
        assert!(
            output.status.success(),
            "qemu-img {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

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

            qemu_img(&["check", "-q", overlay]);
            let info = qemu_img(&["info", "--output=json", overlay]);
            let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
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

        let written = Command::new("qemu-io")
            .args(["-f", "qcow2", "-c", "write -P 0x2a 1M 64k", "-c"])
            .args(["write -P 0x2b 15M 64k", path])
            .output()
            .expect("qemu-io runs (package qemu-utils)");
        assert!(written.status.success(), "{written:?}");
        qemu_img(&["check", "-q", path]);

        let raw = directory.path().join("raw");
        qemu_img(&["convert", "-O", "raw", path, raw.to_str().unwrap()]);
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
            let head = head(&name, "raw", size).unwrap();
            let number = |at: usize| u64::from_be_bytes(head.bytes[at..at + 8].try_into().unwrap());
            let l1_entries = u64::from(u32::from_be_bytes(head.bytes[36..40].try_into().unwrap()));
            prop_assert!(number(24) >= size && number(24) < size + SECTOR);
            prop_assert!(l1_entries * L1_COVERS >= size);
            prop_assert!(number(40) + l1_entries * 8 <= head.clusters * CLUSTER);
            prop_assert_eq!(head.bytes.len() as u64, 3 * CLUSTER);
            let name_at = number(8) as usize;
            prop_assert_eq!(&head.bytes[name_at..name_at + name.len()], name.as_bytes());
            let counted = head.bytes[2 * CLUSTER as usize..]
                .chunks(2)
                .filter(|count| count == &[0, 1])
                .count();
            prop_assert_eq!(counted as u64, head.clusters);
        }
    }
}
