//! Roots: names that keep objects from being collected, whatever these are. (Tags are for images.)

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::digest::ObjectId;
use crate::store::error::{StoreError, io_error};
use crate::store::records::files::open_file;
use crate::store::{Store, TagName};

/// The longest file of a root that is read, in bytes.
const MAX: u64 = 1 << 30;

impl Store {
    fn root_path(&self, name: &TagName) -> PathBuf {
        self.records.files.path("roots", name.as_str())
    }

    /// Makes a root keep these objects, and no longer those that it kept before.
    ///
    /// # Errors
    /// The store fails.
    pub fn put_root(&self, name: &TagName, objects: &[ObjectId]) -> Result<(), StoreError> {
        self.records.check_writable()?;
        // What has a name must not be lost with the power.
        self.records.barrier()?;
        let mut text = String::with_capacity(objects.len() * 65);
        for object in objects {
            text.push_str(&object.to_string());
            text.push('\n');
        }
        self.records
            .files
            .write_atomically(&self.root_path(name), text.as_bytes())
    }

    /// The objects that a root keeps.
    ///
    /// # Errors
    /// Its file cannot be read or holds something else.
    pub fn root_objects(&self, name: &TagName) -> Result<Option<Vec<ObjectId>>, StoreError> {
        let path = self.root_path(name);
        let size = match open_file(&path) {
            Ok((_, size)) => size,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error),
        };
        if size > MAX {
            return Err(StoreError::TagFile(path));
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(StoreError::TagFile(path));
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let objects = text.lines().map(str::parse).collect::<Result<_, _>>();
        objects.map(Some).map_err(|_| StoreError::TagFile(path))
    }

    /// Removes a root; tells whether it was there.
    ///
    /// # Errors
    /// The store fails.
    pub fn remove_root(&self, name: &TagName) -> Result<bool, StoreError> {
        self.records.check_writable()?;
        self.records.files.remove_name(&self.root_path(name))
    }

    /// All roots, sorted, with the objects that they keep.
    ///
    /// # Errors
    /// A root cannot be read.
    pub fn roots(&self) -> Result<Vec<(TagName, Vec<ObjectId>)>, StoreError> {
        let directory = self.records.files.root.join("roots");
        let mut roots = Vec::new();
        for entry in fs::read_dir(&directory).map_err(io_error("list", &directory))? {
            let entry = entry.map_err(io_error("list", &directory))?;
            let Some(Ok(name)) = entry.file_name().to_str().map(str::parse::<TagName>) else {
                continue;
            };
            if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            if let Some(objects) = self.root_objects(&name)? {
                roots.push((name, objects));
            }
        }
        roots.sort();
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_replaced_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let name: TagName = "mine".parse().unwrap();
        let object = |text: &[u8]| store.put_bytes(text).unwrap().id;
        assert_eq!(store.root_objects(&name).unwrap(), None);
        store.put_root(&name, &[object(b"0")]).unwrap();
        let two = [object(b"1"), object(b"2")];
        store.put_root(&name, &two).unwrap();
        assert_eq!(store.roots().unwrap(), [(name.clone(), two.to_vec())]);
        assert!(store.remove_root(&name).unwrap());
        assert!(!store.remove_root(&name).unwrap());
    }

    #[test]
    fn a_file_of_something_else_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for text in ["x\n", "\n"] {
            fs::write(store.root().join("roots/bad"), text).unwrap();
            let error = store.roots().unwrap_err();
            assert!(matches!(error, StoreError::TagFile(_)), "{error}");
        }
    }
}
