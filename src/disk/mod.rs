//! Disks at the level of files: what `mke2fs` is told, files in the file system that it made,
//! partition tables and the EFI system partition. Nothing here starts a program or needs a mount.
//!
//! ```text
//! plain    ext4 over the whole file
//! uefi     0        protective MBR, GPT
//!          1 MiB    EFI system partition, FAT32: systemd-boot, its entry, kernel, initrd
//!          …        root partition, ext4, to the end less 1 MiB
//!          end      second copy of the GPT
//! ```
//!
//! Each id and time on a disk comes from the inputs of its derivation, so that equal inputs make
//! equal bytes.

mod content;
mod differences;
mod esp;
pub mod ext4;
mod fat;
pub mod foreign;
mod gpt;
mod ids;
mod places;
mod qcow2;
mod read_at;
mod reading;
mod volume;

use std::io;

pub use content::{Content, NotADisk};
pub use differences::{Difference, Entry, differences};
pub use esp::{Esp, Target};
pub use ext4::Ext4;
pub use gpt::Layout;
pub use ids::DiskIds;
pub use places::ext4_places;
pub use qcow2::{Qcow2, overlay};
pub use read_at::ReadAt;
pub use reading::{open_ext4, open_root};
pub use volume::write_volume;

const MEBIBYTE: u64 = 1 << 20;

/// The size that a disk of `asked` bytes gets: whole MiB, which every format and partition table
/// can tell.
#[must_use]
pub const fn disk_size(asked: u64) -> u64 {
    asked.next_multiple_of(MEBIBYTE)
}

/// A disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file could not be read or written.
    #[error("{action} the disk: {source}")]
    Io {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        source: io::Error,
    },
    /// What is there is not a file system as [`Ext4::arguments`] asks for.
    #[error("not an ext4 file system that vmfab made: {0}")]
    NotExt4(String),
    /// The tree has more than the disk has room for.
    #[error("the files do not fit on the disk")]
    Full,
    /// The tree has more files than the file system has inodes.
    #[error("the disk has space for {0} files, but there are more")]
    TooManyFiles(u32),
    /// A file has more names than ext4 can count.
    #[error("the file has more than 65000 names (hard links)")]
    TooManyNames,
    /// A directory has more names than its index can hold.
    #[error("a directory with {0} names is too large for ext4")]
    LargeDirectory(usize),
    /// The extended attributes of a file do not fit into a block, or one of them cannot be stored.
    #[error("its extended attributes are too large for ext4, or of an unknown kind")]
    Attributes,
    /// The tree has a file where the file system needs a directory.
    #[error("/lost+found is not a directory")]
    LostAndFound,
    /// One of the above about a file of the tree.
    #[error("{path}: {source}")]
    At {
        /// Its path in the tree.
        path: String,
        source: Box<DiskError>,
    },
    #[error("cannot write the protective MBR: {0}")]
    Mbr(#[from] ::gpt::mbr::MBRError),
    #[error("cannot write the partition table: {0}")]
    Gpt(#[from] ::gpt::GptError),
    /// The disk has no room for its partitions.
    #[error(
        "a disk of {size} bytes is too small: boot files and partition tables alone need {needed}"
    )]
    TooSmall {
        /// The size that was asked for.
        size: u64,
        /// The least size, with room for a small root partition.
        needed: u64,
    },
    /// The label does not fit.
    #[error(
        "\"{0}\" cannot be the label of a file system: at most 16 bytes, no control characters"
    )]
    Label(String),
}

impl DiskError {
    /// What to do next, where the tree is what is wrong.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            Self::Full | Self::TooManyFiles(_) => {
                "give the `disk` node a larger size; unused space costs nothing"
            }
            Self::TooManyNames => "replace some of the hard links by copies",
            Self::LargeDirectory(_) => "spread the files over several directories",
            Self::Attributes => "remove them in a `run` step: setfattr -x NAME FILE",
            Self::LostAndFound => "remove it in a `run` step: ext4 needs the name for itself",
            Self::At { source, .. } => return source.help(),
            _ => return None,
        })
    }
}

/// For `map_err`.
fn io_error(action: &'static str) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError::Io { action, source }
}
