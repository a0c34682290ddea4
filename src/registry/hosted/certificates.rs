//! Certificate authorities of single registries, where docker and podman have them.

use std::path::{Path, PathBuf};

/// Directories with one directory for each registry, named `HOST` or `HOST:PORT`.
const DIRECTORIES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The files of authorities (`*.crt`) for a registry.
pub(super) fn of(address: &str) -> Vec<PathBuf> {
    let directories = DIRECTORIES.iter();
    directories
        .flat_map(|directory| inside(&Path::new(directory).join(address)))
        .collect()
}

fn inside(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "crt"))
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_authorities_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["ca.crt", "b.crt", "client.cert", "client.key"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let names = ["b.crt", "ca.crt"].map(|name| directory.path().join(name));
        assert_eq!(inside(directory.path()), names);
        assert!(inside(&directory.path().join("none")).is_empty());
    }
}
