//! The formats that disks come in.

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
    /// VirtualBox's.
    Vdi,
    /// QEMU's, the one that qcow2 came after.
    Qcow,
    /// QEMU's, which was given up for qcow2.
    Qed,
    /// Parallels'.
    Parallels,
}

impl Format {
    /// All of them with their names, as recipes have them.
    pub const NAMES: [(&'static str, Self); 9] = [
        ("raw", Self::Raw),
        ("qcow2", Self::Qcow2),
        ("vmdk", Self::Vmdk),
        ("vhd", Self::Vhd),
        ("vhdx", Self::Vhdx),
        ("vdi", Self::Vdi),
        ("qcow", Self::Qcow),
        ("qed", Self::Qed),
        ("parallels", Self::Parallels),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let find = Self::NAMES.iter().find(|(_, format)| *format == self);
        find.map_or("raw", |(name, _)| name)
    }

    /// Its name in QEMU.
    #[must_use]
    pub fn qemu_name(self) -> &'static str {
        match self {
            Self::Vhd => "vpc",
            other => other.name(),
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let find = Self::NAMES.iter().find(|(other, _)| *other == name);
        find.map(|(_, format)| *format)
    }
}
