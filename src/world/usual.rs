//! What is built in a directory when nothing is named.

use crate::failure::Failure;
use std::path::{Path, PathBuf};

/// The files that are built when nothing is named, the first that exists.
const USUAL: [&str; 4] = [
    "vmfab.kdl",
    "Dockerfile",
    "Containerfile",
    "Dockerfile.vibe",
];

/// The recipe or Dockerfile of a directory.
///
/// # Errors
/// It has none.
pub fn usual_recipe(directory: &Path) -> Result<PathBuf, Failure> {
    usual(directory, &USUAL).ok_or_else(|| {
        Failure::unknown("recipe or Dockerfile", directory.display()).with_help(format!(
            "name one; without a name vmfab looks for {}",
            USUAL.join(", ")
        ))
    })
}

/// The Dockerfile of a directory.
pub(crate) fn usual_dockerfile(directory: &Path) -> Option<PathBuf> {
    usual(directory, &USUAL[1..])
}

fn usual(directory: &Path, names: &[&str]) -> Option<PathBuf> {
    let paths = names.iter().map(|name| directory.join(name));
    let found = paths.into_iter().find(|path| path.is_file())?;
    // Nobody writes `./a.kdl` who means the working directory.
    Some(found.strip_prefix(".").unwrap_or(&found).to_owned())
}
