//! Digests of local files that need not be read again: a file that kept its size, times and place
//! on disk kept its content.
//!
//! A program can set the time of change of a file (mtime), but not the time at which the kernel
//! last changed the file (ctime). A file that changed within [`TICK`] before it was read is not
//! noted: it could change once more without other times, as git has it for its index (racily clean
//! entries).
//!
//! For each directory there is one file: a line, then for each local file the length of its path,
//! the path, what the kernel says of it, and the digest; at the end a digest of all before. One
//! that is damaged counts for nothing.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::digest::Hasher;
use crate::host::file;

/// What a file of digests begins with.
const MARK: &[u8] = b"vmfab known files 1\n";
/// How exact the times of a file system are at least, in nanoseconds.
const TICK: i128 = 2_000_000_000;
/// Numbers that tell whether a file is as it was.
const NUMBERS: usize = 7;
/// Bytes of a digest.
const DIGEST: usize = 32;

/// The digests that are known, of all directories that are asked about. They are written when it is
/// dropped.
#[derive(Debug)]
pub struct KnownFiles {
    directory: PathBuf,
    tables: Mutex<HashMap<PathBuf, Table>>,
}

#[derive(Debug, Default)]
struct Table {
    files: HashMap<PathBuf, Noted>,
    changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Noted {
    numbers: [i64; NUMBERS],
    digest: [u8; DIGEST],
    /// Whether it is known to be there.
    met: bool,
}

impl KnownFiles {
    /// Those in a directory of the home.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            tables: Mutex::default(),
        }
    }

    /// The digest of a file below `root`: the known one, or what `hash` says.
    pub(super) fn digest(
        &self,
        root: &Path,
        path: &Path,
        hash: impl FnOnce(&File) -> io::Result<[u8; DIGEST]>,
    ) -> io::Result<[u8; DIGEST]> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let table = tables
            .entry(root.to_owned())
            .or_insert_with(|| read(&self.file_of(root)).unwrap_or_default());
        let before = numbers(&fs::metadata(path)?);
        if let Some(noted) = table.files.get_mut(path)
            && noted.numbers == before
        {
            noted.met = true;
            return Ok(noted.digest);
        }
        let started = now();
        let file = File::open(path)?;
        let digest = hash(&file)?;
        let after = file.metadata()?;
        let noted = Noted {
            numbers: numbers(&after),
            digest,
            met: true,
        };
        let is_settled = started - last_change(&after) > TICK;
        if is_settled && noted.numbers == before {
            table.files.insert(path.to_owned(), noted);
            table.changed = true;
        } else {
            table.changed |= table.files.remove(path).is_some();
        }
        Ok(digest)
    }

    fn file_of(&self, root: &Path) -> PathBuf {
        let mut hasher = Hasher::new("vmfab known files v1");
        hasher.update_field(root.as_os_str().as_bytes());
        self.directory.join(hasher.finish().to_string())
    }

    fn write(&self, root: &Path, table: &Table) -> io::Result<()> {
        let mut bytes = MARK.to_vec();
        // What is gone need not be known.
        let files = table.files.iter();
        for (path, noted) in files.filter(|(path, noted)| noted.met || path.exists()) {
            let name = path.as_os_str().as_bytes();
            bytes.extend(u32::try_from(name.len()).unwrap_or(0).to_le_bytes());
            bytes.extend(name);
            bytes.extend(noted.numbers.iter().flat_map(|number| number.to_le_bytes()));
            bytes.extend(noted.digest);
        }
        let digest = blake3::hash(&bytes);
        bytes.extend(digest.as_bytes());
        file::cache(&self.file_of(root), &bytes)
    }
}

impl Drop for KnownFiles {
    fn drop(&mut self) {
        let tables = std::mem::take(&mut self.tables);
        let tables = tables.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (root, table) in tables.iter().filter(|(_, table)| table.changed) {
            // What cannot be noted is read again.
            let _ = self.write(root, table);
        }
    }
}

fn read(path: &Path) -> Option<Table> {
    let bytes = fs::read(path).ok()?;
    let (bytes, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if blake3::hash(bytes).as_bytes() != digest {
        return None;
    }
    let mut rest = bytes.strip_prefix(MARK)?;
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at_checked(length)?;
        rest = left;
        Some(taken)
    };
    let mut files = HashMap::new();
    while let Some(length) = take(4) {
        let length = u32::from_le_bytes(length.try_into().ok()?);
        let path = OsString::from_vec(take(length as usize)?.to_vec());
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            *number = i64::from_le_bytes(take(8)?.try_into().ok()?);
        }
        let digest = take(DIGEST)?.try_into().ok()?;
        let met = false;
        files.insert(
            path.into(),
            Noted {
                numbers,
                digest,
                met,
            },
        );
    }
    Some(Table {
        files,
        changed: false,
    })
}

/// Size, times and place of a file.
fn numbers(meta: &Metadata) -> [i64; NUMBERS] {
    [
        meta.size().cast_signed(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        meta.ino().cast_signed(),
        meta.dev().cast_signed(),
    ]
}

/// When a file last changed, in nanoseconds since 1970.
fn last_change(meta: &Metadata) -> i128 {
    let time = |seconds: i64, nanoseconds: i64| {
        i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
    };
    let modified = time(meta.mtime(), meta.mtime_nsec());
    modified.max(time(meta.ctime(), meta.ctime_nsec()))
}

fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos().cast_signed())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Notes files, whatever their times are.
    fn note(known: &KnownFiles, root: &Path, path: &Path, digest: u8) {
        let meta = fs::symlink_metadata(path).unwrap();
        let mut tables = known.tables.lock().unwrap();
        let table = tables.entry(root.to_owned()).or_default();
        let noted = Noted {
            numbers: numbers(&meta),
            digest: [digest; DIGEST],
            met: false,
        };
        table.files.insert(path.to_owned(), noted);
        table.changed = true;
    }

    #[test]
    fn a_file_that_did_not_change_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let context = tempfile::tempdir().unwrap();
        let (root, path) = (context.path(), context.path().join("file"));
        fs::write(&path, "one").unwrap();
        let open = || KnownFiles::new(home.path().join("files"));
        note(&open(), root, &path, 7);
        let unread = |_: &File| -> io::Result<[u8; DIGEST]> { panic!("it is read") };
        assert_eq!(open().digest(root, &path, unread).unwrap(), [7; DIGEST]);

        // The same size and time, but not the same file.
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(time).unwrap();
        let read = |_: &File| Ok([8; DIGEST]);
        assert_eq!(open().digest(root, &path, read).unwrap(), [8; DIGEST]);
        // It changed just now: it is not noted.
        let again = |_: &File| Ok([9; DIGEST]);
        assert_eq!(open().digest(root, &path, again).unwrap(), [9; DIGEST]);
        assert!(open().digest(root, &root.join("none"), unread).is_err());
    }

    #[test]
    fn a_file_that_has_settled_is_noted_and_damage_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let root = Path::new("/");
        // Of the system: nobody changes it meanwhile.
        let path = fs::canonicalize("/etc/passwd").unwrap();
        let age =
            SystemTime::now().duration_since(fs::metadata(&path).unwrap().modified().unwrap());
        assert!(age.unwrap() > Duration::from_secs(3));
        let open = || KnownFiles::new(home.path().to_owned());
        let read = |digest: u8| move |_: &File| Ok([digest; DIGEST]);
        assert_eq!(open().digest(root, &path, read(1)).unwrap(), [1; DIGEST]);
        assert_eq!(open().digest(root, &path, read(2)).unwrap(), [1; DIGEST]);
        let file = open().file_of(root);
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(open().digest(root, &path, read(3)).unwrap(), [3; DIGEST]);
        fs::write(&file, b"").unwrap();
        assert_eq!(open().digest(root, &path, read(4)).unwrap(), [4; DIGEST]);
    }
}
