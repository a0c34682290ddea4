//! Formatting recipe files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::host::file::{Durability, Replace};
use crate::limits::Limits;
use crate::recipe;
use crate::world::recipes::read_file;

/// A recipe file as it is and as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formatted {
    pub path: PathBuf,
    pub before: String,
    /// Its content when formatted.
    pub after: String,
}

impl Formatted {
    /// Whether it is not formatted yet.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.before != self.after
    }
}

/// The recipe files that paths stand for: a directory stands for the `.kdl` files in it.
///
/// # Errors
/// A path does not exist or cannot be read.
pub fn recipes_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let kind = fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::unknown("file", path.display()),
            _ => Failure::io("read", path)(error),
        })?;
        if !kind.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(Failure::io("list", path))? {
            let inner = entry.map_err(Failure::io("list", path))?.path();
            if inner
                .extension()
                .is_some_and(|extension| extension == "kdl")
                && inner.is_file()
            {
                // Nobody writes `./a.kdl` who means the working directory.
                inside.push(inner.strip_prefix(".").unwrap_or(&inner).to_owned());
            }
        }
        inside.sort();
        files.append(&mut inside);
    }
    Ok(files)
}

/// Formats the content of a file. The file stays as it is.
///
/// # Errors
/// It cannot be read, or is not KDL.
pub fn format(path: &Path) -> Result<Formatted, Failure> {
    let most = Limits::default().recipe_size;
    let before = read_file(path, most).map_err(Failure::io("read", path))?;
    let after = text(&path.display().to_string(), &before)?;
    Ok(Formatted {
        path: path.to_owned(),
        before,
        after,
    })
}

/// Formats a text; `name` is what errors call it.
///
/// # Errors
/// It is not KDL.
pub fn text(name: &str, text: &str) -> Result<String, Failure> {
    recipe::format(name, text).map_err(Failure::recipe)
}

/// Writes the formatted content: whole or not at all, with the permissions that the file has, and
/// through symbolic links.
///
/// # Errors
/// The file cannot be written.
pub fn write(formatted: &Formatted) -> Result<(), Failure> {
    let path = fs::canonicalize(&formatted.path).map_err(Failure::io("read", &formatted.path))?;
    let write = || {
        Replace::new(&path, Durability::None)
            .permissions(fs::metadata(&path)?.permissions())
            .with(formatted.after.as_bytes())
    };
    write().map_err(Failure::io("write", &formatted.path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::failure::Kind;

    #[test]
    fn directories_stand_for_their_recipes() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.kdl", "a.kdl", "c.txt"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::create_dir(directory.path().join("d.kdl")).unwrap();
        let single = directory.path().join("c.txt");
        let found = recipes_of(&[single.clone(), directory.path().to_owned()]).unwrap();
        let inside = ["a.kdl", "b.kdl"].map(|name| directory.path().join(name));
        assert_eq!(found, [vec![single], inside.to_vec()].concat());
        let error = recipes_of(&[directory.path().join("none")]).unwrap_err();
        assert!(error.is(Kind::NotFound), "{error}");
    }

    #[test]
    fn writing_keeps_permissions_and_links() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.kdl");
        let link = directory.path().join("link.kdl");
        fs::write(&file, "before").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let formatted = Formatted {
            path: link.clone(),
            before: "before".to_owned(),
            after: "after".to_owned(),
        };
        write(&formatted).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
