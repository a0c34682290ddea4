//! Archives as layers, and files as what `copy` takes.

use std::io::Write;

use super::super::local;
use super::{Work, bytes};
use crate::derivation::BuildError;
use crate::digest::ObjectRef;
use crate::sandbox::Task;

impl Work<'_> {
    /// A tar, compressed or not, as a layer: unpacked in a worker, and packed as all layers are. Entries that lead out of
    /// the tree are refused; device nodes are left out.
    pub(super) fn unpack(&self) -> Result<ObjectRef, BuildError> {
        let mut tar = self.tar()?;
        let mut file = self.store().temporary().map_err(BuildError::other)?;
        let path = file.path().to_owned();
        let mut stream = std::mem::replace(&mut tar.stream, Box::new(std::io::empty()));
        let size = self.copy(
            &mut stream,
            file.as_file_mut(),
            |error| tar.damaged(&error),
            BuildError::io("write", &path),
        )?;
        let flushed = file.as_file_mut().flush();
        flushed.map_err(BuildError::io("write", &path))?;
        self.say(&format!("a tar archive of {}", bytes(size)))?;
        let task = Task::Unpack { archive: path };
        self.transform
            .sandbox
            .layer(&[], vec![task], false, self.request)
    }

    /// The input as a tar with one file, in the place of the root.
    pub(super) fn pack(&self) -> Result<ObjectRef, BuildError> {
        let mut writer = self.store().writer().map_err(BuildError::other)?;
        let mut archive = tar::Builder::new(&mut writer);
        let mut header = local::file_header(self.blob.size, false);
        let appended = archive
            .append_data(&mut header, ".", self.open()?)
            .and_then(|()| archive.finish());
        appended.map_err(|error| self.read_error(error, BuildError::other))?;
        drop(archive);
        writer.finish().map_err(BuildError::other)
    }
}
