//! Archives that one step of a build makes and another one reads: they go into the store, and are
//! kept as files besides, so that they need not be taken out of it again.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

use crate::digest::{ObjectId, ObjectRef};
use crate::failure::Failure;
use crate::store::{ObjectWriter, Store};

/// The archives of this process.
#[derive(Default)]
pub(super) struct Archives(Mutex<HashMap<ObjectId, NamedTempFile>>);

impl Archives {
    pub(super) fn writer(&self, store: &Store) -> Result<ArchiveWriter<'_>, Failure> {
        Ok(ArchiveWriter {
            archives: self,
            file: store.temporary().map_err(Failure::of_step)?,
            object: store.writer().map_err(Failure::of_step)?,
        })
    }

    /// The file of an archive, if this process made it.
    pub(super) fn path(&self, object: &ObjectRef) -> Option<PathBuf> {
        let archives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(archives.get(&object.id)?.path().to_owned())
    }
}

/// An archive on its way.
pub struct ArchiveWriter<'a> {
    archives: &'a Archives,
    file: NamedTempFile,
    object: ObjectWriter,
}

impl ArchiveWriter<'_> {
    /// Ends it; gives the object.
    ///
    /// # Errors
    /// The store fails.
    pub fn finish(self) -> Result<ObjectRef, Failure> {
        let object = self.object.finish().map_err(Failure::of_step)?;
        let archives = self.archives.0.lock();
        let mut archives = archives.unwrap_or_else(PoisonError::into_inner);
        archives.insert(object.id, self.file);
        Ok(object)
    }
}

impl Write for ArchiveWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.object.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
