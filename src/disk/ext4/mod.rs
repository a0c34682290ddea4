//! An ext4 file system from a directory tree: `mke2fs` makes an empty one, [`fill()`] puts the tree
//! into it.
//!
//! `mke2fs` (e2fsprogs 1.47.0) does its part the same way each time, once it is told every choice
//! that it would else take from `/etc/mke2fs.conf`, the clock or a random source. Its own way to
//! put a tree in (`-d`) looks through a directory for each file that it adds, writes directories
//! without an index, counts no further than 65,000 directories in one, and copies access and change
//! times, which a tree cannot keep still. How many KiB it wrote depends on the file systems of the
//! host, and is forgotten.
//!
//! | file | what it writes |
//! |---|---|
//! | `tree.rs` | walks through the tree |
//! | `writer.rs` | files, links, directories |
//! | `directory.rs`, `hash.rs` | blocks of directories, and their index |
//! | `extents.rs`, `attributes.rs`, `inode.rs` | what belongs to a file |
//! | `space.rs`, `geometry.rs` | bitmaps, group descriptors, superblock |

mod attributes;
mod crc;
mod directory;
mod extents;
mod geometry;
mod hash;
mod inode;
mod space;
mod tree;
mod writer;

use std::ffi::OsString;
use std::path::Path;

use uuid::Uuid;

pub use tree::{Filling, fill};

use super::{DiskError, DiskIds};

/// Bytes of a block.
pub const BLOCK: u64 = 4096;

/// The most names of a file. A directory with more directories in it has them uncounted.
const MOST_LINKS: u16 = 65_000;

/// Features, all of them known to Linux 3.18, e2fsprogs 1.43 and GRUB 2.02. `none` clears the
/// program's own choice first.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,\
    flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// An ext4 file system that is to be made inside a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ext4 {
    label: String,
    uuid: Uuid,
    hash_seed: Uuid,
    offset: u64,
    size: u64,
    time: u32,
}

impl Ext4 {
    /// A file system of `size` bytes at `offset` bytes in its file; a part of a block at the end
    /// stays unused. `time`, in seconds since 1970 and not 0, stands for every "now": the times of
    /// `/`, of `lost+found` and of the file system itself.
    ///
    /// # Errors
    /// [`DiskError::Label`].
    pub fn new(
        ids: &DiskIds,
        label: &str,
        offset: u64,
        size: u64,
        time: u32,
    ) -> Result<Self, DiskError> {
        if label.len() > 16 || label.chars().any(char::is_control) {
            return Err(DiskError::Label(label.to_owned()));
        }
        Ok(Self {
            label: label.to_owned(),
            uuid: ids.filesystem,
            hash_seed: ids.hash_seed,
            offset,
            size,
            // mke2fs takes 0 for "not given".
            time: time.max(1),
        })
    }

    /// Arguments of `mke2fs` for an empty file system. `file` must exist, be as
    /// long as the disk, and read as zeros in the range of the file system: nothing is zeroed, so
    /// that the file stays sparse and the guest has nothing to initialise in the background.
    #[must_use]
    pub fn arguments(&self, file: &Path) -> Vec<OsString> {
        let extended = format!(
            "hash_seed={},offset={},root_owner=0:0,assume_storage_prezeroed=1,nodiscard",
            self.hash_seed, self.offset
        );
        let mut arguments: Vec<OsString> = [
            // With an empty configuration "ext2" is the only type that mke2fs knows. It means no
            // more than an empty list of features, and the list is given.
            ["-t", "ext2"],
            ["-O", FEATURES],
            ["-b", &BLOCK.to_string()],
            ["-I", "256"],
            // One inode for 16 KiB: container images are many small files.
            ["-i", "16384"],
            ["-G", "16"],
            // One per cent is kept for root, to be able to log in to a full machine.
            ["-m", "1"],
            ["-e", "remount-ro"],
            ["-J", &format!("size={}", self.journal_mebibytes())],
            ["-L", &self.label],
            ["-U", &self.uuid.to_string()],
            ["-E", &extended],
        ]
        .iter()
        .flatten()
        .map(OsString::from)
        .collect();
        arguments.extend(["-q".into(), file.into()]);
        arguments.push((self.size / BLOCK).to_string().into());
        arguments
    }

    /// The whole environment of `mke2fs`: run it with nothing else, and with its standard input
    /// closed to questions.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("E2FSPROGS_FAKE_TIME", self.time.to_string()),
            ("LC_ALL", "C".to_owned()),
            ("MKE2FS_CONFIG", "/dev/null".to_owned()),
        ]
    }

    /// 1/64 of the file system, 4 to 64 MiB. A larger journal only makes overlays grow.
    fn journal_mebibytes(&self) -> u64 {
        (self.size >> 26).clamp(4, 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_every_choice() {
        let ids = DiskIds::new(&[7; 32], &[7; 32]);
        let ext4 = Ext4::new(&ids, "root", 1 << 20, 10 << 30, 0).unwrap();
        let words: Vec<String> = ext4
            .arguments(Path::new("/disk.raw"))
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        insta::assert_snapshot!(words.join(" "), @"-t ext2 -O none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum -b 4096 -I 256 -i 16384 -G 16 -m 1 -e remount-ro -J size=64 -L root -U 3d6111ac-8603-4b4b-a68a-21eb79dc34eb -E hash_seed=7fc93baa-f19b-4055-8bdc-2621fa7ff3b5,offset=1048576,root_owner=0:0,assume_storage_prezeroed=1,nodiscard -q /disk.raw 2621440");
        let environment = ext4
            .environment()
            .map(|(name, value)| format!("{name}={value}"));
        insta::assert_snapshot!(
            environment.join(" "),
            @"E2FSPROGS_FAKE_TIME=1 LC_ALL=C MKE2FS_CONFIG=/dev/null"
        );
    }

    #[test]
    fn the_journal_grows_with_the_size_up_to_a_limit() {
        let ids = DiskIds::new(&[7; 32], &[7; 32]);
        let journal = |size| Ext4::new(&ids, "", 0, size, 1).unwrap().journal_mebibytes();
        assert_eq!(
            [64 << 20, 1 << 30, 4 << 30, 1 << 40].map(journal),
            [4, 16, 64, 64]
        );
    }

    #[test]
    fn labels_have_at_most_16_bytes() {
        let ids = DiskIds::new(&[7; 32], &[7; 32]);
        assert!(Ext4::new(&ids, "exactly-16-bytes", 0, 1 << 30, 1).is_ok());
        for bad in ["one-byte-too-long", "a\nb"] {
            let error = Ext4::new(&ids, bad, 0, 1 << 30, 1).unwrap_err();
            assert!(matches!(error, DiskError::Label(_)), "{error}");
        }
    }
}
