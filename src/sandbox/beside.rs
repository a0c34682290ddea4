//! Trees that a step reads beside its own: layers of other stages and images, and files as a tar.
//! What is written to them is thrown away.

use std::fs;
use std::path::{Path, PathBuf};

use super::confinement::Changes;
use super::layer::{self, Form};
use super::overlay::Overlay;
use super::request::BesideSource;
use super::tasks::not_unpacked;
use super::worker::WorkerError;

/// One of them, as long as it is held.
pub(super) struct Beside {
    directory: PathBuf,
    /// Its tar, if it is none of layers.
    archive: Option<PathBuf>,
    _mount: Option<Overlay>,
}

impl Beside {
    /// Mounts layers, which are unpacked. `scratch` does not exist.
    pub(super) fn new(
        source: &BesideSource,
        scratch: &Path,
        changes: Changes,
    ) -> Result<Self, WorkerError> {
        let create = || WorkerError::io(format!("create {}", scratch.display()));
        let (mut mount, mut archive) = (None, None);
        let mut directory = scratch.join("tree");
        fs::create_dir(scratch).map_err(create())?;
        match source {
            BesideSource::Files(path) => archive = Some(path.clone()),
            BesideSource::Layers(layers) if layers.is_empty() => {
                fs::create_dir(&directory).map_err(create())?;
            }
            BesideSource::Layers(layers) => {
                let mut directories: Vec<PathBuf> = Vec::new();
                for layer in layers {
                    directories.retain(|directory| *directory != layer.directory);
                    directories.push(layer.directory.clone());
                }
                let overlay = Overlay::mount(scratch, &directories, changes)?;
                overlay.tree().clone_into(&mut directory);
                mount = Some(overlay);
            }
        }
        Ok(Self {
            directory,
            archive,
            _mount: mount,
        })
    }

    /// Its tar, if it is none of layers.
    pub(super) fn archive(&self) -> Option<&Path> {
        self.archive.as_deref()
    }

    /// It as a directory.
    pub(super) fn directory(&self) -> Result<&Path, WorkerError> {
        if let Some(archive) = &self.archive
            && !self.directory.exists()
        {
            fs::create_dir(&self.directory)
                .and_then(|()| {
                    layer::apply(&mut fs::File::open(archive)?, Form::Files, &self.directory)
                })
                .map_err(|error| not_unpacked("archive", error))?;
        }
        Ok(&self.directory)
    }
}
