//! The formats that disks come in, recognised by content.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are read at any offset: a file, or an object of the store.
pub trait ReadAt {
    /// How many there are.
    ///
    /// # Errors
    /// It cannot be told.
    fn size(&self) -> io::Result<u64>;

    /// Reads exactly `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    /// There are not so many, or they cannot be read.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// `length` bytes at `offset`.
    ///
    /// # Errors
    /// There are not so many, or they cannot be read.
    fn bytes_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for &[u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .and_then(|rest| rest.get(..buffer.len()));
        let rest = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(rest);
        Ok(())
    }
}

/// A format of disk files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// QEMU's (<https://www.qemu.org/docs/master/interop/qcow2.html>).
    Qcow2,
    /// VMware's, one file with all that belongs to it.
    Vmdk,
    /// Virtual PC's, fixed or dynamic.
    Vhd,
    /// Hyper-V's (MS-VHDX).
    Vhdx,
}

impl Format {
    /// All of them with their names, as recipes and `--format` have them.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("raw", Self::Raw),
        ("qcow2", Self::Qcow2),
        ("vmdk", Self::Vmdk),
        ("vhd", Self::Vhd),
        ("vhdx", Self::Vhdx),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let find = Self::NAMES.iter().find(|(_, format)| *format == self);
        find.map_or("raw", |(name, _)| name)
    }

    /// The format of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let find = Self::NAMES.iter().find(|(other, _)| *other == name);
        find.map(|(_, format)| *format)
    }

    /// The format of a file, by the marks at its beginning and at its end. What has none is raw.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of<F: ReadAt + ?Sized>(file: &F) -> io::Result<Self> {
        let size = file.size()?;
        let marks: [(&[u8], Self); 4] = [
            (b"QFI\xfb", Self::Qcow2),
            (b"KDMV", Self::Vmdk),
            (b"# Disk DescriptorFile", Self::Vmdk),
            (b"vhdxfile", Self::Vhdx),
        ];
        let mut head = [0; 32];
        let known = usize::try_from(size).map_or(head.len(), |size| size.min(head.len()));
        file.read_exact_at(&mut head[..known], 0)?;
        if let Some((_, format)) = marks.iter().find(|(mark, _)| head.starts_with(mark)) {
            return Ok(*format);
        }
        if let Some(footer) = size.checked_sub(512) {
            let mut cookie = [0; 8];
            file.read_exact_at(&mut cookie, footer)?;
            if &cookie == b"conectix" {
                return Ok(Self::Vhd);
            }
        }
        Ok(Self::Raw)
    }
}
