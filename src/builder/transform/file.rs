//! A file of an ext4 file system on a disk, read in place and without mounting anything.

use ext4_view::Ext4Error;

use super::{Work, bytes, unusable};
use crate::digest::ObjectRef;
use crate::disk::{ext4_places, open_ext4};
use crate::failure::Failure;

impl Work<'_> {
    /// The file at `path`, of the first file system that has it; links are followed inside of it.
    pub(super) fn file(&self, path: &str) -> Result<ObjectRef, Failure> {
        let places = ext4_places(&self.open()?);
        let places = places.map_err(|error| self.read_error(error, Failure::of_step))?;
        let mut why = "it has no ext4 file system".to_owned();
        for offset in places {
            match open_ext4(self.open()?, offset).and_then(|fs| fs.open(path)) {
                Ok(mut file) => {
                    let object = self.put(&mut file, |error| {
                        not_read(path, &format!("it cannot be read: {error}"))
                    })?;
                    self.say(&format!("{path}: {}", bytes(object.size)))?;
                    return Ok(object);
                }
                Err(Ext4Error::NotFound) => {
                    why = "none of its file systems has that file".to_owned();
                }
                Err(error) => why = error.to_string(),
            }
            if self.request.interrupt.requested() {
                return Err(Failure::interrupted());
            }
        }
        Err(not_read(path, &why))
    }
}

fn not_read(path: &str, why: &str) -> Failure {
    unusable(
        format!("cannot read {path} from the disk: {why}"),
        "name a file of an ext4 file system on the disk, or fetch the kernel from elsewhere",
    )
}
