//! The overlay mount of a step's layers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use super::confinement::{Changes, Grant};
use super::worker::WorkerError;

/// Where changes in memory are, below the scratch directory.
pub(super) const MEMORY: &str = "memory";

/// The mounted tree of a step; unmounted when dropped.
pub(super) struct Overlay {
    tree: PathBuf,
    upper: PathBuf,
    work: PathBuf,
}

impl Overlay {
    /// Mounts `layers`, lowest first, with a new upper directory on top, at `scratch/tree`.
    pub(super) fn mount(
        scratch: &Path,
        layers: &[PathBuf],
        changes: Changes,
    ) -> Result<Self, WorkerError> {
        let place = match changes {
            Changes::OnDisk => Path::new(""),
            Changes::InMemory => {
                mount_memory(&scratch.join(MEMORY))?;
                Path::new(MEMORY)
            }
        };
        let (upper, work) = (place.join("upper"), place.join("work"));
        let tree = scratch.join("tree");
        for directory in [&tree, &scratch.join(&upper), &scratch.join(&work)] {
            fs::create_dir_all(directory)
                .map_err(WorkerError::io(format!("create {}", directory.display())))?;
        }
        // The options of a mount must fit into one page: short links stand for the long paths.
        let links = scratch.join("l");
        fs::create_dir(&links).map_err(WorkerError::io("create links to layers"))?;
        let mut lower = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            symlink(layer, links.join(index.to_string()))
                .map_err(WorkerError::io("create links to layers"))?;
            lower.push(format!("l/{index}"));
        }
        lower.reverse();
        std::env::set_current_dir(scratch)
            .map_err(WorkerError::io("enter the scratch directory"))?;
        // volatile: syncs of the upper directory do nothing; it is packed or thrown away.
        let options = format!(
            "lowerdir={},upperdir={},workdir={},userxattr,volatile",
            lower.join(":"),
            upper.display(),
            work.display()
        );
        if options.len() > 4000 {
            return Err(WorkerError::Plain(format!(
                "{} layers are too many",
                layers.len()
            )));
        }
        let data = std::ffi::CString::new(options).unwrap_or_default();
        rustix::mount::mount(
            "overlay",
            &tree,
            "overlay",
            MountFlags::NODEV,
            data.as_c_str(),
        )
        .map_err(|error| WorkerError::Helped {
            message: format!("cannot mount an overlay file system: {error}"),
            help: format!(
                "use Linux 5.11 or later with overlayfs (modprobe overlay), and set VMFAB_HOME to a \
                 directory on ext4, xfs or btrfs; in a container, give it a volume:\n{}",
                Grant::Volume.flags()
            ),
        })?;
        Ok(Self {
            tree,
            upper: scratch.join(upper),
            work: scratch.join(work),
        })
    }

    /// Unmounts it; gives the directory with what was changed.
    pub(super) fn finish(self) -> Result<PathBuf, WorkerError> {
        let (upper, work) = (self.upper.clone(), self.work.clone());
        drop(self);
        // Overlayfs leaves a directory in it that its own owner may not enter.
        fs::remove_dir_all(&work).map_err(WorkerError::io("remove the work directory"))?;
        Ok(upper)
    }

    /// Where it is mounted.
    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // The namespace would take the mount with it; unmounting now completes the upper directory.
        let _ = rustix::mount::unmount(&self.tree, UnmountFlags::DETACH);
    }
}

/// Mounts a new file system in memory at the new directory `place`.
fn mount_memory(place: &Path) -> Result<(), WorkerError> {
    fs::create_dir(place)
        .and_then(|()| {
            let flags = MountFlags::NODEV;
            Ok(rustix::mount::mount(
                "tmpfs",
                place,
                "tmpfs",
                flags,
                c"mode=700",
            )?)
        })
        .map_err(WorkerError::io("mount a file system in memory"))
}
