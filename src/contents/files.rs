//! Files with what they take.

use std::collections::BTreeMap;
use std::error::Error;

use ext4_view::{Ext4, FileType, PathBuf};

/// More files than any image has. Directories of a damaged file system can be in each other.
const MAX_FILES: usize = 1 << 23;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Other,
}

/// What a directory says of a file, without its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub kind: FileKind,
    /// Permission bits, with those for set-id and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
}

/// Files by their paths, without `/` at the beginning.
#[derive(Debug, Clone, Default)]
pub struct Files {
    pub(super) entries: BTreeMap<Vec<u8>, Entry>,
    pub(super) inodes: Vec<Inode>,
}

/// A name of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) meta: Meta,
    /// Its place in [`Files::inodes`]; hard links have one.
    pub(super) inode: usize,
}

/// What is behind the names of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    /// Bytes of its content, without holes if those are known.
    pub(super) size: u64,
    /// The layer that brought it.
    pub(super) layer: usize,
    /// How many names it has.
    pub(super) names: usize,
}

impl Files {
    /// What is at a path.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<Meta> {
        self.entries.get(path).map(|entry| entry.meta)
    }

    /// The number of the layer that brought what is at a path.
    #[must_use]
    pub fn layer(&self, path: &[u8]) -> Option<usize> {
        let entry = self.entries.get(path)?;
        Some(self.inodes[entry.inode].layer)
    }

    /// All files, in the order of their paths' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Meta)> {
        let entries = self.entries.iter();
        entries.map(|(path, entry)| (path.as_slice(), entry.meta))
    }

    /// Adds a file under its first name. Nothing is at the path.
    pub(super) fn add(&mut self, path: Vec<u8>, meta: Meta, size: u64, layer: usize) {
        let inode = self.inodes.len();
        self.inodes.push(Inode {
            size,
            layer,
            names: 1,
        });
        self.entries.insert(path, Entry { meta, inode });
    }
}

/// The files of an ext4 file system. Hard links count as files of their own, and holes as content:
/// what tells them is not read.
///
/// # Errors
/// The file system is damaged, or cannot be read.
pub fn of_disk(ext4: &Ext4) -> Result<Files, Box<dyn Error + Send + Sync>> {
    let mut files = Files::default();
    let mut pending = vec![PathBuf::new(b"/")];
    while let Some(directory) = pending.pop() {
        for entry in ext4.read_dir(&directory)? {
            let entry = entry?;
            let file_name = entry.file_name();
            let name: &[u8] = file_name.as_ref();
            if name == b"." || name == b".." {
                continue;
            }
            let found = entry.metadata()?;
            let kind = match found.file_type() {
                FileType::Regular => FileKind::File,
                FileType::Directory => FileKind::Directory,
                FileType::Symlink => FileKind::Symlink,
                FileType::Fifo => FileKind::Fifo,
                _ => FileKind::Other,
            };
            let meta = Meta {
                kind,
                mode: u32::from(found.mode()) & 0o7777,
                uid: found.uid().into(),
                gid: found.gid().into(),
            };
            if files.inodes.len() == MAX_FILES {
                return Err(format!("it has more than {MAX_FILES} files").into());
            }
            let path = entry.path();
            let bytes: &[u8] = path.as_ref();
            let size = match kind {
                FileKind::File => found.len(),
                _ => 0,
            };
            files.add(bytes[1..].to_vec(), meta, size, 0);
            if kind == FileKind::Directory {
                pending.push(path);
            }
        }
    }
    Ok(files)
}
