//! Recipes in a directory of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Build, Lab, Running, base};

/// A directory of recipes, built in the home of the run.
#[derive(Debug)]
pub(crate) struct Recipes {
    directory: TempDir,
}

impl Recipes {
    pub(crate) fn new() -> Self {
        // Made first: who waits for the base image is to have nothing to clean up.
        Lab::get();
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file, with the directories above it. Its mode is 0644 whatever the umask: modes
    /// count.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(path, mode).unwrap();
    }

    /// Writes the recipe `NAME.kdl`: an image of that name, the base with `steps` on a small disk.
    /// Names must differ from test to test, and so must steps that are to run: all use one store.
    pub(crate) fn image(&self, name: &str, steps: &str) {
        self.image_from(name, &base(), steps);
    }

    /// The same, on the finished base image: its steps are no steps of this build.
    pub(crate) fn image_from_tag(&self, name: &str, steps: &str) {
        self.image_from(name, &format!("@{}", base()), steps);
    }

    fn image_from(&self, name: &str, from: &str, steps: &str) {
        let text = format!(
            "image \"{name}\" {{\n    from \"{from}\"\n    disk size=\"2G\"\n{steps}\n}}\n"
        );
        self.write(&format!("{name}.kdl"), &text);
    }

    /// `vmfab build NAME.kdl --json`.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Lab::get().command();
        command
            .args(["build", "--json"])
            .arg(format!("{name}.kdl"))
            .current_dir(self.directory());
        command
    }

    /// Builds a recipe.
    #[track_caller]
    pub(crate) fn build(&self, name: &str) -> Build {
        Build::of(&mut self.command(name))
    }

    /// Builds a recipe with more arguments.
    #[track_caller]
    pub(crate) fn build_with<const N: usize>(&self, name: &str, arguments: [&str; N]) -> Build {
        Build::of(self.command(name).args(arguments))
    }

    /// Starts to build a recipe.
    pub(crate) fn start(&self, name: &str) -> Running {
        Running::start(&mut self.command(name))
    }
}
