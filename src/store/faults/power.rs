//! What a loss of power leaves: bytes that were never forced to disk are lost or torn, and so are
//! names.
//!
//! A rename is one change, durable when the directory of the new name is forced to disk.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::store::DIRECTORIES;
use crate::store::records::files::Change;

/// Files by their paths below the root of the store.
pub(super) type Image = BTreeMap<PathBuf, Vec<u8>>;

/// The parts that a disk writes whole.
const SECTOR: usize = 512;

/// What becomes of names that were not forced to disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Names {
    Kept,
    Lost,
    /// The latest are lost, from a random one on.
    Some(u64),
}

/// What becomes of bytes that were not forced to disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bytes {
    Lost,
    /// As many of other bytes.
    Garbage,
    /// Each sector for itself: kept, zero, or the file ends there.
    Torn(u64),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    pub(super) names: Names,
    pub(super) bytes: Bytes,
}

/// What is durable of the files of one store.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// Forced to disk, by inode. The open file keeps its number from being used again.
    synced: HashMap<u64, (File, Vec<u8>)>,
    /// Changes of names that were not forced to disk.
    names: Vec<Name>,
    /// All files when the process was killed.
    stopped: Option<BTreeMap<PathBuf, File>>,
}

/// A rename, or a removal.
#[derive(Debug)]
struct Name {
    from: PathBuf,
    to: Option<PathBuf>,
    file: File,
    replaced: Option<File>,
}

/// What is to be kept of a change that is about to be made.
pub(super) type Before = Option<(File, Option<File>)>;

impl Disk {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            synced: HashMap::new(),
            names: Vec::new(),
            stopped: None,
        }
    }

    pub(super) fn before(&self, change: &Change<'_>) -> Before {
        match change {
            Change::Rename(from, to) => Some((File::open(from).ok()?, File::open(to).ok())),
            Change::Remove(path) => Some((File::open(path).ok()?, None)),
            _ => None,
        }
    }

    /// Keeps book of a change.
    pub(super) fn made(&mut self, change: &Change<'_>, before: Before) {
        match (change, before) {
            (Change::Sync(file), _) => {
                // Opened anew: a clone would keep the lock of who has closed it.
                let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
                let bytes = content(&file);
                self.synced.insert(inode(&file), (file, bytes));
            }
            (Change::SyncDirectory(path), _) => {
                self.names
                    .retain(|name| name.to.as_ref().unwrap_or(&name.from).parent() != Some(*path));
            }
            (Change::Rename(from, to), Some((file, replaced))) => self.names.push(Name {
                from: from.to_path_buf(),
                to: Some(to.to_path_buf()),
                file,
                replaced,
            }),
            (Change::Remove(path), Some((file, _))) => self.names.push(Name {
                from: path.to_path_buf(),
                to: None,
                file,
                replaced: None,
            }),
            _ => {}
        }
    }

    /// From now on there are only the files that are there.
    pub(super) fn stop(&mut self) {
        self.stopped = Some(self.files());
    }

    /// All files as they are.
    pub(super) fn now(&self) -> Image {
        let relative = |path: &PathBuf| path.strip_prefix(&self.root).unwrap().to_owned();
        self.files()
            .iter()
            .map(|(path, file)| (relative(path), content(file)))
            .collect()
    }

    fn files(&self) -> BTreeMap<PathBuf, File> {
        if let Some(stopped) = &self.stopped {
            return stopped
                .iter()
                .map(|(path, file)| (path.clone(), file.try_clone().unwrap()))
                .collect();
        }
        let mut files = BTreeMap::new();
        for directory in DIRECTORIES.iter().copied().chain([""]) {
            let Ok(entries) = fs::read_dir(self.root.join(directory)) else {
                continue;
            };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_file() {
                    files.insert(path.clone(), File::open(path).unwrap());
                }
            }
        }
        files
    }

    /// What a loss of power leaves.
    pub(super) fn after(&self, loss: Loss) -> Image {
        let mut files = self.files();
        let kept = match loss.names {
            Names::Kept => self.names.len(),
            Names::Lost => 0,
            Names::Some(seed) => random(seed, 0) as usize % (self.names.len() + 1),
        };
        for name in self.names[kept..].iter().rev() {
            let is = |file: Option<&File>| file.is_some_and(|it| inode(it) == inode(&name.file));
            match &name.to {
                // It may be that a later rename of the same file is durable.
                Some(to) if is(files.get(to)) => {
                    files.remove(to);
                    if let Some(replaced) = &name.replaced {
                        files.insert(to.clone(), replaced.try_clone().unwrap());
                    }
                }
                Some(_) => continue,
                None => {}
            }
            files.insert(name.from.clone(), name.file.try_clone().unwrap());
        }
        let relative = |path: PathBuf| path.strip_prefix(&self.root).unwrap().to_owned();
        files
            .into_iter()
            .map(|(path, file)| (relative(path), self.bytes_after(&file, loss.bytes)))
            .collect()
    }

    fn bytes_after(&self, file: &File, loss: Bytes) -> Vec<u8> {
        let mut now = content(file);
        let empty = Vec::new();
        let synced = self
            .synced
            .get(&inode(file))
            .map_or(&empty, |(_, bytes)| bytes);
        for start in (0..now.len()).step_by(SECTOR) {
            let end = (start + SECTOR).min(now.len());
            let durable = &synced[start.min(synced.len())..end.min(synced.len())];
            if now[start..end] == *durable {
                continue;
            }
            // What was forced to disk and is the same stays, even in a sector that is written
            // again.
            let same = durable
                .iter()
                .zip(&now[start..end])
                .take_while(|(one, other)| one == other)
                .count();
            let lost = &mut now[start + same..end];
            match loss {
                Bytes::Lost => return synced.clone(),
                Bytes::Garbage => lost.fill(0x5a),
                Bytes::Torn(seed) => match random(seed, inode(file) ^ (start as u64) << 20) % 4 {
                    0 => lost.fill(0),
                    1 if synced.len() < start => {
                        now.truncate(start);
                        break;
                    }
                    _ => {}
                },
            }
        }
        if now.len() < synced.len() && matches!(loss, Bytes::Lost) {
            return synced.clone();
        }
        now
    }
}

/// Writes the files of an image to a new directory.
pub(super) fn restore(image: &Image, root: &Path) {
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for (path, bytes) in image {
        let mut file = File::create_new(root.join(path)).unwrap();
        file.write_all(bytes).unwrap();
    }
}

fn inode(file: &File) -> u64 {
    file.metadata().unwrap().ino()
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A number that depends on two others.
pub(super) fn random(seed: u64, number: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().unwrap())
}
