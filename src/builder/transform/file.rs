//! A file of an ext4 file system on a disk, read in place and without mounting anything.

use std::error::Error;
use std::io;

use ext4_view::{Ext4, Ext4Error, Ext4Read};

use super::blob::Blob;
use super::{Work, bytes, unusable};
use crate::derivation::BuildError;
use crate::digest::ObjectRef;
use crate::disk::{ReadAt, ext4_places};

/// A file system from some offset of a disk on.
struct Place {
    disk: Blob,
    offset: u64,
}

impl Ext4Read for Place {
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

impl Work<'_> {
    /// The file at `path`, of the first file system that has it; links are followed inside of it.
    pub(super) fn file(&self, path: &str) -> Result<ObjectRef, BuildError> {
        let places = ext4_places(&self.open()?);
        let places = places.map_err(|error| self.read_error(error, BuildError::other))?;
        let mut why = "it has no ext4 file system".to_owned();
        for offset in places {
            let disk = self.open()?;
            let place = Place { disk, offset };
            match Ext4::load(Box::new(place)).and_then(|fs| fs.open(path)) {
                Ok(mut file) => {
                    let object = self.put(&mut file, |error| {
                        not_read(path, &format!("it cannot be read: {error}"))
                    })?;
                    self.say(&format!("{path}: {}", bytes(object.size)))?;
                    return Ok(object);
                }
                Err(Ext4Error::NotFound) => why = "no file system of it has that file".to_owned(),
                Err(error) => why = error.to_string(),
            }
            if self.request.interrupt.requested() {
                return Err(BuildError::Interrupted);
            }
        }
        Err(not_read(path, &why))
    }
}

fn not_read(path: &str, why: &str) -> BuildError {
    unusable(
        format!("cannot take {path} out of the disk: {why}"),
        "name a file of an ext4 file system on the disk, or fetch the kernel from elsewhere",
    )
}
