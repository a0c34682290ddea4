//! Pages for browsers in the user's own directories. One may replace another; any other file stays.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::{Failure, Kind};
use crate::host::file::{self, Durability, Replace};
use crate::host::umask;
use crate::html::MARK;

/// Whether a page can be written to `path`: asked before long work.
///
/// # Errors
/// Its directory is missing, or it is a file that is no page of vmfab.
pub fn check(path: &Path) -> Result<(), Failure> {
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        let message = format!("directory {} does not exist", directory.display());
        return Err(Failure::new(Kind::NotFound, message)
            .with_help("create it, or write the page elsewhere"));
    }
    let is_page = |mut file: File| -> io::Result<bool> {
        let mut begin = [0; MARK.len()];
        let length = file.metadata()?.len();
        Ok(length == 0 || (file.read_exact(&mut begin).is_ok() && begin == *MARK.as_bytes()))
    };
    match file::open_regular(path).and_then(is_page) {
        Ok(true) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(false) | Err(_) => {
            let message = format!("{} exists and is not a page of vmfab", path.display());
            Err(Failure::usage(message).with_help("remove it, or write the page elsewhere"))
        }
    }
}

/// Writes a page to `path`.
///
/// # Errors
/// See [`check`]; the file cannot be written.
pub fn write(path: &Path, page: &str) -> Result<(), Failure> {
    check(path)?;
    Replace::new(path, Durability::None)
        .permissions(umask::users(0o666))
        .with(page.as_bytes())
        .map_err(Failure::io("write", path))
}
