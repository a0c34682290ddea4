//! restic: snapshots in packs of content-defined chunks, encrypted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::{printed, remove, size_of, time, tool};

/// A repository.
pub(crate) struct Restic {
    directory: PathBuf,
}

impl Restic {
    /// An empty repository in place of what is there.
    pub(crate) fn init(directory: &Path) -> Self {
        remove(directory);
        let repository = Self::open(directory);
        time(repository.command().arg("init"));
        repository
    }

    /// A repository that is there.
    pub(crate) fn open(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// With its cache inside the repository's directory: nothing of the user's is touched.
    fn command(&self) -> Command {
        let mut command = tool("restic", "restic");
        command
            .arg("--quiet")
            .env("RESTIC_REPOSITORY", self.directory.join("repository"))
            .env("RESTIC_CACHE_DIR", self.directory.join("cache"))
            .env("RESTIC_PASSWORD", "bench");
        command
    }

    /// A new snapshot.
    pub(crate) fn backup(&self, path: &Path) -> Duration {
        time(self.command().arg("backup").arg(path))
    }

    /// Forgets the first snapshot; its content stays until it is pruned.
    pub(crate) fn forget_first(&self) {
        let snapshots = printed(self.command().args(["snapshots", "--json"]));
        let snapshots: serde_json::Value = serde_json::from_str(&snapshots).unwrap();
        let first = snapshots[0]["id"].as_str().unwrap();
        time(self.command().arg("forget").arg(first));
    }

    /// Removes what no snapshot holds.
    pub(crate) fn prune(&self) -> Duration {
        time(self.command().arg("prune"))
    }

    /// Bytes in the repository.
    pub(crate) fn stored(&self) -> u64 {
        size_of(&self.directory.join("repository"))
    }
}
