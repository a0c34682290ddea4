//! Whether the disks of images have the files that their layers say: a disk that was made from a
//! wrong tree is an object like others, and its bytes are what their name says.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufReader};

use ext4_view::PathBuf;

use crate::digest::{ObjectId, ObjectRef};
use crate::disk::open_root;
use crate::image::{ImageConfig, MadeFrom};
use crate::store::Store;
use crate::tarball::{Kind, Reader};

/// What is compared of a file: its kind, its permission bits and its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meta {
    kind: char,
    mode: u32,
    uid: u64,
    gid: u64,
}

impl Meta {
    fn describe(self) -> String {
        let kind = match self.kind {
            'd' => "directory",
            'l' => "link",
            'f' => "file",
            _ => "special file",
        };
        format!("{kind} {:04o} of {}:{}", self.mode, self.uid, self.gid)
    }
}

/// Files by their paths, without `/` at the beginning.
type Tree = BTreeMap<Vec<u8>, Meta>;

/// What is wrong with the disk of an image that was made from a tree; nothing when it is what the
/// layers say, or when these or the disk are not all there to be read.
pub(super) fn wrong(store: &Store, config: &ImageConfig) -> Option<String> {
    if config.made_from() == MadeFrom::Disk || config.template.filesystem.is_none() {
        return None;
    }
    let mut expected = Tree::new();
    for layer in &config.layers {
        put_over(&mut expected, store, layer).ok()?;
    }
    let found = found(store, &config.disk.id).ok()?;
    let different = expected
        .iter()
        .filter(|(path, meta)| found.get(*path) != Some(*meta))
        .collect::<Vec<_>>();
    let (path, meta) = different.first()?;
    let is = found
        .get(*path)
        .map_or_else(|| "missing".to_owned(), |meta| meta.describe());
    let more = match different.len() {
        1 => String::new(),
        more => format!(", and {} more", more - 1),
    };
    Some(format!(
        "its files differ from the layers: /{} is {is} instead of {}{more}",
        String::from_utf8_lossy(path),
        meta.describe()
    ))
}

/// Puts a layer over the tree below it.
fn put_over(tree: &mut Tree, store: &Store, layer: &ObjectRef) -> io::Result<()> {
    let reader = store.open_object(&layer.id).map_err(io::Error::other)?;
    let mut archive = Reader::new(BufReader::with_capacity(1 << 20, reader));
    while let Some(member) = archive.member()? {
        let path = member.path;
        let (above, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..=slash], &path[slash + 1..]),
            None => (&path[..0], &path[..]),
        };
        match member.note.as_slice() {
            b"" if name == b".wh..wh..opq" => {
                tree.retain(|path, _| !path.starts_with(above));
                continue;
            }
            b"" if name.starts_with(b".wh.") => {
                remove(tree, &[above, &name[4..]].concat());
                continue;
            }
            b"whiteout" => {
                remove(tree, &path);
                continue;
            }
            _ => {}
        }
        let kind = match member.kind {
            Kind::Directory => 'd',
            Kind::Symlink => 'l',
            Kind::Fifo => 'p',
            Kind::Link => {
                let meta = tree.get(&member.link).copied();
                tree.extend(meta.map(|meta| (path, meta)));
                continue;
            }
            _ => 'f',
        };
        if kind != 'd' {
            remove(tree, &path);
        }
        let meta = Meta {
            kind,
            mode: if kind == 'l' { 0o777 } else { member.mode },
            uid: member.uid,
            gid: member.gid,
        };
        tree.insert(path, meta);
    }
    Ok(())
}

/// Removes a file, or a directory with all that is in it.
fn remove(tree: &mut Tree, path: &[u8]) {
    if tree.remove(path).is_some_and(|meta| meta.kind == 'd') {
        let below = [path, b"/"].concat();
        tree.retain(|path, _| !path.starts_with(&below));
    }
}

/// The files of a disk's root.
fn found(store: &Store, disk: &ObjectId) -> Result<Tree, Box<dyn Error>> {
    let ext4 = open_root(store.open_object(disk)?)?.ok_or("no file system")?;
    let mut tree = Tree::new();
    let mut pending = vec![PathBuf::new(b"/")];
    while let Some(directory) = pending.pop() {
        for entry in ext4.read_dir(&directory)? {
            let entry = entry?;
            let path = entry.path();
            let file_name = entry.file_name();
            let name: &[u8] = file_name.as_ref();
            if name == b"." || name == b".." {
                continue;
            }
            let meta = entry.metadata()?;
            let kind = meta.file_type();
            let kind = if kind.is_dir() {
                'd'
            } else if kind.is_symlink() {
                'l'
            } else if kind.is_fifo() {
                'p'
            } else if kind.is_regular_file() {
                'f'
            } else {
                '?'
            };
            let meta = Meta {
                kind,
                mode: u32::from(meta.mode()) & 0o7777,
                uid: meta.uid().into(),
                gid: meta.gid().into(),
            };
            let bytes: &[u8] = path.as_ref();
            tree.insert(bytes[1..].to_vec(), meta);
            if kind == 'd' {
                pending.push(path);
            }
        }
    }
    Ok(tree)
}
