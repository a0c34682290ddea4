//! Borg: archives of content-defined chunks.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::{remove, size_of, time, tool};

/// A repository without encryption.
pub(crate) struct Borg {
    directory: PathBuf,
}

impl Borg {
    /// An empty repository in place of what is there.
    pub(crate) fn init(directory: &Path) -> Self {
        remove(directory);
        std::fs::create_dir(directory).unwrap();
        let repository = Self {
            directory: directory.to_owned(),
        };
        time(
            repository
                .command()
                .args(["init", "--encryption=none"])
                .arg(repository.repository()),
        );
        repository
    }

    fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    /// With everything that Borg keeps for itself in the repository's directory.
    fn command(&self) -> Command {
        let mut command = tool("borg", "borgbackup");
        command
            .env("BORG_BASE_DIR", self.directory.join("base"))
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        command
    }

    /// A new archive, with zstd at the store's level.
    pub(crate) fn create(&self, name: &str, file: &Path) {
        let archive = format!("{}::{name}", self.repository().display());
        time(
            self.command()
                .args(["create", "--sparse", "--compression=zstd,3"])
                .arg(archive)
                .arg(file),
        );
    }

    /// Bytes in the repository.
    pub(crate) fn stored(&self) -> u64 {
        size_of(&self.repository())
    }
}
