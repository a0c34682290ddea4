//! casync: a directory of content-defined chunks, each a file.

use std::path::{Path, PathBuf};

use crate::lab::{remove, size_of, time, tool};

/// A chunk store, with zstd.
pub(crate) struct Casync {
    directory: PathBuf,
}

impl Casync {
    /// An empty store in place of what is there.
    pub(crate) fn new(directory: &Path) -> Self {
        remove(directory);
        std::fs::create_dir(directory).unwrap();
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Stores a disk under a name.
    pub(crate) fn make(&self, name: &str, disk: &Path) {
        time(
            tool("casync", "casync")
                .args(["make", "--compression=zstd", "--store"])
                .arg(self.directory.join("chunks.castr"))
                .arg(self.directory.join(format!("{name}.caibx")))
                .arg(disk),
        );
    }

    /// Bytes of the chunks and their indices.
    pub(crate) fn stored(&self) -> u64 {
        size_of(&self.directory)
    }
}
