//! The EFI system partition: FAT32 with systemd-boot, one entry, the kernel and its initrd.
//!
//! Sources: UEFI specification, section 3.5.1.1 (removable media paths); the Boot Loader
//! Specification, type #1 entries; loader.conf(5).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::fat::{self, Volume};
use super::{DiskError, MEBIBYTE, io_error};

/// The least size in bytes, with room for kernels that the guest may add.
const LEAST: u64 = 256 * MEBIBYTE;

const KERNEL: &str = "vmfab/linux";
const INITRD: &str = "vmfab/initrd";

/// The kind of machine that a disk boots on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// 64-bit PC.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Target {
    /// From the name that image configs use, `x86_64` or `aarch64`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Where the image's own systemd-boot is, below `/`: Debian's package `systemd-boot-efi`.
    #[must_use]
    pub const fn loader_path(self) -> &'static str {
        match self {
            Self::X86_64 => "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
            Self::Aarch64 => "usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
        }
    }

    /// What firmware starts on a disk that it was told nothing about.
    const fn removable_path(self) -> &'static str {
        match self {
            Self::X86_64 => "EFI/BOOT/BOOTX64.EFI",
            Self::Aarch64 => "EFI/BOOT/BOOTAA64.EFI",
        }
    }
}

/// What goes into an EFI system partition.
#[derive(Debug, Clone, Copy)]
pub struct Esp<'a> {
    /// The kind of machine.
    pub target: Target,
    /// systemd-boot.
    pub loader: &'a [u8],
    /// The entry's title, for people.
    pub title: &'a str,
    /// The kernel command line, with the root device.
    pub options: &'a str,
    /// The kernel, with its EFI stub.
    pub kernel: &'a [u8],
    pub initrd: Option<&'a [u8]>,
}

impl Esp<'_> {
    /// The size of the partition in bytes: 256 MiB, and more when its files fill three quarters.
    #[must_use]
    pub fn size(&self) -> u64 {
        let initrd = self.initrd.map_or(0, <[u8]>::len);
        let files = (self.loader.len() + self.kernel.len() + initrd) as u64;
        (files + files / 3)
            .next_multiple_of(64 * MEBIBYTE)
            .max(LEAST)
    }

    /// Writes it to `range` of `file`, which must read as zeros before. All times on it are the
    /// beginning of FAT's, 1980; `volume` is its volume id.
    ///
    /// # Errors
    /// The range is smaller than [`size`](Self::size), or the file cannot be written.
    pub fn write(&self, file: &File, range: &Range<u64>, volume: u32) -> Result<(), DiskError> {
        let entry = self.entry();
        let mut files: Vec<(&str, &[u8])> = vec![
            (self.target.removable_path(), self.loader),
            ("loader/loader.conf", b"timeout 0\nconsole-mode keep\n"),
            ("loader/entries.srel", b"type1\n"),
            ("loader/entries/vmfab.conf", entry.as_bytes()),
            (KERNEL, self.kernel),
        ];
        files.extend(self.initrd.map(|initrd| (INITRD, initrd)));
        let volume = Volume {
            size: range.end - range.start,
            offset: range.start,
            id: volume,
            label: *b"ESP        ",
            files,
        };
        let pieces = fat::image(&volume).map_err(|_| DiskError::TooSmall {
            size: volume.size,
            needed: self.size(),
        })?;
        for (at, bytes) in pieces {
            file.write_all_at(&bytes, range.start + at)
                .map_err(io_error("write"))?;
        }
        Ok(())
    }

    fn entry(&self) -> String {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut entry = format!("title {}\nlinux /{KERNEL}\n", one_line(self.title));
        if self.initrd.is_some() {
            entry += &format!("initrd /{INITRD}\n");
        }
        entry + &format!("options {}\n", one_line(self.options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn esp<'a>(kernel: &'a [u8], initrd: Option<&'a [u8]>) -> Esp<'a> {
        Esp {
            target: Target::X86_64,
            loader: b"loader",
            title: "Debian\n12",
            options: "root=PARTUUID=x console=ttyS0",
            kernel,
            initrd,
        }
    }

    #[test]
    fn the_entry_is_one_line_for_each_key() {
        insta::assert_snapshot!(esp(b"k", Some(b"i")).entry(), @r"
        title Debian 12
        linux /vmfab/linux
        initrd /vmfab/initrd
        options root=PARTUUID=x console=ttyS0
        ");
        insta::assert_snapshot!(esp(b"k", None).entry(), @r"
        title Debian 12
        linux /vmfab/linux
        options root=PARTUUID=x console=ttyS0
        ");
    }

    #[test]
    fn it_grows_with_what_it_holds() {
        assert_eq!(esp(b"k", None).size(), 256 << 20);
        let large = vec![0; 300 << 20];
        assert_eq!(esp(&large, None).size(), 448 << 20);
    }
}
