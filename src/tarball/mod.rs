//! Tar archives: one reader for those of others, one writer for those of vmfab.
//!
//! Sources: POSIX.1-2024, pax, "Extended Header"; GNU tar's manual, "Basic Tar Format", "GNU
//! Extensions" and "Storing Sparse Files".
//!
//! | the reader knows | |
//! |---|---|
//! | v7, ustar, GNU and star headers | numbers in octal digits, blank or in base 256; checksums signed or not; a name with a final `/` is a directory |
//! | pax headers | records are read by their length, so that a value may hold anything; the last of equal keys counts; an empty value counts as none |
//! | access control lists | as text (`SCHILY.acl.access`, `SCHILY.acl.default`): they become the attributes `system.posix_acl_*`. One with names instead of numbers stays an attribute of that name |
//! | global pax headers, volume labels | they are no members; owner and time of a global header hold for all that follow |
//! | long names and links of GNU tar | |
//! | files with holes | GNU's own (`S`) and pax 0.0, 0.1, 1.0 |
//!
//! Where programs read an archive differently, and one could be shown another tree than its
//! neighbour, the reader refuses: two names or two extended headers for one member, names with a
//! zero byte, names or sizes in a global header. Headers and maps have limits, so that memory is
//! bounded whatever an archive says.
//!
//! The writer makes GNU headers, and pax headers for what these cannot hold. Names and targets of
//! links are written byte for byte. Files with large holes are written in GNU's pax format 0.1: its
//! map lies in the header, so that the data begins where that of other files does, and a store cuts
//! it as it cuts a disk.

mod acl;
mod compression;
mod header;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::ops::Range;

pub use compression::Compression;
pub use header::is_header;
pub use reader::{Reader, Stored};
pub use sparse::{FileWithHoles, StoredFile, data_of, extent};
pub use writer::Writer;

/// The unit of archives, in bytes.
pub const RECORD: u64 = 512;
/// The longest extended header or long name that is read and written, in bytes.
const MAX_EXTENSION: u64 = 1 << 20;
/// Zeros are told by blocks of so many bytes.
const BLOCK: u64 = 4096;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A regular file.
    #[default]
    File,
    Directory,
    /// A symbolic link.
    Symlink,
    /// A hard link to another member.
    Link,
    /// A named pipe.
    Fifo,
    CharDevice,
    BlockDevice,
    /// Something else, by its type flag.
    Other(u8),
}

/// A time, in seconds since 1970 and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What an archive says of a member, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Its name as it is in the archive, without slashes at the end.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// What a link says.
    pub link: Vec<u8>,
    /// Permission bits, with those for set-id and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// The owner's name; empty when there is none.
    pub user: Vec<u8>,
    /// The group's name; empty when there is none.
    pub group: Vec<u8>,
    /// When the content was changed.
    pub time: Time,
    /// Length of the content, with its holes; 0 unless it is a file.
    pub size: u64,
    /// The parts of the content that are stored, when the rest is holes.
    pub data: Option<Vec<Range<u64>>>,
    /// Extended attributes, sorted by name.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// What vmfab notes of it, see the layers of [`sandbox`](crate::sandbox); empty when there is
    /// nothing.
    pub note: Vec<u8>,
}

impl Member {
    /// Whether it has content.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// The name for messages and comparisons of text.
    #[must_use]
    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
