//! Files of the user in the store.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Context;
use crate::digest::ObjectId;
use crate::failure::Failure;
use crate::store::TagName;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddOptions {
    /// Regular files.
    pub files: Vec<PathBuf>,
    /// The root that is to keep them.
    pub keep: Option<TagName>,
}

/// A file that is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Added {
    pub object: ObjectId,
    /// Its size in bytes.
    pub size: u64,
    pub path: String,
    /// Whether it had not changed since it was added before, so that it was not read.
    pub known: bool,
}

/// Stores files, and keeps them when that is asked for.
///
/// # Errors
/// One of them is not there or not a regular file: then none is stored. Or the store fails.
pub fn add(context: &Context, options: &AddOptions) -> Result<Vec<Added>, Failure> {
    for path in &options.files {
        let meta = fs::metadata(path).map_err(|error| not_there(path, error))?;
        check_kind(path, meta.file_type())?;
    }
    let store = context.store()?;
    let mut added = Vec::new();
    for path in &options.files {
        if context.interrupt.requested() {
            return Err(Failure::interrupted());
        }
        let file = open(path)?;
        let stored = store.add_file(&file, path)?;
        added.push(Added {
            object: stored.object.id,
            size: stored.object.size,
            path: path.to_string_lossy().into_owned(),
            known: stored.known,
        });
    }
    if let Some(name) = &options.keep {
        let objects: Vec<ObjectId> = added.iter().map(|one| one.object).collect();
        store.put_root(name, &objects)?;
    }
    Ok(added)
}

/// Opens a regular file, without waiting for the other side of a pipe.
fn open(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(|error| not_there(path, error))?;
    let meta = file.metadata().map_err(Failure::io("look at", path))?;
    check_kind(path, meta.file_type())?;
    Ok(file)
}

fn not_there(path: &Path, error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::not_found("file", &path.to_string_lossy(), []),
        _ => Failure::io("open", path)(error),
    }
}

fn check_kind(path: &Path, kind: fs::FileType) -> Result<(), Failure> {
    let (what, help) = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => (
            "a directory",
            "archive it first: tar --create --file=FILE DIRECTORY",
        ),
        kind if kind.is_fifo() => ("a pipe", "write its output to a file first"),
        kind if kind.is_socket() => ("a socket", "vmfab stores only regular files"),
        _ => ("a device", "copy it to a file first: dd if=DEVICE of=FILE"),
    };
    Err(
        Failure::usage(format!("{} is {what}, not a regular file", path.display()))
            .with_help(help.to_owned()),
    )
}
