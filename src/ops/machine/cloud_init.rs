//! The user's own files for cloud-init.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::guest::{check_meta_data, check_user_data};
use crate::host::file::read_text;
use crate::image::CloudInit;

/// A file has at most so many bytes.
const MOST: u64 = 1 << 20;

/// Reads a file with user data, or a directory with the files of a seed. `real` gives the place that a
/// path leads to, if it may be read.
///
/// # Errors
/// A file cannot be read, or cloud-init would not take it.
pub fn cloud_init(
    path: &Path,
    real: &dyn Fn(&Path) -> Result<PathBuf, Failure>,
) -> Result<CloudInit, Failure> {
    let read = |path: &Path| {
        read_text(&real(path)?, MOST).map_err(|error| wrong(path, &error.to_string()))
    };
    let mut files = CloudInit::default();
    let place = real(path)?;
    if !place.is_dir() {
        files.user_data = Some(read(path)?);
        return checked(path, path, files);
    }
    for (name, content) in files.files() {
        let file = place.join(name);
        if file.symlink_metadata().is_ok() {
            *content = Some(read(&file)?);
        }
    }
    if files == CloudInit::default() {
        return Err(
            Failure::usage(format!("{} has no file for cloud-init", path.display()))
                .with_help("put user-data, meta-data, network-config or vendor-data there"),
        );
    }
    checked(&path.join("user-data"), &path.join("meta-data"), files)
}

fn checked(user_data: &Path, meta_data: &Path, files: CloudInit) -> Result<CloudInit, Failure> {
    if let Some(text) = &files.user_data {
        check_user_data(text).map_err(|why| wrong(user_data, why))?;
    }
    if let Some(text) = &files.meta_data {
        check_meta_data(text).map_err(|why| wrong(meta_data, why))?;
    }
    Ok(files)
}

fn wrong(path: &Path, why: &str) -> Failure {
    Failure::usage(format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_and_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("user-data");
        let read = |path: &Path| {
            let found = cloud_init(path, &|path| {
                path.canonicalize().map_err(Failure::io("open", path))
            });
            found.map_err(|failure| failure.message().to_owned())
        };
        let said = |path: &Path| read(path).unwrap_err();
        assert!(said(&file).starts_with("open "), "{}", said(&file));
        assert!(said(directory.path()).ends_with("has no file for cloud-init"));
        fs::write(&file, "#cloud-config\nlocale: C\n").unwrap();
        let alone = read(&file).unwrap();
        assert_eq!(
            alone.user_data.as_deref(),
            Some("#cloud-config\nlocale: C\n")
        );
        assert_eq!(read(directory.path()).unwrap(), alone);

        let meta_data = directory.path().join("meta-data");
        fs::write(&meta_data, "local-hostname: web\n").unwrap();
        let both = read(directory.path()).unwrap();
        assert_eq!(both.meta_data.as_deref(), Some("local-hostname: web\n"));
        fs::write(&meta_data, "{}").unwrap();
        assert!(said(directory.path()).contains("meta-data: write a line for each key"));
        fs::remove_file(&meta_data).unwrap();
        fs::write(&file, "locale: C\n").unwrap();
        assert!(said(&file).contains("user-data: begin it with #cloud-config"));
    }
}
