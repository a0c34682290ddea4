//! A directory with a recipe `test.kdl`, what it reads, and a home.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::{Build, Ran, command_in};

pub(crate) struct Workshop(TempDir);

impl Workshop {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = command_in(&self.path("home"));
        command.args(words).current_dir(self.0.path());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        Ran::of(&mut self.command(words))
    }

    pub(crate) fn build(&self) -> Build {
        Build::of(&mut self.command(&["build", "test.kdl", "--json"]))
    }

    /// What is said when the recipe cannot be built, as if no line had been broken.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32) -> String {
        let said = self.run(&["build", "test.kdl"]).ends_with(code).stderr;
        said.replace("\n  │ ", " ")
    }
}
