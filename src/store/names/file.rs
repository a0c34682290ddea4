//! Files of the user as objects: one that has not changed is not read again.
//!
//! What a file was stored as is an action result whose key is a hash (domain `vmfab file v1`) of
//! what the file system says of the file, each as 8 bytes, and whose output `file` is the object:
//!
//! | part of the key | why |
//! |---|---|
//! | device, inode | which file it is, whatever it is called |
//! | size | changes with most changes |
//! | time of modification, in seconds and nanoseconds | changes with every write |
//! | time of change, the same | changes also when the time of modification was set back |
//!
//! Left out: the name (a renamed file has the same content, and another time of change), owner and
//! mode (a change of them changes the time of change, and the file is read once more).
//!
//! A file can change twice within what its times can tell apart. So a result is kept only when both
//! times were older than [`SETTLED`] when reading began, and all of the key is the same when it
//! ended; any later change then gives other times.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::action::{ActionResult, now};
use crate::digest::{ActionKey, Hasher, ObjectRef};
use crate::store::Store;
use crate::store::error::{StoreError, io_error};

/// From this age on, in seconds, a file's times tell that it did not change: coarser than the clock
/// of any file system that is in use.
const SETTLED: i64 = 2;
/// The name of the output: no step of a recipe has one of this name.
pub const FILE_OUTPUT: &str = "file";

/// A file in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedFile {
    pub object: ObjectRef,
    /// Whether it was known without being read.
    pub known: bool,
}

fn key(meta: &Metadata) -> ActionKey {
    let mut hasher = Hasher::new("vmfab file v1");
    for number in [meta.dev(), meta.ino(), meta.size()] {
        hasher.update_u64(number);
    }
    for time in [
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ] {
        hasher.update(&time.to_le_bytes());
    }
    ActionKey::new(hasher.finish())
}

/// Whether a change at `now` or later would give other times.
fn is_settled(meta: &Metadata, now: i64) -> bool {
    meta.mtime() + SETTLED < now && meta.ctime() + SETTLED < now
}

impl Store {
    /// Stores a file's content, or finds that it is stored.
    ///
    /// # Errors
    /// The file cannot be read, changes meanwhile, or the store fails.
    pub fn add_file(&self, file: &File, path: &Path) -> Result<AddedFile, StoreError> {
        let look = || file.metadata().map_err(io_error("look at", path));
        let began = i64::try_from(now()).unwrap_or(0);
        let before = look()?;
        let key = key(&before);
        if let Some(result) = self.action(&key)
            && let Some(object) = result.outputs.get(FILE_OUTPUT)
            && object.size == before.size()
        {
            return Ok(AddedFile {
                object: *object,
                known: true,
            });
        }
        let object = self.put_file(file, path)?;
        if self::key(&look()?) != key {
            return Err(StoreError::Changed(path.to_owned()));
        }
        if is_settled(&before, began) {
            self.put_action(
                &key,
                ActionResult {
                    outputs: BTreeMap::from([(FILE_OUTPUT.to_owned(), object)]),
                },
            )?;
        }
        Ok(AddedFile {
            object,
            known: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn only_times_that_are_past_tell_of_changes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let meta = file.as_file().metadata().unwrap();
        let made = meta.ctime();
        assert!(!is_settled(&meta, made));
        assert!(!is_settled(&meta, made + 2));
        assert!(is_settled(&meta, made + 3));
        // A clock that was set back.
        assert!(!is_settled(&meta, made - 100));
        let future = SystemTime::now() + Duration::from_secs(1000);
        file.as_file().set_modified(future).unwrap();
        let meta = file.as_file().metadata().unwrap();
        assert!(!is_settled(&meta, made + 10));
    }

    #[test]
    fn a_file_is_known_until_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "one").unwrap();
        let add = || store.add_file(&File::open(&path).unwrap(), &path).unwrap();
        let first = add();
        assert!(!first.known);
        // It is too new to be remembered.
        assert!(!add().known);
        std::thread::sleep(Duration::from_millis(3200));
        assert!(!add().known);
        assert!(add().known);
        fs::write(&path, "two").unwrap();
        let second = add();
        assert!(!second.known);
        assert_ne!(second.object, first.object);
    }
}
