//! Packages as directories, in the cache.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::super::Context;
use super::directory;
use crate::failure::Failure;
use crate::template::Package;

/// The directory with the files of a package. One that is there is believed only if its files are
/// those of the package.
///
/// # Errors
/// It cannot be written.
pub(crate) fn unpacked(context: &Context, package: &Package) -> Result<PathBuf, Failure> {
    let all = context.home.unpacked_templates();
    let place = all.join(package.digest().to_string());
    if directory::read(&place).is_ok_and(|there| there.digest() == package.digest()) {
        return Ok(place);
    }
    match fs::remove_dir_all(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::of_io("remove", &place, &error));
        }
        _ => {}
    }
    fs::create_dir_all(&all).map_err(Failure::io("create", &all))?;
    let new = tempfile::tempdir_in(&all).map_err(Failure::io("create", &all))?;
    for file in package.files() {
        // The package's own check keeps its paths inside.
        let path = new.path().join(&file.path);
        let above = path.parent().unwrap_or(&path);
        fs::create_dir_all(above).map_err(Failure::io("create", above))?;
        fs::write(&path, &file.content).map_err(Failure::io("write", &path))?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, mode).map_err(Failure::io("write", &path))?;
    }
    let new = new.keep();
    match fs::rename(&new, &place) {
        Ok(()) => Ok(place),
        Err(error) => {
            let _ = fs::remove_dir_all(&new);
            // Another process was faster.
            match directory::read(&place).is_ok_and(|there| there.digest() == package.digest()) {
                true => Ok(place),
                false => Err(Failure::of_io("write", &place, &error)),
            }
        }
    }
}
