//! Whether the disks of images have the files that their layers say: a disk that was made from a
//! wrong tree is an object like others, and its bytes are what their name says.

use std::error::Error;

use crate::contents::{FileKind, Files, Layers, Meta, of_disk};
use crate::digest::ObjectId;
use crate::disk::open_root;
use crate::image::{ImageConfig, MadeFrom};
use crate::store::Store;

/// What is wrong with the disk of an image that was made from a tree; nothing when it is what the
/// layers say, or when these or the disk are not all there to be read.
pub(super) fn wrong(store: &Store, config: &ImageConfig) -> Option<String> {
    if config.made_from() == MadeFrom::Disk || config.template.filesystem.is_none() {
        return None;
    }
    let mut expected = Layers::default();
    for layer in &config.layers {
        expected.put(store.open_object(&layer.id).ok()?).ok()?;
    }
    let found = found(store, &config.disk.id).ok()?;
    let different = expected
        .files()
        .iter()
        .filter(|(path, meta)| found.get(path) != Some(*meta))
        .collect::<Vec<_>>();
    let (path, meta) = different.first()?;
    let is = found
        .get(path)
        .map_or_else(|| "missing".to_owned(), describe);
    let more = match different.len() {
        1 => String::new(),
        more => format!(", and {} more", more - 1),
    };
    Some(format!(
        "its files differ from the layers: /{} is {is} instead of {}{more}",
        String::from_utf8_lossy(path),
        describe(*meta)
    ))
}

fn describe(meta: Meta) -> String {
    let kind = match meta.kind {
        FileKind::Directory => "directory",
        FileKind::Symlink => "link",
        FileKind::File => "file",
        FileKind::Fifo | FileKind::Other => "special file",
    };
    format!("{kind} {:04o} of {}:{}", meta.mode, meta.uid, meta.gid)
}

/// The files of a disk's root.
fn found(store: &Store, disk: &ObjectId) -> Result<Files, Box<dyn Error + Send + Sync>> {
    let ext4 = open_root(store.open_object(disk)?)?.ok_or("no file system")?;
    of_disk(&ext4)
}
