//! The overlay mount of a step's layers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use super::worker::WorkerError;

/// The mounted tree of a step; unmounted when dropped.
pub(super) struct Overlay {
    tree: PathBuf,
}

impl Overlay {
    /// Mounts `layers`, lowest first, with `upper` on top, at `scratch/tree`.
    pub(super) fn mount(scratch: &Path, layers: &[PathBuf]) -> Result<Self, WorkerError> {
        let tree = scratch.join("tree");
        for directory in [&tree, &scratch.join("upper"), &scratch.join("work")] {
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
            "lowerdir={},upperdir=upper,workdir=work,userxattr,volatile",
            lower.join(":")
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
            help: "a kernel of version 5.11 or later with overlayfs is needed, and VMFAB_HOME on \
                       a file system with extended attributes (not on an overlay itself)"
                .to_owned(),
        })?;
        Ok(Self { tree })
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
