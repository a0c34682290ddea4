//! Files of an ext4 file system on a disk, read in place and without mounting anything.

use std::error::Error;
use std::io;
use std::rc::Rc;

use ext4_view::{Ext4, Ext4Error, Ext4Read};

use super::{ReadAt, ext4_places};

/// A file system from some offset of a disk on.
struct Place<R> {
    disk: R,
    offset: u64,
}

impl<R: ReadAt> Ext4Read for Place<R> {
    fn read(
        &mut self,
        start: u64,
        buffer: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        let at = self.offset.checked_add(start);
        let at = at.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(self.disk.read_exact_at(buffer, at)?)
    }
}

/// Opens the file system at `offset` of a disk; [`ext4_places`](super::ext4_places()) tells where
/// there is one.
///
/// # Errors
/// It is none, or cannot be read.
pub fn open_ext4(disk: impl ReadAt + 'static, offset: u64) -> Result<Ext4, Ext4Error> {
    Ext4::load(Box::new(Place { disk, offset }))
}

/// The file system of a disk that has an operating system; when none has one, the last: before the
/// root there may be others. Nothing when the disk has no ext4 file system.
///
/// # Errors
/// The disk cannot be read.
pub fn open_root(disk: impl ReadAt + 'static) -> io::Result<Option<Ext4>> {
    let disk = Rc::new(disk);
    let mut last = None;
    for place in ext4_places(&*disk)? {
        let Ok(found) = open_ext4(Rc::clone(&disk), place) else {
            continue;
        };
        let has = |path: &str| found.exists(path).unwrap_or(false);
        if has("/etc/os-release") || has("/usr/lib/os-release") || has("/lib/modules") {
            return Ok(Some(found));
        }
        last = Some(found);
    }
    Ok(last)
}
