//! Layers put over each other: what each brings, and what later ones remove or replace.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek};
use std::ops::Bound;

use serde::Serialize;

use super::files::{Entry, FileKind, Files, Meta};
use crate::tarball::{Kind, Member, Reader};

/// How much is read for the next header.
const BUFFER: usize = 64 << 10;

/// Layers on their way over each other, the lowest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    files: Files,
    layers: Vec<LayerUse>,
    /// By the path that they had.
    wasted: BTreeMap<Vec<u8>, (u64, usize)>,
}

/// What a layer brings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LayerUse {
    /// Bytes of its files.
    pub size: u64,
    /// How many files it has; directories do not count.
    pub files: u64,
    /// Bytes of those that later layers remove or replace.
    pub wasted: u64,
}

/// A file that layers still hold, though no image shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wasted {
    pub path: String,
    /// Bytes of all of its copies.
    pub size: u64,
    /// In how many layers there is such a copy.
    pub copies: usize,
    /// Whether the image has nothing at this path.
    pub removed: bool,
}

impl Layers {
    /// Puts the next layer over those that are there.
    ///
    /// # Errors
    /// It is no layer, or cannot be read.
    pub fn put(&mut self, layer: impl Read + Seek) -> io::Result<()> {
        self.layers.push(LayerUse::default());
        let mut archive = Reader::seekable(BufReader::with_capacity(BUFFER, layer));
        while let Some(member) = archive.member()? {
            self.put_member(member);
        }
        Ok(())
    }

    /// What the image shows.
    #[must_use]
    pub const fn files(&self) -> &Files {
        &self.files
    }

    /// What each layer brings, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[LayerUse] {
        &self.layers
    }

    /// Files that are in layers in vain, the largest first.
    #[must_use]
    pub fn wasted(&self) -> Vec<Wasted> {
        let one = |(path, (size, copies)): (&Vec<u8>, &(u64, usize))| Wasted {
            path: format!("/{}", String::from_utf8_lossy(path)),
            size: *size,
            copies: *copies,
            removed: !self.files.entries.contains_key(path),
        };
        let mut wasted: Vec<_> = self.wasted.iter().map(one).collect();
        wasted.sort_by_key(|one| std::cmp::Reverse(one.size));
        wasted
    }

    fn put_member(&mut self, member: Member) {
        let path = member.path;
        let (above, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => path.split_at(slash + 1),
            None => (&path[..0], &path[..]),
        };
        match member.note.as_slice() {
            b"" if name == b".wh..wh..opq" => return self.drop_below(above),
            b"" if name.starts_with(b".wh.") => {
                return self.remove(&[above, &name[4..]].concat());
            }
            b"whiteout" => return self.remove(&path),
            _ => {}
        }
        let kind = match member.kind {
            Kind::Directory => FileKind::Directory,
            Kind::Symlink => FileKind::Symlink,
            Kind::Fifo => FileKind::Fifo,
            Kind::Link => return self.link(path, &member.link),
            _ => FileKind::File,
        };
        let meta = Meta {
            kind,
            mode: match kind {
                FileKind::Symlink => 0o777,
                _ => member.mode,
            },
            uid: member.uid,
            gid: member.gid,
        };
        if kind == FileKind::Directory
            && let Some(entry) = self.files.entries.get_mut(&path)
            && entry.meta.kind == FileKind::Directory
        {
            entry.meta = meta;
            return;
        }
        self.remove(&path);
        let size = match &member.data {
            Some(parts) => parts.iter().map(|part| part.end - part.start).sum(),
            None => member.size,
        };
        let number = self.layers.len() - 1;
        if kind != FileKind::Directory {
            self.layers[number].files += 1;
        }
        self.layers[number].size += size;
        self.files.add(path, meta, size, number);
    }

    /// Gives a file another name. One that leads nowhere is left out.
    fn link(&mut self, path: Vec<u8>, target: &[u8]) {
        if path == target {
            return;
        }
        self.remove(&path);
        if let Some(entry) = self.files.entries.get(target).copied() {
            self.files.inodes[entry.inode].names += 1;
            self.files.entries.insert(path, entry);
        }
    }

    /// Removes a file, or a directory with all that is in it.
    fn remove(&mut self, path: &[u8]) {
        let Some(entry) = self.files.entries.remove(path) else {
            return;
        };
        self.count(path, entry);
        if entry.meta.kind == FileKind::Directory {
            self.drop_below(&[path, b"/"].concat());
        }
    }

    /// Removes what lower layers have below a directory, whose path ends with a slash.
    fn drop_below(&mut self, directory: &[u8]) {
        let current = self.layers.len() - 1;
        let from = (Bound::Included(directory), Bound::Unbounded);
        let below = self.files.entries.range::<[u8], _>(from);
        let below = below.take_while(|(path, _)| path.starts_with(directory));
        let gone: Vec<Vec<u8>> = below
            .filter(|(_, entry)| self.files.inodes[entry.inode].layer < current)
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            if let Some(entry) = self.files.entries.remove(&path) {
                self.count(&path, entry);
            }
        }
    }

    /// Counts what the last name of a file was removed of.
    fn count(&mut self, path: &[u8], entry: Entry) {
        let inode = &mut self.files.inodes[entry.inode];
        inode.names -= 1;
        if inode.names > 0 || inode.size == 0 || inode.layer + 1 == self.layers.len() {
            return;
        }
        self.layers[inode.layer].wasted += inode.size;
        let wasted = self.wasted.entry(path.to_vec()).or_default();
        wasted.0 += inode.size;
        wasted.1 += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::contents::Limits;
    use crate::tarball::Writer;

    fn member(path: &str, kind: Kind, size: u64) -> Member {
        Member {
            path: path.into(),
            kind,
            mode: 0o755,
            size,
            ..Member::default()
        }
    }

    /// A layer: paths that end with a slash are directories, `a=b` is a hard link.
    fn layer(files: &[(&str, u64)]) -> Cursor<Vec<u8>> {
        let mut tar = Writer::new(Vec::new());
        for (path, size) in files {
            if let Some(directory) = path.strip_suffix('/') {
                tar.add(&member(directory, Kind::Directory, 0)).unwrap();
            } else if let Some((path, target)) = path.split_once('=') {
                let mut link = member(path, Kind::Link, 0);
                link.link = target.into();
                tar.add(&link).unwrap();
            } else {
                let mut content = io::repeat(b'x').take(*size);
                let file = member(path, Kind::File, *size);
                tar.add_file(&file, &mut content).unwrap();
            }
        }
        Cursor::new(tar.finish().unwrap())
    }

    fn over(layers: &[&[(&str, u64)]]) -> Layers {
        let mut all = Layers::default();
        for files in layers {
            all.put(layer(files)).unwrap();
        }
        all
    }

    fn wasted(layers: &Layers) -> Vec<(String, u64, usize, bool)> {
        let wasted = layers.wasted().into_iter();
        wasted
            .map(|one| (one.path, one.size, one.copies, one.removed))
            .collect()
    }

    #[test]
    fn what_later_layers_remove_or_replace_is_wasted() {
        let layers = over(&[
            &[
                ("etc/", 0),
                ("etc/a", 1000),
                ("etc/b", 20),
                ("var/", 0),
                ("var/log", 5),
            ],
            &[("etc/", 0), ("etc/a", 3000), ("etc/c", 7)],
            &[("etc/.wh.a", 0), ("etc/.wh.b", 0), ("etc/b", 30)],
        ]);
        assert_eq!(
            wasted(&layers),
            [
                ("/etc/a".to_owned(), 4000, 2, true),
                ("/etc/b".to_owned(), 20, 1, false)
            ]
        );
        let uses: Vec<_> = layers
            .layers()
            .iter()
            .map(|one| (one.size, one.files, one.wasted))
            .collect();
        assert_eq!(uses, [(1025, 3, 1020), (3007, 2, 3000), (30, 1, 0)]);
        let root = layers.files().tree(b"", Limits::ALL).unwrap();
        assert_eq!((root.size, root.files), (42, 3));
    }

    #[test]
    fn directories_go_with_all_that_is_in_them() {
        let base: &[(&str, u64)] = &[
            ("d/", 0),
            ("d/deep/", 0),
            ("d/deep/a", 10),
            ("d-not", 1),
            ("e/", 0),
            ("e/!first", 1),
            ("e/old", 100),
        ];
        let removed = over(&[base, &[(".wh.d", 0)]]);
        assert_eq!(wasted(&removed), [("/d/deep/a".to_owned(), 10, 1, true)]);
        assert!(removed.files().get(b"d/deep").is_none());
        assert!(removed.files().get(b"d-not").is_some());
        // What the layer itself has there stays, wherever the marker is among it.
        let opaque = over(&[
            base,
            &[
                ("e/", 0),
                ("e/!first", 2),
                ("e/.wh..wh..opq", 0),
                ("e/new", 3),
            ],
        ]);
        let lost: Vec<_> = wasted(&opaque).into_iter().map(|one| one.0).collect();
        assert_eq!(lost, ["/e/old", "/e/!first"]);
        assert!(opaque.files().get(b"e/!first").is_some());
        let replaced = over(&[base, &[("d", 4)]]);
        assert_eq!(wasted(&replaced), [("/d/deep/a".to_owned(), 10, 1, true)]);
        assert_eq!(replaced.files().get(b"d").unwrap().kind, FileKind::File);
    }

    #[test]
    fn a_file_with_another_name_left_is_not_wasted() {
        let base: &[(&str, u64)] = &[("a", 50), ("b=a", 0)];
        let one = over(&[base, &[(".wh.a", 0)]]);
        assert_eq!(wasted(&one), []);
        let root = one.files().tree(b"", Limits::ALL).unwrap();
        assert_eq!((root.size, root.files), (50, 1));
        let both = over(&[base, &[(".wh.a", 0)], &[(".wh.b", 0)]]);
        assert_eq!(wasted(&both), [("/b".to_owned(), 50, 1, true)]);
    }
}
