//! The lock file on disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::host::{file, umask};
use crate::lock::{FILE_NAME, Lock};

/// A lock names some thousand packages, of a line each; a larger file is none.
const LARGEST: u64 = 256 << 20;

/// Where the lock of a recipe is, and what the recipe is called in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The directory of the recipe; for one that comes with vmfab the current directory.
    pub(crate) directory: PathBuf,
    /// The file's name, or the name of a built-in recipe.
    pub(crate) recipe: String,
}

impl Place {
    /// The place for a recipe, as the user names it.
    pub(crate) fn of(recipe: &str) -> Self {
        let path = Path::new(recipe);
        let directory = match path.parent() {
            Some(parent) if path.exists() => parent.to_owned(),
            _ => PathBuf::new(),
        };
        let name = path.file_name().filter(|_| path.exists());
        Self {
            directory,
            recipe: name.map_or_else(
                || recipe.to_owned(),
                |name| name.to_string_lossy().into_owned(),
            ),
        }
    }

    /// The lock file.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }

    /// What local files of the recipe are called in static keys: their path from its directory,
    /// wherever that is.
    pub(crate) fn name(&self, file: &Path) -> String {
        let absolute = |path: &Path| {
            let path = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
        };
        let file = absolute(file);
        let inside = file.strip_prefix(absolute(&self.directory));
        inside.unwrap_or(&file).to_string_lossy().into_owned()
    }
}

/// Reads a lock file; nothing when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Lock>, Failure> {
    match file::read_text(path, LARGEST) {
        Ok(text) => Lock::from_text(&path.display().to_string(), &text)
            .map(Some)
            .map_err(Failure::recipe),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io("read", path)(error)),
    }
}

/// Changes the lock file of a directory: whole or not at all, and one process after the other.
/// Tells whether its text is another than before.
pub(crate) fn change(directory: &Path, change: impl FnOnce(&mut Lock)) -> Result<bool, Failure> {
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    // The directory itself is locked: no file for that is left in it.
    let held = File::open(directory).map_err(Failure::io("open", directory))?;
    held.lock().map_err(Failure::io("lock", directory))?;
    let path = directory.join(FILE_NAME);
    let path = fs::canonicalize(&path).unwrap_or(path);
    let before = read(&path)?;
    let mut lock = before.clone().unwrap_or_default();
    change(&mut lock);
    if before.as_ref() == Some(&lock) {
        return Ok(false);
    }
    file::Replace::new(&path, file::Durability::Lasting)
        .permissions(umask::users(0o666))
        .with(lock.to_text().as_bytes())
        .map_err(Failure::io("write", &path))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::lock::Target;

    fn target(recipe: &str) -> Target {
        Target {
            recipe: recipe.to_owned(),
            image: "image".to_owned(),
            settings: BTreeMap::new(),
            sources: BTreeSet::new(),
            steps: BTreeSet::new(),
            templates: BTreeMap::new(),
        }
    }

    #[test]
    fn places() {
        let directory = tempfile::tempdir().unwrap();
        let recipe = directory.path().join("a.kdl");
        fs::write(&recipe, "").unwrap();
        let place = Place::of(recipe.to_str().unwrap());
        assert_eq!(place.recipe, "a.kdl");
        assert_eq!(place.path(), directory.path().join("vmfab.lock"));
        fs::create_dir(directory.path().join("app")).unwrap();
        assert_eq!(place.name(&directory.path().join("./app")), "app");
        assert_eq!(place.name(Path::new("/usr")), "/usr");
        let built_in = Place::of("debian-12");
        assert_eq!(built_in.recipe, "debian-12");
        assert_eq!(built_in.path(), Path::new("vmfab.lock"));
    }

    #[test]
    fn nobody_loses_what_others_wrote() {
        let directory = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let directory = directory.path();
                scope.spawn(move || {
                    let name = format!("{number}.kdl");
                    assert!(change(directory, |lock| lock.put_target(target(&name))).unwrap());
                });
            }
        });
        let lock = read(&directory.path().join(FILE_NAME)).unwrap().unwrap();
        assert_eq!(lock.targets.len(), 8);
        assert!(!change(directory.path(), |lock| lock.put_target(target("1.kdl"))).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let mode = fs::metadata(directory.path().join(FILE_NAME)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o600, 0o600);
    }

    #[test]
    fn what_cannot_be_read_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::write(&path, "version 99").unwrap();
        let error = change(directory.path(), |lock| lock.put_target(target("a"))).unwrap_err();
        assert!(error.to_string().contains("version 99"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "version 99");
    }
}
