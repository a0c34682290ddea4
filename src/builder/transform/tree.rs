//! Archives as layers, and files as what `copy` takes.

use std::io::Write;
use std::path::PathBuf;

use super::super::local;
use super::{Work, bytes};
use crate::derivation::BuildError;
use crate::digest::ObjectRef;
use crate::sandbox::Task;

impl Work<'_> {
    /// A tar, compressed or not, as a layer: unpacked in a worker, and packed as all layers are. Entries that lead out of
    /// the tree are refused; device nodes are left out.
    pub(super) fn unpack(&self) -> Result<ObjectRef, BuildError> {
        self.in_worker(false, |archive| Task::Unpack { archive })
    }

    /// A layer of a container image over the layers below it, as a layer of ours: its whiteouts remove, and its paths
    /// may go through links of the layers below. Host keys and the like go: they would be those of all machines.
    pub(super) fn apply(&self) -> Result<ObjectRef, BuildError> {
        // Not every program writes the zeros at the end of an archive without entries.
        if self.blob.size == 0 {
            let layers: Vec<ObjectRef> = self.request.inputs_of("layer").collect();
            let sandbox = &self.transform.sandbox;
            return sandbox.layer(&layers, Vec::new(), true, self.request);
        }
        self.in_worker(true, |archive| Task::Apply { archive })
    }

    fn in_worker(
        &self,
        clean: bool,
        task: impl FnOnce(PathBuf) -> Task,
    ) -> Result<ObjectRef, BuildError> {
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
        let layers: Vec<ObjectRef> = self.request.inputs_of("layer").collect();
        self.transform
            .sandbox
            .layer(&layers, vec![task(path)], clean, self.request)
    }

    /// The input as a tar with one file, in the place of the root.
    pub(super) fn pack(&self) -> Result<ObjectRef, BuildError> {
        let content = local::hash(self.open()?);
        let content = content.map_err(|error| self.read_error(error, BuildError::other))?;
        let mut writer = self.store().writer().map_err(BuildError::other)?;
        let mut archive = tar::Builder::new(&mut writer);
        let mut header = local::file_header(self.blob.size, 0o644, &content);
        let appended = archive
            .append_data(&mut header, ".", self.open()?)
            .and_then(|()| archive.finish());
        appended.map_err(|error| self.read_error(error, BuildError::other))?;
        drop(archive);
        writer.finish().map_err(BuildError::other)
    }
}
