//! Stores that are measured: each in a home of its own, apart from that of the builds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{files_below, printed, remove, time, vmfab};

/// A store, used through `vmfab store`.
pub(crate) struct Store {
    home: PathBuf,
}

impl Store {
    /// An empty one in place of what is there.
    pub(crate) fn new(home: &Path) -> Self {
        remove(home);
        Self::open(home)
    }

    /// One that is there.
    pub(crate) fn open(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
        }
    }

    /// `vmfab store` with a subcommand.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = vmfab(&self.home);
        command.args(["store", subcommand]);
        command
    }

    /// Adds a file.
    pub(crate) fn add(&self, file: &Path) -> Duration {
        time(self.command("add").arg(file))
    }

    /// Adds a file; gives its object.
    pub(crate) fn object(&self, file: &Path) -> String {
        let objects = json(self.command("add").arg("--json").arg(file));
        objects[0]["object"].as_str().unwrap().to_owned()
    }

    /// Writes an object to a new file.
    pub(crate) fn get(&self, object: &str, output: &Path) -> Duration {
        remove(output);
        time(&mut self.get_command(object, output))
    }

    /// The same as a command; the file must not exist.
    pub(crate) fn get_command(&self, object: &str, output: &Path) -> Command {
        let mut command = self.command("get");
        command.arg(object).arg("--output").arg(output);
        command
    }

    /// Bytes in the store.
    pub(crate) fn stored(&self) -> u64 {
        json(self.command("stat").arg("--json"))["stored"]
            .as_u64()
            .unwrap()
    }

    /// The files that hold the content.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        files_below(&self.home.join("store/packs"))
    }
}

/// What a command with `--json` prints.
pub(crate) fn json(command: &mut Command) -> Value {
    serde_json::from_str(&printed(command)).unwrap()
}
