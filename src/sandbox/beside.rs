//! Trees that a step reads beside its own: layers of other stages and images, a tar, and local
//! files. What is written to them is thrown away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::add::{self, Index, Source};
use super::confinement::Changes;
use super::layer::{self, Form};
use super::overlay::Overlay;
use super::request::BesideSource;
use super::root::Root;
use super::tasks::not_unpacked;
use super::worker::WorkerError;

/// One of them, as long as it is held.
pub(super) struct Beside {
    directory: PathBuf,
    /// What the directory is made of when it is asked for.
    files: Option<BesideSource>,
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
        let (mut mount, mut files) = (None, None);
        let mut directory = scratch.join("tree");
        fs::create_dir(scratch).map_err(create())?;
        match source {
            BesideSource::Archive(_) | BesideSource::Local { .. } => files = Some(source.clone()),
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
            files,
            _mount: mount,
        })
    }

    /// Its files, wherever they are.
    pub(super) fn source(&self) -> Result<Source, WorkerError> {
        let source = match &self.files {
            Some(files) => source_of(files),
            None => Root::new(&self.directory).map(Source::Directory),
        };
        source.map_err(WorkerError::io("read the files of the step"))
    }

    /// It as a directory.
    pub(super) fn directory(&self) -> Result<&Path, WorkerError> {
        if let Some(files) = &self.files
            && !self.directory.exists()
        {
            let directory = &self.directory;
            fs::create_dir(directory).map_err(WorkerError::io("create a directory"))?;
            match files {
                BesideSource::Archive(archive) => fs::File::open(archive)
                    .and_then(|mut tar| layer::apply(&mut tar, Form::Files, directory))
                    .map_err(|error| not_unpacked("archive", error))?,
                files => source_of(files)
                    .and_then(|source| add::copy_all(&source, directory))
                    .map_err(|error| add::failed("the context", error))?,
            }
        }
        Ok(&self.directory)
    }
}

fn source_of(files: &BesideSource) -> io::Result<Source> {
    match files {
        BesideSource::Archive(archive) => Index::of_tar(archive).map(Source::Index),
        BesideSource::Local { listing, root } => Index::of_local(listing, root).map(Source::Index),
        BesideSource::Layers(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}
