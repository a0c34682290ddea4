//! Paths, of this host and in images.

use std::path::{Component, Path, PathBuf};

use super::{Parsed, Wrong};

/// A directory below that of the file.
pub(in crate::recipe) fn shared_directory(text: &str) -> Parsed<PathBuf> {
    below(text).ok_or_else(|| {
        Wrong::new(
            text,
            "a directory that this file can share",
            "write one below the directory of this file, such as \"./src\"; others are shared by hand: \
             vmfab boot IMAGE --volume DIRECTORY:PATH",
        )
    })
}

/// A file below the directory of the file.
pub(in crate::recipe) fn shared_file(text: &str) -> Parsed<PathBuf> {
    below(text).ok_or_else(|| {
        Wrong::new(
            text,
            "a file that this file can give to a machine",
            "write one below the directory of this file, such as \"./data.img\"; give others by hand: \
             vmfab boot IMAGE with --cdrom, --disk or --cloud-init",
        )
    })
}

/// A relative path that does not lead upwards.
fn below(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let below = |part| matches!(part, Component::CurDir | Component::Normal(_));
    (!text.is_empty() && path.components().all(below)).then(|| path.to_owned())
}

/// An absolute path in the image, without `.`, `..` and doubled slashes.
pub(in crate::recipe) fn image_path(text: &str) -> Parsed<String> {
    let parts = || text.split('/').skip(1);
    let plain = text.starts_with('/')
        && !text.contains('\0')
        && parts().all(|part| !matches!(part, "." | ".."))
        && !text.contains("//");
    if plain {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            text,
            "a path in the image",
            "write an absolute path without \"..\", such as \"/etc/motd\"",
        ))
    }
}

/// An absolute path on the host.
pub(in crate::recipe) fn host_path(text: &str) -> Parsed<String> {
    if text.starts_with('/') && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            text,
            "an absolute path",
            "write its path on this host, such as \
             \"/usr/share/keyrings/debian-archive-keyring.gpg\"",
        ))
    }
}

/// An absolute path of a file in the image: not the root, no slash at the end.
pub(in crate::recipe) fn image_file(text: &str) -> Parsed<String> {
    match image_path(text) {
        Ok(path) if !path.ends_with('/') => Ok(path),
        Ok(_) => Err(Wrong::new(
            text,
            "the path of a file",
            "name the file, such as \"/etc/motd\"",
        )),
        Err(wrong) => Err(wrong),
    }
}
