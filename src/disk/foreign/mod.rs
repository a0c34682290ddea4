//! Disks that others made: their headers, as far as they decide whether a file can be trusted to be
//! the whole disk. Pure.
//!
//! | file | format | what is refused |
//! |---|---|---|
//! | `../qcow2/whole.rs` | QEMU's | backing files, external data files, encryption, unknown features |
//! | `vmdk.rs` | VMware's | descriptors that name other files, or a parent |
//! | `vhd.rs` | Virtual PC's | differencing disks, which name a parent |
//! | `vhdx.rs` | Hyper-V's | the same |
//! | `vdi.rs` | VirtualBox's | the same |
//! | `qcow.rs` | QEMU's first one | backing files, encryption |
//! | `qed.rs` | QEMU's, given up | backing files, unknown features |
//! | `parallels.rs` | Parallels' | it has nothing that names others |
//!
//! Also refused is what ends before the parts that its tables name: programs read zeros there,
//! without a word.
//!
//! A disk that names another file would make the program that reads it open that file, whatever it
//! is and whosever. Nothing is read through QEMU before this was looked at.

mod parallels;
mod qcow;
mod qed;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

use std::io;

use super::ReadAt;
use super::qcow2::whole as qcow2;
use crate::image::DiskFormat;
use crate::limits::{self, Limits};
use crate::text::shown_size;

pub use vhd::{Footer, FooterKind};

/// What the header of a disk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the disk in it.
    pub size: u64,
}

/// A disk that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Io(io::Error),
    /// It has another format, or its header is not whole.
    #[error("it is not a readable {}: {why}", format.name())]
    Malformed {
        /// The format that it should have.
        format: DiskFormat,
        why: String,
    },
    /// It is only a part of a disk.
    #[error("the {} file is not the whole disk: {what}", format.name())]
    NamesFile {
        format: DiskFormat,
        /// What it names.
        what: String,
    },
    /// What is compressed in it would take more than it may.
    #[error("the {} file unpacks to more than {}", format.name(), shown_size(*limit))]
    TooLarge { format: DiskFormat, limit: u64 },
    /// It needs what is not there.
    #[error("the {} file {what}", format.name())]
    Unsupported {
        format: DiskFormat,
        /// What it needs.
        what: String,
        /// What to do next.
        help: String,
    },
}

impl ForeignError {
    /// What to do next.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Io(_) => "try again".to_owned(),
            Self::Malformed { .. } => {
                "check whether the download is the right file and complete; without from= vmfab recognises the format"
                    .to_owned()
            }
            Self::NamesFile { format, .. } => format!(
                "make one file of it where all its parts are: qemu-img convert -O {} FILE WHOLE",
                format.qemu_name()
            ),
            Self::TooLarge { limit, .. } => format!(
                "its compressed parts may have as much as image-size says, and {} times the size of the file; when this \
                 is what you want, {}",
                Limits::RATIO,
                limits::raise(
                    "image-size",
                    &format!("\"{}\"", shown_size(limit.saturating_mul(16)))
                )
            ),
            Self::Unsupported { help, .. } => help.clone(),
        }
    }
}

/// Looks at the header of a disk file, and refuses what is not one whole disk in one file. What
/// compressed parts may give together is bounded by
/// [`image_size`](crate::limits::Limits::image_size), as layers are.
///
/// # Errors
/// See [`ForeignError`].
pub fn check(
    format: DiskFormat,
    file: &dyn ReadAt,
    image_size: u64,
) -> Result<Header, ForeignError> {
    let size = match format {
        DiskFormat::Raw => file.size().map_err(ForeignError::Io)?,
        DiskFormat::Qcow2 => qcow2::check(file, image_size)?,
        DiskFormat::Vmdk => vmdk::check(file, image_size)?,
        DiskFormat::Vhd => {
            let footer = Footer::read(file)?;
            footer.check_copy(file)?;
            footer.size
        }
        DiskFormat::Vhdx => vhdx::check(file)?,
        DiskFormat::Vdi => vdi::check(file)?,
        DiskFormat::Qcow => qcow::check(file, image_size)?,
        DiskFormat::Qed => qed::check(file)?,
        DiskFormat::Parallels => parallels::check(file)?,
    };
    Ok(Header { size })
}

/// Reads a part of a header; the end of the file before it is a malformed file.
pub(super) fn part(
    format: DiskFormat,
    file: &dyn ReadAt,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, ForeignError> {
    file.bytes_at(offset, length)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => malformed(format, "it ends before its header does"),
            _ => ForeignError::Io(error),
        })
}

/// A file, as its tables divide it.
pub(super) struct Parts<'a> {
    format: DiskFormat,
    file: &'a dyn ReadAt,
    size: u64,
    /// Bytes of tables that may still be read. Tables do not overlap, so there are not more than
    /// the file has.
    tables: u64,
    /// Bytes of the disk that may still be in it.
    data: u64,
    /// Bytes that compressed parts may give together, and may still give.
    limit: u64,
    unpacked: u64,
}

impl<'a> Parts<'a> {
    pub(super) fn new(format: DiskFormat, file: &'a dyn ReadAt) -> Result<Self, ForeignError> {
        let size = file.size().map_err(ForeignError::Io)?;
        Ok(Self {
            format,
            file,
            size,
            tables: size,
            data: size,
            limit: u64::MAX,
            unpacked: u64::MAX,
        })
    }

    /// The same, with a bound on what compressed parts give.
    pub(super) fn bounded(self, image_size: u64) -> Self {
        let limit = image_size.max(self.size.saturating_mul(Limits::RATIO));
        Self {
            limit,
            unpacked: limit,
            ..self
        }
    }

    /// Counts what a compressed part gives.
    pub(super) fn unpacks_to(&mut self, length: u64) -> Result<(), ForeignError> {
        self.unpacked = self
            .unpacked
            .checked_sub(length)
            .ok_or(ForeignError::TooLarge {
                format: self.format,
                limit: self.limit,
            })?;
        Ok(())
    }

    /// Reads a table.
    pub(super) fn table(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, ForeignError> {
        self.inside(offset, length)?;
        if length > LARGEST_TABLE {
            return Err(malformed(
                self.format,
                "one of its tables is larger than 32 MiB",
            ));
        }
        self.tables = self
            .tables
            .checked_sub(length)
            .ok_or_else(|| malformed(self.format, "its tables overlap"))?;
        part(self.format, self.file, offset, length as usize)
    }

    /// Whether a part of the disk lies in the file. Parts do not overlap: a small file would be a
    /// huge disk.
    pub(super) fn data(&mut self, offset: u64, length: u64) -> Result<(), ForeignError> {
        self.inside(offset, length)?;
        self.data = self
            .data
            .checked_sub(length)
            .ok_or_else(|| malformed(self.format, "parts of the disk lie at the same place"))?;
        Ok(())
    }

    /// Whether a part lies in the file.
    pub(super) fn inside(&self, offset: u64, length: u64) -> Result<(), ForeignError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(malformed(
                self.format,
                format!(
                    "it ends after {} bytes, before what its tables name",
                    self.size
                ),
            )),
        }
    }
}

/// The largest table that is read, as in QEMU: one of 32 MiB is for 2 TiB and more.
const LARGEST_TABLE: u64 = 32 << 20;

pub(super) fn malformed(format: DiskFormat, why: impl Into<String>) -> ForeignError {
    ForeignError::Malformed {
        format,
        why: why.into(),
    }
}

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    if let Some(part) = bytes.get(at..at + N) {
        array.copy_from_slice(part);
    }
    array
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a header says, it is looked at without a panic or endless work.
        #[test]
        fn headers_that_lie_are_no_harm(
            which in 0_usize..8,
            length in 0_usize..4096,
            writes in prop::collection::vec((0_usize..4096, any::<u64>()), 0..12),
        ) {
            let format = DiskFormat::NAMES[1 + which].1;
            let mut bytes = match format {
                DiskFormat::Qcow2 => qcow2::tests::header(),
                DiskFormat::Vmdk => vmdk::tests::header("monolithicSparse"),
                DiskFormat::Vhd => vhd::tests::fixed(8192),
                DiskFormat::Vhdx => vhdx::tests::header(false),
                DiskFormat::Vdi => vdi::tests::header(),
                DiskFormat::Qcow => qcow::tests::header(),
                DiskFormat::Qed => qed::tests::header(),
                _ => parallels::tests::header(),
            };
            let from = bytes.len().saturating_sub(4096);
            for (at, value) in writes {
                // Near the end for what has a footer, else near the start.
                let at = if format == DiskFormat::Vhd { from + at } else { at };
                if let Some(room) = bytes.get_mut(at..at + 8) {
                    room.copy_from_slice(&value.to_be_bytes());
                }
            }
            bytes.truncate(bytes.len() - length.min(bytes.len()));
            let _ = check(format, &bytes[..].to_vec().as_slice(), 1 << 30);
        }
    }
}
