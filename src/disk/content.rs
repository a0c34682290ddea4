//! What a file is, by its marks: the one place that tells.
//!
//! A raw disk has no mark of its own. A file is taken for one when it has a boot sector, a
//! partition table or a file system where disks have them, and nothing says that it is something
//! else. All else must be refused by who wants a disk: a guest would see the bytes of an archive or
//! of another format.

use std::io;

use super::ReadAt;
use crate::image::DiskFormat;
use crate::tarball::is_header;

/// How much of the beginning has marks in it: that of btrfs is the last.
const HEAD: usize = 0x1_0048;
const SECTOR: u64 = 512;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A disk of this format.
    Disk(DiskFormat),
    /// Something else that is known.
    Other(Other),
    /// Nothing in it tells.
    Unknown,
}

/// Something that is no disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// What it is, with its article when it has one: `gz data`, `a zip archive`.
    pub name: &'static str,
    help: &'static str,
}

/// What is wanted as a disk, and is none as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotADisk {
    /// It is something else.
    #[error("it is {}, not a disk", .0.name)]
    Other(Other),
    /// It has no marks at all.
    #[error(
        "it does not look like a disk: it has no boot sector, no partition table and no \
         file system that is known"
    )]
    Unknown,
}

const DECOMPRESS: &str = "decompress it first; in a recipe that fetches the disk, use `decompress`";
const ARCHIVE: &str =
    "extract the disk first; in a recipe that fetches the archive, use `extract \"MEMBER\"`";
const CONVERT: &str =
    "convert it first, with qemu-img convert -O qcow2 FILE DISK.qcow2 or a program of its maker";
const PART: &str =
    "make one file of all parts where they are: qemu-img convert -O qcow2 DESCRIPTOR DISK.qcow2";
const MEDIUM: &str = "take the disk or cloud image of the system instead; if this is to be used as a disk as it \
                      is, say that it is raw: format=\"raw\" after `from`, or `convert from=\"raw\"`";
const KERNEL: &str = "name it in a `kernel` node, beside the disk that it boots";
const ENCRYPTED: &str = "decrypt it first, and start from what is inside";
const DOWNLOAD: &str = "check the address: it may lead to a page or a list";
const DISK: &str = "start from a disk in a known format, such as raw or qcow2";

/// Marks of formats, at these offsets.
const FORMATS: [(usize, &[u8], DiskFormat); 9] = [
    (0, b"QFI\xfb\0\0\0\x01", DiskFormat::Qcow),
    (0, b"QFI\xfb", DiskFormat::Qcow2),
    (0, b"KDMV", DiskFormat::Vmdk),
    (0, b"vhdxfile", DiskFormat::Vhdx),
    // The copy of the footer that dynamic ones begin with.
    (0, b"conectix", DiskFormat::Vhd),
    (0, b"QED\0", DiskFormat::Qed),
    (0, b"WithoutFreeSpace", DiskFormat::Parallels),
    (0, b"WithouFreSpacExt", DiskFormat::Parallels),
    (0x40, b"\x7f\x10\xda\xbe", DiskFormat::Vdi),
];

/// Marks of what is no disk.
const OTHERS: [(usize, &[u8], &str, &str); 44] = [
    (0, b"\x1f\x8b", "gz data", DECOMPRESS),
    (0, b"\xfd7zXZ\0", "xz data", DECOMPRESS),
    (0, b"\x28\xb5\x2f\xfd", "zst data", DECOMPRESS),
    (0, b"BZh", "bz2 data", DECOMPRESS),
    (
        0,
        b"\x04\x22\x4d\x18",
        "lz4 data",
        "decompress it first: unlz4 FILE",
    ),
    (
        0,
        b"\x02\x21\x4c\x18",
        "lz4 data",
        "decompress it first: unlz4 FILE",
    ),
    (0, b"LZIP", "lzip data", "decompress it first: lzip -d FILE"),
    (
        0,
        b"\x89LZO\0",
        "lzop data",
        "decompress it first: lzop -d FILE",
    ),
    (
        0,
        b"\x5d\0\0",
        "lzma data",
        "decompress it first: unlzma FILE",
    ),
    (
        0,
        b"\x1f\x9d",
        "compress (.Z) data",
        "decompress it first: uncompress FILE",
    ),
    (0, b"PK\x03\x04", "a zip archive", ARCHIVE),
    (0, b"PK\x05\x06", "a zip archive", ARCHIVE),
    (
        0,
        b"7z\xbc\xaf\x27\x1c",
        "a 7z archive",
        "take the disk out of it first: 7z x FILE",
    ),
    (
        0,
        b"Rar!\x1a\x07",
        "a rar archive",
        "take the disk out of it first: unrar x FILE",
    ),
    (0, b"070701", "a cpio archive, as an initrd is", DISK),
    (0, b"070702", "a cpio archive, as an initrd is", DISK),
    (0, b"070707", "a cpio archive", DISK),
    (
        0,
        b"!<arch>\n",
        "an ar archive, as a Debian package is",
        DISK,
    ),
    (0, b"\xed\xab\xee\xdb", "an RPM package", DISK),
    (0, b"MSCF", "a cabinet archive", DISK),
    (0, b"MSWIM\0\0\0", "a Windows image (WIM)", DISK),
    (0, b"COWD", "an extent of a VMware disk (COWD)", PART),
    (
        0,
        b"\xbe\xba\xfe\xca\0\0\0\0",
        "an extent of a VMware disk (SE sparse)",
        PART,
    ),
    (
        0,
        b"VMA\0",
        "a backup of Proxmox (VMA)",
        "take the disk out of it first: vma extract FILE DIRECTORY",
    ),
    (0, b"QEVM", "a saved state of QEMU", DISK),
    (0, b"EVF\x09\x0d\x0a\xff\0", "an EnCase image", CONVERT),
    (
        0,
        b"\x3a\xff\x26\xed",
        "a sparse image of Android",
        "make a raw disk of it first: simg2img FILE DISK.raw",
    ),
    (0, b"Bochs Virtual HD Image", "a disk of Bochs", CONVERT),
    (0, b"OOOM", "a disk of User-Mode Linux (COW)", CONVERT),
    (0, b"#!/bin/sh\n#V2.0 Format", "a cloop disk", CONVERT),
    (0, b"LUKS\xba\xbe", "encrypted with LUKS", ENCRYPTED),
    (0, b"-FVE-FS-", "encrypted with BitLocker", ENCRYPTED),
    (3, b"-FVE-FS-", "encrypted with BitLocker", ENCRYPTED),
    (
        0,
        b"hsqs",
        "a squashfs file system, which can only be read",
        MEDIUM,
    ),
    (
        0,
        b"\x45\x3d\xcd\x28",
        "a cramfs file system, which can only be read",
        MEDIUM,
    ),
    (
        0x400,
        b"\xe2\xe1\xf5\xe0",
        "an erofs file system, which can only be read",
        MEDIUM,
    ),
    (0x8001, b"CD001", "an ISO 9660 image of a CD or DVD", MEDIUM),
    (0x8001, b"BEA01", "a UDF image of a DVD", MEDIUM),
    (0, b"\x7fELF", "an ELF file, a program or a kernel", KERNEL),
    (0x202, b"HdrS", "a Linux kernel", KERNEL),
    (0x38, b"ARM\x64", "a Linux kernel", KERNEL),
    (
        0,
        b"\x27\x05\x19\x56",
        "a kernel or initrd for U-Boot",
        KERNEL,
    ),
    (
        0,
        b"version https://git-lfs",
        "a pointer of Git LFS",
        "get the file itself: git lfs pull",
    ),
    (
        0,
        b"-----BEGIN PGP",
        "a signature or a signed text",
        DOWNLOAD,
    ),
];

/// Where disks have boot sectors, partition tables and file systems.
const DISKS: [(usize, &[u8]); 12] = [
    // A boot sector: of a partition table, of FAT or NTFS, or of a boot loader alone.
    (0x1fe, b"\x55\xaa"),
    (0x200, b"EFI PART"),
    (0x1000, b"EFI PART"),
    // ext2, ext3, ext4.
    (0x438, b"\x53\xef"),
    (0, b"XFSB"),
    (0x1_0040, b"_BHRfS_M"),
    (0x400, b"\x10\x20\xf5\xf2"),
    // bcachefs.
    (
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    (0x1_0034, b"ReIsEr"),
    (0x8000, b"JFS1"),
    (0x200, b"LABELONE"),
    // A disk label of BSD.
    (0x200, b"\x57\x45\x56\x82"),
];

impl Content {
    /// What a file is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(file: &dyn ReadAt) -> io::Result<Self> {
        let size = file.size()?;
        let known = usize::try_from(size).map_or(HEAD, |size| size.min(HEAD));
        let head = file.bytes_at(0, known)?;
        let mut last = Vec::new();
        if let Some(at) = size.checked_sub(SECTOR) {
            last = file.bytes_at(at, SECTOR as usize)?;
        }
        Ok(Self::by_marks(&head, &last))
    }

    /// What begins so, and has this last sector.
    fn by_marks(head: &[u8], last: &[u8]) -> Self {
        let has =
            |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
        let other = |name, help| Self::Other(Other { name, help });
        if head.is_empty() {
            return other("an empty file", DOWNLOAD);
        }
        if let Some((.., format)) = FORMATS.iter().find(|(at, mark, _)| has(*at, mark)) {
            return Self::Disk(*format);
        }
        if last.starts_with(b"conectix") {
            return Self::Disk(DiskFormat::Vhd);
        }
        if last.starts_with(b"koly") {
            return other("a disk image of macOS (DMG)", CONVERT);
        }
        if is_header(head) {
            return match name_in_tar(head).ends_with(b".ovf") {
                true => other("an OVA, a tar archive with the disks of a machine", ARCHIVE),
                false => other("a tar archive", ARCHIVE),
            };
        }
        // A frame that zstd skips can come first (RFC 8878, section 3.1.2).
        if matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
            return other("zst data", DECOMPRESS);
        }
        if let Some((.., name, help)) = OTHERS.iter().find(|(at, mark, ..)| has(*at, mark)) {
            return other(name, help);
        }
        if DISKS.iter().any(|(at, mark)| has(*at, mark)) {
            return Self::Disk(DiskFormat::Raw);
        }
        Self::by_text(head)
    }

    fn by_text(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&head[..head.len().min(4096)]);
        let text = text
            .trim_start_matches('\u{feff}')
            .trim_start()
            .to_ascii_lowercase();
        let begins = |marks: &[&str]| marks.iter().any(|mark| text.starts_with(mark));
        let other = |name, help| Self::Other(Other { name, help });
        if begins(&["# disk descriptorfile"]) || text.contains("\ncreatetype=") {
            Self::Disk(DiskFormat::Vmdk)
        } else if begins(&["<!doctype html", "<html"]) {
            other("an HTML page", DOWNLOAD)
        } else if text.starts_with("<?xml") && text.contains("envelope") {
            other(
                "the description of a machine (OVF)",
                "start from the disk that it names",
            )
        } else if text.starts_with("<?xml") {
            other("an XML text", DOWNLOAD)
        } else {
            Self::Unknown
        }
    }

    /// The format of the disk that it is.
    ///
    /// # Errors
    /// It is none.
    pub const fn disk(self) -> Result<DiskFormat, NotADisk> {
        match self {
            Self::Disk(format) => Ok(format),
            Self::Other(other) => Err(NotADisk::Other(other)),
            Self::Unknown => Err(NotADisk::Unknown),
        }
    }

    /// What it looks like, for messages: `xz data`, `a zip archive`, `a qcow2 disk`.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Disk(format) => format!("a {} disk", format.name()),
            Self::Other(other) => other.name.to_owned(),
            Self::Unknown => "something else".to_owned(),
        }
    }
}

impl NotADisk {
    /// What to do next.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Other(other) => other.help,
            Self::Unknown => {
                "check whether it is the right file; to use it as a raw disk anyway, write format=\"raw\" after `from`, or `convert from=\"raw\"`"
            }
        }
    }
}

fn name_in_tar(head: &[u8]) -> &[u8] {
    let name = &head[..100];
    name.split(|byte| *byte == 0).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(size: usize, marks: &[(usize, &[u8])]) -> Content {
        let mut bytes = vec![0; size];
        for (at, mark) in marks {
            bytes[*at..at + mark.len()].copy_from_slice(mark);
        }
        Content::of(&bytes.as_slice()).unwrap()
    }

    #[test]
    fn every_mark_is_found_where_it_is() {
        for (at, mark, format) in FORMATS {
            assert_eq!(with(HEAD, &[(at, mark)]), Content::Disk(format), "{mark:?}");
        }
        for (at, mark, name, _) in OTHERS {
            let found = with(HEAD, &[(at, mark), (0x1fe, b"\x55\xaa")]);
            assert_eq!(
                found.describe(),
                name,
                "{mark:?}, though there is a boot sector"
            );
        }
        for (at, mark) in DISKS {
            let raw = Content::Disk(DiskFormat::Raw);
            assert_eq!(with(HEAD, &[(at, mark)]), raw, "{mark:?}");
            assert_eq!(with(at + mark.len() - 1, &[]), Content::Unknown, "{at}");
        }
        let footer = with(4096, &[(0x1fe, b"\x55\xaa"), (4096 - 512, b"conectix")]);
        assert_eq!(footer, Content::Disk(DiskFormat::Vhd));
        assert_eq!(with(700, &[]), Content::Unknown);
        assert_eq!(with(0, &[]).describe(), "an empty file");
    }

    #[test]
    fn texts_and_archives() {
        let describe = |text: &str| Content::of(&text.as_bytes()).unwrap().describe();
        assert_eq!(
            describe("\n# Disk DescriptorFile\nversion=1"),
            "a vmdk disk"
        );
        assert_eq!(describe("version=1\ncreateType=\"x\"\n"), "a vmdk disk");
        assert_eq!(describe(" <!DOCTYPE html>\n"), "an HTML page");
        assert_eq!(
            describe("<?xml version=\"1.0\"?>\n<Envelope>"),
            "the description of a machine (OVF)"
        );
        for (name, is) in [
            ("disk.img", "a tar archive"),
            (
                "web.ovf",
                "an OVA, a tar archive with the disks of a machine",
            ),
        ] {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            tar.append_data(&mut header, name, std::io::empty())
                .unwrap();
            let bytes = tar.into_inner().unwrap();
            assert_eq!(Content::of(&bytes.as_slice()).unwrap().describe(), is);
        }
    }

    #[test]
    fn what_is_no_disk_is_told_with_what_to_do() {
        let error = with(600, &[(0, b"\x1f\x8b")]).disk().unwrap_err();
        insta::assert_snapshot!(format!("{error}\n{}", error.help()), @"
        it is gz data, not a disk
        decompress it first; in a recipe that fetches the disk, use `decompress`
        ");
        let error = with(600, &[]).disk().unwrap_err();
        insta::assert_snapshot!(format!("{error}\n{}", error.help()), @r#"
        it does not look like a disk: it has no boot sector, no partition table and no file system that is known
        check whether it is the right file; to use it as a raw disk anyway, write format="raw" after `from`, or `convert from="raw"`
        "#);
    }

    proptest! {
        #[test]
        fn any_bytes_are_something(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            Content::of(&bytes.as_slice()).unwrap();
        }
    }
}
