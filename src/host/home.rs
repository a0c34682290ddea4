//! Where things are kept: the directory tree below `$VMFAB_HOME`.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

use super::umask;

/// The root of everything that vmfab keeps.
///
/// ```text
/// store/      the truth: objects, action results, tags
/// cache/      can be deleted at any time: layers/ unpacked, disks/ as files, work/ scratch, probes/,
///             downloads/ that are not finished, shelf/ parts of disks that are being fetched,
///             boot-orders/ what boots read,
///             manifests/ of images in registries, registries/ what was seen there, results/ that
///             caches elsewhere have, repositories/ that were built
/// pending/    where the rest is of images that machines started from before all of them was here
/// pins/       what addresses without a checksum stood for
/// machines/   one directory for each machine
/// snapshots/  one file for each snapshot of a machine, and their layers
/// volumes/    one directory for each volume
/// network/    the private network of machines that are of no project
/// promises/   what machines that are being started will have of this host
/// projects/   one small file for each project with machines: where it is, what they need
/// builds/     small files for each build that runs, and for the last that ended
/// templates/  indexes of repositories of templates, packages of those that were used
/// log/        one file for each build step; builds/ what went into the last build of each image,
///             images/ when and how each image came here, provenance/ how each was
///             made, times.json what steps took, history a
///             line for each build, audit.jsonl who did what
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// `$VMFAB_HOME`, or `vmfab` below `$XDG_DATA_HOME` or `~/.local/share`. Nothing is created.
    ///
    /// # Errors
    /// None of the variables is set.
    pub fn from_env() -> Result<Self, Failure> {
        let var = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let chosen = var("VMFAB_HOME")
            .or_else(|| var("XDG_DATA_HOME").map(|data| data.join("vmfab")))
            .or_else(|| var("HOME").map(|home| home.join(".local/share/vmfab")))
            .ok_or_else(|| {
                Failure::missing("neither VMFAB_HOME, XDG_DATA_HOME nor HOME is set")
                    .with_help("set VMFAB_HOME to a directory for vmfab's data")
            })?;
        Ok(Self(std::path::absolute(&chosen).unwrap_or(chosen)))
    }

    /// A home at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Takes a home that an earlier version made from everyone but its owner, and with it all that
    /// is in it.
    pub fn close(&self) {
        umask::close(&self.0);
        for directory in ["cache", "cache/layers", "cache/disks", "machines", "store"] {
            umask::close(&self.0.join(directory));
        }
    }

    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// Disks of images as files.
    #[must_use]
    pub fn disk_cache(&self) -> PathBuf {
        self.0.join("cache/disks")
    }

    /// Unpacked layers, one directory for each, named by object id.
    #[must_use]
    pub fn layer_cache(&self) -> PathBuf {
        self.0.join("cache/layers")
    }

    /// Directories that steps share from build to build.
    #[must_use]
    pub fn cache_mounts(&self) -> PathBuf {
        self.0.join("cache/mounts")
    }

    /// Git repositories that were built, one directory for each commit.
    #[must_use]
    pub fn repositories(&self) -> PathBuf {
        self.0.join("cache/repositories")
    }

    /// Digests of local files that did not change.
    #[must_use]
    pub fn known_files(&self) -> PathBuf {
        self.0.join("cache/files")
    }

    /// Scratch directories of running steps.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.0.join("cache/work")
    }

    /// Small facts found by trying, such as whether KVM works.
    #[must_use]
    pub fn probes(&self) -> PathBuf {
        self.0.join("cache/probes")
    }

    /// Downloads that are not finished.
    #[must_use]
    pub fn downloads(&self) -> PathBuf {
        self.0.join("cache/downloads")
    }

    /// Parts of packs of images whose disks are read before they are here.
    #[must_use]
    pub fn shelf(&self) -> PathBuf {
        self.0.join("cache/shelf")
    }

    /// In which order boots read disks: one file for each disk.
    #[must_use]
    pub fn boot_orders(&self) -> PathBuf {
        self.0.join("cache/boot-orders")
    }

    /// Images of machines whose disks are not all here: where the rest is.
    #[must_use]
    pub fn pending(&self) -> PathBuf {
        self.0.join("pending")
    }

    /// What was seen of repositories of registries.
    #[must_use]
    pub fn registries(&self) -> PathBuf {
        self.0.join("cache/registries")
    }

    /// Results of steps whose content is in caches elsewhere.
    #[must_use]
    pub fn remembered(&self) -> PathBuf {
        self.0.join("cache/results")
    }

    /// Manifests and configs of images in registries, by digest.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.0.join("cache/manifests")
    }

    /// Which images came from which references.
    #[must_use]
    pub fn pulled(&self) -> PathBuf {
        self.0.join("cache/pulled")
    }

    /// What is known of templates, and those that were used.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.0.join("templates")
    }

    /// Templates unpacked, one directory for each, named by digest.
    #[must_use]
    pub fn unpacked_templates(&self) -> PathBuf {
        self.0.join("cache/templates")
    }

    #[must_use]
    pub fn machines(&self) -> PathBuf {
        self.0.join("machines")
    }

    /// What machines that are being started will have of this host.
    #[must_use]
    pub fn promises(&self) -> PathBuf {
        self.0.join("promises")
    }

    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// What addresses without a checksum stood for when they were looked up.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.0.join("pins")
    }

    /// Projects that have machines of their own.
    #[must_use]
    pub fn projects(&self) -> PathBuf {
        self.0.join("projects")
    }

    /// What went into the last build of each image.
    #[must_use]
    pub fn build_records(&self) -> PathBuf {
        self.0.join("log/builds")
    }

    /// Builds that run, and the last that ended.
    #[must_use]
    pub fn builds(&self) -> PathBuf {
        self.0.join("builds")
    }

    /// What steps took in earlier builds.
    #[must_use]
    pub fn step_times(&self) -> PathBuf {
        self.0.join("log/times.json")
    }

    /// What became of the builds of the last weeks, a line of JSON each.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.0.join("log/history")
    }

    /// When and how each image came here.
    #[must_use]
    pub fn image_records(&self) -> PathBuf {
        self.0.join("log/images")
    }

    /// How each image was made here.
    #[must_use]
    pub fn provenance(&self) -> PathBuf {
        self.0.join("log/provenance")
    }

    /// Who did what, a line of JSON each.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.0.join("log/audit.jsonl")
    }

    /// Logs of build steps.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}
