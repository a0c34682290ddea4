//! VHD footers. Source: Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0.
//! Numbers are big-endian.
//!
//! The footer is the last 512 bytes. Before it, a fixed disk has its bytes and nothing else; a
//! dynamic disk begins with a copy of the footer.

use super::{ForeignError, array, malformed, part};
use crate::disk::ReadAt;
use crate::image::DiskFormat;

const FORMAT: DiskFormat = DiskFormat::Vhd;
const LENGTH: u64 = 512;
const CHECKSUM: std::ops::Range<usize> = 64..68;
/// Tools round the size in the footer to whole cylinders, of at most 16 heads with 255 sectors: so
/// many bytes may lie behind the disk that the footer tells.
const ROUNDING: u64 = 16 * 255 * 512;

/// What the footer of a VHD says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// How the disk is stored.
    pub kind: FooterKind,
    /// Bytes of the disk: the footer's "current size".
    pub size: u64,
}

/// How a VHD holds its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FooterKind {
    /// As it is, before the footer.
    Fixed,
    /// In blocks that a table names.
    Dynamic,
}

impl Footer {
    /// Reads the footer at the end of a file.
    ///
    /// # Errors
    /// There is none, it is damaged, or that of a differencing disk.
    pub fn read(file: &dyn ReadAt) -> Result<Self, ForeignError> {
        let size = file.size().map_err(ForeignError::Io)?;
        let at = size
            .checked_sub(LENGTH)
            .ok_or_else(|| malformed(FORMAT, "it is shorter than a footer"))?;
        Self::parse(&part(FORMAT, file, at, LENGTH as usize)?)
    }

    fn parse(bytes: &[u8]) -> Result<Self, ForeignError> {
        if !bytes.starts_with(b"conectix") {
            return Err(malformed(FORMAT, "its last 512 bytes are not a footer"));
        }
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let expected = !(sum(&bytes[..CHECKSUM.start]) + sum(&bytes[CHECKSUM.end..]));
        if u32::from_be_bytes(array(bytes, CHECKSUM.start)) != expected {
            return Err(malformed(FORMAT, "its footer has a wrong checksum"));
        }
        let kind = match u32::from_be_bytes(array(bytes, 60)) {
            2 => FooterKind::Fixed,
            3 => FooterKind::Dynamic,
            4 => {
                return Err(ForeignError::NamesFile {
                    format: FORMAT,
                    what: "it holds the differences from another disk".to_owned(),
                });
            }
            other => return Err(malformed(FORMAT, format!("it has the disk type {other}"))),
        };
        Ok(Self {
            kind,
            size: u64::from_be_bytes(array(bytes, 48)),
        })
    }

    /// The bytes of a fixed disk: all that lie before the footer.
    ///
    /// Tools that round the size to whole cylinders leave data behind the size that they write
    /// down. It belongs to the disk, as up to one cylinder. More than that, and less than the
    /// footer says, is an error.
    ///
    /// # Errors
    /// The disk is not fixed, or the footer's size does not fit the file's.
    pub fn fixed_size(&self, file: &dyn ReadAt) -> Result<u64, ForeignError> {
        if self.kind != FooterKind::Fixed {
            return Err(ForeignError::Unsupported {
                format: FORMAT,
                what: "is a dynamic disk: removing the footer is not enough".to_owned(),
                help: "write convert from=\"vhd\" instead of strip-vhd-footer".to_owned(),
            });
        }
        let before = file.size().map_err(ForeignError::Io)? - LENGTH;
        if self.size > before || before - self.size > ROUNDING {
            let why = format!(
                "its footer describes a disk of {} bytes, but it has {before} bytes",
                self.size
            );
            return Err(malformed(FORMAT, why));
        }
        Ok(before)
    }

    /// A dynamic disk's copy of the footer at the start must say the same: it is what QEMU reads.
    pub(super) fn check_copy(&self, file: &dyn ReadAt) -> Result<(), ForeignError> {
        if self.kind == FooterKind::Fixed {
            return self.fixed_size(file).map(drop);
        }
        let copy = Self::parse(&part(FORMAT, file, 0, LENGTH as usize)?)
            .map_err(|error| malformed(FORMAT, format!("the copy of its footer: {error}")))?;
        if copy == *self {
            Ok(())
        } else {
            Err(malformed(FORMAT, "the two copies of its footer differ"))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn footer(kind: u32, size: u64) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(b"conectix");
        bytes[48..56].copy_from_slice(&size.to_be_bytes());
        bytes[60..64].copy_from_slice(&kind.to_be_bytes());
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        bytes[CHECKSUM].copy_from_slice(&(!sum).to_be_bytes());
        bytes
    }

    /// A fixed disk of so many bytes.
    pub(crate) fn fixed(size: u64) -> Vec<u8> {
        let mut bytes = vec![7; size as usize];
        bytes.extend(footer(2, size));
        bytes
    }

    #[test]
    fn a_fixed_disk_is_what_lies_before_the_footer() {
        let check = |bytes: &[u8]| Footer::read(&bytes).unwrap().fixed_size(&bytes);
        assert_eq!(check(&fixed(8192)).unwrap(), 8192);
        // Rounded down by the tool.
        let mut rounded = vec![7; 5 << 20];
        rounded.extend(footer(2, 4 << 20));
        assert_eq!(check(&rounded).unwrap(), 5 << 20);
        let mut lying = vec![7; 8 << 20];
        lying.extend(footer(2, 4 << 20));
        insta::assert_snapshot!(check(&lying).unwrap_err(), @"it is not a readable vhd: its footer describes a disk of 4194304 bytes, but it has 8388608 bytes");
        let mut short = vec![7; 4096];
        short.extend(footer(2, 8192));
        insta::assert_snapshot!(check(&short).unwrap_err(), @"it is not a readable vhd: its footer describes a disk of 8192 bytes, but it has 4096 bytes");
        insta::assert_snapshot!(check(&footer(3, 0)).unwrap_err(), @"the vhd file is a dynamic disk: removing the footer is not enough");
    }

    #[test]
    fn footers_that_cannot_be_trusted_are_refused() {
        let check = |bytes: &[u8]| Footer::read(&bytes).unwrap_err().to_string();
        insta::assert_snapshot!(check(&footer(4, 0)), @"the vhd file is not the whole disk: it holds the differences from another disk");
        insta::assert_snapshot!(check(&footer(9, 0)), @"it is not a readable vhd: it has the disk type 9");
        let mut damaged = footer(2, 0);
        damaged[50] ^= 1;
        insta::assert_snapshot!(check(&damaged), @"it is not a readable vhd: its footer has a wrong checksum");
        insta::assert_snapshot!(check(&[0; 600]), @"it is not a readable vhd: its last 512 bytes are not a footer");
        insta::assert_snapshot!(check(&[0; 5]), @"it is not a readable vhd: it is shorter than a footer");
    }

    #[test]
    fn what_qemu_reads_is_what_was_checked() {
        let mut dynamic = footer(3, 1 << 20);
        dynamic.extend(footer(3, 1 << 20));
        let read = |bytes: &[u8]| Footer::read(&bytes).unwrap().check_copy(&bytes);
        read(&dynamic).unwrap();
        let mut other = footer(3, 2 << 20);
        other.extend(footer(3, 1 << 20));
        insta::assert_snapshot!(read(&other).unwrap_err(), @"it is not a readable vhd: the two copies of its footer differ");
    }
}
