//! Projects: directories with machines of their own.
//!
//! ```text
//! PROJECT/
//!   vmfab.kdl            what its machines are to be
//!   .vmfab/.gitignore    keeps what follows out of version control
//!   .vmfab/machines/     one directory for each machine, as in the home
//!   .vmfab/network/      their private network
//! ```
//!
//! What a project's machines need is in the home's store. So the home has a list of its projects:
//! [`Projects`].

mod registry;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use registry::{Absent, Need, PATIENCE, Projects, Registered, Turn};

use super::directory::{MAKING, Root};
use super::error::{MachineError, io_error};
use super::{Machines, Volumes};
use crate::compose;
use crate::host::{Home, umask};

/// A directory with machines of its own, there or not yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The file that says what a project's machines are to be.
    pub const FILE: &'static str = "vmfab.kdl";

    /// Its names, each in place of those behind it.
    fn files() -> impl Iterator<Item = &'static str> {
        std::iter::once(Self::FILE).chain(compose::USUAL)
    }

    /// The project that `directory` is in: the nearest directory above with a [`FILE`](Self::FILE)
    /// or a Compose file, else `directory` itself.
    ///
    /// # Errors
    /// The directory is gone.
    pub fn around(directory: &Path) -> Result<Self, MachineError> {
        let directory = directory
            .canonicalize()
            .map_err(io_error("find", directory))?;
        let nearest = directory
            .ancestors()
            .find(|above| Self::files().any(|name| above.join(name).is_file()));
        Ok(Self {
            root: nearest.unwrap_or(&directory).to_owned(),
        })
    }

    /// The project in exactly this directory, an absolute path without links.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its file, when it has one.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        let mut files = Self::files().map(|name| self.root.join(name));
        files.find(|file| file.is_file())
    }

    #[must_use]
    pub fn machines(&self, home: &Home) -> Machines {
        Machines {
            root: Root(self.machines_directory()),
            home: home.clone(),
            probes: home.probes(),
            volumes: Volumes::new(home),
            project: Some(self.clone()),
            attached: None,
        }
    }

    fn machines_directory(&self) -> PathBuf {
        self.root.join(".vmfab/machines")
    }

    /// Whether the directory of its machines is there.
    ///
    /// # Errors
    /// It cannot be told: a disk fails, or a directory on the way may not be entered.
    pub fn is_there(&self) -> Result<bool, MachineError> {
        let directory = self.machines_directory();
        directory
            .try_exists()
            .map_err(io_error("look at", &directory))
    }

    /// Makes the directory of its machines.
    ///
    /// # Errors
    /// The project's directory cannot be written to.
    pub fn prepare(&self) -> Result<(), MachineError> {
        let directory = self.machines_directory();
        let failed = |source| MachineError::ProjectDirectory {
            path: self.root.clone(),
            source,
        };
        // A link would let a project that came from elsewhere choose where its machines are
        // written.
        for directory in [&self.root.join(".vmfab"), &directory] {
            if fs::symlink_metadata(directory).is_ok_and(|meta| meta.is_symlink()) {
                let message = format!("{} is a link", directory.display());
                return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, message)));
            }
        }
        fs::create_dir_all(&directory).map_err(failed)?;
        // Machines have private keys, and disks with all that their guests know.
        for directory in [self.root.join(".vmfab"), directory] {
            umask::close(&directory);
        }
        let ignore = self.root.join(".vmfab/.gitignore");
        match File::create_new(&ignore).and_then(|mut file| file.write_all(b"*\n")) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// Removes what [`prepare`](Self::prepare) made, when there is nothing else in it. Only while
    /// it is nobody else's turn.
    pub fn clear(&self, _turn: &Turn) {
        let machines = self.machines_directory();
        if !holds_only(&machines, MAKING) {
            return;
        }
        let above = self.root.join(".vmfab");
        let _ = fs::remove_file(machines.join(MAKING));
        if fs::remove_dir(&machines).is_err() {
            return;
        }
        // Nobody has an address any more.
        let _ = fs::remove_dir_all(above.join("network"));
        if holds_only(&above, ".gitignore") {
            let _ = fs::remove_file(above.join(".gitignore"));
            let _ = fs::remove_dir(&above);
        }
    }
}

/// Whether there is nothing in a directory but perhaps a file of this name.
fn holds_only(directory: &Path, name: &str) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_makes_the_project() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        let inner = top.join("a b/c");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(Project::around(&inner).unwrap().root(), inner);
        assert_eq!(Project::around(&inner).unwrap().file(), None);
        fs::write(top.join(Project::FILE), "").unwrap();
        assert_eq!(Project::around(&inner).unwrap().root(), top);
        // A directory of that name is no project.
        fs::create_dir(top.join("a b").join(Project::FILE)).unwrap();
        assert_eq!(Project::around(&inner).unwrap().root(), top);
        fs::write(inner.join(Project::FILE), "").unwrap();
        assert_eq!(Project::around(&inner).unwrap().root(), inner);
        assert!(Project::around(&top.join("gone")).is_err());
    }

    #[test]
    fn what_is_made_stays_out_of_version_control() {
        let directory = tempfile::tempdir().unwrap();
        let project = Project::at(directory.path());
        assert!(!project.is_there().unwrap());
        project.prepare().unwrap();
        assert!(project.is_there().unwrap());
        let ignore = directory.path().join(".vmfab/.gitignore");
        assert_eq!(fs::read_to_string(&ignore).unwrap(), "*\n");
        fs::write(&ignore, "mine\n").unwrap();
        project.prepare().unwrap();
        assert_eq!(fs::read_to_string(&ignore).unwrap(), "mine\n");
        fs::remove_dir_all(directory.path().join(".vmfab")).unwrap();
        fs::write(directory.path().join(".vmfab"), "a file").unwrap();
        let error = project.prepare().unwrap_err();
        assert!(
            matches!(error, MachineError::ProjectDirectory { .. }),
            "{error}"
        );
        fs::remove_file(directory.path().join(".vmfab")).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), directory.path().join(".vmfab")).unwrap();
        assert!(project.prepare().is_err());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
